#include "tests/sim/network.h"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <utility>

namespace mmc::sim {

namespace asio = boost::asio;
using google::protobuf::MessageLite;

namespace {
constexpr Nanos kRetransmission = 60 * kMilli;
}  // namespace

// What a channel knows of its connection.
class Network::Peer {
 public:
  explicit Peer(ProcessPtr of) : process(std::move(of)) {}
  const ProcessPtr process;
  uint64_t run = 0;  // of the meta service that it is connected to; 0: none
  uint64_t epoch = 0;
  bool closed = false;
};

struct Network::Call {
  uint64_t id = 0;
  uint16_t method = 0;
  std::string request;
  MessageLite* reply = nullptr;
  TimePoint deadline;
  std::shared_ptr<Peer> peer;
  uint64_t run = 0;      // it was sent on a connection to this one
  bool sent = false;
  bool lost = false;     // the request will not get there
  bool late = false;     // it gets there long after its connection broke
  bool finished = false;
  Status status;
  std::string answer;
  // How the caller learns of it: one of the two.
  bool sync = false;
  std::function<void(Status)> done;
};

class SimChannel final : public rpc::Channel {
 public:
  SimChannel(std::shared_ptr<Network> network, ProcessPtr process)
      : network_(std::move(network)), peer_(std::make_shared<Network::Peer>(std::move(process))) {}
  ~SimChannel() override { Close(); }

  Status CallRaw(uint16_t method, const MessageLite& request, MessageLite* reply, TimePoint deadline) override {
    auto call = Make(method, request, reply, deadline);
    call->sync = true;
    network_->Send(call);
    while (!call->finished) Scheduler::Current()->Wait(call.get());
    return call->status;
  }
  void CallRawAsync(uint16_t method, const MessageLite& request, MessageLite* reply, TimePoint deadline,
                    std::function<void(Status)> done) override {
    auto call = Make(method, request, reply, deadline);
    call->done = std::move(done);
    network_->Send(call);
  }
  void Close() override {
    peer_->closed = true;
    const auto pending = network_->pending_;
    for (const auto& [id, call] : pending) {
      if (call->peer != peer_) continue;
      network_->Finish(call, Status(Code::kClosed, "the channel was closed"));
      if (auto done = std::exchange(call->done, nullptr)) done(call->status);
    }
  }
  uint64_t connection_epoch() const override { return peer_->epoch; }
  const std::shared_ptr<Network::Peer>& peer() const { return peer_; }

 private:
  std::shared_ptr<Network::Call> Make(uint16_t method, const MessageLite& request, MessageLite* reply,
                                      TimePoint deadline) {
    auto call = std::make_shared<Network::Call>();
    call->id = network_->next_call_++;
    call->method = method;
    call->request = request.SerializeAsString();
    call->reply = reply;
    call->deadline = deadline;
    call->peer = peer_;
    return call;
  }

  const std::shared_ptr<Network> network_;
  const std::shared_ptr<Network::Peer> peer_;
};

Network::Network(Scheduler& scheduler) : scheduler_(scheduler) { current_ = this; }

std::shared_ptr<rpc::Channel> Network::ChannelOf(const ProcessPtr& process) {
  return std::make_shared<SimChannel>(shared_from_this(), process);
}

void Network::Partition(const ProcessPtr& process, bool on) {
  if (on) {
    partitioned_.insert(process.get());
  } else {
    partitioned_.erase(process.get());
  }
}

void Network::Disconnect(const ProcessPtr& process) {
  const auto pending = pending_;
  for (const auto& [id, call] : pending) {
    if (call->peer->process != process) continue;
    call->lost = call->lost || scheduler_.dice().Chance(0.5);
    Finish(call, Status(Code::kConnectionLost, "the process is going down"));
  }
}

void Network::Cut(const ProcessPtr& process) {
  const auto pending = pending_;
  for (const auto& [id, call] : pending) {
    if (call->peer->process != process || !call->sent) continue;
    call->peer->run = 0;
    call->lost = call->lost || scheduler_.dice().Chance(0.5);
    Finish(call, Status(Code::kConnectionLost, "the connection broke"));
  }
}

Nanos Network::Latency() {
  Dice& dice = scheduler_.dice();
  if (faults.slow > 0 && dice.Chance(faults.slow)) return dice.Skewed(kMilli, faults.slow_up_to);
  return dice.Skewed(20 * kMicro, 2 * kMilli);
}

void Network::Send(const CallPtr& call) {
  pending_[call->id] = call;
  auto self = shared_from_this();
  if (call->peer->closed || call->peer->process->dead || call->peer->process->offline) {
    scheduler_.After(kMicro, [self, call] { self->Finish(call, Status(Code::kClosed, "the channel is closed")); });
    return;
  }
  const Nanos deadline = FromSteady(call->deadline.time_since_epoch().count());
  scheduler_.At(std::max(deadline, scheduler_.now() + kMicro), [self, call] {
    self->Finish(call, call->sent ? Status(Code::kDeadline, "no answer before the deadline")
                                  : Status(Code::kUnavailable, "no connection before the deadline"));
  });
  const bool cut = faults.cut > 0 && scheduler_.dice().Chance(faults.cut);
  const uint64_t run = call->peer->run;
  if (run != 0) {
    call->sent = true;
    call->run = run;
  }
  Nanos arrives = Latency();
  if (cut) {
    // Before or after it is carried out; or carried out when everybody has forgotten it.
    const uint64_t kind = scheduler_.dice().Below(4);
    call->lost = kind == 0;
    const Nanos breaks = kind == 1 ? arrives + Latency() * 2 : Latency() / 2;
    call->late = kind == 2;
    if (call->late) arrives += scheduler_.dice().Skewed(0, std::max<Nanos>(faults.late_up_to, 1));
    scheduler_.After(breaks, [self, call] {
      if (call->finished) return;
      call->peer->run = 0;
      self->Finish(call, call->sent ? Status(Code::kConnectionLost, "the connection broke")
                                    : Status(Code::kUnavailable, "no connection"));
    });
  }
  scheduler_.After(arrives, [self, call, run] { self->Arrive(call, run); });
}

// At the service, or where it should be.
void Network::Arrive(const CallPtr& call, uint64_t run) {
  if (call->lost) return;
  const Process& from = *call->peer->process;
  if ((from.offline || from.dead) && run == 0) return;
  if (partitioned(call->peer->process)) {  // sent again and again
    auto self = shared_from_this();
    scheduler_.After(kRetransmission, [self, call, run] { self->Arrive(call, run); });
    return;
  }
  const bool reachable = server_ != nullptr && (run == 0 || run == run_);
  if (!reachable) {
    if (!call->finished) call->peer->run = 0;
    Finish(call, run == 0 ? Status(Code::kUnavailable, "nobody listens")
                          : Status(Code::kConnectionLost, "the meta service is gone"));
    return;
  }
  if (run == 0) {
    if (call->finished) return;  // no connection was made for it
    call->peer->run = run_;
    ++call->peer->epoch;
    call->sent = true;
    call->run = run_;
  }
  const uint64_t meant_for = run_;
  auto self = shared_from_this();
  scheduler_.WhenRunning(server_process_, [self, call, meant_for] {
    if (self->server_ != nullptr && self->run_ == meant_for) self->CarryOut(call);
  });
}

void Network::CarryOut(const CallPtr& call) {
  ++calls;
  const SimServer::Method* method = server_->Find(call->method);
  if (method == nullptr) return Finish(call, Status(Code::kUnknownMethod, "unknown method"));
  auto self = shared_from_this();
  server_->Run(call->method, call->request, call->deadline, observer,
               [self, call](Status status, const MessageLite& reply) { self->Answer(call, std::move(status), reply); });
}

void Network::Answer(const CallPtr& call, Status status, const MessageLite& reply) {
  if (server_ == nullptr) return;  // it has been killed: nobody hears
  std::string bytes = status.ok() ? reply.SerializeAsString() : std::string();
  auto self = shared_from_this();
  const uint64_t run = run_;
  scheduler_.After(Latency(), [self, call, run, status = std::move(status), bytes = std::move(bytes)] {
    self->Deliver(call, run, status, bytes);
  });
}

void Network::Deliver(const CallPtr& call, uint64_t run, const Status& status, const std::string& answer) {
  if (call->finished || call->peer->run != run) return;
  if (partitioned(call->peer->process)) {
    auto self = shared_from_this();
    scheduler_.After(kRetransmission, [=] { self->Deliver(call, run, status, answer); });
    return;
  }
  call->answer = answer;
  Finish(call, status);
}

void Network::Finish(const CallPtr& call, Status status) {
  if (call->finished) return;
  call->finished = true;
  pending_.erase(call->id);
  if (call->peer->process->dead) return;
  if (status.ok() && !call->reply->ParseFromString(call->answer)) status = Status(Code::kMalformed, "reply");
  call->status = std::move(status);
  if (call->sync) {
    scheduler_.WakeAll(call.get());
    return;
  }
  scheduler_.Spawn(call->peer->process, [call] {
    if (auto done = std::exchange(call->done, nullptr)) done(call->status);
  });
}

void Network::Attach(SimServer* server, ProcessPtr process) {
  if (server_ != nullptr) Abort("two meta services at once");
  server_ = server;
  server_process_ = std::move(process);
  ++run_;
}

void Network::Detach(SimServer* server) {
  if (server == nullptr || server_ != server) return;
  server_ = nullptr;
  auto self = shared_from_this();
  const auto pending = pending_;
  for (const auto& [id, call] : pending) {
    if (call->run != run_ || partitioned(call->peer->process)) continue;
    scheduler_.After(Latency(), [self, call] {
      if (call->finished) return;
      call->peer->run = 0;
      self->Finish(call, Status(Code::kConnectionLost, "the meta service is gone"));
    });
  }
}

void Network::Poll() {
  if (server_ != nullptr && !server_process_->frozen) server_->Poll();
}

// ---- server -------------------------------------------------------------------------------------------------------

SimServer::~SimServer() { network_->Detach(this); }

Status SimServer::Start() {
  network_->Attach(this, network_->next_server_process);
  attached_ = true;
  return Status::Ok();
}

void SimServer::Stop(TimePoint) {
  // Whoever waits has been told to end (Waiters::Close); what goes on by itself ends in a bounded number of turns.
  for (int turns = 0; running_ > 0 && turns < 100'000; ++turns) Poll();
  if (running_ > 0) Abort("a handler of the meta service does not end");
  network_->Detach(this);
  attached_ = false;
}

const SimServer::Method* SimServer::Find(uint16_t id) const {
  const auto it = methods_.find(id);
  return it == methods_.end() ? nullptr : &it->second;
}

void SimServer::AddSync(uint16_t id, const char* name, MakeMessage request, MakeMessage reply, SyncBody body) {
  methods_[id] = {name, request, reply, std::move(body), nullptr};
}

void SimServer::AddAsync(uint16_t id, const char* name, MakeMessage request, MakeMessage reply, AsyncBody body) {
  methods_[id] = {name, request, reply, nullptr, std::move(body)};
}

void SimServer::Poll() {
  io_.restart();
  io_.poll();
}

namespace {

struct Running {
  uint16_t id = 0;
  std::unique_ptr<MessageLite> request, reply;
  CallObserver* observer = nullptr;
  std::function<void(Status, const MessageLite&)> done;
  uint64_t* count = nullptr;

  void End(const Status& status) {
    --*count;
    if (observer != nullptr) observer->After(id, *request, reply.get(), status);
    done(status, *reply);
  }
};

asio::awaitable<void> RunAsync(const SimServer::Method& method, rpc::CallContext context,
                               std::shared_ptr<Running> running) {
  const Status status = co_await method.async(std::move(context), *running->request, running->reply.get());
  running->End(status);
}

}  // namespace

void SimServer::Run(uint16_t id, const std::string& request, TimePoint deadline, CallObserver* observer,
                    std::function<void(Status, const MessageLite&)> done) {
  const Method& method = methods_.at(id);
  auto running = std::make_shared<Running>();
  running->id = id;
  running->request = method.make_request();
  running->reply = method.make_reply();
  running->observer = observer;
  running->done = std::move(done);
  running->count = &running_;
  ++running_;
  if (!running->request->ParseFromString(request)) return running->End(Status(Code::kMalformed, "request"));
  if (observer != nullptr && !observer->Before(id, running->request.get(), running->reply.get())) {
    return running->End(Status::Ok());
  }
  rpc::CallContext context;
  context.request_id = next_request_++;
  context.deadline = deadline;
  context.peer = "sim";
  context.connection = 1;
  if (method.sync) return running->End(method.sync(context, *running->request, running->reply.get()));
  asio::co_spawn(io_, RunAsync(method, std::move(context), running), asio::detached);
}

}  // namespace mmc::sim

namespace mmc::rpc {

// In the place of the one with sockets.
std::unique_ptr<Server> MakeServer(const ServerOptions&) {
  if (sim::Network::Current() == nullptr) sim::Abort("a server outside of a run");
  return std::make_unique<sim::SimServer>(*sim::Network::Current());
}

}  // namespace mmc::rpc
