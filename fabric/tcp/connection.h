// The server's side of one connection: a state machine that moves bytes between a stream and the regions, without an
// intermediate copy and without waiting.
//
// Thread safety: none; it lives on one io thread. Ownership: owns its stream; keeps the regions of the running request
// alive. Storage is kept between requests: in steady state no request allocates.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/base/clock.h"
#include "fabric/memory.h"
#include "fabric/tcp/byte_stream.h"
#include "fabric/tcp/frame.h"
#include "fabric/ticket.h"

namespace mmc::fabric::tcp {

// What all connections of a listener share.
struct ConnectionOptions {
  const RegionTable* regions = nullptr;
  std::function<Code(uint64_t session)> admit;  // kOk, or why the session is refused
  Duration stall_timeout = std::chrono::seconds(30);
  std::atomic<uint64_t>* running = nullptr;  // counts requests under way; null: nobody asks
  size_t max_newcomers = 512;  // of one io thread: beyond it, the oldest that have not said hello are hung up on
  const TicketJudge* tickets = nullptr;  // null: nobody needs any
  std::function<void(const std::string& line)> report;  // whose tickets will not do; null: nobody asks
};

// Who the peer of a connection is, as far as that matters here.
struct Guest {
  std::optional<Access> ceiling;  // the most that it may do, whatever it asks for; nothing at all without one
  TicketHolder holder{};
  bool tickets_to_read = false;  // and to write, where there is a judge for tickets
};

class Connection {
 public:
  Connection(std::unique_ptr<ByteStream> stream, const Guest& guest, const ConnectionOptions& options, TimePoint now);
  ~Connection() { SetRunning(false); }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // Does what can be done now, up to a fair share. False: the connection has ended; destroy it.
  bool Advance(TimePoint now);
  // Poll events to wait for before the next Advance.
  short wants() const;
  // Advance ended because it had its share, and there is more that polling would not report.
  bool hungry() const { return budget_ == 0 && stream_->buffered(); }
  // The peer's certificate was revoked after it had been let in.
  bool revoked() { return stream_->Revoked(); }
  // False when a handshake or request that has begun stands still for too long.
  bool InTime(TimePoint now) const { return !busy() || (now < stall_ && now < limit_ && now < right_ends_); }

  int fd() const { return stream_->fd(); }
  bool greeted() const { return greeted_; }
  uint64_t session() const { return session_; }

 private:
  enum class State { kHello, kHelloReply, kHead, kOps, kPayload, kDrain, kReply };
  enum class Step { kAgain, kWait, kEnd };

  // A request is under way, or the handshake.
  bool busy() const { return state_ != State::kHead || in_.moved() > 0; }
  Step Run(TimePoint now);
  Step Receive(TimePoint now);
  Step Send(TimePoint now);
  Step OnReceived(TimePoint now);
  Step OnHello();
  Step OnHead(TimePoint now);
  Step OnOps(TimePoint now);
  Step DrainMore();
  Step Reply(Code code);
  void ExpectHello(TimePoint now);
  void ExpectHead();
  void SetRunning(bool running);
  Status Resolve(Direction direction);
  // That the ops lie within tickets that are good; notes when the first of them ends.
  Status CheckTickets(Direction direction);
  Status RefuseTicket(const char* why) const;

  std::unique_ptr<ByteStream> stream_;
  const ConnectionOptions& options_;
  State state_ = State::kHello;
  bool greeted_ = false;
  bool closing_ = false;  // close after the reply
  bool running_ = false;  // counted in options_.running
  uint64_t session_ = 0;
  const Guest guest_;
  Access access_ = Access::kReadOnly;
  TimePoint stall_;  // bytes must move before this
  TimePoint limit_;  // the whole request must be over before this
  TimePoint right_ends_ = TimePoint::max();  // no byte of the request may move from then on

  Hello hello_;
  HelloReply hello_reply_;
  // The head and the first op, which is always there, arrive in one piece: most requests have no other.
  struct Head {
    RequestHead request;
    WireOp first;
  };
  static_assert(sizeof(Head) == sizeof(RequestHead) + sizeof(WireOp));
  Head head_;
  std::vector<WireOp> ops_;
  std::vector<Ticket> tickets_;
  uint64_t key_version_ = 0;
  TicketKey key_{};  // of the tickets, of that version
  ResponseHead response_;
  Code refused_ = Code::kOk;
  uint64_t drain_left_ = 0;
  uint64_t budget_ = 0;
  RegionCache regions_;
  IoCursor in_;
  IoCursor out_;
};

}  // namespace mmc::fabric::tcp
