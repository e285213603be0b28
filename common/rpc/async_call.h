// A call whose handler may wait: its messages, its deadline, its cancellation, and the sink that takes its answer.
//
// Thread safety: none; a call and its sink live on one io thread. Ownership: the handler's coroutine owns the call,
// the call owns a share of its sink.
#pragma once

#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/intrusive/list.hpp>
#include <exception>
#include <functional>
#include <memory>

#include "common/rpc/server_core.h"

namespace mmc::rpc {

class CallSink;

struct AsyncCall : std::enable_shared_from_this<AsyncCall>,
                   boost::intrusive::list_base_hook<boost::intrusive::link_mode<boost::intrusive::auto_unlink>> {
  AsyncCall(asio::io_context& io, ServerCore& core) : held(core.buffer_bytes), timer(io) {}

  const MethodEntry* method = nullptr;
  CallContext context;
  TimePoint arrival;
  HeldBytes held;  // by the request
  std::unique_ptr<google::protobuf::MessageLite> request;
  std::unique_ptr<google::protobuf::MessageLite> reply;
  std::shared_ptr<CallSink> sink;
  std::function<void(const Status&, const google::protobuf::MessageLite&)> done;  // calls inside the process only
  asio::steady_timer timer;
  asio::cancellation_signal cancel;
  bool answered = false;  // the caller has its status; what the handler says now is dropped
  bool finished = false;  // the handler has returned
};

class CallSink {
 public:
  CallSink(ServerCore& core, asio::io_context& io) : core_(core), io_(io) {}
  virtual ~CallSink() = default;

  // Runs the handler. It is answered exactly once: with what it returns, or with kDeadline at its deadline.
  void Start(const std::shared_ptr<AsyncCall>& call);
  // Answers every call that is still open with `why` and cancels its handler.
  void CancelAll(const Status& why);

 protected:
  virtual void Answer(AsyncCall& call, const Status& status) = 0;
  // A handler has returned; its place in the bound of calls in flight is free.
  virtual void Finished() = 0;

  ServerCore& core_;
  asio::io_context& io_;

 private:
  static asio::awaitable<void> RunCall(std::shared_ptr<AsyncCall> call);
  void AnswerOnce(AsyncCall& call, const Status& status);
  void End(AsyncCall& call, const std::exception_ptr& thrown, const Status& status);

  boost::intrusive::list<AsyncCall, boost::intrusive::constant_time_size<false>> calls_;
};

}  // namespace mmc::rpc
