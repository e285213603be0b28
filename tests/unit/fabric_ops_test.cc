// Checking, walking and merging op lists; addresses of same-host listeners; the tcp frame checks.
#include <gtest/gtest.h>

#include <vector>

#include "fabric/address.h"
#include "fabric/fenced_sessions.h"
#include "fabric/ops.h"
#include "fabric/tcp/frame.h"
#include "fabric/tcp/socket.h"

namespace mmc::fabric {
namespace {

std::byte* const kBase = reinterpret_cast<std::byte*>(0x100000);
constexpr RegionRef kRef{1, 1};

Op MakeOp(uint64_t local, uint64_t remote, uint64_t length, uint32_t count = 1, uint64_t local_stride = 0,
          uint64_t remote_stride = 0) {
  return {kBase + local, kRef, remote, length, count, local_stride, remote_stride};
}

struct Seen {
  uint64_t local;
  uint64_t remote;
  uint64_t length;
  friend bool operator==(const Seen&, const Seen&) = default;
};

std::vector<Seen> Walk(const std::vector<Op>& ops, uint64_t limit = UINT64_MAX, uint64_t skip = 0) {
  PieceReader reader(ops);
  reader.Skip(skip);
  std::vector<Seen> seen;
  Piece piece;
  while (reader.Next(limit, &piece)) {
    seen.push_back({static_cast<uint64_t>(piece.local - kBase), piece.remote_offset, piece.length});
  }
  return seen;
}

TEST(PieceReader, MergesWhatTouchesOnBothSides) {
  EXPECT_EQ(Walk({MakeOp(0, 100, 10), MakeOp(10, 110, 5), MakeOp(15, 115, 1)}), (std::vector<Seen>{{0, 100, 16}}));
  EXPECT_EQ(Walk({MakeOp(0, 100, 10), MakeOp(11, 110, 5)}), (std::vector<Seen>{{0, 100, 10}, {11, 110, 5}}));
  EXPECT_EQ(Walk({MakeOp(0, 100, 10), MakeOp(10, 111, 5)}), (std::vector<Seen>{{0, 100, 10}, {10, 111, 5}}));
}

TEST(PieceReader, DoesNotMergeAcrossRegions) {
  std::vector<Op> ops{MakeOp(0, 0, 10), MakeOp(10, 10, 10)};
  ops[1].remote.epoch = 2;
  EXPECT_EQ(Walk(ops).size(), 2u);
  ops[1].remote = {2, 1};
  EXPECT_EQ(Walk(ops).size(), 2u);
}

TEST(PieceReader, ExpandsStridedRunsAndFoldsDenseOnes) {
  EXPECT_EQ(Walk({MakeOp(0, 0, 4, 3, 10, 20)}), (std::vector<Seen>{{0, 0, 4}, {10, 20, 4}, {20, 40, 4}}));
  const std::vector<Op> dense{MakeOp(0, 0, 4, 1'000'000, 4, 4)};
  PieceReader reader(dense);
  Piece piece;
  ASSERT_TRUE(reader.Next(UINT64_MAX, &piece));
  EXPECT_EQ(piece.length, 4'000'000u);
  EXPECT_EQ(reader.steps(), 1u);
}

TEST(PieceReader, TheLastPieceOfARunMergesWithTheNextOp) {
  EXPECT_EQ(Walk({MakeOp(0, 0, 4, 2, 8, 8), MakeOp(12, 12, 4)}), (std::vector<Seen>{{0, 0, 4}, {8, 8, 8}}));
}

TEST(PieceReader, GivesOutAtMostTheLimitAndGoesOnFromThere) {
  EXPECT_EQ(Walk({MakeOp(0, 0, 10), MakeOp(10, 10, 10)}, 8),
            (std::vector<Seen>{{0, 0, 8}, {8, 8, 8}, {16, 16, 4}}));
  EXPECT_EQ(Walk({MakeOp(0, 0, 4, 3, 10, 20)}, 3),
            (std::vector<Seen>{{0, 0, 3}, {3, 3, 1}, {10, 20, 3}, {13, 23, 1}, {20, 40, 3}, {23, 43, 1}}));
}

TEST(PieceReader, SkippingIsReadingWithoutLooking) {
  const std::vector<Op> ops{MakeOp(0, 0, 10, 3, 100, 200), MakeOp(1000, 1000, 50)};
  for (uint64_t skip = 0; skip <= 80; ++skip) {
    uint64_t bytes = 0;
    for (const Seen& seen : Walk(ops, UINT64_MAX, skip)) bytes += seen.length;
    EXPECT_EQ(bytes, 80 - skip);
  }
  EXPECT_EQ(Walk(ops, UINT64_MAX, 15).front(), (Seen{105, 205, 5}));
}

TEST(PieceReader, StepsGrowWithTheListAndNotItsSquare) {
  for (const size_t runs : {1000u, 10'000u, 100'000u}) {
    std::vector<Op> ops;
    for (size_t i = 0; i < runs; ++i) ops.push_back(MakeOp(i * 20, i * 20, 10));
    PieceReader reader(ops);
    Piece piece;
    while (reader.Next(UINT64_MAX, &piece)) {
    }
    EXPECT_EQ(reader.steps(), runs);
  }
}

Code CheckOne(Direction direction, const Op& op) { return CheckOps(direction, {&op, 1}).code(); }

TEST(CheckOps, AddsUpTheBytes) {
  const std::vector<Op> ops{MakeOp(0, 0, 10, 3, 10, 20), MakeOp(0, 0, 5)};
  EXPECT_EQ(*CheckOps(Direction::kRead, ops), 35u);
}

TEST(CheckOps, RefusesWhatCannotBe) {
  EXPECT_EQ(CheckOps(Direction::kRead, {}).code(), Code::kInvalidArgument);
  EXPECT_EQ(CheckOne(Direction::kRead, MakeOp(0, 0, 0)), Code::kInvalidArgument);
  EXPECT_EQ(CheckOne(Direction::kRead, MakeOp(0, 0, 1, 0)), Code::kInvalidArgument);
  EXPECT_EQ(CheckOne(Direction::kRead, MakeOp(0, UINT64_MAX, 2)), Code::kInvalidArgument);
  EXPECT_EQ(CheckOne(Direction::kRead, MakeOp(0, 0, UINT64_MAX)), Code::kInvalidArgument);
  EXPECT_EQ(CheckOne(Direction::kRead, MakeOp(0, 0, 1, UINT32_MAX, UINT64_MAX / 2, 1)), Code::kInvalidArgument);
  EXPECT_EQ(CheckOne(Direction::kRead, MakeOp(0, 0, uint64_t{1} << 47)), Code::kInvalidArgument);
  EXPECT_EQ(CheckOne(Direction::kRead, {nullptr, kRef, 0, 1}), Code::kInvalidArgument);
}

TEST(CheckOps, OnlyTheDestinationMustNotOverlap) {
  const Op one_source = MakeOp(0, 0, 8, 4, 8, 0);
  EXPECT_EQ(CheckOne(Direction::kRead, one_source), Code::kOk);
  EXPECT_EQ(CheckOne(Direction::kWrite, one_source), Code::kInvalidArgument);
  const Op one_target = MakeOp(0, 0, 8, 4, 7, 8);
  EXPECT_EQ(CheckOne(Direction::kRead, one_target), Code::kInvalidArgument);
  EXPECT_EQ(CheckOne(Direction::kWrite, one_target), Code::kOk);
}

TEST(CheckOps, NamesTheOp) {
  const std::vector<Op> ops{MakeOp(0, 0, 1), MakeOp(0, 0, 0)};
  EXPECT_NE(CheckOps(Direction::kRead, ops).status().message().find("op 1"), std::string::npos);
}

TEST(HostAddress, TheOneForReadersDoesNotTellTheOther) {
  const std::string address = FormatHostAddress({"/run/mmc.sock", 0xdeadbeef01});
  const HostAddress reader = ParseHostAddress(ReaderAddress(address));
  EXPECT_EQ(reader.place, "/run/mmc.sock");
  EXPECT_TRUE(reader.reader);
  EXPECT_EQ(reader.nonce, ReaderNonce(0xdeadbeef01));
  EXPECT_NE(reader.nonce, 0xdeadbeef01u);
  EXPECT_EQ(ReaderAddress(ReaderAddress(address)), ReaderAddress(address));
  EXPECT_EQ(ReaderAddress("plain"), "plain");
  EXPECT_NE(Prove(1, ProofOf::kClient, 2), Prove(1, ProofOf::kListener, 2));
  EXPECT_NE(Prove(1, ProofOf::kClient, 2), Prove(1, ProofOf::kClient, 3));
  EXPECT_NE(Prove(1, ProofOf::kClient, 2), Prove(5, ProofOf::kClient, 2));
}

TEST(HostAddress, GoesThereAndBack) {
  const HostAddress address{"/run/mmc.sock", 0xdeadbeef01};
  const HostAddress parsed = ParseHostAddress(FormatHostAddress(address));
  EXPECT_EQ(parsed.place, address.place);
  EXPECT_EQ(parsed.nonce, address.nonce);
  EXPECT_EQ(ParseHostAddress("/a#b/c").place, "/a#b/c");
  EXPECT_EQ(ParseHostAddress("plain").nonce, 0u);
  EXPECT_NE(NewNonce(), 0u);
}

TEST(HostPort, ReadsBothFamilies) {
  EXPECT_EQ(tcp::ParseHostPort("1.2.3.4:5")->host, "1.2.3.4");
  EXPECT_EQ(tcp::ParseHostPort("[::1]:5000")->host, "::1");
  EXPECT_EQ(tcp::ParseHostPort("[::1]:5000")->port, "5000");
  for (const char* bad : {"", "host", "host:", ":x", "::1:5", "a:65536", "a:123456", "a:-1"}) {
    EXPECT_EQ(tcp::ParseHostPort(bad).code(), Code::kInvalidArgument) << bad;
  }
}

TEST(TcpFrame, WireOpsMustAddUp) {
  tcp::RequestHead head;
  head.op_count = 2;
  head.total = 30;
  EXPECT_TRUE(tcp::CheckRequest(head).ok());
  EXPECT_TRUE(tcp::CheckWireOps(head, std::vector<tcp::WireOp>{{1, 1, 0, 10}, {1, 1, 0, 20}}).ok());
  EXPECT_FALSE(tcp::CheckWireOps(head, std::vector<tcp::WireOp>{{1, 1, 0, 10}, {1, 1, 0, 21}}).ok());
  EXPECT_FALSE(tcp::CheckWireOps(head, std::vector<tcp::WireOp>{{1, 1, 0, 30}, {1, 1, 0, 0}}).ok());
  EXPECT_FALSE(tcp::CheckWireOps(head, std::vector<tcp::WireOp>{{1, 1, 0, 30}}).ok());
}

TEST(FencedSessions, RefuseWhatWasFencedAndWhatIsOlderThanTold) {
  FencedSessions sessions;
  sessions.Add(7);
  sessions.Add(0);
  EXPECT_TRUE(sessions.Refuses(7));
  EXPECT_FALSE(sessions.Refuses(6));
  EXPECT_FALSE(sessions.Refuses(0)) << "nobody's session";
  sessions.RefuseBelow(7);
  sessions.RefuseBelow(3);  // of an answer that comes late
  EXPECT_TRUE(sessions.Refuses(6));
  EXPECT_FALSE(sessions.Fenced(6)) << "what it has open stays open";
  EXPECT_FALSE(sessions.Refuses(8));
}

TEST(FencedSessions, AreBoundedAndForgetNothingThatMatters) {
  constexpr uint64_t kLast = 3 * FencedSessions::kMax;
  FencedSessions sessions;
  for (uint64_t id = 1; id <= kLast; ++id) {
    sessions.Add(id);
    ASSERT_LE(sessions.size(), FencedSessions::kMax);
  }
  for (uint64_t id = 1; id <= kLast; ++id) ASSERT_TRUE(sessions.Refuses(id) && sessions.Fenced(id)) << id;
  EXPECT_FALSE(sessions.Refuses(kLast + 1));
  // Those that are over by the meta service's word need no place.
  sessions.RefuseBelow(kLast + 1);
  for (uint64_t id = kLast + 1; id <= kLast + FencedSessions::kMax; ++id) sessions.Add(id);
  EXPECT_TRUE(sessions.Refuses(kLast + FencedSessions::kMax));
  EXPECT_FALSE(sessions.Refuses(kLast + FencedSessions::kMax + 1));
}

}  // namespace
}  // namespace mmc::fabric
