// Calls of a server's handlers from inside its process: no sockets, no bytes; sync handlers run on the caller's thread.
//
// Thread safety: all methods from any thread; a call of an async method must not come from an io thread of the same
// server. Ownership: refers to the server, which outlives it.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "common/rpc/channel.h"
#include "common/rpc/worker.h"

namespace mmc::rpc {

// Answers calls inside the process; one per worker.
class LocalSink final : public CallSink {
 public:
  using CallSink::CallSink;

 private:
  void Answer(AsyncCall& call, const Status& status) override { call.done(status, *call.reply); }
  void Finished() override {}
};

struct LocalWorker {
  Worker* worker;
  std::shared_ptr<LocalSink> sink;
};

class InProcessChannel final : public Channel {
 public:
  InProcessChannel(ServerCore& core, std::vector<LocalWorker> workers);

  Status CallRaw(uint16_t method, const google::protobuf::MessageLite& request, google::protobuf::MessageLite* reply,
                 TimePoint deadline) override;
  void CallRawAsync(uint16_t method, const google::protobuf::MessageLite& request,
                    google::protobuf::MessageLite* reply, TimePoint deadline,
                    std::function<void(Status)> done) override;
  void Close() override { closed_.store(true); }
  uint64_t connection_epoch() const override { return 1; }

 private:
  using Done = std::function<void(const Status&, const google::protobuf::MessageLite&)>;
  static constexpr uint32_t kMaxInFlight = 4096;

  // Errors: what keeps a call from being run at all. On success the server's gate is entered.
  Status Admit(uint16_t id, TimePoint deadline, const MethodEntry** method);
  std::shared_ptr<AsyncCall> MakeCall(const MethodEntry& method, const google::protobuf::MessageLite& request,
                                      TimePoint deadline, LocalWorker& on, Status* status);
  void Submit(std::shared_ptr<AsyncCall> call, LocalWorker& on);
  CallContext ContextOf(TimePoint deadline);
  Status Run(const MethodEntry& method, const CallContext& context, const google::protobuf::MessageLite& request,
             google::protobuf::MessageLite* reply, TimePoint arrival);

  ServerCore& core_;
  std::vector<LocalWorker> workers_;
  const uint64_t number_;
  std::atomic<uint64_t> next_id_{1};
  std::atomic<uint32_t> in_flight_{0};
  std::atomic<bool> closed_{false};
};

}  // namespace mmc::rpc
