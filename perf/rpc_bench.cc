// What a call costs: the frame itself, one small sync call beside a bare Asio echo over the same kind of socket, many
// calls in flight, a call inside the process.
//
// The budget: BM_SyncCall <= 1.3 x BM_BareEcho (same payload bytes on the wire, one client thread, one server thread).
#include <benchmark/benchmark.h>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <semaphore>
#include <thread>

#include "common/rpc/channel.h"
#include "common/rpc/frame_reader.h"
#include "common/rpc/server.h"
#include "common/rpc/wire.h"
#include "proto/types.pb.h"

namespace mmc::rpc {
namespace {

using asio::ip::tcp;
using proto::KeyList;

constexpr Method<KeyList, KeyList> kEcho{200, "Echo"};
constexpr Method<KeyList, KeyList> kEchoLater{201, "EchoLater"};
constexpr size_t kSmall = 64;

TimePoint Soon() { return std::chrono::steady_clock::now() + std::chrono::seconds(60); }

KeyList Message(size_t bytes) {
  KeyList message;
  message.add_lengths(static_cast<uint32_t>(bytes));
  message.set_data(std::string(bytes, 'k'));
  return message;
}

struct EchoServer {
  explicit EchoServer(std::chrono::microseconds spin = {}) {
    ServerOptions options;
    options.url = "tcp://127.0.0.1:0";
    options.io_threads = 1;
    options.spin = spin;
    server = MakeServer(options);
    server->Handle(kEcho, [](const CallContext&, const KeyList& request, KeyList* reply) {
      *reply = request;
      return Status::Ok();
    });
    server->HandleAsync(kEchoLater, [](CallContext, const KeyList& request, KeyList* reply) -> asio::awaitable<Status> {
      *reply = request;
      co_return Status::Ok();
    });
    if (!server->Start().ok()) std::abort();
  }
  ~EchoServer() { server->Stop(Soon()); }

  std::shared_ptr<Channel> Connect(std::chrono::microseconds spin) const {
    return *MakeTcpChannel({.url = "tcp://127.0.0.1:" + std::to_string(server->port()), .spin = spin});
  }

  std::unique_ptr<Server> server;
};

// An echo server as one writes it with Asio alone: one thread, a coroutine per connection.
class BareEcho {
 public:
  BareEcho() : acceptor_(io_, tcp::endpoint(asio::ip::address_v4::loopback(), 0)) {
    asio::co_spawn(io_, Serve(), asio::detached);
    thread_ = std::thread([this] { io_.run(); });
  }
  ~BareEcho() {
    io_.stop();
    thread_.join();
  }
  tcp::endpoint endpoint() const { return acceptor_.local_endpoint(); }

 private:
  asio::awaitable<void> Serve() {
    tcp::socket socket = co_await acceptor_.async_accept(asio::use_awaitable);
    socket.set_option(tcp::no_delay(true));
    char buffer[4096];
    try {
      for (;;) {
        const size_t bytes = co_await socket.async_read_some(asio::buffer(buffer), asio::use_awaitable);
        co_await asio::async_write(socket, asio::buffer(buffer, bytes), asio::use_awaitable);
      }
    } catch (const boost::system::system_error&) {
      // The client has gone.
    }
  }

  asio::io_context io_{1};
  tcp::acceptor acceptor_;
  std::thread thread_;
};

void BM_EncodeFrame(benchmark::State& state) {
  const KeyList message = Message(static_cast<size_t>(state.range(0)));
  ByteBuffer out;
  for (auto _ : state) {
    out.Clear();
    benchmark::DoNotOptimize(AppendMessage({.method = 200, .request_id = 1}, message, &out).ok());
  }
}
BENCHMARK(BM_EncodeFrame)->Arg(64)->Arg(4096);

void BM_DecodeFrame(benchmark::State& state) {
  ByteBuffer wire;
  (void)AppendMessage({.method = 200, .request_id = 1}, Message(static_cast<size_t>(state.range(0))), &wire);
  FrameReader reader;
  KeyList message;
  for (auto _ : state) {
    std::memcpy(reader.Prepare().data(), wire.data().data(), wire.size());
    reader.Commit(wire.size());
    Frame frame;
    if (reader.Take(&frame) != FrameReader::Next::kFrame || !ParseBody(frame.body, &message).ok()) std::abort();
  }
}
BENCHMARK(BM_DecodeFrame)->Arg(64)->Arg(2048);

void BM_BareEcho(benchmark::State& state) {
  BareEcho server;
  asio::io_context io;
  tcp::socket socket(io);
  socket.connect(server.endpoint());
  socket.set_option(tcp::no_delay(true));
  std::string bytes(kHeaderBytes + Message(kSmall).ByteSizeLong(), 'x');
  for (auto _ : state) {
    asio::write(socket, asio::buffer(bytes));
    asio::read(socket, asio::buffer(bytes));
  }
}
BENCHMARK(BM_BareEcho)->UseRealTime();

void BM_SyncCall(benchmark::State& state) {
  EchoServer server(std::chrono::microseconds(state.range(1)));
  const auto channel = server.Connect(std::chrono::microseconds(state.range(0)));
  const KeyList request = Message(kSmall);
  KeyList reply;
  for (auto _ : state) {
    if (!channel->Call(kEcho, request, &reply, Soon()).ok()) std::abort();
  }
}
BENCHMARK(BM_SyncCall)
    ->ArgNames({"client_spin_us", "server_spin_us"})
    ->Args({0, 0})
    ->Args({20, 20})
    ->UseRealTime();

void BM_SyncCallOfAsyncMethod(benchmark::State& state) {
  EchoServer server;
  const auto channel = server.Connect(std::chrono::microseconds(20));
  const KeyList request = Message(kSmall);
  KeyList reply;
  for (auto _ : state) {
    if (!channel->Call(kEchoLater, request, &reply, Soon()).ok()) std::abort();
  }
}
BENCHMARK(BM_SyncCallOfAsyncMethod)->UseRealTime();

void BM_SyncCallFromThreads(benchmark::State& state) {
  static std::unique_ptr<EchoServer> server;
  static std::shared_ptr<Channel> channel;
  if (state.thread_index() == 0) {
    server = std::make_unique<EchoServer>();
    channel = server->Connect(std::chrono::microseconds(20));
  }
  const KeyList request = Message(kSmall);
  KeyList reply;
  for (auto _ : state) {
    if (!channel->Call(kEcho, request, &reply, Soon()).ok()) std::abort();
  }
  if (state.thread_index() == 0) {
    channel.reset();
    server.reset();
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(BM_SyncCallFromThreads)->Threads(4)->Threads(16)->UseRealTime();

// `depth` calls are in flight at any time: each answer sends the next one.
struct Pipeline {
  void Send() {
    if (left.fetch_sub(1) <= 0) return;
    channel->CallAsync(kEcho, request, Soon(), [this](const Status& status, const auto&) {
      if (!status.ok()) std::abort();
      Send();
      if (done.fetch_add(1) + 1 == kCalls) all_done.release();
    });
  }

  static constexpr int64_t kCalls = 20000;
  std::shared_ptr<Channel> channel;
  KeyList request = Message(kSmall);
  std::atomic<int64_t> left{kCalls}, done{0};
  std::binary_semaphore all_done{0};
};

void BM_PipelinedCalls(benchmark::State& state) {
  EchoServer server;
  const auto channel = server.Connect(std::chrono::microseconds(20));
  for (auto _ : state) {
    Pipeline pipeline;
    pipeline.channel = channel;
    for (int64_t i = 0; i < state.range(0); ++i) pipeline.Send();
    pipeline.all_done.acquire();
  }
  state.SetItemsProcessed(state.iterations() * Pipeline::kCalls);
}
BENCHMARK(BM_PipelinedCalls)->ArgName("depth")->Arg(16)->Arg(128)->UseRealTime()->Unit(benchmark::kMillisecond);

void BM_InProcessCall(benchmark::State& state) {
  EchoServer server;
  const auto channel = server.server->InProcessChannel();
  const KeyList request = Message(kSmall);
  KeyList reply;
  for (auto _ : state) {
    if (!channel->Call(kEcho, request, &reply, Soon()).ok()) std::abort();
  }
}
BENCHMARK(BM_InProcessCall);

}  // namespace
}  // namespace mmc::rpc
