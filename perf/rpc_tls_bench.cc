// What TLS costs a small call: the same call in the clear and under TLS, a bare echo over OpenSSL with the same
// certificates, and what a connection with its first call costs.
#include <benchmark/benchmark.h>
#include <openssl/ssl.h>
#include <sys/socket.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>

#include "common/rpc/channel.h"
#include "common/rpc/server.h"
#include "common/security/tls_context.h"
#include "proto/types.pb.h"

namespace mmc::rpc {
namespace {

using asio::ip::tcp;
using proto::KeyList;
using security::TlsContext;

constexpr Method<KeyList, KeyList> kEcho{200, "Echo"};
constexpr size_t kSmall = 64;

TimePoint Soon() { return std::chrono::steady_clock::now() + std::chrono::seconds(60); }

KeyList Message() {
  KeyList message;
  message.add_lengths(kSmall);
  message.set_data(std::string(kSmall, 'k'));
  return message;
}

// What scripts/make_certs makes, in a folder that goes with the process.
class Certificates {
 public:
  Certificates() {
    char pattern[] = "/tmp/mmc-bench-XXXXXX";
    if (mkdtemp(pattern) == nullptr) std::abort();
    path_ = pattern;
    if (std::system((std::string(MMC_MAKE_CERTS) + " " + path_ + "/c >/dev/null 2>&1").c_str()) != 0) std::abort();
  }
  ~Certificates() { std::filesystem::remove_all(path_); }

  std::shared_ptr<TlsContext> Load(const std::string& role) const {
    security::TlsOptions options;
    options.enable = true;
    options.ca_path = path_ + "/c/ca.cert.pem";
    options.cert_path = path_ + "/c/" + role + ".cert.pem";
    options.key_path = path_ + "/c/" + role + ".key.pem";
    auto made = TlsContext::Load(options);
    if (!made.ok()) std::abort();
    return *made;
  }

 private:
  std::string path_;
};

const Certificates& Files() {
  static const Certificates files;
  return files;
}

struct EchoServer {
  explicit EchoServer(bool secure) {
    ServerOptions options;
    options.url = "tcp://127.0.0.1:0";
    options.io_threads = 1;
    if (secure) options.tls = Files().Load("meta");
    server = MakeServer(options);
    server->Handle(kEcho, [](const CallContext&, const KeyList& request, KeyList* reply) {
      *reply = request;
      return Status::Ok();
    });
    if (!server->Start().ok()) std::abort();
    if (secure) tls = Files().Load("client");
  }
  ~EchoServer() { server->Stop(Soon()); }

  std::shared_ptr<Channel> Connect() const {
    return *MakeTcpChannel({.url = "tcp://127.0.0.1:" + std::to_string(server->port()),
                            .spin = std::chrono::microseconds(0),
                            .tls = tls});
  }

  std::unique_ptr<Server> server;
  std::shared_ptr<TlsContext> tls;
};

void BM_Call(benchmark::State& state) {
  const EchoServer server(state.range(0) != 0);
  const auto channel = server.Connect();
  const KeyList request = Message();
  KeyList reply;
  for (auto _ : state) {
    if (!channel->Call(kEcho, request, &reply, Soon()).ok()) std::abort();
  }
}
BENCHMARK(BM_Call)->ArgName("tls")->Arg(0)->Arg(1)->UseRealTime();

void BM_ConnectAndCall(benchmark::State& state) {
  const EchoServer server(state.range(0) != 0);
  const KeyList request = Message();
  KeyList reply;
  for (auto _ : state) {
    if (!server.Connect()->Call(kEcho, request, &reply, Soon()).ok()) std::abort();
  }
}
BENCHMARK(BM_ConnectAndCall)->ArgName("tls")->Arg(0)->Arg(1)->UseRealTime();

// Blocking sockets, one thread on each side, straight over OpenSSL: what the library itself costs.
void BM_BareTlsEcho(benchmark::State& state) {
  asio::io_context io;
  tcp::acceptor acceptor(io, tcp::endpoint(asio::ip::address_v4::loopback(), 0));
  const auto server_tls = Files().Load("meta");
  const auto client_tls = Files().Load("client");
  std::thread server([&] {
    tcp::socket socket = acceptor.accept();
    socket.set_option(tcp::no_delay(true));
    auto ssl = server_tls->NewServer();
    SSL_set_fd(ssl->get(), socket.native_handle());
    char buffer[4096];
    for (int bytes = 0; (bytes = SSL_read(ssl->get(), buffer, sizeof(buffer))) > 0;) {
      if (SSL_write(ssl->get(), buffer, bytes) <= 0) break;
    }
  });
  {
    tcp::socket socket(io);
    socket.connect(acceptor.local_endpoint());
    socket.set_option(tcp::no_delay(true));
    auto ssl = client_tls->NewClient({});
    SSL_set_fd(ssl->get(), socket.native_handle());
    std::string bytes(32 + Message().ByteSizeLong(), 'x');
    for (auto _ : state) {
      if (SSL_write(ssl->get(), bytes.data(), static_cast<int>(bytes.size())) <= 0) std::abort();
      if (SSL_read(ssl->get(), bytes.data(), static_cast<int>(bytes.size())) <= 0) std::abort();
    }
  }
  server.join();
}
BENCHMARK(BM_BareTlsEcho)->UseRealTime();

}  // namespace
}  // namespace mmc::rpc

BENCHMARK_MAIN();
