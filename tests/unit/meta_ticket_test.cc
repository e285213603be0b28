// What was told under a ticket is not given to others before the ticket ends, whatever becomes of the grant; and the
// seals of a reply are those that its nodes check.
#include <gtest/gtest.h>

#include "meta_service/ops/tickets.h"
#include "tests/unit/meta_fixture.h"

namespace mmc::meta {
namespace {

using fabric::Direction;

class MetaTicket : public MetaFixture {
 protected:
  MetaTicket() : MetaFixture({.write_ticket = 20s}) {}
  FakeNode JoinTicketed(const std::string& name, bool wants = true) {
    const JoinSpec spec{.name = name,
                        .incarnation = 1,
                        .host_id = "h",
                        .endpoints = {{"tcp", "127.0.0.1:1"}},
                        .segments = {{1, 1, Medium::kDram, 2_MiB, -1}},
                        .wants_tickets = wants};
    const auto joined = state_.Join(spec, now());
    EXPECT_TRUE(joined.ok()) << joined.status().ToString();
    return {joined->node, 1};
  }
  Code Abort(uint64_t session, uint64_t grant) {
    Code code = Code::kInternal;
    EXPECT_TRUE(state_.PutAbort(session, {&grant, 1}, false, {&code, 1}, now()).ok());
    return code;
  }
  // Frees nothing before 20 s after the grant, and all then.
  void ExpectFreeAtTheEnd(FakeNode& node) {
    SyncAll(node);
    clock_.Advance(19s);
    state_.Reap(now());
    EXPECT_EQ(Used(), 2_MiB);
    EXPECT_EQ(Waiting(), 2_MiB);
    EXPECT_EQ(state_.CheckInvariants(), "");
    clock_.Advance(1100ms);
    state_.Reap(now());
    EXPECT_EQ(Used(), 0u);
    EXPECT_EQ(Waiting(), 0u);
    EXPECT_EQ(state_.CheckInvariants(), "");
  }
};

TEST_F(MetaTicket, WhatWasGivenBackWaits) {
  FakeNode node = JoinTicketed("n");
  const uint64_t session = OpenSession();
  const auto rows = PutStart(session, {"a"}, 2_MiB);
  ASSERT_EQ(rows[0].code, Code::kOk);
  EXPECT_EQ(Abort(session, rows[0].grant), Code::kOk);
  EXPECT_EQ(PutStart(session, {"b"}, 2_MiB)[0].code, Code::kNoSpace);
  ExpectFreeAtTheEnd(node);
  EXPECT_EQ(PutStart(session, {"b"}, 2_MiB)[0].code, Code::kOk);
}

TEST_F(MetaTicket, WhatWasNotWrittenWaits) {
  FakeNode node = JoinTicketed("n");
  const uint64_t session = OpenSession();
  const auto rows = PutStart(session, {"a"}, 2_MiB);
  EXPECT_EQ(Commit(session, Grants(rows), {1})[0], Code::kReplicasLost);
  ExpectFreeAtTheEnd(node);
}

TEST_F(MetaTicket, WhatWasPutAndRemovedWaits) {
  FakeNode node = JoinTicketed("n");
  const uint64_t session = OpenSession();
  ASSERT_EQ(Put(session, "a", 2_MiB), Code::kOk);
  EXPECT_EQ(Remove("a"), Code::kOk);
  ExpectFreeAtTheEnd(node);
}

TEST_F(MetaTicket, WhatWasPutIsNotEvictedBefore) {
  FakeNode node = JoinTicketed("n");
  const uint64_t session = OpenSession();
  ASSERT_EQ(Put(session, "a", 2_MiB), Code::kOk);
  SyncAll(node);
  EXPECT_EQ(Put(session, "b", 2_MiB), Code::kNoSpace);
  EXPECT_TRUE(Exists("a"));
  clock_.Advance(20'100ms);
  EXPECT_EQ(Put(session, "b", 2_MiB), Code::kNoSpace) << "it begins to make room";
  SyncAll(node);
  state_.Reap(now());
  EXPECT_EQ(Put(session, "b", 2_MiB), Code::kOk);
  EXPECT_FALSE(Exists("a"));
}

TEST_F(MetaTicket, OtherNodesGiveSpaceBackAtOnce) {
  JoinTicketed("n", false);
  const uint64_t session = OpenSession();
  const auto rows = PutStart(session, {"a"}, 2_MiB);
  EXPECT_EQ(Abort(session, rows[0].grant), Code::kOk);
  EXPECT_EQ(Used(), 0u);
  const auto again = PutStart(session, {"a"}, 2_MiB);
  EXPECT_EQ(again[0].code, Code::kOk);
  Abort(session, again[0].grant);
  JoinTicketed("n");  // the same incarnation, with another setting
  const auto ticketed = PutStart(session, {"a"}, 2_MiB);
  Abort(session, ticketed[0].grant);
  EXPECT_EQ(Waiting(), 2_MiB);
}

TEST(Tickets, SealWhatLiesOnNodesThatWantIt) {
  Tickets tickets;
  EXPECT_FALSE(tickets.needed());
  proto::ReplicaColumns columns;
  columns.add_replica_counts(2);
  for (const uint32_t node : {1u, 2u}) {
    columns.add_node(node);
    columns.add_segment(3);
    columns.add_epoch(4);
    columns.add_extent_counts(2);
    for (const uint64_t at : {4096u, 65536u}) {
      columns.add_extent_offset(at * node);
      columns.add_extent_length(100 * node);
    }
  }
  const fabric::TicketScope scope{.holder = {5, 6}, .session = 7, .direction = Direction::kWrite};
  EXPECT_FALSE(tickets.Seal(scope, 9000, &columns));
  EXPECT_EQ(columns.seal_size(), 0);
  const fabric::TicketKey before = tickets.Enlist(2, "two", 10, true);
  const fabric::TicketKey key = tickets.Enlist(2, "two", 11, true);
  EXPECT_NE(key, before) << "its memory is another";
  EXPECT_EQ(key, tickets.Enlist(2, "two", 11, true)) << "the same after a lost connection";
  EXPECT_NE(key, tickets.Enlist(1, "one", 11, false));
  EXPECT_TRUE(tickets.needed());
  ASSERT_TRUE(tickets.Seal(scope, 9000, &columns));
  ASSERT_EQ(columns.seal_size(), 8);
  EXPECT_EQ(columns.ticket_end_ms(), 9000u);
  for (int word = 0; word < 4; ++word) EXPECT_EQ(columns.seal(word), 0u) << "of a node that wants none";
  for (int extent = 2; extent < 4; ++extent) {
    fabric::TicketScope checked = scope;
    checked.region = {3, 4};
    EXPECT_TRUE(fabric::TicketHolds(key, checked,
                                    {.offset = columns.extent_offset(extent),
                                     .length = columns.extent_length(extent),
                                     .end_ms = 9000,
                                     .seal = {columns.seal(2 * extent), columns.seal(2 * extent + 1)}}));
  }
  tickets.Enlist(2, "two", 11, false);
  EXPECT_FALSE(tickets.needed());
}

TEST(Tickets, EndBeforeWhatTheyAreForAndNeverAfter) {
  const TimePoint now(std::chrono::nanoseconds(12'345'678'901));
  EXPECT_EQ(Tickets::EndMs(now, 20s), 12'345u + 20'000 - 250);
  EXPECT_EQ(Tickets::EndMs(now, 80ms), 12'345u + 70);
  EXPECT_EQ(Tickets::ClockMs(now), 12'346u);
  EXPECT_EQ(Tickets::EndMs(TimePoint(), 0ms), 0u);
}

}  // namespace
}  // namespace mmc::meta
