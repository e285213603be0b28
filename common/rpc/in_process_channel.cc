#include "common/rpc/in_process_channel.h"

#include <google/protobuf/message_lite.h>

#include <atomic>

#include "common/base/mutex.h"
#include "common/obs/log.h"
#include "common/rpc/wire.h"

namespace mmc::rpc {
namespace {

// A caller that waits, and the handler it waits for; the caller may leave first.
struct Waiting {
  Mutex mutex;
  CondVar done;
  google::protobuf::MessageLite* reply MMC_GUARDED_BY(mutex) = nullptr;  // null once the caller has left
  bool answered MMC_GUARDED_BY(mutex) = false;
  Status status MMC_GUARDED_BY(mutex);
};

void CopyReply(const google::protobuf::MessageLite& from, google::protobuf::MessageLite* to) {
  to->Clear();
  to->CheckTypeAndMergeFrom(from);
}

// Answers calls inside the process; one per worker and channel.
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

// Shared by the channel and by what it has posted to the workers.
class LocalCalls : public std::enable_shared_from_this<LocalCalls> {
 public:
  LocalCalls(ServerCore& core, const std::vector<Worker*>& workers);

  Status Call(uint16_t id, const google::protobuf::MessageLite& request, google::protobuf::MessageLite* reply,
              TimePoint deadline);
  void CallAsync(uint16_t id, const google::protobuf::MessageLite& request, google::protobuf::MessageLite* reply,
                 TimePoint deadline, std::function<void(Status)> done);
  void Close();

 private:
  static constexpr uint32_t kMaxInFlight = 4096;

  // Errors: what keeps a call from being run at all. On success the server's gate is entered.
  Status Admit(uint16_t id, TimePoint deadline, const MethodEntry** method);
  std::shared_ptr<AsyncCall> MakeCall(const MethodEntry& method, const google::protobuf::MessageLite& request,
                                      TimePoint deadline, LocalWorker& on, Status* status);
  void Submit(std::shared_ptr<AsyncCall> call, LocalWorker& on);
  CallContext ContextOf(TimePoint deadline);
  Status Run(const MethodEntry& method, const CallContext& context, const google::protobuf::MessageLite& request,
             google::protobuf::MessageLite* reply, TimePoint arrival);
  LocalWorker& NextWorker() { return workers_[next_id_.load(std::memory_order_relaxed) % workers_.size()]; }

  ServerCore& core_;
  std::vector<LocalWorker> workers_;
  const uint64_t number_;
  std::atomic<uint64_t> next_id_{1};
  std::atomic<uint32_t> in_flight_{0};
  Gate open_;  // submitted calls whose `done` has not returned
  std::atomic<bool> closed_{false};
};

LocalCalls::LocalCalls(ServerCore& core, const std::vector<Worker*>& workers)
    : core_(core), number_(core.next_connection.fetch_add(1)) {
  for (Worker* worker : workers) {
    workers_.push_back({worker, std::make_shared<LocalSink>(core, worker->io())});
    worker->Post([worker, sink = std::weak_ptr<CallSink>(workers_.back().sink)] { worker->AddLocal(sink); });
  }
}

void LocalCalls::Close() {
  closed_.store(true);
  if (open_.empty()) return;
  for (LocalWorker& local : workers_) {
    local.worker->Post([sink = local.sink] {
      sink->CancelAll(Status(Code::kClosed, "the in-process channel was closed"));
    });
  }
  // A worker that waits here would wait for itself.
  if (Worker::Current() == nullptr || &Worker::Current()->core() != &core_) {
    (void)open_.WaitEmpty(std::chrono::steady_clock::now() + kMaxDeadline);
  }
}

Status LocalCalls::Admit(uint16_t id, TimePoint deadline, const MethodEntry** method) {
  if (closed_.load()) return Status(Code::kClosed, "the in-process channel is closed");
  *method = core_.methods.Find(id);
  if (*method == nullptr) {
    return Status(Code::kUnknownMethod, "method number " + std::to_string(id) + " is not known here");
  }
  if (std::chrono::steady_clock::now() >= deadline) {
    return Status(Code::kDeadline, "the deadline passed before " + (*method)->name + " was run");
  }
  core_.calls.Enter();
  if (!core_.stopping.load()) return Status::Ok();
  core_.calls.Leave();
  return Status(Code::kShuttingDown, "the service stops");
}

CallContext LocalCalls::ContextOf(TimePoint deadline) {
  const TimePoint latest = std::chrono::steady_clock::now() + kMaxDeadline;
  return {.request_id = next_id_.fetch_add(1, std::memory_order_relaxed),
          .deadline = std::min(deadline, latest),
          .peer = "in-process",
          .connection = number_};
}

Status LocalCalls::Run(const MethodEntry& method, const CallContext& context,
                             const google::protobuf::MessageLite& request, google::protobuf::MessageLite* reply,
                             TimePoint arrival) {
  MMC_LOG_DEBUG() << "request " << context.request_id << " " << method.name << " in-process";
  Status status = MethodTable::Run(method, context, request, reply);
  core_.methods.Record(method, status.code(), std::chrono::steady_clock::now() - arrival);
  return status;
}

std::shared_ptr<AsyncCall> LocalCalls::MakeCall(const MethodEntry& method,
                                                      const google::protobuf::MessageLite& request, TimePoint deadline,
                                                      LocalWorker& on, Status* status) {
  if (in_flight_.fetch_add(1) >= kMaxInFlight) {
    in_flight_.fetch_sub(1);
    *status = Status(Code::kQueueFull, std::to_string(kMaxInFlight) + " calls are in flight; wait for some");
    return nullptr;
  }
  open_.Enter();
  auto call = std::make_shared<AsyncCall>(on.worker->io(), core_);
  call->method = &method;
  call->context = ContextOf(deadline);
  call->arrival = std::chrono::steady_clock::now();
  call->request = method.make_request();
  call->request->CheckTypeAndMergeFrom(request);
  call->reply = method.make_reply();
  call->sink = on.sink;
  return call;
}

void LocalCalls::Submit(std::shared_ptr<AsyncCall> call, LocalWorker& on) {
  on.worker->Post([self = shared_from_this(), call = std::move(call), sink = on.sink] {
    if (self->closed_.load()) {
      call->done(Status(Code::kClosed, "the in-process channel was closed"), *call->reply);
    } else if (call->method->async) {
      sink->Start(call);
    } else {
      const Status status =
          self->Run(*call->method, call->context, *call->request, call->reply.get(), call->arrival);
      call->done(status, *call->reply);
    }
    self->core_.calls.Leave();  // entered by Admit()
  });
}

Status LocalCalls::Call(uint16_t id, const google::protobuf::MessageLite& request,
                                 google::protobuf::MessageLite* reply, TimePoint deadline) {
  const MethodEntry* method = nullptr;
  MMC_RETURN_IF_ERROR(Admit(id, deadline, &method));
  CHECK(typeid(request) == *method->request_type && typeid(*reply) == *method->reply_type)
      << method->name << " was called with the messages of another method";
  if (method->sync) {
    reply->Clear();
    const Status status = Run(*method, ContextOf(deadline), request, reply, std::chrono::steady_clock::now());
    core_.calls.Leave();
    return status;
  }
  LocalWorker& on = NextWorker();
  Status status;
  std::shared_ptr<AsyncCall> call = MakeCall(*method, request, deadline, on, &status);
  if (!call) {
    core_.calls.Leave();
    return status;
  }
  const TimePoint until = call->context.deadline;
  auto waiting = std::make_shared<Waiting>();
  {
    MutexLock lock(waiting->mutex);
    waiting->reply = reply;
  }
  call->done = [self = shared_from_this(), waiting](const Status& answered, const google::protobuf::MessageLite& from) {
    self->in_flight_.fetch_sub(1);
    {
      MutexLock lock(waiting->mutex);
      if (answered.ok() && waiting->reply != nullptr) CopyReply(from, waiting->reply);
      waiting->status = answered;
      waiting->answered = true;
      waiting->done.NotifyOne();
    }
    self->open_.Leave();
  };
  Submit(std::move(call), on);
  MutexLock lock(waiting->mutex);
  while (!waiting->answered) {
    if (!waiting->done.WaitUntil(waiting->mutex, until) && !waiting->answered) {
      waiting->reply = nullptr;
      return Status(Code::kDeadline, method->name + " did not end before its deadline");
    }
  }
  return waiting->status;
}

void LocalCalls::CallAsync(uint16_t id, const google::protobuf::MessageLite& request,
                                    google::protobuf::MessageLite* reply, TimePoint deadline,
                                    std::function<void(Status)> done) {
  LocalWorker& on = NextWorker();
  const MethodEntry* method = nullptr;
  Status status = Admit(id, deadline, &method);
  if (status.ok()) {
    CHECK(typeid(request) == *method->request_type && typeid(*reply) == *method->reply_type)
        << method->name << " was called with the messages of another method";
    std::shared_ptr<AsyncCall> call = MakeCall(*method, request, deadline, on, &status);
    if (call) {
      call->done = [self = shared_from_this(), reply, done = std::move(done)](
                       const Status& answered, const google::protobuf::MessageLite& from) {
        self->in_flight_.fetch_sub(1);
        if (answered.ok()) CopyReply(from, reply);
        done(answered);
        self->open_.Leave();
      };
      Submit(std::move(call), on);
      return;
    }
    core_.calls.Leave();
  }
  on.worker->Post([done = std::move(done), status] { done(status); });
}

class InProcessChannel final : public Channel {
 public:
  InProcessChannel(ServerCore& core, const std::vector<Worker*>& workers)
      : calls_(std::make_shared<LocalCalls>(core, workers)) {}
  ~InProcessChannel() override { calls_->Close(); }

  Status CallRaw(uint16_t method, const google::protobuf::MessageLite& request, google::protobuf::MessageLite* reply,
                 TimePoint deadline) override {
    return calls_->Call(method, request, reply, deadline);
  }
  void CallRawAsync(uint16_t method, const google::protobuf::MessageLite& request,
                    google::protobuf::MessageLite* reply, TimePoint deadline,
                    std::function<void(Status)> done) override {
    calls_->CallAsync(method, request, reply, deadline, std::move(done));
  }
  void Close() override { calls_->Close(); }
  uint64_t connection_epoch() const override { return 1; }

 private:
  const std::shared_ptr<LocalCalls> calls_;
};

}  // namespace

std::shared_ptr<Channel> MakeInProcessChannel(ServerCore& core, const std::vector<Worker*>& workers) {
  return std::make_shared<InProcessChannel>(core, workers);
}

}  // namespace mmc::rpc
