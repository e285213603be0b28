// The server: listens, spreads connections over the workers, stops in order.
#include <google/protobuf/message_lite.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <future>

#include "common/obs/log.h"
#include "common/rpc/connection.h"
#include "common/rpc/in_process_channel.h"
#include "common/rpc/plain_stream.h"
#include "common/rpc/server.h"
#include "common/rpc/tls_accept.h"
#include "common/rpc/url.h"

namespace mmc::rpc {
namespace {

using asio::ip::tcp;
using Error = boost::system::error_code;

constexpr std::chrono::milliseconds kUnwindGrace{500};  // for handlers that were cancelled, after the deadline
constexpr std::chrono::milliseconds kAcceptPause{100};  // after a failed accept (no descriptors left, say)

std::string PeerText(const tcp::endpoint& endpoint) {
  const std::string host = endpoint.address().to_string();
  return (endpoint.address().is_v6() ? "[" + host + "]" : host) + ":" + std::to_string(endpoint.port());
}

class TcpServer final : public Server {
 public:
  explicit TcpServer(const ServerOptions& options)
      : core_(options),
        serving_(core_.registry, options.tls),
        max_handshakes_(std::max<size_t>(1, options.max_handshakes / static_cast<size_t>(
                                                std::max(options.io_threads, 1)))) {
    for (int i = 0; i < std::max(options.io_threads, 1); ++i) {
      workers_.push_back(std::make_unique<Worker>(core_, i));
    }
  }
  ~TcpServer() override {
    Stop(std::chrono::steady_clock::now());
    for (auto& worker : workers_) worker->Stop();
  }

  Status Start() override {
    if (!core_.options.url.empty()) MMC_RETURN_IF_ERROR(Listen());
    for (auto& worker : workers_) worker->Start();
    started_ = true;
    if (acceptor_) asio::co_spawn(workers_[0]->io(), Accept(), asio::detached);
    return Status::Ok();
  }

  void Stop(TimePoint deadline) override;

  uint16_t port() const override { return port_; }

  asio::any_io_executor executor() override {
    Worker* current = Worker::Current();
    const bool ours = current != nullptr && &current->core() == &core_;
    return (ours ? current : workers_[0].get())->io().get_executor();
  }

  std::shared_ptr<Channel> InProcessChannel() override {
    std::vector<Worker*> workers;
    for (auto& worker : workers_) workers.push_back(worker.get());
    return MakeInProcessChannel(core_, workers);
  }

 protected:
  void AddSync(uint16_t id, const char* name, MakeMessage request, MakeMessage reply, SyncBody body) override {
    Add({.id = id, .name = name, .make_request = request, .make_reply = reply, .sync = std::move(body)});
  }
  void AddAsync(uint16_t id, const char* name, MakeMessage request, MakeMessage reply, AsyncBody body) override {
    Add({.id = id, .name = name, .make_request = request, .make_reply = reply, .async = std::move(body)});
  }

 private:
  void Add(MethodEntry entry) {
    CHECK(!started_) << "method " << entry.name << " is added to a server that runs";
    core_.methods.Add(std::move(entry));
  }
  Status Listen();
  Status Bind(const tcp::endpoint& endpoint, const std::string& text);
  asio::awaitable<void> Accept();
  void Begin(Worker& worker, PlainStream::Socket socket, std::string peer);
  // Runs `task` on every worker and waits for all of them.
  void OnEachWorker(const std::function<void(Worker&)>& task);

  ServerCore core_;
  TlsServing serving_;
  const size_t max_handshakes_;  // of each worker
  std::vector<std::unique_ptr<Worker>> workers_;
  std::unique_ptr<tcp::acceptor> acceptor_;  // on workers_[0]
  obs::Counter* refused_ = &core_.registry.AddCounter("mmc_rpc_refused_connections_total",
                                                      "Connections turned away because too many are open.");
  uint16_t port_ = 0;
  size_t next_worker_ = 0;  // of the accepting coroutine
  bool started_ = false;
  bool stopped_ = false;
};

Status TcpServer::Listen() {
  MMC_ASSIGN_OR_RETURN(const Url url, ParseUrl(core_.options.url));
  if (url.scheme != "tcp") {
    return Status(Code::kInvalidArgument, "'" + core_.options.url + "': a service listens on tcp://host:port");
  }
  Error error;
  tcp::resolver resolver(workers_[0]->io());
  const auto found = resolver.resolve(url.host, std::to_string(url.port), tcp::resolver::passive, error);
  if (error || found.empty()) {
    return Status(Code::kInvalidArgument, "'" + url.host + "' is no address of this machine: " + error.message());
  }
  return Bind(found.begin()->endpoint(), url.host.find(':') == std::string::npos
                                             ? url.host + ":" + std::to_string(url.port)
                                             : "[" + url.host + "]:" + std::to_string(url.port));
}

Status TcpServer::Bind(const tcp::endpoint& endpoint, const std::string& text) {
  Error error;
  auto acceptor = std::make_unique<tcp::acceptor>(workers_[0]->io());
  acceptor->open(endpoint.protocol(), error);
  // A restart does not wait for old connections' TIME_WAIT; two listeners on one port are still refused.
  if (!error) acceptor->set_option(tcp::acceptor::reuse_address(true), error);
  if (!error) acceptor->bind(endpoint, error);
  if (!error) acceptor->listen(tcp::acceptor::max_listen_connections, error);
  if (error == asio::error::address_in_use) {
    const std::string& key = core_.options.url_key;
    return Status(Code::kIo, "address " + text + " is in use; another service runs there or choose another port" +
                                 (key.empty() ? std::string() : " with " + key));
  }
  if (error) return Status(Code::kIo, "cannot listen on " + text + ": " + error.message());
  port_ = acceptor->local_endpoint(error).port();
  acceptor_ = std::move(acceptor);
  return Status::Ok();
}

asio::awaitable<void> TcpServer::Accept() {
  const auto token = asio::as_tuple(asio::use_awaitable);
  asio::steady_timer pause(workers_[0]->io());
  while (!core_.stopping.load()) {
    Worker& worker = *workers_[next_worker_++ % workers_.size()];
    auto [error, socket] = co_await acceptor_->async_accept(worker.io(), token);
    uint64_t left_out = 0;
    if (error) {
      if (error == asio::error::operation_aborted) co_return;
      if (core_.refused_log.Allow(std::chrono::steady_clock::now(), &left_out)) {
        MMC_LOG(ERROR) << "cannot accept a connection on port " << port_ << ": " << error.message();
      }
      pause.expires_after(kAcceptPause);
      (void)co_await pause.async_wait(token);
      continue;
    }
    Error gone;
    const tcp::endpoint peer = socket.remote_endpoint(gone);
    if (gone) continue;
    if (core_.connection_count->load() >= core_.options.max_connections) {
      refused_->Add();
      if (core_.refused_log.Allow(std::chrono::steady_clock::now(), &left_out)) {
        MMC_LOG(WARNING) << PeerText(peer) << " is turned away: " << core_.options.max_connections
                     << " connections are open";
      }
      continue;
    }
    Begin(worker, std::move(socket), PeerText(peer));
  }
}

void TcpServer::Begin(Worker& worker, PlainStream::Socket socket, std::string peer) {
  if (serving_.context() != nullptr) {
    auto accept = std::make_shared<TlsAccept>(core_, worker, serving_, std::move(socket), std::move(peer));
    worker.Post([this, &worker, accept] {
      worker.AddHandshake(accept, max_handshakes_);
      accept->Start();
      if (core_.stopping.load()) accept->Close();
    });
    return;
  }
  auto connection = std::make_shared<Connection<PlainStream>>(core_, worker, std::move(peer), security::NoIdentity(),
                                                              std::move(socket));
  worker.Post([this, &worker, connection] {
    worker.Add(connection);
    connection->Serve();
    if (core_.stopping.load()) connection->BeginClose();
  });
}

void TcpServer::OnEachWorker(const std::function<void(Worker&)>& task) {
  std::vector<std::future<void>> ended;
  for (auto& worker : workers_) {
    auto done = std::make_shared<std::promise<void>>();
    ended.push_back(done->get_future());
    worker->Post([&task, &worker, done] {
      task(*worker);
      done->set_value();
    });
  }
  for (auto& end : ended) end.wait();
}

void TcpServer::Stop(TimePoint deadline) {
  if (stopped_ || !started_) return;
  stopped_ = true;
  core_.stopping.store(true);
  OnEachWorker([this](Worker& worker) {
    Error ignored;
    if (acceptor_ && &worker == workers_[0].get()) acceptor_->close(ignored);
    for (const auto& connection : worker.Connections()) connection->GoAway();
  });
  core_.calls.WaitEmpty(deadline);
  OnEachWorker([](Worker& worker) {
    worker.CancelLocal(Status(Code::kShuttingDown, "the service stopped before the call ended"));
    worker.CloseHandshakes();
    for (const auto& connection : worker.Connections()) connection->BeginClose();
  });
  const TimePoint last = std::max(deadline, std::chrono::steady_clock::now()) + kUnwindGrace;
  const bool unwound = core_.calls.WaitEmpty(last) && core_.connections.WaitEmpty(last);
  if (!unwound) MMC_LOG(WARNING) << "some calls or connections on port " << port_ << " did not end in time";
}

}  // namespace

std::unique_ptr<Server> MakeServer(const ServerOptions& options) { return std::make_unique<TcpServer>(options); }

}  // namespace mmc::rpc
