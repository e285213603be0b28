// Goal: no bytes that a stranger sends harm the tcp listener or what it serves.
// Method: raw sockets send broken, huge, truncated and slow frames; after each the listener still serves, and the
// memory is unchanged.
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <atomic>
#include <cstring>
#include <thread>

#include "fabric/tcp/frame.h"
#include "fabric/tcp/socket.h"
#include "fabric/tcp/tcp.h"
#include "tests/contract/contract_fixture.h"
#include "tests/contract/raw_client.h"

namespace mmc::fabric::contract {
namespace {

using tcp::Hello;
using tcp::HelloReply;
using tcp::RequestHead;
using tcp::ResponseHead;
using tcp::WireOp;

class TcpFrames : public testing::Test {
 protected:
  void SetUp() override { Start({}); }
  void Start(std::chrono::milliseconds stall) {
    listener_.reset();
    auto memory = SegmentMemory::Create({.name = "frames", .size = 4_MiB, .prefault = false});
    ASSERT_TRUE(memory.ok());
    memory_ = *memory;
    regions_.Remove({1, 1});
    ASSERT_TRUE(
        regions_.Add({{1, 1}, {memory_->data(), 4_MiB}, Access::kReadWrite, MemoryKind::kHost, memory_}).ok());
    ListenOptions options;
    options.address = "127.0.0.1:0";
    options.max_connections = 64;
    if (stall.count() > 0) options.stall_timeout = stall;
    auto listener = tcp::Listen(options, regions_);
    ASSERT_TRUE(listener.ok()) << listener.status().ToString();
    listener_ = std::move(*listener);
  }
  void TearDown() override {
    if (listener_ == nullptr) return;
    EXPECT_EQ(memory_->data()[0], std::byte{0}) << "a broken frame changed the memory";
    auto link = tcp::Connect(address(), {}, Soon());
    ASSERT_TRUE(link.ok()) << link.status().ToString();
    std::byte local{1};
    const Op op{&local, {1, 1}, 4096, 1};
    EXPECT_TRUE((*link)->Execute(Direction::kWrite, {&op, 1}, Soon()).ok()) << "the listener serves no more";
  }
  std::string address() const { return listener_->endpoint().address; }
  static RequestHead Head(Direction direction, uint32_t ops, uint64_t total) {
    RequestHead head;
    head.direction = static_cast<uint8_t>(direction);
    head.op_count = ops;
    head.total = total;
    head.request = 5;
    return head;
  }

  std::shared_ptr<SegmentMemory> memory_;
  RegionTable regions_;
  std::unique_ptr<Listener> listener_;
};

TEST_F(TcpFrames, AHelloWithTheWrongMagicIsHungUpOn) {
  RawClient client(address());
  Hello hello;
  hello.magic = 0x47455420;  // somebody speaks HTTP
  client.Send(hello);
  EXPECT_TRUE(client.HungUp());
}

TEST_F(TcpFrames, AnotherVersionIsToldSo) {
  RawClient client(address());
  Hello hello;
  hello.version = 99;
  EXPECT_EQ(client.Greet(hello), Code::kBadVersion);
  EXPECT_TRUE(client.HungUp());
}

TEST_F(TcpFrames, AnUnknownAccessRightIsHungUpOn) {
  RawClient client(address());
  Hello hello;
  hello.access = 9;
  client.Send(hello);
  EXPECT_TRUE(client.HungUp());
}

TEST_F(TcpFrames, HeadsThatCannotBeEndTheConnection) {
  const auto break_with = [&](RequestHead head) {
    RawClient client(address());
    ASSERT_EQ(client.Greet(), Code::kOk);
    client.Send(head);
    client.Send(WireOp{1, 1, 0, 16});
    EXPECT_TRUE(client.HungUp());
  };
  RequestHead head = Head(Direction::kRead, 1, 16);
  head.magic = 7;
  break_with(head);
  head = Head(Direction::kRead, 1, 16);
  head.direction = 2;
  break_with(head);
  break_with(Head(Direction::kRead, 0, 16));
  break_with(Head(Direction::kRead, 1, 0));
  break_with(Head(Direction::kRead, tcp::kMaxOps + 1, 16));
  break_with(Head(Direction::kRead, UINT32_MAX, 16));
  break_with(Head(Direction::kWrite, 1, tcp::kMaxRequestBytes + 1));
  break_with(Head(Direction::kWrite, 1, UINT64_MAX));
}

TEST_F(TcpFrames, OpsThatDoNotAddUpEndTheConnection) {
  const auto break_with = [&](WireOp a, WireOp b) {
    RawClient client(address());
    ASSERT_EQ(client.Greet(), Code::kOk);
    client.Send(Head(Direction::kWrite, 2, 32));
    client.Send(a);
    client.Send(b);
    EXPECT_TRUE(client.HungUp());
  };
  break_with({1, 1, 0, 16}, {1, 1, 64, 15});
  break_with({1, 1, 0, 16}, {1, 1, 64, 17});
  break_with({1, 1, 0, 32}, {1, 1, 64, 0});
  break_with({1, 1, 0, UINT64_MAX}, {1, 1, 64, 33});
}

TEST_F(TcpFrames, ARefusedWriteIsAnsweredAfterItsPayloadAndNothingIsApplied) {
  RawClient client(address());
  ASSERT_EQ(client.Greet(), Code::kOk);
  const std::vector<std::byte> payload(200'000, std::byte{0xff});
  for (const WireOp bad : {WireOp{1, 1, 4_MiB - 10, 100'000}, WireOp{1, 1, UINT64_MAX - 5, 100'000},
                           WireOp{1, 2, 0, 100'000}, WireOp{77, 1, 0, 100'000}}) {
    client.Send(Head(Direction::kWrite, 2, payload.size()));
    client.Send(WireOp{1, 1, 0, 100'000});
    client.Send(bad);
    client.Send(payload.data(), payload.size());
    ResponseHead response;
    ASSERT_TRUE(client.Receive(&response, sizeof(response)));
    EXPECT_EQ(response.magic, tcp::kResponseMagic);
    EXPECT_EQ(response.request, 5u);
    EXPECT_EQ(CodeFromWire(response.code), bad.segment == 1 && bad.epoch == 1 ? Code::kOutOfRange : Code::kStaleRegion);
  }
  EXPECT_EQ(memory_->data()[0], std::byte{0});
}

TEST_F(TcpFrames, TruncatedFramesLeaveNothingBehind) {
  struct Whole {
    Hello hello = WriterHello();
    RequestHead head = Head(Direction::kWrite, 2, 64);
    WireOp a{1, 1, 8192, 32};
    WireOp b{1, 1, 16384, 32};
    std::array<char, 64> payload{};
  };
  const Whole whole;
  for (size_t n = 0; n < sizeof(whole); n += 5) {
    RawClient client(address());
    client.Send(&whole, n);
    client.HalfClose();
    std::array<char, sizeof(HelloReply)> reply;
    if (n >= sizeof(Hello)) {
      EXPECT_TRUE(client.Receive(reply.data(), reply.size()));
    }
    EXPECT_TRUE(client.HungUp());
  }
}

TEST_F(TcpFrames, FramesInSingleBytesAreUnderstood) {
  RawClient client(address());
  struct Whole {
    Hello hello = WriterHello();
    RequestHead head = Head(Direction::kWrite, 1, 4);
    WireOp op{1, 1, 8192, 4};
    std::array<char, 4> payload{'a', 'b', 'c', 'd'};
  };
  const Whole whole;
  for (size_t i = 0; i < sizeof(whole); ++i) client.Send(reinterpret_cast<const char*>(&whole) + i, 1);
  HelloReply reply;
  ResponseHead response;
  ASSERT_TRUE(client.Receive(&reply, sizeof(reply)));
  ASSERT_TRUE(client.Receive(&response, sizeof(response)));
  EXPECT_EQ(response.code, 0u);
  EXPECT_EQ(std::memcmp(memory_->data() + 8192, "abcd", 4), 0);
}

TEST_F(TcpFrames, WhoeverStandsStillIsHungUpOn) {
  Start(std::chrono::milliseconds(1000));  // those who are to be quick have this long
  RawClient silent(address());
  RawClient half_head(address());
  ASSERT_EQ(half_head.Greet(), Code::kOk);
  half_head.Send("MMCQ", 4);
  RawClient half_payload(address());
  ASSERT_EQ(half_payload.Greet(), Code::kOk);
  half_payload.Send(Head(Direction::kWrite, 1, 4096));
  half_payload.Send(WireOp{1, 1, 8192, 4096});
  half_payload.Send("some", 4);
  EXPECT_TRUE(silent.HungUp());
  EXPECT_TRUE(half_head.HungUp());
  EXPECT_TRUE(half_payload.HungUp());
}

TEST_F(TcpFrames, AnIdleConnectionMayStayForLong) {
  Start(std::chrono::milliseconds(300));
  auto link = tcp::Connect(address(), {.connections = 1}, Soon());
  ASSERT_TRUE(link.ok());
  // A connection that stands still is dropped meanwhile: several stall times have passed.
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(RawClient(address()).HungUp());
  EXPECT_TRUE((*link)->alive());
}

TEST_F(TcpFrames, ConnectionsAreBounded) {
  std::vector<std::unique_ptr<RawClient>> clients;
  int refused = 0;
  for (int i = 0; i < 80; ++i) {
    clients.push_back(std::make_unique<RawClient>(address()));
    refused += clients.back()->Greet() != Code::kOk;
  }
  EXPECT_EQ(refused, 16);
  EXPECT_EQ(listener_->connections(), 64u);
  clients.clear();
  const TimePoint deadline = Soon();
  while (listener_->connections() > 0 && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
  EXPECT_EQ(listener_->connections(), 0u);
}

TEST_F(TcpFrames, AServerThatIsNoneOfOursIsToldApart) {
  auto socket = tcp::ListenAt("127.0.0.1:0");
  ASSERT_TRUE(socket.ok());
  const std::string other = tcp::AddressOf(socket->get());
  std::thread server([&] {
    pollfd wait{socket->get(), POLLIN, 0};
    poll(&wait, 1, tcp::PollTimeout(Soon()));
    UniqueFd peer(accept4(socket->get(), nullptr, nullptr, SOCK_CLOEXEC));
    const std::string text = "HTTP/1.1 400 Bad Request\r\n\r\n";
    EXPECT_EQ(send(peer.get(), text.data(), text.size(), MSG_NOSIGNAL), static_cast<ssize_t>(text.size()));
  });
  EXPECT_EQ(tcp::Connect(other, {}, Soon()).code(), Code::kPeerUnreachable);
  server.join();
}

TEST_F(TcpFrames, AddressesAndOptionsThatCannotBeSayWhy) {
  EXPECT_EQ(tcp::Connect("nonsense", {}, Soon()).code(), Code::kInvalidArgument);
  EXPECT_EQ(tcp::Connect("::1:80", {}, Soon()).code(), Code::kInvalidArgument);
  EXPECT_EQ(tcp::Connect("127.0.0.1:99999", {}, Soon()).code(), Code::kInvalidArgument);
  EXPECT_EQ(tcp::Connect(address(), {.congestion_control = "no-such"}, Soon()).code(), Code::kIo);
  ListenOptions taken;
  taken.address = address();
  const auto second = tcp::Listen(taken, regions_);
  EXPECT_EQ(second.code(), Code::kIo);
  EXPECT_NE(second.status().message().find(address()), std::string::npos);
}

TEST_F(TcpFrames, IPv6Works) {
  ListenOptions options;
  options.address = "[::1]:0";
  auto listener = tcp::Listen(options, regions_);
  if (!listener.ok()) GTEST_SKIP() << "no IPv6 here: " << listener.status().ToString();
  auto link = tcp::Connect((*listener)->endpoint().address, {}, Soon());
  ASSERT_TRUE(link.ok()) << link.status().ToString();
  std::byte local{0};
  const Op op{&local, {1, 1}, 0, 1};
  EXPECT_TRUE((*link)->Execute(Direction::kRead, {&op, 1}, Soon()).ok());
}

}  // namespace
}  // namespace mmc::fabric::contract
