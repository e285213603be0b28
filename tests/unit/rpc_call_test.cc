// Calls as their callers see them: over TCP and inside the process, one and many, in good times and bad.
#include <future>

#include "common/base/mutex.h"
#include "tests/unit/held_port.h"
#include "tests/unit/rpc_fixture.h"

namespace mmc::rpc {
namespace {

enum class Path { kTcp, kInProcess };

class RpcCall : public ::testing::TestWithParam<Path> {
 protected:
  RpcCall() { EXPECT_TRUE(service_.Start().ok()); }
  std::shared_ptr<Channel> Open() {
    return GetParam() == Path::kTcp ? service_.Connect() : service_.server->InProcessChannel();
  }
  EchoService service_{{.io_threads = 2}};
};

INSTANTIATE_TEST_SUITE_P(Paths, RpcCall, ::testing::Values(Path::kTcp, Path::kInProcess),
                         [](const auto& each) { return each.param == Path::kTcp ? "Tcp" : "InProcess"; });

TEST_P(RpcCall, Sync) {
  const auto channel = Open();
  for (const auto& method : {kEcho, kEchoLater}) {
    for (const size_t bytes : {size_t{0}, size_t{1}, size_t{5000}, size_t{3} << 20, size_t{40} << 20}) {
      KeyList reply = Text("left over from before");
      const Status status = channel->Call(method, Text(std::string(bytes, 'x')), &reply, Soon());
      ASSERT_TRUE(status.ok()) << status.ToString();
      ASSERT_EQ(reply.data(), std::string(bytes, 'x'));
      ASSERT_EQ(reply.lengths_size(), 1);
    }
  }
}

TEST_P(RpcCall, FailuresTravelWithTheirText) {
  const auto channel = Open();
  KeyList reply;
  const Status refused = channel->Call(kRefuse, Text("me"), &reply, Soon());
  EXPECT_EQ(refused.code(), Code::kNoSpace);
  EXPECT_EQ(refused.message(), "no room for me");
  EXPECT_EQ(channel->Call(kNobody, Text(""), &reply, Soon()).code(), Code::kUnknownMethod);
  const Status thrown = channel->Call(kThrow, Text(""), &reply, Soon());
  EXPECT_EQ(thrown.code(), Code::kInternal);
  EXPECT_NE(thrown.message().find("thrown on purpose"), std::string::npos);
  EXPECT_TRUE(channel->Call(kEcho, Text(""), &reply, Soon()).ok());
}

TEST_P(RpcCall, AsyncCompletesOnceOnAnotherThread) {
  const auto channel = Open();
  constexpr int kCalls = 1000;
  std::atomic<int> done{0}, wrong{0};
  for (int i = 0; i < kCalls; ++i) {
    const std::string text = "call " + std::to_string(i);
    channel->CallAsync(i % 2 == 0 ? kEcho : kEchoLater, Text(text), Soon(),
                       [&, text, caller = std::this_thread::get_id()](const Status& status, const auto& reply) {
                         if (!status.ok() || reply->data() != text || std::this_thread::get_id() == caller) ++wrong;
                         ++done;
                       });
  }
  EXPECT_TRUE(Eventually([&] { return done == kCalls; }));
  channel->Close();
  EXPECT_EQ(done, kCalls);
  EXPECT_EQ(wrong, 0);
}

TEST_P(RpcCall, AnswersOvertakeEachOther) {
  const auto channel = Open();
  std::atomic<bool> held_done{false};
  channel->CallAsync(kHold, Text("slow"), Soon(), [&](const Status& status, const auto& reply) {
    held_done = status.ok() && reply->data() == "slow";
  });
  ASSERT_TRUE(Eventually([&] { return service_.holding == 1; }));
  KeyList reply;
  ASSERT_TRUE(channel->Call(kEcho, Text("fast"), &reply, Soon()).ok());
  ASSERT_TRUE(channel->Call(kEchoLater, Text("fast"), &reply, Soon()).ok());
  EXPECT_EQ(service_.holding, 1);
  EXPECT_FALSE(held_done);
  service_.released = true;
  EXPECT_TRUE(Eventually([&] { return held_done.load(); }));
}

TEST_P(RpcCall, DeadlineEndsCallAndHandler) {
  const auto channel = Open();
  KeyList reply;
  // On a busy machine a deadline may pass before the service has the call: until one got there, each ends the same way.
  do {
    ASSERT_EQ(channel->Call(kHold, Text(""), &reply, In(std::chrono::milliseconds(30))).code(), Code::kDeadline);
  } while (service_.most_holding == 0);
  // The service cancels the handler without being asked.
  EXPECT_TRUE(Eventually([&] { return service_.holding == 0; }));
  EXPECT_EQ(service_.held_to_the_end, 0);
  std::promise<Status> later;
  channel->CallAsync(kHold, Text(""), In(std::chrono::milliseconds(30)),
                     [&](const Status& status, const auto&) { later.set_value(status); });
  EXPECT_EQ(later.get_future().get().code(), Code::kDeadline);
  EXPECT_EQ(channel->Call(kEcho, Text(""), &reply, In(std::chrono::milliseconds(-1))).code(), Code::kDeadline);
  EXPECT_EQ(service_.echoes, 0);
  EXPECT_TRUE(channel->Call(kEcho, Text(""), &reply, Soon()).ok());
}

// 16 threads of sync calls and an async pipeline share one channel; every answer goes to its own question.
TEST_P(RpcCall, ManyThreadsOneChannel) {
  const auto channel = Open();
  constexpr int kThreads = 16, kCalls = 6250, kPipeline = 8, kAsyncCalls = 10000;
  std::atomic<int> wrong{0}, async_left{kAsyncCalls}, async_done{0};
  std::function<void()> send_next = [&] {
    const int left = --async_left;
    if (left < 0) return;
    const std::string text = "async " + std::to_string(left);
    channel->CallAsync(left % 2 == 0 ? kEcho : kEchoLater, Text(text), Soon(),
                       [&, text](const Status& status, const auto& reply) {
                         if (!status.ok() || reply->data() != text) ++wrong;
                         send_next();
                         ++async_done;
                       });
  };
  for (int i = 0; i < kPipeline; ++i) send_next();
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      KeyList reply;
      for (int i = 0; i < kCalls; ++i) {
        std::string text = std::to_string(t) + "/" + std::to_string(i);
        if (i % 100 == 0) text.append(5000, 'x');  // a reply that its own thread parses
        const Status status = channel->Call(i % 8 == 0 ? kEchoLater : kEcho, Text(text), &reply, Soon());
        if (!status.ok() || reply.data() != text) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(Eventually([&] { return async_done == kAsyncCalls; }));
  EXPECT_EQ(wrong, 0);
}

// Deadlines that pass at about the time of the answer, with leadership changing hands all the while.
TEST_P(RpcCall, ShortDeadlinesAmongManyThreads) {
  const auto channel = Open();
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      KeyList reply;
      for (int i = 0; i < 1000; ++i) {
        const std::string text = std::to_string(t * 10000 + i);
        const TimePoint deadline = std::chrono::steady_clock::now() + std::chrono::microseconds(20 + 10 * (i % 20));
        const Status status = channel->Call(kEcho, Text(text), &reply, deadline);
        if (status.ok() ? reply.data() != text : status.code() != Code::kDeadline) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  KeyList reply;
  EXPECT_TRUE(channel->Call(kEcho, Text("end"), &reply, Soon()).ok());
}

TEST_P(RpcCall, ACallbackMayCall) {
  const auto channel = Open();
  std::promise<std::string> answer;
  channel->CallAsync(kEcho, Text("one"), Soon(), [&](const Status&, const auto&) {
    auto reply = std::make_shared<KeyList>();
    const Status status = channel->Call(kEcho, Text("two"), reply.get(), Soon());
    answer.set_value(status.ok() ? reply->data() : status.ToString());
  });
  EXPECT_EQ(answer.get_future().get(), "two");
}

TEST_P(RpcCall, ClosedChannelsSaySo) {
  const auto channel = Open();
  channel->Close();
  channel->Close();
  KeyList reply;
  EXPECT_EQ(channel->Call(kEcho, Text(""), &reply, Soon()).code(), Code::kClosed);
  std::promise<Status> later;
  channel->CallAsync(kEcho, Text(""), Soon(), [&](const Status& status, const auto&) { later.set_value(status); });
  EXPECT_EQ(later.get_future().get().code(), Code::kClosed);
}

TEST_P(RpcCall, StopLetsRunningCallsEndAndRefusesNewOnes) {
  const auto channel = Open();
  std::promise<Status> held;
  channel->CallAsync(kHold, Text(""), Soon(), [&](const Status& status, const auto&) { held.set_value(status); });
  ASSERT_TRUE(Eventually([&] { return service_.holding == 1; }));
  std::thread stopper([&] { service_.server->Stop(Soon()); });
  KeyList reply;
  EXPECT_TRUE(Eventually([&] {
    return channel->Call(kEcho, Text(""), &reply, Soon()).code() == Code::kShuttingDown;
  }));
  EXPECT_EQ(service_.holding, 1);
  service_.released = true;
  EXPECT_TRUE(held.get_future().get().ok());
  stopper.join();
  EXPECT_EQ(service_.held_to_the_end, 1);
}

TEST_P(RpcCall, StopCancelsWhatDoesNotEnd) {
  const auto channel = Open();
  std::promise<Status> held;
  channel->CallAsync(kHold, Text(""), Soon(), [&](const Status& status, const auto&) { held.set_value(status); });
  ASSERT_TRUE(Eventually([&] { return service_.holding == 1; }));
  service_.server->Stop(In(std::chrono::milliseconds(20)));
  EXPECT_EQ(held.get_future().get().code(), Code::kShuttingDown);
  EXPECT_EQ(service_.holding, 0);
  EXPECT_EQ(service_.held_to_the_end, 0);
}

TEST_P(RpcCall, EveryCallIsCounted) {
  const auto channel = Open();
  KeyList reply;
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(channel->Call(kEcho, Text(""), &reply, Soon()).ok());
  ASSERT_TRUE(channel->Call(kEchoLater, Text(""), &reply, Soon()).ok());
  ASSERT_EQ(channel->Call(kRefuse, Text(""), &reply, Soon()).code(), Code::kNoSpace);
  const std::string text = service_.metrics.Expose();
  for (const char* row : {"mmc_rpc_requests_total{method=\"Echo\"} 3\n",
                          "mmc_rpc_requests_total{method=\"EchoLater\"} 1\n",
                          "mmc_rpc_failures_total{method=\"Refuse\",code=\"NO_SPACE\"} 1\n",
                          "mmc_rpc_latency_seconds_count{method=\"Echo\"} 3\n",
                          "mmc_rpc_latency_seconds_count{method=\"EchoLater\"} 1\n"}) {
    EXPECT_NE(text.find(row), std::string::npos) << row << "in\n" << text;
  }
}

// ---- TCP alone ---------------------------------------------------------------------------------------------------

TEST(RpcTcp, IPv6) {
  ServerOptions options;
  options.url = "tcp://[::1]:0";
  EchoService service(options);
  if (const Status status = service.Start(); !status.ok()) GTEST_SKIP() << "no IPv6 here: " << status.ToString();
  const auto channel = service.Connect({.url = "tcp://[::1]:" + std::to_string(service.server->port())});
  KeyList reply;
  const Status status = channel->Call(kEcho, Text("six"), &reply, Soon());
  EXPECT_TRUE(status.ok()) << status.ToString();
  EXPECT_EQ(reply.data(), "six");
}

TEST(RpcTcp, NamesAreResolved) {
  EchoService service;
  ASSERT_TRUE(service.Start().ok());
  const auto channel = service.Connect({.url = "tcp://localhost:" + std::to_string(service.server->port())});
  KeyList reply;
  const Status status = channel->Call(kEcho, Text("named"), &reply, Soon());
  EXPECT_TRUE(status.ok()) << status.ToString();
}

TEST(RpcTcp, SpinningChangesNothingButTime) {
  ServerOptions options;
  options.spin = std::chrono::microseconds(50);
  EchoService service(options);
  ASSERT_TRUE(service.Start().ok());
  for (const auto spin : {std::chrono::microseconds(0), std::chrono::microseconds(100)}) {
    const auto channel = service.Connect({.spin = spin});
    KeyList reply;
    for (int i = 0; i < 200; ++i) {
      ASSERT_TRUE(channel->Call(kEcho, Text(std::to_string(i)), &reply, Soon()).ok());
      ASSERT_EQ(reply.data(), std::to_string(i));
    }
  }
}

TEST(RpcTcp, PortTaken) {
  EchoService first;
  ASSERT_TRUE(first.Start().ok());
  ServerOptions options;
  options.url = first.url();
  options.url_key = "ock.mmc.meta_service_url";
  EchoService second(options);
  const Status status = second.Start();
  EXPECT_EQ(status.code(), Code::kIo);
  EXPECT_EQ(status.message(), "address 127.0.0.1:" + std::to_string(first.server->port()) +
                                  " is in use; another service runs there or choose another port with "
                                  "ock.mmc.meta_service_url");
}

TEST(RpcTcp, WrongUrls) {
  EXPECT_EQ(MakeTcpChannel({.url = "127.0.0.1:5000"}).code(), Code::kInvalidArgument);
  EXPECT_EQ(MakeTcpChannel({.url = "http://127.0.0.1:5000"}).code(), Code::kInvalidArgument);
  EXPECT_EQ(MakeTcpChannel({.url = "tcp://127.0.0.1:0"}).code(), Code::kInvalidArgument);
  ServerOptions options;
  options.url = "http://127.0.0.1:0";
  EXPECT_EQ(EchoService(options).Start().code(), Code::kInvalidArgument);
}

TEST(RpcTcp, BackPressureBoundsTheHandlersOfAConnection) {
  ServerOptions options;
  options.max_in_flight_per_connection = 3;
  EchoService service(options);
  ASSERT_TRUE(service.Start().ok());
  const auto channel = service.Connect();
  constexpr int kCalls = 50;
  std::atomic<int> ok{0}, done{0};
  for (int i = 0; i < kCalls; ++i) {
    channel->CallAsync(kHold, Text(""), Soon(), [&](const Status& status, const auto&) {
      if (status.ok()) ++ok;
      ++done;
    });
  }
  ASSERT_TRUE(Eventually([&] { return service.holding == 3; }));
  // Another connection is served all the same.
  KeyList reply;
  ASSERT_TRUE(service.Connect()->Call(kEcho, Text(""), &reply, Soon()).ok());
  service.released = true;
  EXPECT_TRUE(Eventually([&] { return done == kCalls; }));
  EXPECT_EQ(ok, kCalls);
  EXPECT_EQ(service.most_holding, 3);
}

TEST(RpcTcp, TheCallersQueueIsBounded) {
  EchoService service;
  ASSERT_TRUE(service.Start().ok());
  const auto channel = service.Connect({.max_in_flight = 2});
  std::atomic<int> held{0}, full{0};
  for (int i = 0; i < 2; ++i) {
    channel->CallAsync(kHold, Text(""), Soon(),
                       [&](const Status& status, const auto&) { held += status.ok() ? 1 : 0; });
  }
  KeyList reply;
  EXPECT_EQ(channel->Call(kEcho, Text(""), &reply, Soon()).code(), Code::kQueueFull);
  channel->CallAsync(kEcho, Text(""), Soon(),
                     [&](const Status& status, const auto&) { full += status.code() == Code::kQueueFull ? 1 : 0; });
  EXPECT_TRUE(Eventually([&] { return full == 1; }));
  service.released = true;
  EXPECT_TRUE(Eventually([&] { return held == 2; }));
  EXPECT_TRUE(channel->Call(kEcho, Text(""), &reply, Soon()).ok());
}

TEST(RpcTcp, RequestsOverTheLimitAreNotSent) {
  EchoService service;
  ASSERT_TRUE(service.Start().ok());
  const auto channel = service.Connect();
  KeyList reply;
  EXPECT_EQ(channel->Call(kEcho, Text(std::string(65 << 20, 'x')), &reply, Soon()).code(), Code::kTooLarge);
  EXPECT_EQ(service.echoes, 0);
  EXPECT_TRUE(channel->Call(kEcho, Text(""), &reply, Soon()).ok());
}

TEST(RpcTcp, NobodyThere) {
  const test::HeldPort port;
  const std::string url = port.url();
  const auto channel = *MakeTcpChannel({.url = url});
  KeyList reply;
  for (int i = 0; i < 3; ++i) {
    const Status status = channel->Call(kEcho, Text(""), &reply, Soon());
    EXPECT_EQ(status.code(), Code::kUnavailable);
    EXPECT_NE(status.message().find(url), std::string::npos) << status.message();
  }
  std::promise<Status> later;
  channel->CallAsync(kEcho, Text(""), Soon(), [&](const Status& status, const auto&) { later.set_value(status); });
  EXPECT_EQ(later.get_future().get().code(), Code::kUnavailable);
  EXPECT_EQ(channel->connection_epoch(), 0u);
}

TEST(RpcTcp, ReconnectsToARestartedService) {
  const test::HeldPort port;
  ServerOptions options;
  options.url = port.url();
  auto service = std::make_unique<EchoService>(options);
  ASSERT_TRUE(service->Start().ok());
  const auto channel = service->Connect();
  KeyList reply;
  ASSERT_TRUE(channel->Call(kEcho, Text("before"), &reply, Soon()).ok());
  EXPECT_EQ(channel->connection_epoch(), 1u);
  for (uint64_t epoch = 2; epoch < 6; ++epoch) {
    service.reset();
    service = std::make_unique<EchoService>(options);
    const Status started = service->Start();
    ASSERT_TRUE(started.ok()) << started.ToString();
    if (epoch % 2 == 0) {
      const Status status = channel->Call(kEcho, Text("after"), &reply, Soon());
      ASSERT_TRUE(status.ok()) << status.ToString();
    } else {
      std::promise<Status> later;
      channel->CallAsync(kEcho, Text("after"), Soon(), [&](const Status& s, const auto&) { later.set_value(s); });
      ASSERT_TRUE(later.get_future().get().ok());
    }
    EXPECT_EQ(channel->connection_epoch(), epoch);
  }
}

TEST(RpcTcp, AConnectionThatBreaksUnderACall) {
  EchoService service;
  ASSERT_TRUE(service.Start().ok());
  // A listener that takes the request and hangs up.
  const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(at);
  ASSERT_EQ(::bind(listener, reinterpret_cast<sockaddr*>(&at), sizeof(at)), 0);
  ASSERT_EQ(::listen(listener, 8), 0);
  ASSERT_EQ(::getsockname(listener, reinterpret_cast<sockaddr*>(&at), &length), 0);
  std::thread hang_up([listener] {
    for (int i = 0; i < 2; ++i) {
      const int fd = ::accept(listener, nullptr, nullptr);
      char header[kHeaderBytes];
      EXPECT_GT(::recv(fd, header, sizeof(header), MSG_WAITALL), 0);
      ::close(fd);
    }
  });
  const auto channel = *MakeTcpChannel({.url = "tcp://127.0.0.1:" + std::to_string(ntohs(at.sin_port))});
  KeyList reply;
  EXPECT_EQ(channel->Call(kEcho, Text(""), &reply, Soon()).code(), Code::kConnectionLost);
  std::promise<Status> later;
  channel->CallAsync(kEcho, Text(""), Soon(), [&](const Status& status, const auto&) { later.set_value(status); });
  EXPECT_EQ(later.get_future().get().code(), Code::kConnectionLost);
  EXPECT_EQ(channel->connection_epoch(), 2u);
  hang_up.join();
  ::close(listener);
}

TEST(RpcTcp, CallsThatACallerLeftBehindAreCancelled) {
  EchoService service;
  ASSERT_TRUE(service.Start().ok());
  {
    RawSocket socket(service.server->port());
    ASSERT_TRUE(socket.Send(RawRequest(kHold.id, 1, "")));
    ASSERT_TRUE(Eventually([&] { return service.holding == 1; }));
  }
  EXPECT_TRUE(Eventually([&] { return service.holding == 0; }));
  EXPECT_EQ(service.held_to_the_end, 0);
}

TEST_P(RpcCall, CloseCompletesEverything) {
  EchoService& service = service_;
  const auto channel = Open();
  std::atomic<int> async_closed{0}, sync_closed{0};
  for (int i = 0; i < 8; ++i) {
    channel->CallAsync(kHold, Text(""), Soon(), [&](const Status& status, const auto&) {
      async_closed += status.code() == Code::kClosed ? 1 : 0;
    });
  }
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      KeyList reply;
      sync_closed += channel->Call(kHold, Text(""), &reply, Soon()).code() == Code::kClosed ? 1 : 0;
    });
  }
  ASSERT_TRUE(Eventually([&] { return service.holding == 12; }));
  std::thread other([&] { channel->Close(); });
  channel->Close();
  EXPECT_EQ(async_closed, 8);
  other.join();
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(sync_closed, 4);
}

TEST_P(RpcCall, DroppingTheChannelCompletesWhatIsPending) {
  auto channel = Open();
  std::atomic<int> closed{0};
  channel->CallAsync(kHold, Text(""), Soon(),
                     [&](const Status& status, const auto&) { closed += status.code() == Code::kClosed ? 1 : 0; });
  channel.reset();
  EXPECT_EQ(closed, 1);
}

TEST_P(RpcCall, TheLastShareMayGoInACallback) {
  std::promise<void> gone;
  auto channel = Open();
  Channel* raw = channel.get();
  raw->CallAsync(kEcho, Text(""), Soon(), [&gone, channel = std::move(channel)](const Status&, const auto&) mutable {
    channel->Close();
    channel.reset();
    gone.set_value();
  });
  gone.get_future().get();
}

TEST(RpcTcp, CallersOfAStoppingServiceKnowWhetherTheirCallRan) {
  for (int round = 0; round < 10; ++round) {
    auto service = std::make_unique<EchoService>();
    ASSERT_TRUE(service->Start().ok());
    const std::string url = service->url();
    std::atomic<int> ok{0}, unclear{0};
    std::atomic<bool> end{false};
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&] {
        const auto channel = *MakeTcpChannel({.url = url});
        KeyList reply;
        uint64_t served = 0;
        while (!end) {
          switch (channel->Call(kEcho, Text(""), &reply, Soon()).code()) {
            case Code::kOk:
              ++ok;
              served = channel->connection_epoch();
              break;
            case Code::kShuttingDown:
            case Code::kUnavailable:
              break;
            case Code::kConnectionLost:
              // The kernel may take a connection that the service never sees; one that was served ends in order.
              if (channel->connection_epoch() == served) ++unclear;
              break;
            default:
              ++unclear;
          }
        }
      });
    }
    ASSERT_TRUE(Eventually([&] { return ok > 100; }));
    service->server->Stop(Soon());
    end = true;
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(service->echoes, ok) << "every call that ran was answered";
    EXPECT_EQ(unclear, 0);
  }
}

TEST(RpcTcp, TooManyConnectionsAreTurnedAway) {
  ServerOptions options;
  options.max_connections = 2;
  EchoService service(options);
  ASSERT_TRUE(service.Start().ok());
  RawSocket first(service.server->port()), second(service.server->port());
  const std::string body = Text("in").SerializeAsString();
  for (RawSocket* socket : {&first, &second}) {
    ASSERT_TRUE(socket->Send(RawRequest(kEcho.id, 1, body)));
    ASSERT_TRUE(socket->ReceiveFrame());
  }
  RawSocket third(service.server->port());
  EXPECT_TRUE(third.Ended());
  EXPECT_NE(service.metrics.Expose().find("mmc_rpc_refused_connections_total 1\n"), std::string::npos);
  EXPECT_NE(service.metrics.Expose().find("mmc_rpc_connections 2\n"), std::string::npos);
}

}  // namespace
}  // namespace mmc::rpc
