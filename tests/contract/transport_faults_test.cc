// Goal: whatever breaks, every transfer ends within its deadline, says truly how, and nobody touches memory afterwards.
// Method: fences, deadlines and closing under load; helper processes stopped or killed; loopback's fault plans.
#include <atomic>
#include <cstring>
#include <thread>

#include "fabric/fabric.h"
#include "fabric/loopback/loopback.h"
#include "tests/contract/contract_fixture.h"

namespace mmc::fabric::contract {
namespace {

class TransportFaults : public TransportContract {
 protected:
  // Fences `session` and waits until the listener says that it is over.
  void FenceAndWait(uint64_t session) {
    auto fenced = std::make_shared<Latch>();
    listener_->Fence(session, [fenced] { fenced->Hit(); });
    ASSERT_TRUE(fenced->Wait(1, Soon()));
    EXPECT_EQ(fenced->count(), 1);
  }
};

TEST_P(TransportFaults, AFencedSessionIsShutOutAndOthersAreNot) {
  const auto fenced = Connect({.session = 7});
  const auto other = Connect({.session = 8});
  ASSERT_TRUE(fenced && other);
  std::vector<std::byte> local(4096);
  const Op op = DataOp(local.data(), 0, 4096);
  ASSERT_TRUE(fenced->Execute(Direction::kWrite, {&op, 1}, Soon()).ok());
  FenceAndWait(7);
  const Code code = fenced->Execute(Direction::kWrite, {&op, 1}, Soon()).code();
  EXPECT_TRUE(IsLoss(code)) << CodeName(code);
  EXPECT_FALSE(fenced->alive());
  EXPECT_EQ(Dial(listener_->endpoint().address, {.session = 7}, Soon()).code(), Code::kPermission);
  EXPECT_TRUE(other->Execute(Direction::kWrite, {&op, 1}, Soon()).ok());
  FenceAndWait(7);
  FenceAndWait(12345);
}

TEST_P(TransportFaults, FencingSessionZeroEndsAllConnectionsAndRefusesNone) {
  const auto a = Connect({.session = 0});
  const auto b = Connect({.session = 9});
  ASSERT_TRUE(a && b);
  FenceAndWait(0);
  std::vector<std::byte> local(64);
  const Op op = DataOp(local.data(), 0, 64);
  EXPECT_FALSE(a->Execute(Direction::kRead, {&op, 1}, Soon()).ok());
  EXPECT_FALSE(b->Execute(Direction::kRead, {&op, 1}, Soon()).ok());
  const auto again = Connect({.session = 9});
  ASSERT_NE(again, nullptr);
  EXPECT_TRUE(again->Execute(Direction::kRead, {&op, 1}, Soon()).ok());
}

TEST_P(TransportFaults, AfterAFenceNoRunningWriteTouchesTheMemory) {
  const auto link = Connect({.session = 7});
  ASSERT_NE(link, nullptr);
  Latch moving;
  std::atomic<bool> stop{false};
  std::vector<std::thread> writers;
  for (uint64_t t = 0; t < 3; ++t) {
    writers.emplace_back([&, t] {
      std::vector<std::byte> source(4_MiB, static_cast<std::byte>(t + 1));
      const Op op = DataOp(source.data(), t * 8_MiB, source.size());
      while (!stop) {
        const Status status = link->Execute(Direction::kWrite, {&op, 1}, Soon());
        moving.Hit();
        EXPECT_TRUE(status.ok() || IsLoss(status.code())) << status.ToString();
      }
    });
  }
  ASSERT_TRUE(moving.Wait(9, Soon()));
  FenceAndWait(7);
  std::memset(seen_->data(), 0x77, 24_MiB);
  const int before = moving.count();
  ASSERT_TRUE(moving.Wait(before + 9, Soon())) << "the writers tried again";
  stop = true;
  for (auto& writer : writers) writer.join();
  uint64_t changed = 0;
  for (uint64_t i = 0; i < 24_MiB; ++i) changed += seen_->data()[i] != std::byte{0x77};
  EXPECT_EQ(changed, 0u);
}

// Whatever a transfer with too short a deadline answers, afterwards nobody touches source or destination.
TEST_P(TransportFaults, ATerminalStateMeansQuiescent) {
  const auto source = Pattern(kDataBytes, 1);
  uint64_t session = 100;
  for (const int64_t microseconds : {0, 200, 1000, 3000, 8000}) {
    for (const Direction direction : {Direction::kWrite, Direction::kRead}) {
      const auto link = Connect({.session = ++session});
      ASSERT_NE(link, nullptr);
      std::vector<std::byte> local = source;
      const Op op = DataOp(local.data(), 0, kDataBytes);
      const TimePoint deadline = std::chrono::steady_clock::now() + std::chrono::microseconds(microseconds);
      const Status status = link->Execute(direction, {&op, 1}, deadline);
      // On a busy machine the listener may take too long to say that it is through: then it is known after the fence.
      const bool unconfirmed = direction == Direction::kWrite && status.code() == Code::kUnconfirmed;
      ASSERT_TRUE(status.ok() || status.code() == Code::kDeadline || unconfirmed) << status.ToString();
      if (unconfirmed) FenceAndWait(session);
      std::byte* const target = direction == Direction::kWrite ? seen_->data() : local.data();
      if (status.ok() && direction == Direction::kWrite) {
        EXPECT_EQ(std::memcmp(target, source.data(), kDataBytes), 0);
      }
      std::memset(target, 0x3c, kDataBytes);
      FenceAndWait(session);
      uint64_t changed = 0;
      for (uint64_t i = 0; i < kDataBytes; i += 512) changed += target[i] != std::byte{0x3c};
      EXPECT_EQ(changed, 0u) << microseconds;
    }
  }
}

TEST_P(TransportFaults, ADeadlineInThePastMovesNothing) {
  const auto link = Connect();
  ASSERT_NE(link, nullptr);
  std::vector<std::byte> local(64, std::byte{1});
  const Op op = DataOp(local.data(), 0, 64);
  EXPECT_EQ(link->Execute(Direction::kWrite, {&op, 1}, TimePoint()).code(), Code::kDeadline);
  EXPECT_EQ(seen_->data()[0], std::byte{0});
}

TEST_P(TransportFaults, CloseEndsWaitingTransfersAndRefusesNewOnes) {
  const auto link = Connect();
  ASSERT_NE(link, nullptr);
  std::vector<std::byte> local(kDataBytes / 2);
  Latch done;
  std::atomic<int> odd{0};
  int submitted = 0;
  for (int i = 0; i < 40; ++i) {
    const auto n = static_cast<uint64_t>(i);
    submitted += link->Submit(Direction::kRead, {DataOp(local.data() + n * 64_KiB, 0, 1 + 1000 * n)}, Soon(),
                              [&](Status status) {
                                if (!status.ok() && status.code() != Code::kClosed) ++odd;
                                done.Hit();
                              })
                     .ok();
  }
  link->Close();
  link->Close();
  EXPECT_TRUE(done.Wait(submitted, Soon()));
  EXPECT_EQ(odd, 0);
  EXPECT_FALSE(link->alive());
  const Op op = DataOp(local.data(), 0, 64);
  EXPECT_EQ(link->Execute(Direction::kRead, {&op, 1}, Soon()).code(), Code::kClosed);
  EXPECT_EQ(link->Submit(Direction::kRead, {op}, Soon(), [](Status) { FAIL(); }).code(), Code::kClosed);
}

TEST_P(TransportFaults, AListenerThatEndsBreaksItsLinks) {
  const auto link = Connect();
  ASSERT_NE(link, nullptr);
  const std::string address = listener_->endpoint().address;
  listener_.reset();
  std::vector<std::byte> local(64);
  const Op op = DataOp(local.data(), 0, 64);
  const Code code = link->Execute(Direction::kWrite, {&op, 1}, Soon()).code();
  EXPECT_TRUE(IsLoss(code) || code == Code::kStaleRegion) << CodeName(code);
  EXPECT_EQ(Dial(address, {}, Soon()).code(), Code::kPeerUnreachable);
}

TEST_P(TransportFaults, APeerKilledMidTransferEndsEveryTransferInTime) {
  std::unique_ptr<ServerProcess> server;
  std::string address = listener_->endpoint().address;
  if (!IsLoopback()) {
    server = Serve();
    address = server->address();
    ASSERT_FALSE(address.empty());
  }
  auto connected = Dial(address, {}, Soon());
  ASSERT_TRUE(connected.ok()) << connected.status().ToString();
  const auto link = *connected;
  Latch moving;
  std::vector<std::thread> workers;
  std::atomic<int> unexpected{0};
  for (uint64_t t = 0; t < 4; ++t) {
    workers.emplace_back([&, t] {
      std::vector<std::byte> local(12_MiB);
      const Op op = DataOp(local.data(), t * 12_MiB, local.size());
      const auto direction = t % 2 == 0 ? Direction::kRead : Direction::kWrite;
      Status status;
      while (status.ok()) {
        status = link->Execute(direction, {&op, 1}, Soon());
        moving.Hit();
      }
      if (!IsLoss(status.code()) && status.code() != Code::kStaleRegion) ++unexpected;
    });
  }
  ASSERT_TRUE(moving.Wait(8, Soon()));
  if (server != nullptr) {
    server->Kill();
  } else {
    ASSERT_TRUE(loopback::SetFaultPlan(address, {.cut_after = 5_MiB}));
  }
  for (auto& worker : workers) worker.join();
  EXPECT_EQ(unexpected, 0);
  EXPECT_FALSE(link->alive());
}

// A peer that stands still: the write cannot be confirmed, and the link says so.
TEST_P(TransportFaults, AWriteToAPeerThatStandsStillIsUnconfirmed) {
  if (std::string(GetParam().transport) == "shm") GTEST_SKIP() << "a same-host write needs nothing from the peer";
  std::unique_ptr<ServerProcess> server;
  std::string address = listener_->endpoint().address;
  if (IsTcp()) {
    server = Serve();
    address = server->address();
  }
  auto link = Dial(address, {}, Soon());
  ASSERT_TRUE(link.ok()) << link.status().ToString();
  std::vector<std::byte> local(1_MiB);
  const Op op = DataOp(local.data(), 0, local.size());
  ASSERT_TRUE((*link)->Execute(Direction::kWrite, {&op, 1}, Soon()).ok());
  if (server != nullptr) {
    server->Stop();
  } else {
    ASSERT_TRUE(loopback::SetFaultPlan(address, {.drop = true}));
  }
  // Time enough to send something: what was not sent is known not to be written.
  EXPECT_EQ((*link)->Execute(Direction::kWrite, {&op, 1}, InMs(500)).code(), Code::kUnconfirmed);
  EXPECT_EQ((*link)->Execute(Direction::kRead, {&op, 1}, InMs(50)).code(), Code::kDeadline);
}

TEST_P(TransportFaults, FabricReconnectsAfterALossAndFallsBackFromTheSameHost) {
  Fabric fabric({.link = Secured()});
  const std::vector<Endpoint> endpoints{{"loopback", "nobody"},
                                        {"shm", dir_.path() + "/nobody.sock"},
                                        {"unheard-of", "x"},
                                        listener_->endpoint()};
  auto first = fabric.LinkTo("peer", endpoints, true, Soon());
  ASSERT_TRUE(first.ok()) << first.status().ToString();
  EXPECT_STREQ((*first)->capabilities().name, GetParam().transport);
  EXPECT_EQ(*fabric.LinkTo("peer", endpoints, true, Soon()), *first) << "one link per peer";
  FenceAndWait(0);
  std::vector<std::byte> local(64);
  const Op op = DataOp(local.data(), 0, 64);
  EXPECT_FALSE((*first)->Execute(Direction::kRead, {&op, 1}, Soon()).ok());
  auto second = fabric.LinkTo("peer", endpoints, true, Soon());
  ASSERT_TRUE(second.ok()) << second.status().ToString();
  EXPECT_TRUE((*second)->Execute(Direction::kRead, {&op, 1}, Soon()).ok());
  const bool same_host_only = (*second)->capabilities().same_host_only;
  EXPECT_EQ(fabric.LinkTo("far", endpoints, false, Soon()).ok(), !same_host_only);
  fabric.Close();
  EXPECT_EQ(fabric.LinkTo("peer", endpoints, true, Soon()).code(), Code::kClosed);
}

TEST_P(TransportFaults, FabricCallersOfOnePeerShareOneConnection) {
  Fabric fabric({.link = Secured()});
  const std::vector<Endpoint> endpoints{listener_->endpoint()};
  std::vector<std::shared_ptr<Link>> links(8);
  std::vector<std::thread> threads;
  for (auto& link : links) {
    threads.emplace_back([&] { link = fabric.LinkTo("peer", endpoints, true, Soon()).value_or(nullptr); });
  }
  for (auto& thread : threads) thread.join();
  ASSERT_NE(links[0], nullptr);
  for (const auto& link : links) EXPECT_EQ(link, links[0]);
}

INSTANTIATE_TEST_SUITE_P(Fabric, TransportFaults, testing::ValuesIn(AllCases()), CaseName);

TEST(LoopbackFaults, TheQueueOfSubmittedTransfersIsBounded) {
  RegionTable regions;
  std::vector<std::byte> memory(4096);
  ASSERT_TRUE(regions.Add({{1, 1}, memory, Access::kReadWrite, MemoryKind::kHost, nullptr}).ok());
  auto& transport = loopback::Instance();
  ListenOptions options;
  options.address = "bounded-queue";
  auto listener = transport.Listen(options, regions);
  ASSERT_TRUE(listener.ok());
  auto link = transport.Connect((*listener)->endpoint().address, {}, Soon());
  ASSERT_TRUE(link.ok());
  auto hold = std::make_shared<loopback::Hold>();
  ASSERT_TRUE(loopback::SetFaultPlan("bounded-queue", {.hold = hold}));
  std::vector<std::byte> local(10'000);
  Latch done;
  int accepted = 0;
  Status status;
  while (status.ok() && accepted < 10'000) {
    status = (*link)->Submit(Direction::kRead, {Op{local.data() + accepted, {1, 1}, 0, 1}}, Soon(),
                             [&](Status) { done.Hit(); });
    accepted += status.ok();
  }
  EXPECT_EQ(status.code(), Code::kQueueFull);
  hold->Release();
  EXPECT_TRUE(done.Wait(accepted, Soon()));
  EXPECT_EQ(done.count(), accepted);
}

TEST(LoopbackFaults, AHeldTransferIsHalfDoneUntilItIsReleased) {
  RegionTable regions;
  std::vector<std::byte> memory(8192);
  ASSERT_TRUE(regions.Add({{1, 1}, memory, Access::kReadWrite, MemoryKind::kHost, nullptr}).ok());
  auto& transport = loopback::Instance();
  ListenOptions options;
  options.address = "held";
  auto listener = transport.Listen(options, regions);
  ASSERT_TRUE(listener.ok());
  EXPECT_EQ(transport.Listen(options, regions).code(), Code::kIo);
  auto link = transport.Connect("held", {}, Soon());
  ASSERT_TRUE(link.ok());
  auto hold = std::make_shared<loopback::Hold>();
  ASSERT_TRUE(loopback::SetFaultPlan("held", {.hold = hold, .hold_at = 4096}));
  auto source = Pattern(8192, 1);
  std::thread writer([&] {
    const Op op{source.data(), {1, 1}, 0, 8192};
    EXPECT_TRUE((*link)->Execute(Direction::kWrite, {&op, 1}, Soon()).ok());
  });
  EXPECT_TRUE(hold->WaitReached(Soon()));
  EXPECT_EQ(std::memcmp(memory.data(), source.data(), 4096), 0);
  EXPECT_EQ(memory[4096], std::byte{0});
  hold->Release();
  writer.join();
  EXPECT_EQ(memory, source);
  ASSERT_TRUE(loopback::SetFaultPlan("held", {.fail_connect = true}));
  EXPECT_EQ(transport.Connect("held", {}, Soon()).code(), Code::kPeerUnreachable);
  EXPECT_FALSE(loopback::SetFaultPlan("nobody", {}));
}

}  // namespace
}  // namespace mmc::fabric::contract
