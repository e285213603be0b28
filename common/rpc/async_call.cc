#include "common/rpc/async_call.h"

#include <google/protobuf/message_lite.h>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/system/system_error.hpp>
#include <vector>

#include "common/obs/log.h"

namespace mmc::rpc {
namespace {

Status StatusOfException(const AsyncCall& call, const std::exception_ptr& thrown) {
  try {
    std::rethrow_exception(thrown);
  } catch (const boost::system::system_error& e) {
    if (e.code() == asio::error::operation_aborted) {
      return Status(Code::kCancelled, call.method->name + " was cancelled");
    }
    MMC_LOG(ERROR) << call.method->name << " request " << call.context.request_id << ": " << e.what();
    return Status(Code::kInternal, call.method->name + ": " + e.what());
  } catch (const std::exception& e) {
    MMC_LOG(ERROR) << call.method->name << " request " << call.context.request_id << ": " << e.what();
    return Status(Code::kInternal, call.method->name + ": " + e.what());
  }
}

}  // namespace

// Ends the call from within its own coroutine: an answer that is there at once joins the batch it came with, where
// co_spawn's completion handler would come a turn of the event loop later.
asio::awaitable<void> CallSink::RunCall(std::shared_ptr<AsyncCall> call) {
  Status status;
  std::exception_ptr thrown;
  try {
    status = co_await call->method->async(call->context, *call->request, call->reply.get());
  } catch (...) {
    thrown = std::current_exception();
  }
  call->sink->End(*call, thrown, status);
}

void CallSink::Start(const std::shared_ptr<AsyncCall>& call) {
  calls_.push_back(*call);
  core_.calls.Enter();
  // co_spawn keeps state of its own in the call's signal until the very end, after RunCall's frame is gone: the
  // completion handler is what keeps the call that long.
  asio::co_spawn(io_, RunCall(call),
                 asio::bind_cancellation_slot(call->cancel.slot(), [call](const std::exception_ptr&) {}));
  if (call->finished) return;
  call->timer.expires_at(call->context.deadline);
  call->timer.async_wait([call](const boost::system::error_code& error) {
    if (error || call->answered) return;
    call->sink->AnswerOnce(*call, Status(Code::kDeadline, call->method->name + " did not end before its deadline"));
    call->cancel.emit(asio::cancellation_type::terminal);
  });
}

void CallSink::CancelAll(const Status& why) {
  std::vector<std::shared_ptr<AsyncCall>> open;
  for (AsyncCall& call : calls_) open.push_back(call.shared_from_this());
  for (const auto& call : open) {
    AnswerOnce(*call, why);
    call->cancel.emit(asio::cancellation_type::terminal);
  }
}

void CallSink::AnswerOnce(AsyncCall& call, const Status& status) {
  if (call.answered) return;
  call.answered = true;
  core_.methods.Record(*call.method, status.code(), std::chrono::steady_clock::now() - call.arrival);
  Answer(call, status);
}

void CallSink::End(AsyncCall& call, const std::exception_ptr& thrown, const Status& status) {
  call.finished = true;
  call.unlink();
  call.timer.cancel();
  AnswerOnce(call, thrown ? StatusOfException(call, thrown) : status);
  core_.calls.Leave();
  Finished();
}

}  // namespace mmc::rpc
