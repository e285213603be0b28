// One io thread of a server: its event loop, its connections, the messages its sync handlers reuse.
//
// Thread safety: Start, Stop, Post and io() from any thread; the rest on the worker's thread.
// Ownership: the server owns workers; a worker shares ownership of its connections.
#pragma once

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <deque>
#include <memory>
#include <thread>
#include <unordered_map>
#include <vector>

#include "common/rpc/async_call.h"

namespace mmc::rpc {

// A connection as its worker sees it.
class ServedConnection : public CallSink {
 public:
  using CallSink::CallSink;
  // Tells the peer to send no more here.
  virtual void GoAway() = 0;
  // Answers what runs, sends what is queued, closes.
  virtual void BeginClose() = 0;
};

// A connection that is none yet, because its handshake is under way.
class Handshake {
 public:
  virtual ~Handshake() = default;
  // Ends it, because too many others are under way.
  virtual void GiveWay() = 0;
  virtual void Close() = 0;
};

class Worker {
 public:
  struct Messages {
    std::unique_ptr<google::protobuf::MessageLite> request;
    std::unique_ptr<google::protobuf::MessageLite> reply;
  };

  Worker(ServerCore& core, int number);
  ~Worker();

  void Start();
  // Ends the loop, whatever is still queued, and joins the thread. Idempotent.
  void Stop();

  asio::io_context& io() { return io_; }
  template <typename F>
  void Post(F task) {
    asio::post(io_, std::move(task));
  }

  // Messages of a sync handler that runs now; kept for the next one.
  Messages& MessagesOf(const MethodEntry& method);

  void Add(std::shared_ptr<ServedConnection> connection);
  void Remove(ServedConnection* connection) { connections_.erase(connection); }
  std::vector<std::shared_ptr<ServedConnection>> Connections() const;

  // When there are `most` already, the oldest gives way.
  void AddHandshake(std::shared_ptr<Handshake> handshake, size_t most);
  void RemoveHandshake(const Handshake* handshake);
  void CloseHandshakes();

  // Calls from inside the process that run here; forgotten when the sink is gone.
  void AddLocal(std::weak_ptr<CallSink> sink);
  void CancelLocal(const Status& why);

  // The worker whose thread calls; null on other threads.
  static Worker* Current();
  const ServerCore& core() const { return core_; }

 private:
  void Run();

  ServerCore& core_;
  const int number_;
  asio::io_context io_{1};
  asio::executor_work_guard<asio::io_context::executor_type> keep_{io_.get_executor()};
  std::vector<Messages> messages_;
  std::unordered_map<ServedConnection*, std::shared_ptr<ServedConnection>> connections_;
  std::deque<std::shared_ptr<Handshake>> handshakes_;  // the oldest first
  std::vector<std::weak_ptr<CallSink>> local_;
  std::thread thread_;
};

}  // namespace mmc::rpc
