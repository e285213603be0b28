// Goal: every Transport keeps the promises of fabric/transport.h about what it moves and what it refuses.
// Method: one body per promise, run for every transport and memory kind; the far side is watched through a second
// mapping of its memory.
#include <gmock/gmock.h>

#include <atomic>
#include <cstring>
#include <random>
#include <thread>

#include "tests/contract/contract_fixture.h"

namespace mmc::fabric::contract {
namespace {

bool Same(const std::byte* a, const std::byte* b, uint64_t n) { return std::memcmp(a, b, n) == 0; }

TEST_P(TransportContract, WhatIsWrittenIsThereAndReadsBack) {
  const auto link = Connect();
  ASSERT_NE(link, nullptr);
  for (const uint64_t size : {1ul, 7ul, 4096ul, 65537ul, 1048576ul, 9000001ul}) {
    auto source = Pattern(size, size);
    std::vector<std::byte> back(size);
    const Op write = DataOp(source.data(), 13, size);
    const Op read = DataOp(back.data(), 13, size);
    ASSERT_TRUE(link->Execute(Direction::kWrite, {&write, 1}, Soon()).ok());
    EXPECT_TRUE(Same(seen_->data() + 13, source.data(), size)) << size;
    ASSERT_TRUE(link->Execute(Direction::kRead, {&read, 1}, Soon()).ok());
    EXPECT_EQ(back, source);
  }
  EXPECT_EQ(link->counters().bytes, 2 * (1 + 7 + 4096 + 65537 + 1048576 + 9000001ul));
}

TEST_P(TransportContract, ABlockOf122ScatteredBuffersGoesThereAndBack) {
  const auto link = Connect();
  ASSERT_NE(link, nullptr);
  std::vector<std::vector<std::byte>> buffers;
  std::vector<std::vector<std::byte>> back;
  std::vector<Op> writes;
  std::vector<Op> reads;
  uint64_t offset = 4096;
  for (int i = 0; i < 122; ++i) {
    buffers.push_back(Pattern(i % 2 == 0 ? 128_KiB : 16_KiB, static_cast<uint64_t>(i)));
    back.emplace_back(buffers.back().size());
    writes.push_back(DataOp(buffers.back().data(), offset, buffers.back().size()));
    reads.push_back(DataOp(back.back().data(), offset, back.back().size()));
    offset += buffers.back().size();
  }
  ASSERT_TRUE(link->Execute(Direction::kWrite, writes, Soon()).ok());
  ASSERT_TRUE(link->Execute(Direction::kRead, reads, Soon()).ok());
  EXPECT_EQ(back, buffers);
}

TEST_P(TransportContract, BytesBesideTheTargetStayAsTheyAre) {
  const auto link = Connect();
  ASSERT_NE(link, nullptr);
  std::memset(seen_->data(), 0x5a, 3_MiB);
  auto source = Pattern(1_MiB + 3, 1);
  const Op op = DataOp(source.data(), 1_MiB + 1, source.size());
  ASSERT_TRUE(link->Execute(Direction::kWrite, {&op, 1}, Soon()).ok());
  const auto untouched = [&](uint64_t from, uint64_t to) {
    for (uint64_t i = from; i < to; ++i) {
      if (seen_->data()[i] != std::byte{0x5a}) return false;
    }
    return true;
  };
  EXPECT_TRUE(untouched(0, 1_MiB + 1));
  EXPECT_TRUE(untouched(1_MiB + 1 + source.size(), 3_MiB));
}

TEST_P(TransportContract, SubmitCompletesExactlyOnceAndNotInsideSubmit) {
  const auto link = Connect();
  ASSERT_NE(link, nullptr);
  constexpr int kTransfers = 64;
  std::vector<std::vector<std::byte>> sources;
  for (int i = 0; i < kTransfers; ++i) sources.push_back(Pattern(40000, static_cast<uint64_t>(i)));
  std::vector<Latch> done(kTransfers);
  std::atomic<int> failures{0};
  const std::thread::id caller = std::this_thread::get_id();
  for (int i = 0; i < kTransfers; ++i) {
    const auto n = static_cast<size_t>(i);
    ASSERT_TRUE(link->Submit(Direction::kWrite, {DataOp(sources[n].data(), n * 65536, 40000)}, Soon(),
                             [&, n](Status status) {
                               if (!status.ok() || std::this_thread::get_id() == caller) ++failures;
                               done[n].Hit();
                             })
                    .ok());
  }
  for (auto& latch : done) EXPECT_TRUE(latch.Wait(1, Soon()));
  link->Close();
  EXPECT_EQ(failures, 0);
  for (size_t i = 0; i < done.size(); ++i) {
    EXPECT_EQ(done[i].count(), 1);
    EXPECT_TRUE(Same(seen_->data() + i * 65536, sources[i].data(), 40000));
  }
}

TEST_P(TransportContract, StridedRunsMoveEveryPiece) {
  const auto link = Connect();
  ASSERT_NE(link, nullptr);
  auto source = Pattern(100 * 3000, 5);
  Op op = DataOp(source.data(), 64, 1000);
  op.count = 100;
  op.local_stride = 3000;
  op.remote_stride = 1500;
  ASSERT_TRUE(link->Execute(Direction::kWrite, {&op, 1}, Soon()).ok());
  for (uint64_t i = 0; i < 100; ++i) {
    ASSERT_TRUE(Same(seen_->data() + 64 + i * 1500, source.data() + i * 3000, 1000)) << i;
  }
  std::vector<std::byte> back(source.size());
  op.local = back.data();
  ASSERT_TRUE(link->Execute(Direction::kRead, {&op, 1}, Soon()).ok());
  for (uint64_t i = 0; i < 100; ++i) {
    ASSERT_TRUE(Same(back.data() + i * 3000, source.data() + i * 3000, 1000)) << i;
  }
}

class Keeper final : public ByteObserver {
 public:
  void See(const std::byte* bytes, uint64_t length) override { seen.insert(seen.end(), bytes, bytes + length); }
  std::vector<std::byte> seen;
};

TEST_P(TransportContract, AnObserverSeesTheCallersBytesInTheirOrderOrTheLinkSaysThatItShowsNone) {
  const auto link = Connect();
  ASSERT_NE(link, nullptr);
  std::vector<std::vector<std::byte>> sources, back;
  std::vector<std::byte> whole;
  std::vector<Op> writes, reads;
  uint64_t offset = 8192;
  for (const uint64_t size : {1ul, 72_KiB, 5000ul, 3_MiB + 7, 16_KiB}) {
    sources.push_back(Pattern(size, size));
    back.emplace_back(size);
    whole.insert(whole.end(), sources.back().begin(), sources.back().end());
    writes.push_back(DataOp(sources.back().data(), offset, size));
    reads.push_back(DataOp(back.back().data(), offset, size));
    offset += size + 13;
  }
  Keeper written, read;
  const Status status = link->ExecuteShown(Direction::kWrite, writes, written, Soon());
  if (!link->observes()) {
    EXPECT_EQ(status.code(), Code::kUnsupported);
    EXPECT_EQ(link->counters().bytes, 0u);
    return;
  }
  ASSERT_TRUE(status.ok()) << status.ToString();
  ASSERT_TRUE(link->ExecuteShown(Direction::kRead, reads, read, Soon()).ok());
  EXPECT_TRUE(written.seen == whole);
  EXPECT_TRUE(read.seen == whole);
  EXPECT_TRUE(back == sources);
  EXPECT_EQ(IsTcp(), false) << "the peer takes part there";
}

TEST_P(TransportContract, AdjacentRunsMerge) {
  const auto link = Connect();
  ASSERT_NE(link, nullptr);
  auto source = Pattern(1000 * 64, 9);
  std::vector<Op> ops;
  for (uint64_t i = 0; i < 1000; ++i) ops.push_back(DataOp(source.data() + i * 64, 4096 + i * 64, 64));
  ASSERT_TRUE(link->Execute(Direction::kWrite, ops, Soon()).ok());
  EXPECT_EQ(link->counters().pieces, 1u);
  EXPECT_EQ(link->counters().requests, 1u);
  EXPECT_TRUE(Same(seen_->data() + 4096, source.data(), source.size()));
}

TEST_P(TransportContract, AHundredThousandRunsCostLinearWork) {
  const auto link = Connect();
  ASSERT_NE(link, nullptr);
  constexpr uint64_t kRuns = 100'000;
  auto source = Pattern(kRuns * 64, 3);
  std::vector<Op> ops;
  for (uint64_t i = 0; i < kRuns; ++i) ops.push_back(DataOp(source.data() + i * 64, i * 128, 64));
  ASSERT_TRUE(link->Execute(Direction::kWrite, ops, Soon()).ok());
  for (uint64_t i = 0; i < kRuns; ++i) ASSERT_TRUE(Same(seen_->data() + i * 128, source.data() + i * 64, 64));
  const LinkCounters counters = link->counters();
  EXPECT_GE(counters.pieces, kRuns);
  EXPECT_LE(counters.pieces, kRuns + 64);
  EXPECT_LE(counters.steps, 2 * kRuns);
  EXPECT_LE(counters.requests, 16u);
}

TEST_P(TransportContract, OpsThatCannotBeAreRefusedBeforeAnythingMoves) {
  const auto link = Connect();
  ASSERT_NE(link, nullptr);
  std::vector<std::byte> local(4096);
  const auto code = [&](Direction direction, Op op) {
    return link->Execute(direction, {&op, 1}, Soon()).code();
  };
  EXPECT_EQ(link->Execute(Direction::kRead, {}, Soon()).code(), Code::kInvalidArgument);
  EXPECT_EQ(code(Direction::kRead, DataOp(nullptr, 0, 1)), Code::kInvalidArgument);
  EXPECT_EQ(code(Direction::kRead, DataOp(local.data(), 0, 0)), Code::kInvalidArgument);
  EXPECT_EQ(code(Direction::kRead, DataOp(local.data(), UINT64_MAX, 16)), Code::kInvalidArgument);
  Op run = DataOp(local.data(), 0, 16);
  run.count = 0;
  EXPECT_EQ(code(Direction::kRead, run), Code::kInvalidArgument);
  run.count = 2;
  run.local_stride = 8;
  run.remote_stride = 16;
  EXPECT_EQ(code(Direction::kRead, run), Code::kInvalidArgument);
  run.local_stride = UINT64_MAX;
  EXPECT_EQ(code(Direction::kRead, run), Code::kInvalidArgument);
  EXPECT_EQ(link->Submit(Direction::kRead, {run}, Soon(), [](Status) { FAIL(); }).code(), Code::kInvalidArgument);
  EXPECT_EQ(link->counters().bytes, 0u);
}

TEST_P(TransportContract, OutOfRangeIsRefusedAndNothingOfTheRequestMoves) {
  const auto link = Connect();
  ASSERT_NE(link, nullptr);
  std::memset(seen_->data(), 0x11, 4096);
  auto local = Pattern(4096, 1);
  for (const uint64_t offset : {kDataBytes - 4095, kDataBytes, kDataBytes * 2, uint64_t{1} << 60}) {
    const std::vector<Op> ops{DataOp(local.data(), 0, 4096), DataOp(local.data(), offset, 4096)};
    EXPECT_EQ(link->Execute(Direction::kWrite, ops, Soon()).code(), Code::kOutOfRange) << offset;
    EXPECT_EQ(link->Execute(Direction::kRead, ops, Soon()).code(), Code::kOutOfRange) << offset;
  }
  EXPECT_EQ(seen_->data()[0], std::byte{0x11});
  const Op last = DataOp(local.data(), kDataBytes - 4096, 4096);
  EXPECT_TRUE(link->Execute(Direction::kWrite, {&last, 1}, Soon()).ok()) << "the link works on after a refusal";
}

TEST_P(TransportContract, AReadOnlyRegionRefusesWritesAndAllowsReads) {
  const auto link = Connect();
  ASSERT_NE(link, nullptr);
  const auto content = Pattern(8192, 77);
  std::memcpy(fixed_->data(), content.data(), content.size());
  std::vector<std::byte> local(8192);
  const Op op{local.data(), kFixed, 0, 8192};
  EXPECT_EQ(link->Execute(Direction::kWrite, {&op, 1}, Soon()).code(), Code::kReadOnly);
  EXPECT_EQ(fixed_->data()[0], content[0]);
  ASSERT_TRUE(link->Execute(Direction::kRead, {&op, 1}, Soon()).ok());
  EXPECT_EQ(local, content);
}

TEST_P(TransportContract, AReadOnlyLinkRefusesWritesAndAllowsReads) {
  const auto link = Connect({.access = Access::kReadOnly});
  ASSERT_NE(link, nullptr);
  seen_->data()[5] = std::byte{42};
  std::vector<std::byte> local(64, std::byte{1});
  const Op op = DataOp(local.data(), 0, 64);
  EXPECT_EQ(link->Execute(Direction::kWrite, {&op, 1}, Soon()).code(), Code::kReadOnly);
  ASSERT_TRUE(link->Execute(Direction::kRead, {&op, 1}, Soon()).ok());
  EXPECT_EQ(local[5], std::byte{42});
}

TEST_P(TransportContract, AStaleEpochIsRefusedAndANewOneWorks) {
  const auto link = Connect();
  ASSERT_NE(link, nullptr);
  std::vector<std::byte> local(4096, std::byte{9});
  Op op = DataOp(local.data(), 0, 4096);
  ASSERT_TRUE(link->Execute(Direction::kWrite, {&op, 1}, Soon()).ok());
  op.remote.epoch = 7;
  EXPECT_EQ(link->Execute(Direction::kWrite, {&op, 1}, Soon()).code(), Code::kStaleRegion);
  op.remote = {99, 1};
  EXPECT_EQ(link->Execute(Direction::kRead, {&op, 1}, Soon()).code(), Code::kStaleRegion);
  regions_.Remove(kData);
  op.remote = kData;
  EXPECT_EQ(link->Execute(Direction::kWrite, {&op, 1}, Soon()).code(), Code::kStaleRegion);
  EXPECT_EQ(link->Execute(Direction::kRead, {&op, 1}, Soon()).code(), Code::kStaleRegion);
  const RegionRef renewed{kData.segment, 2};
  ASSERT_TRUE(
      regions_.Add({renewed, {data_->data(), kDataBytes}, Access::kReadWrite, MemoryKind::kHost, data_}).ok());
  EXPECT_EQ(link->Execute(Direction::kRead, {&op, 1}, Soon()).code(), Code::kStaleRegion);
  op.remote = renewed;
  // The news of a segment may travel; until it is there the answer is "stale".
  const TimePoint deadline = Soon();
  Status status(Code::kStaleRegion);
  while (status.code() == Code::kStaleRegion && std::chrono::steady_clock::now() < deadline) {
    status = link->Execute(Direction::kRead, {&op, 1}, deadline);
    std::this_thread::yield();
  }
  EXPECT_TRUE(status.ok()) << status.ToString();
}

// A reader that sees the flag sees all of the data written before it: 10,000 times.
TEST_P(TransportContract, WriteThenNotifyIsNeverTorn) {
  const auto link = Connect();
  ASSERT_NE(link, nullptr);
  constexpr uint64_t kIterations = 10'000;
  std::atomic<uint64_t> acknowledged{0};
  std::atomic<uint64_t> torn{0};
  const auto size_of = [](uint64_t i) { return i % 16 == 0 ? 128_KiB : 8_KiB; };
  std::thread reader([&] {
    auto* const flag = reinterpret_cast<std::atomic<uint64_t>*>(flags_seen_->data());
    auto* const words = reinterpret_cast<const uint64_t*>(seen_->data());
    for (uint64_t i = 1; i <= kIterations; ++i) {
      while (flag->load(std::memory_order_acquire) != i) std::this_thread::yield();
      uint64_t wrong = 0;
      for (uint64_t w = 0; w < size_of(i) / 8; ++w) wrong += words[w] != i;
      torn += wrong;
      acknowledged = i;
    }
  });
  std::vector<uint64_t> values(128_KiB / 8);
  uint64_t flag_value = 0;
  for (uint64_t i = 1; i <= kIterations; ++i) {
    std::fill(values.begin(), values.end(), i);
    flag_value = i;
    const Op data = DataOp(reinterpret_cast<std::byte*>(values.data()), 0, size_of(i));
    const Op flag{reinterpret_cast<std::byte*>(&flag_value), kFlags, 0, 8};
    const bool ok = link->Execute(Direction::kWrite, {&data, 1}, Soon()).ok() &&
                    link->Execute(Direction::kWrite, {&flag, 1}, Soon()).ok();
    EXPECT_TRUE(ok) << i;
    if (!ok) {
      // Lets the reader end too.
      for (uint64_t j = i; j <= kIterations; ++j) {
        std::atomic_ref<uint64_t>(*reinterpret_cast<uint64_t*>(flags_seen_->data())).store(j);
        while (acknowledged < j) std::this_thread::yield();
      }
      break;
    }
    while (acknowledged < i) std::this_thread::yield();
  }
  reader.join();
  EXPECT_EQ(torn, 0u);
}

TEST_P(TransportContract, EightThreadsMoveTheirOwnBytesAtOnce) {
  const auto link = Connect();
  ASSERT_NE(link, nullptr);
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937_64 random(t);
      const uint64_t base = t * 8_MiB;
      for (int i = 0; i < 60; ++i) {
        const uint64_t size = 1 + random() % (i % 10 == 0 ? 6_MiB : 100_KiB);
        const uint64_t offset = base + random() % (8_MiB - size);
        auto source = Pattern(size, random());
        std::vector<std::byte> back(size);
        const uint64_t half = size / 2;
        std::vector<Op> writes{DataOp(source.data() + half, offset + half, size - half)};
        if (half > 0) writes.push_back(DataOp(source.data(), offset, half));
        const Op read = DataOp(back.data(), offset, size);
        if (!link->Execute(Direction::kWrite, writes, Soon()).ok() ||
            !link->Execute(Direction::kRead, {&read, 1}, Soon()).ok() || back != source) {
          ++wrong;
        }
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

TEST_P(TransportContract, AViewShowsTheBytesOrIsNull) {
  const auto link = Connect();
  ASSERT_NE(link, nullptr);
  const auto content = Pattern(4096, 4);
  std::memcpy(seen_->data() + 8192, content.data(), content.size());
  const std::byte* const view = link->View(kData, 8192, 4096);
  const bool is_shm = std::string(GetParam().transport) == "shm";
  ASSERT_EQ(view != nullptr, is_shm);
  if (view == nullptr) return;
  EXPECT_TRUE(Same(view, content.data(), 4096));
  EXPECT_EQ(link->View(kData, kDataBytes - 1, 2), nullptr);
  EXPECT_EQ(link->View({1, 2}, 0, 1), nullptr);
}

INSTANTIATE_TEST_SUITE_P(Fabric, TransportContract, testing::ValuesIn(AllCases()), CaseName);

}  // namespace
}  // namespace mmc::fabric::contract
