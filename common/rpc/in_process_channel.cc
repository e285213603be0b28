#include "common/rpc/in_process_channel.h"

#include <google/protobuf/message_lite.h>

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

}  // namespace

InProcessChannel::InProcessChannel(ServerCore& core, std::vector<LocalWorker> workers)
    : core_(core), workers_(std::move(workers)), number_(core.next_connection.fetch_add(1)) {}

Status InProcessChannel::Admit(uint16_t id, TimePoint deadline, const MethodEntry** method) {
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

CallContext InProcessChannel::ContextOf(TimePoint deadline) {
  const TimePoint latest = std::chrono::steady_clock::now() + kMaxDeadline;
  return {.request_id = next_id_.fetch_add(1, std::memory_order_relaxed),
          .deadline = std::min(deadline, latest),
          .peer = "in-process",
          .connection = number_};
}

Status InProcessChannel::Run(const MethodEntry& method, const CallContext& context,
                             const google::protobuf::MessageLite& request, google::protobuf::MessageLite* reply,
                             TimePoint arrival) {
  VLOG(1) << "request " << context.request_id << " " << method.name << " in-process";
  Status status = MethodTable::Run(method, context, request, reply);
  core_.methods.Record(method, status.code(), std::chrono::steady_clock::now() - arrival);
  return status;
}

std::shared_ptr<AsyncCall> InProcessChannel::MakeCall(const MethodEntry& method,
                                                      const google::protobuf::MessageLite& request, TimePoint deadline,
                                                      LocalWorker& on, Status* status) {
  if (in_flight_.fetch_add(1) >= kMaxInFlight) {
    in_flight_.fetch_sub(1);
    *status = Status(Code::kQueueFull, std::to_string(kMaxInFlight) + " calls are in flight; wait for some");
    return nullptr;
  }
  auto call = std::make_shared<AsyncCall>(on.worker->io());
  call->method = &method;
  call->context = ContextOf(deadline);
  call->arrival = std::chrono::steady_clock::now();
  call->request = method.make_request();
  call->request->CheckTypeAndMergeFrom(request);
  call->reply = method.make_reply();
  call->sink = on.sink;
  return call;
}

void InProcessChannel::Submit(std::shared_ptr<AsyncCall> call, LocalWorker& on) {
  on.worker->Post([this, call = std::move(call), sink = on.sink] {
    if (call->method->async) {
      sink->Start(call);
    } else {
      const Status status = Run(*call->method, call->context, *call->request, call->reply.get(), call->arrival);
      call->done(status, *call->reply);
    }
    core_.calls.Leave();  // entered by Admit()
  });
}

Status InProcessChannel::CallRaw(uint16_t id, const google::protobuf::MessageLite& request,
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
  LocalWorker& on = workers_[next_id_.load(std::memory_order_relaxed) % workers_.size()];
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
  call->done = [this, waiting](const Status& answered, const google::protobuf::MessageLite& from) {
    in_flight_.fetch_sub(1);
    MutexLock lock(waiting->mutex);
    if (answered.ok() && waiting->reply != nullptr) CopyReply(from, waiting->reply);
    waiting->status = answered;
    waiting->answered = true;
    waiting->done.NotifyOne();
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

void InProcessChannel::CallRawAsync(uint16_t id, const google::protobuf::MessageLite& request,
                                    google::protobuf::MessageLite* reply, TimePoint deadline,
                                    std::function<void(Status)> done) {
  LocalWorker& on = workers_[next_id_.load(std::memory_order_relaxed) % workers_.size()];
  const MethodEntry* method = nullptr;
  Status status = Admit(id, deadline, &method);
  if (status.ok()) {
    CHECK(typeid(request) == *method->request_type && typeid(*reply) == *method->reply_type)
        << method->name << " was called with the messages of another method";
    std::shared_ptr<AsyncCall> call = MakeCall(*method, request, deadline, on, &status);
    if (call) {
      call->done = [this, reply, done = std::move(done)](const Status& answered,
                                                         const google::protobuf::MessageLite& from) {
        in_flight_.fetch_sub(1);
        if (answered.ok()) CopyReply(from, reply);
        done(answered);
      };
      Submit(std::move(call), on);
      return;
    }
    core_.calls.Leave();
  }
  on.worker->Post([done = std::move(done), status] { done(status); });
}

}  // namespace mmc::rpc
