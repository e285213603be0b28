// Network: the control plane of a simulated run. It is rpc::Server and rpc::Channel to the product (rpc::MakeServer of
// this program makes a SimServer); messages travel as their serialised bytes, one event each, and meet what a network
// and its ends do to them.
//
// Real: method tables, messages, handlers and their coroutines. Modelled: connections. A channel is connected to one
// run of the meta service or to none; a call without connection makes one first and may so reach a later run than the
// one it was meant for. Each message takes its own time, so they overtake each other. A cut connection fails all calls
// on it with kConnectionLost, and each of them may still be carried out, soon or much later, or never. What a partition
// holds up comes when it is over, if anybody still waits. A frozen service takes its messages in when it runs again.
//
// Thread safety: none needed. Ownership: shared with its channels.
#pragma once

#include <google/protobuf/message_lite.h>

#include <boost/asio/io_context.hpp>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "common/rpc/server.h"
#include "tests/sim/scheduler.h"

namespace mmc::sim {

struct MessageFaults {
  double cut = 0;        // per call: the connection breaks, before or after the request is carried out
  double slow = 0;       // per message: takes up to `slow_up_to`
  Nanos slow_up_to = 0;
  Nanos late_up_to = 0;  // a request of a cut connection is carried out within this time
};

class SimServer;

// Sees every call where it is carried out, and may play tricks on it.
class CallObserver {
 public:
  virtual ~CallObserver() = default;
  // False: it is not carried out; the reply, as it is left, is answered.
  virtual bool Before(uint16_t, google::protobuf::MessageLite*, google::protobuf::MessageLite*) { return true; }
  virtual void After(uint16_t, const google::protobuf::MessageLite&, google::protobuf::MessageLite*, const Status&) {}
};

class Network : public std::enable_shared_from_this<Network> {
 public:
  explicit Network(Scheduler& scheduler);

  std::shared_ptr<rpc::Channel> ChannelOf(const ProcessPtr& process);
  // Nothing gets through between this process and the meta service.
  void Partition(const ProcessPtr& process, bool on);
  bool partitioned(const ProcessPtr& process) const { return partitioned_.contains(process.get()); }
  // The process is gone: its calls end at once, with failures that nobody outside sees.
  void Disconnect(const ProcessPtr& process);
  // One of its connections breaks.
  void Cut(const ProcessPtr& process);
  void HealAll() { partitioned_.clear(); }

  MessageFaults faults;
  CallObserver* observer = nullptr;
  uint64_t calls = 0;  // carried out

  // For SimServer.
  void Attach(SimServer* server, ProcessPtr process);
  void Detach(SimServer* server);
  // The meta service is killed: from here on nobody hears of it.
  void DetachNow() { Detach(server_); }
  // Handlers that have something to go on with do so.
  void Poll();
  static Network* Current() { return current_; }
  // Of the service that is made next.
  ProcessPtr next_server_process;

 private:
  friend class SimServer;
  friend class SimChannel;
  struct Call;
  class Peer;
  using CallPtr = std::shared_ptr<Call>;

  void Send(const CallPtr& call);
  void Arrive(const CallPtr& call, uint64_t run);
  void CarryOut(const CallPtr& call);
  void Answer(const CallPtr& call, Status status, const google::protobuf::MessageLite& reply);
  void Deliver(const CallPtr& call, uint64_t run, const Status& status, const std::string& answer);
  void Finish(const CallPtr& call, Status status);
  Nanos Latency();

  static inline Network* current_ = nullptr;
  Scheduler& scheduler_;
  SimServer* server_ = nullptr;
  ProcessPtr server_process_;
  uint64_t run_ = 0;  // of the meta service; counts up
  std::set<const Process*> partitioned_;
  std::map<uint64_t, CallPtr> pending_;
  uint64_t next_call_ = 1;
};

class SimServer final : public rpc::Server {
 public:
  explicit SimServer(Network& network) : network_(network.shared_from_this()) {}
  ~SimServer() override;

  Status Start() override;
  void Stop(TimePoint deadline) override;
  uint16_t port() const override { return 1; }
  boost::asio::any_io_executor executor() override { return io_.get_executor(); }
  std::shared_ptr<rpc::Channel> InProcessChannel() override { return nullptr; }

  struct Method {
    std::string name;
    MakeMessage make_request = nullptr, make_reply = nullptr;
    SyncBody sync;
    AsyncBody async;
  };
  const Method* Find(uint16_t id) const;
  void Poll();
  // Runs the handler; `done` runs when it has ended, now or later.
  void Run(uint16_t id, const std::string& request, TimePoint deadline, CallObserver* observer,
           std::function<void(Status, const google::protobuf::MessageLite&)> done);

 protected:
  void AddSync(uint16_t id, const char* name, MakeMessage request, MakeMessage reply, SyncBody body) override;
  void AddAsync(uint16_t id, const char* name, MakeMessage request, MakeMessage reply, AsyncBody body) override;

 private:
  const std::shared_ptr<Network> network_;
  std::map<uint16_t, Method> methods_;
  boost::asio::io_context io_{1};
  bool attached_ = false;
  uint64_t next_request_ = 1;
  uint64_t running_ = 0;
};

}  // namespace mmc::sim
