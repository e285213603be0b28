// Load on a meta service alone: a node that lends space but no bytes, and calls with batches of 128 keys, many in
// flight.
//
// Thread safety: IdleNode and MetaLoad from one thread each. Ownership: they share the channel.
#pragma once

#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "common/base/mutex.h"
#include "common/rpc/channel.h"
#include "perf/driver/series.h"
#include "proto/key_list.h"
#include "proto/methods.h"

namespace mmc::perf {

inline constexpr uint32_t kBatch = 128;
inline constexpr uint64_t kValueBytes = 4096;
inline constexpr uint64_t kReadsPerKey = 4;
inline constexpr std::chrono::seconds kCallTime{30};

inline TimePoint Deadline() { return Clock::Real().Now() + kCallTime; }

// Nanoseconds on a processor, of all threads that live.
inline double ProcessorSeconds(uint64_t pid) {
  double seconds = 0;
  std::error_code ignored;
  for (const auto& task :
       std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/task", ignored)) {
    uint64_t nanoseconds = 0;
    if (std::ifstream(task.path() / "schedstat") >> nanoseconds)
      seconds += static_cast<double>(nanoseconds) / 1e9;
  }
  return seconds;
}

// A node that takes catalog records and throws them away.
class IdleNode {
 public:
  static Result<std::unique_ptr<IdleNode>> Join(std::shared_ptr<rpc::Channel> channel,
                                                uint64_t segment_bytes) {
    proto::JoinRequest request;
    request.set_name("idle");
    request.set_incarnation(1 + static_cast<uint64_t>(getpid()));
    request.set_host_id("idle");
    proto::Segment* segment = request.add_segments();
    segment->set_id(1);
    segment->set_epoch(1);
    segment->set_size(segment_bytes);
    segment->set_numa_node(-1);
    proto::JoinReply reply;
    MMC_RETURN_IF_ERROR(channel->Call(proto::kJoin, request, &reply, Deadline()));
    return std::unique_ptr<IdleNode>(
        new IdleNode(std::move(channel), reply.node(), request.incarnation()));
  }

  ~IdleNode() {
    stopping_ = true;
    proto::NodeLeaveRequest request;
    request.set_node(node_);
    request.set_incarnation(incarnation_);
    proto::Empty reply;
    // A node that cannot say goodbye is found dead later; nothing to do about it here.
    (void)channel_->Call(proto::kNodeLeave, request, &reply, Deadline());
    channel_->Close();
    sync_.join();
    heartbeat_.join();
  }

 private:
  IdleNode(std::shared_ptr<rpc::Channel> channel, uint32_t node, uint64_t incarnation)
      : channel_(std::move(channel)), node_(node), incarnation_(incarnation) {
    sync_ = std::thread([this] { Sync(); });
    heartbeat_ = std::thread([this] { Heartbeat(); });
  }

  void Sync() {
    proto::CatalogSyncRequest request;
    request.set_node(node_);
    request.set_incarnation(incarnation_);
    request.set_wait_ms(200);
    while (!stopping_) {
      proto::CatalogSyncReply reply;
      if (!channel_->Call(proto::kCatalogSync, request, &reply, Deadline()).ok()) return;
      if (reply.records_size() > 0)
        request.set_acked_seq(reply.records(reply.records_size() - 1).seq());
      *request.mutable_fenced_sessions() = reply.fence_sessions();
    }
  }

  void Heartbeat() {
    proto::NodeHeartbeatRequest request;
    request.set_node(node_);
    request.set_incarnation(incarnation_);
    while (!stopping_) {
      proto::NodeHeartbeatReply reply;
      if (!channel_->Call(proto::kNodeHeartbeat, request, &reply, Deadline()).ok()) return;
      std::this_thread::sleep_for(std::chrono::milliseconds(200));
    }
  }

  const std::shared_ptr<rpc::Channel> channel_;
  const uint32_t node_;
  const uint64_t incarnation_;
  std::atomic<bool> stopping_{false};
  std::thread sync_;
  std::thread heartbeat_;
};

// At most `depth` calls under way; the first failure is kept.
class Window {
 public:
  explicit Window(int depth) : free_(depth), depth_(depth) {}

  void Enter() {
    MutexLock lock(mutex_);
    while (free_ == 0) changed_.Wait(mutex_);
    --free_;
  }
  void Leave(const Status& status) {
    MutexLock lock(mutex_);
    if (!status.ok() && status_.ok()) status_ = status;
    ++free_;
    changed_.NotifyAll();
  }
  Status Drain() {
    MutexLock lock(mutex_);
    while (free_ != depth_) changed_.Wait(mutex_);
    return status_;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  int free_ MMC_GUARDED_BY(mutex_);
  const int depth_;
  Status status_ MMC_GUARDED_BY(mutex_);
};

inline std::string KeyOf(uint64_t number) {
  return "model-a/block/0123456789abcdef/" + std::to_string(number);
}

inline void AddKeys(uint64_t first, proto::KeyList* list) {
  for (uint64_t i = first; i < first + kBatch; ++i) proto::AppendKey(KeyOf(i), list);
}

class MetaLoad {
 public:
  MetaLoad(std::shared_ptr<rpc::Channel> channel, uint64_t session, uint64_t pid, int depth)
      : channel_(std::move(channel)), session_(session), pid_(pid), depth_(depth) {}

  // Start and commit of keys [first, first + count): objects per second of the service's processor
  // time.
  Result<double> Put(uint64_t first, uint64_t count, double* per_second) {
    Window window(depth_);
    const double cpu = ProcessorSeconds(pid_);
    const TimePoint start = Clock::Real().Now();
    for (uint64_t at = first; at < first + count; at += kBatch) {
      window.Enter();
      proto::PutStartRequest request;
      request.set_session(session_);
      AddKeys(at, request.mutable_keys());
      request.mutable_sizes()->Resize(kBatch, kValueBytes);
      channel_->CallAsync(
          proto::kPutStart, request, Deadline(),
          [this, &window](Status status, std::shared_ptr<proto::PutStartReply> reply) {
            Commit(std::move(status), *reply, &window);
          });
    }
    MMC_RETURN_IF_ERROR(window.Drain());
    *per_second = static_cast<double>(count) / SecondsSince(start);
    return static_cast<double>(count) / (ProcessorSeconds(pid_) - cpu);
  }

  // Lookups (with a lease) or exists of random runs of keys below `keys`.
  template <typename M>
  Result<double> Read(const M& method, uint64_t keys, uint64_t count, double* per_second) {
    Window window(depth_);
    std::mt19937_64 dice(7);
    std::vector<typename M::Request> requests(256);
    for (auto& request : requests) AddKeys(dice() % (keys - kBatch), request.mutable_keys());
    const double cpu = ProcessorSeconds(pid_);
    const TimePoint start = Clock::Real().Now();
    for (uint64_t at = 0; at < count; at += kBatch) {
      window.Enter();
      channel_->CallAsync(method, requests[at / kBatch % requests.size()], Deadline(),
                          [&window](Status status, const std::shared_ptr<typename M::Reply>&) {
                            window.Leave(status);
                          });
    }
    MMC_RETURN_IF_ERROR(window.Drain());
    *per_second = static_cast<double>(count) / SecondsSince(start);
    return static_cast<double>(count) / (ProcessorSeconds(pid_) - cpu);
  }

 private:
  void Commit(Status status, const proto::PutStartReply& granted, Window* window) {
    for (const uint32_t code : granted.status()) {
      if (status.ok() && code != 0) status = Status(CodeFromWire(code), "PutStart of one key");
    }
    if (!status.ok()) return window->Leave(status);
    proto::PutCommitRequest request;
    request.set_session(session_);
    *request.mutable_grant() = granted.grant();
    channel_->CallAsync(proto::kPutCommit, request, Deadline(),
                        [window](Status done, const std::shared_ptr<proto::PutCommitReply>&) {
                          window->Leave(done);
                        });
  }

  const std::shared_ptr<rpc::Channel> channel_;
  const uint64_t session_;
  const uint64_t pid_;
  const int depth_;
};

}  // namespace mmc::perf
