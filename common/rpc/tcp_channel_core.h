// The insides of a TCP channel.
//
// One thread at a time, the leader, waits for the socket, reads it and completes calls; the others wait for their own
// completion. A sync caller leads when nobody does, until its own call is done; then leadership passes to another sync
// caller that waits, or, when only async calls are pending, to the background thread. Passing happens under the lock:
// while a call is pending there is a leader or the background thread has been told to become one.
// Writing is done by whoever has something to write and finds no other writer; what comes meanwhile goes out with the
// writer's next write.
//
// Thread safety: public methods from any thread. Ownership: shared by the channel and its background thread.
#pragma once

#include <atomic>
#include <boost/intrusive/list.hpp>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "common/base/mutex.h"
#include "common/rpc/channel.h"
#include "common/rpc/client_stream.h"
#include "common/rpc/frame_reader.h"
#include "common/rpc/wire.h"

namespace mmc::rpc {

class TcpChannelCore : public std::enable_shared_from_this<TcpChannelCore> {
 public:
  TcpChannelCore(const ChannelOptions& options, Url url);
  ~TcpChannelCore();

  Status Call(uint16_t method, const google::protobuf::MessageLite& request, google::protobuf::MessageLite* reply,
              TimePoint deadline);
  void CallAsync(uint16_t method, const google::protobuf::MessageLite& request, google::protobuf::MessageLite* reply,
                 TimePoint deadline, std::function<void(Status)> done);
  void Close();
  // Close, and the end of the background thread. Nothing may be called after it.
  void Shutdown();
  uint64_t connection_epoch() const { return epoch_.load(std::memory_order_acquire); }

 private:
  struct PendingCall : boost::intrusive::list_base_hook<> {  // linked while it waits as a follower
    uint64_t id = 0;
    google::protobuf::MessageLite* reply = nullptr;
    TimePoint deadline;
    uint64_t first_byte = 0;  // of its frame, counted from the first byte queued for the connection
    bool sync = false;
    bool leads = false;
    bool taken = false;  // a reply is here and being looked at: it will complete whatever the deadline says
    bool done = false;
    bool has_body = false;  // the waiting thread parses `body` itself
    Status status;
    std::string body;
    std::function<void(Status)> on_done;  // async
    CondVar wake;                         // sync
  };
  struct Slot {
    uint32_t generation = 1;
    PendingCall* call = nullptr;
  };
  enum class State : uint8_t { kIdle, kResolving, kConnecting, kHandshaking, kUp };
  enum class Leader : uint8_t { kNone, kSync, kBackground };

  static constexpr size_t kMaxQueuedBytes = size_t{64} << 20;  // unsent; one call more may go over it
  static constexpr size_t kParseHereBytes = 1024;  // bigger replies of sync followers are parsed by their own threads

  // Calls (tcp_channel.cc).
  Status AdmitLocked() MMC_REQUIRES(mutex_);
  // Numbers the call and queues its frame.
  void EnqueueLocked(PendingCall& call, ByteBuffer& frame) MMC_REQUIRES(mutex_);
  void WaitLocked(PendingCall& call) MMC_REQUIRES(mutex_);
  PendingCall* TakeLocked(uint64_t id) MMC_REQUIRES(mutex_);
  void CompleteLocked(PendingCall& call, Status status) MMC_REQUIRES(mutex_);
  // Takes and completes every call that `which` picks.
  void FailLocked(const std::function<const Status*(const PendingCall&)>& which) MMC_REQUIRES(mutex_);
  void CompleteSoonLocked(std::function<void(Status)> done, Status status) MMC_REQUIRES(mutex_);
  void StartBackgroundLocked() MMC_REQUIRES(mutex_);
  void Background();

  // Leading (tcp_channel_lead.cc). REQUIRES leadership, all of them.
  void LeadLocked(const PendingCall* own, TimePoint until) MMC_REQUIRES(mutex_);
  void ReleaseLocked() MMC_REQUIRES(mutex_);
  bool LeaderIsDoneLocked(const PendingCall* own) const MMC_REQUIRES(mutex_);
  void StepLocked(const PendingCall* own, short events) MMC_REQUIRES(mutex_);
  void StartConnectLocked() MMC_REQUIRES(mutex_);
  void TryNextAddressLocked() MMC_REQUIRES(mutex_);
  void ConnectStepLocked(short events) MMC_REQUIRES(mutex_);
  // TLS over the stream that has connected.
  void BeginHandshakeLocked() MMC_REQUIRES(mutex_);
  void HandshakeStepLocked() MMC_REQUIRES(mutex_);
  void ConnectedLocked() MMC_REQUIRES(mutex_);
  void AddressFailedLocked(const Status& why) MMC_REQUIRES(mutex_);
  void ConnectFailedLocked(const Status& why) MMC_REQUIRES(mutex_);
  void ExpireLocked() MMC_REQUIRES(mutex_);
  void ReadLocked(const PendingCall* own, bool to_the_last_byte) MMC_REQUIRES(mutex_);
  void DropConnectionLocked(const Status& why) MMC_REQUIRES(mutex_);
  // An idle connection may have ended unseen: looks before a call is trusted to it. May take and release the lock.
  void LookAtIdleLocked() MMC_REQUIRES(mutex_);
  // A service that said good-bye may be gone by now, and nobody reads while nothing is pending.
  void LookAtGoingAwayLocked() MMC_REQUIRES(mutex_);
  // Without the lock: waits for the stream, polling it first for a moment. Returns the events that are there.
  short WaitForEvents(short events, TimePoint until);
  // Without the lock: one frame of the peer. False when the stream makes no sense any more.
  bool HandleFrame(const Frame& frame, const PendingCall* own);

  // Writing (tcp_channel_lead.cc): by any thread.
  void FlushLocked() MMC_REQUIRES(mutex_);
  void WakeLeaderLocked() MMC_REQUIRES(mutex_);

  const ChannelOptions options_;
  const Url url_;
  const Duration spin_;
  const std::shared_ptr<Waker> waker_ = std::make_shared<Waker>();
  std::atomic<uint64_t> epoch_{0};

  // Of the leader alone; changed under the lock, so that others may look.
  std::unique_ptr<ByteStream> stream_;
  FrameReader reader_;
  uint32_t spins_missed_ = 0;  // in a row

  Mutex mutex_;
  State state_ MMC_GUARDED_BY(mutex_) = State::kIdle;
  Leader leader_ MMC_GUARDED_BY(mutex_) = Leader::kNone;
  bool leader_sleeps_ MMC_GUARDED_BY(mutex_) = false;
  TimePoint leader_sleeps_until_ MMC_GUARDED_BY(mutex_);
  bool looking_ MMC_GUARDED_BY(mutex_) = false;  // LookAtIdle is under way: nobody writes
  bool going_away_ MMC_GUARDED_BY(mutex_) = false;  // the service wants no more calls on this connection
  bool all_answered_ MMC_GUARDED_BY(mutex_) = false;  // it has said its last word: what is left was not run
  bool closed_ MMC_GUARDED_BY(mutex_) = false;
  bool ending_ MMC_GUARDED_BY(mutex_) = false;

  std::vector<Slot> slots_ MMC_GUARDED_BY(mutex_);
  std::vector<uint32_t> free_slots_ MMC_GUARDED_BY(mutex_);
  uint32_t pending_ MMC_GUARDED_BY(mutex_) = 0;
  uint32_t pending_async_ MMC_GUARDED_BY(mutex_) = 0;
  boost::intrusive::list<PendingCall> followers_ MMC_GUARDED_BY(mutex_);
  std::set<std::pair<TimePoint, uint64_t>> async_deadlines_ MMC_GUARDED_BY(mutex_);

  std::shared_ptr<Lookup> lookup_ MMC_GUARDED_BY(mutex_);
  size_t next_address_ MMC_GUARDED_BY(mutex_) = 0;
  TimePoint connect_until_ MMC_GUARDED_BY(mutex_);
  Status last_connect_error_ MMC_GUARDED_BY(mutex_);
  short handshake_events_ MMC_GUARDED_BY(mutex_) = 0;  // what it waits for

  ByteBuffer out_ MMC_GUARDED_BY(mutex_);  // queued frames
  ByteBuffer sending_;                     // of the writer: what goes out now
  size_t sending_bytes_ MMC_GUARDED_BY(mutex_) = 0;  // what is left of it
  bool writing_ MMC_GUARDED_BY(mutex_) = false;      // a thread is in Write()
  bool stuck_ MMC_GUARDED_BY(mutex_) = false;        // the kernel took no more: the leader waits for room
  uint64_t queued_bytes_ MMC_GUARDED_BY(mutex_) = 0;  // ever, for this connection
  uint64_t sent_bytes_ MMC_GUARDED_BY(mutex_) = 0;
  CondVar quiet_;  // a writer or the leader has ended; callbacks have run

  std::vector<std::unique_ptr<PendingCall>> completed_ MMC_GUARDED_BY(mutex_);  // async: callbacks are to be run
  bool running_callbacks_ MMC_GUARDED_BY(mutex_) = false;
  std::thread background_ MMC_GUARDED_BY(mutex_);
  std::thread::id background_id_ MMC_GUARDED_BY(mutex_);
  CondVar background_wake_;
};

}  // namespace mmc::rpc
