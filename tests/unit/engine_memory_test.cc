// Goal: what an engine lends is exactly what was registered, and addresses of a peer become the right names.
// Method: LentMemory and PeerMap alone, without connections.
#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "client_sdk/engine/lent_memory.h"
#include "client_sdk/engine/peer_map.h"
#include "common/base/limits.h"

namespace mmc::engine {
namespace {

using fabric::Access;
using fabric::Direction;
using fabric::Op;

uint64_t AddressOf(const void* at) { return reinterpret_cast<uint64_t>(at); }

TEST(LentMemory, WhatIsRegisteredIsHeldAndNothingElse) {
  LentMemory memory;
  std::vector<std::byte> bytes(10'000);
  const uint64_t at = AddressOf(bytes.data());
  EXPECT_FALSE(memory.Holds(at, 1));
  ASSERT_TRUE(memory.Register(at, 4000, Access::kReadWrite).ok());
  ASSERT_TRUE(memory.Register(at + 4000, 1000, Access::kReadWrite).ok());  // it touches the first
  ASSERT_TRUE(memory.Register(at + 6000, 1000, Access::kReadWrite).ok());
  EXPECT_TRUE(memory.Holds(at, 5000) && memory.Holds(at + 3999, 2) && memory.Holds(at + 6999, 1));
  EXPECT_FALSE(memory.Holds(at, 5001) || memory.Holds(at + 5500, 1) || memory.Holds(at - 1, 1));
  EXPECT_FALSE(memory.Holds(at, ~uint64_t{0}));
  ASSERT_TRUE(memory.Unregister(at).ok());
  EXPECT_FALSE(memory.Holds(at, 1));
  EXPECT_TRUE(memory.Holds(at + 4000, 1000));
  EXPECT_EQ(memory.Unregister(at).code(), Code::kNotFound);
}

TEST(LentMemory, WhatIsNoMemoryIsRefused) {
  LentMemory memory;
  EXPECT_EQ(memory.Register(0, 10, Access::kReadWrite).code(), Code::kInvalidArgument);
  EXPECT_EQ(memory.Register(4096, 0, Access::kReadWrite).code(), Code::kInvalidArgument);
  EXPECT_EQ(memory.Register(4096, ~uint64_t{0} - 4000, Access::kReadWrite).code(), Code::kInvalidArgument);
  EXPECT_EQ(memory.Allocate(0).code(), Code::kInvalidArgument);
  EXPECT_EQ(memory.Allocate(kMaxSegmentBytes + 1).code(), Code::kTooLarge);
  EXPECT_EQ(memory.Free(4096).code(), Code::kNotFound);
}

TEST(LentMemory, ALargerSizeTakesTheNameAndKeepsThePlace) {
  LentMemory memory;
  std::vector<std::byte> bytes(10'000);
  const uint64_t at = AddressOf(bytes.data());
  ASSERT_TRUE(memory.Register(at, 1000, Access::kReadWrite).ok());
  ASSERT_TRUE(memory.Register(at + 5000, 1000, Access::kReadWrite).ok());
  ASSERT_TRUE(memory.Register(at, 500, Access::kReadWrite).ok());
  EXPECT_EQ(memory.List()[0].bytes, 1000u);
  const uint32_t before = memory.List()[0].segment;
  ASSERT_TRUE(memory.Register(at, 2000, Access::kReadWrite).ok());
  const auto lent = memory.List();
  ASSERT_EQ(lent.size(), 2u);
  EXPECT_EQ(lent[0].bytes, 2000u);
  EXPECT_NE(lent[0].segment, before);
  EXPECT_LT(lent[0].order, lent[1].order);  // it still came first
  EXPECT_EQ(memory.regions().Resolve({before, memory.epoch()}, 0, 1, Direction::kRead).code(), Code::kStaleRegion);
}

TEST(LentMemory, ARunningAccessIsSeenUntilItEnds) {
  LentMemory memory;
  std::vector<std::byte> bytes(1000);
  ASSERT_TRUE(memory.Register(AddressOf(bytes.data()), bytes.size(), Access::kReadOnly).ok());
  const fabric::RegionRef ref{memory.List()[0].segment, memory.epoch()};
  EXPECT_EQ(memory.regions().Resolve(ref, 0, 1, Direction::kWrite).code(), Code::kReadOnly);
  auto access = memory.regions().Resolve(ref, 0, 1000, Direction::kRead);
  ASSERT_TRUE(access.ok());
  auto taken = memory.Unregister(AddressOf(bytes.data()));
  ASSERT_TRUE(taken.ok());
  EXPECT_FALSE(taken->in_use.expired());
  access = Status(Code::kClosed);
  EXPECT_TRUE(taken->in_use.expired());
}

TEST(LentMemory, AllocatedMemoryIsZeroSharedAndGivenBack) {
  LentMemory memory;
  const auto at = memory.Allocate(100'000);
  ASSERT_TRUE(at.ok()) << at.status().ToString();
  auto* const bytes = reinterpret_cast<unsigned char*>(*at);
  EXPECT_EQ(*at % 4096, 0u);
  EXPECT_EQ(bytes[0] + bytes[99'999], 0);
  bytes[99'999] = 7;
  EXPECT_TRUE(memory.Holds(*at, 100'000));
  EXPECT_FALSE(memory.Holds(*at, 100'001));
  EXPECT_TRUE(memory.List()[0].shared);
  ASSERT_TRUE(memory.Unregister(*at).ok());  // it may be freed all the same
  auto taken = memory.Free(*at);
  ASSERT_TRUE(taken.ok());
  ASSERT_NE(taken->shared, nullptr);
  Discard(*taken->shared);
  EXPECT_EQ(bytes[99'999], 0);  // the page is another one now
  EXPECT_EQ(memory.Free(*at).code(), Code::kNotFound);
}

TEST(LentMemory, BeyondSoManySharedBuffersTheyAreNotShared) {
  LentMemory memory;
  std::vector<uint64_t> made;
  for (size_t i = 0; i < LentMemory::kMaxShared + 2; ++i) made.push_back(memory.Allocate(4096).value());
  size_t shared = 0;
  for (const auto& one : memory.List()) shared += one.shared ? 1 : 0;
  EXPECT_EQ(shared, LentMemory::kMaxShared);
  std::memset(reinterpret_cast<void*>(made.back()), 1, 4096);
  ASSERT_TRUE(memory.Free(made.front()).ok());
  ASSERT_TRUE(memory.Allocate(4096).ok());
  for (size_t i = 1; i < made.size(); ++i) EXPECT_TRUE(memory.Free(made[i]).ok());
  EXPECT_EQ(memory.List().size(), 1u);
}

proto::DescribeEngineReply Reply() {
  proto::DescribeEngineReply reply;
  reply.set_incarnation(5);
  reply.set_host_id("host");
  reply.set_tcp_port(4711);
  reply.set_shm_address("/tmp/socket#1");
  reply.set_epoch(9);
  const auto add = [&reply](uint64_t address, uint64_t bytes, uint32_t segment, bool shared) {
    proto::EngineRegion* const region = reply.add_regions();
    region->set_address(address);
    region->set_bytes(bytes);
    region->set_segment(segment);
    region->set_shared(shared);
  };
  add(5000, 1000, 3, true);
  add(1000, 1000, 1, false);
  add(2000, 500, 2, false);   // touches the one before
  add(1100, 100, 4, false);   // within another
  return reply;
}

TEST(PeerMap, PiecesBecomeOpsOfTheRegionsThatTheyLieIn) {
  const auto map = PeerMap::From(Reply(), "10.0.0.1", true, "host");
  ASSERT_TRUE(map.ok());
  EXPECT_EQ((*map)->network()[0].address, "10.0.0.1:4711");
  ASSERT_EQ((*map)->host().size(), 1u);
  const std::vector<Piece> pieces{{100, 1050, 60}, {200, 1900, 600}, {900, 5999, 1}};
  std::vector<Op> near, far;
  ASSERT_TRUE((*map)->Map(pieces, &near, &far).ok());
  ASSERT_EQ(near.size(), 1u);
  EXPECT_EQ(near[0].remote, (fabric::RegionRef{3, 9}));
  EXPECT_EQ(near[0].remote_offset, 999u);
  ASSERT_EQ(far.size(), 3u);  // the first piece does not fall into the small region within the large one
  EXPECT_EQ(far[0].remote.segment, 1u);
  EXPECT_EQ(far[0].remote_offset, 50u);
  EXPECT_EQ(far[1].length, 100u);
  EXPECT_EQ(far[2].remote.segment, 2u);
  EXPECT_EQ(far[2].length, 500u);
  EXPECT_EQ(AddressOf(far[2].local), 300u);
}

TEST(PeerMap, WhatIsInNoRegionIsRefused) {
  const auto map = PeerMap::From(Reply(), "h", true, "host").value();
  for (const Piece& piece : {Piece{1, 999, 1}, Piece{1, 2400, 101}, Piece{1, 2500, 1}, Piece{1, 5999, 2},
                             Piece{1, ~uint64_t{0} - 10, 100}, Piece{1, 0, ~uint64_t{0}}}) {
    std::vector<Op> near, far;
    EXPECT_EQ(map->Map({&piece, 1}, &near, &far).code(), Code::kOutOfRange) << piece.peer;
  }
  proto::DescribeEngineReply empty;
  empty.set_tcp_port(1);
  std::vector<Op> near, far;
  const Piece piece{1, 1, 1};
  EXPECT_EQ(PeerMap::From(empty, "h", true, "host").value()->Map({&piece, 1}, &near, &far).code(), Code::kOutOfRange);
}

TEST(PeerMap, SharedMemoryIsForTheSameHost) {
  for (const auto& [same_host, host] : {std::pair(true, "other"), std::pair(false, "host"), std::pair(true, "")}) {
    const auto map = PeerMap::From(Reply(), "h", same_host, host).value();
    std::vector<Op> near, far;
    const Piece piece{1, 5000, 10};
    ASSERT_TRUE(map->Map({&piece, 1}, &near, &far).ok());
    EXPECT_TRUE(near.empty() && map->host().empty() && far.size() == 1);
  }
  const auto map = PeerMap::From(Reply(), "h", true, "host").value();
  map->GiveUpNear();
  std::vector<Op> near, far;
  const Piece piece{1, 5000, 10};
  ASSERT_TRUE(map->Map({&piece, 1}, &near, &far).ok());
  EXPECT_TRUE(near.empty());
}

TEST(PeerMap, AnswersThatCannotBeAreRefused) {
  proto::DescribeEngineReply reply = Reply();
  reply.set_tcp_port(65536);
  EXPECT_EQ(PeerMap::From(reply, "h", true, "host").code(), Code::kMalformed);
  reply = Reply();
  reply.mutable_regions(0)->set_bytes(~uint64_t{0});
  EXPECT_EQ(PeerMap::From(reply, "h", true, "host").code(), Code::kMalformed);
}

}  // namespace
}  // namespace mmc::engine
