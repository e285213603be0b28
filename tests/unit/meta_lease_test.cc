// Promise 3: space is used again only when leases and pins are over, writers are done or fenced,
// and the catalog has forgotten.
#include <gtest/gtest.h>

#include "tests/unit/meta_fixture.h"

namespace mmc::meta {
namespace {

class MetaLease : public MetaFixture {};

TEST_F(MetaLease, RemovedSpaceWaitsForTheCatalog) {
  FakeNode node = Join("n", 2_MiB);
  const uint64_t session = OpenSession();
  ASSERT_EQ(Put(session, "a", 2_MiB), Code::kOk);
  EXPECT_EQ(Remove("a"), Code::kOk);
  EXPECT_FALSE(Exists("a")) << "invisible at once";
  EXPECT_EQ(Used(), 2_MiB);
  EXPECT_EQ(Waiting(), 2_MiB);
  EXPECT_EQ(Put(session, "b", 4096), Code::kNoSpace);
  EXPECT_EQ(Sync(node), 2u) << "ADD and FORGET";
  EXPECT_EQ(Used(), 2_MiB) << "sent is not acknowledged";
  Sync(node);
  EXPECT_EQ(Used(), 0u);
  EXPECT_EQ(Waiting(), 0u);
  EXPECT_TRUE(node.catalog.empty());
  EXPECT_EQ(Put(session, "b", 2_MiB), Code::kOk);
}

TEST_F(MetaLease, RemovedSpaceWaitsForTheLastLease) {
  FakeNode node = Join("n", 2_MiB);
  const uint64_t session = OpenSession();
  ASSERT_EQ(Put(session, "a", 2_MiB), Code::kOk);
  Lookup("a", 10s);
  Lookup("a", 1s);  // a shorter lease does not cut a longer one
  EXPECT_EQ(Remove("a"), Code::kOk);
  SyncAll(node);
  clock_.Advance(9s);
  state_.Reap(now());
  EXPECT_EQ(Used(), 2_MiB);
  clock_.Advance(1100ms);
  state_.Reap(now());
  EXPECT_EQ(Used(), 0u);
}

TEST_F(MetaLease, AQuestionLeasesOnlyWhenItIsAskedTo) {
  FakeNode node = Join("n", 4_MiB);
  const uint64_t session = OpenSession();
  ASSERT_EQ(Put(session, "asked", 2_MiB), Code::kOk);
  ASSERT_EQ(Put(session, "leased", 2_MiB), Code::kOk);
  EXPECT_TRUE(Exists("asked"));
  const std::string_view keys[] = {"leased", "missing"};
  uint8_t present[2] = {7, 7};
  state_.ExistsLeased(keys, 10s, present, now());
  EXPECT_EQ(present[0], 1);
  EXPECT_EQ(present[1], 0);
  state_.ExistsLeased(keys, 1s, present, now());  // a shorter lease does not cut a longer one
  Remove("asked");
  Remove("leased");
  SyncAll(node);
  EXPECT_EQ(Used(), 2_MiB) << "the question without a lease left no trace";
  clock_.Advance(9s);
  state_.Reap(now());
  EXPECT_EQ(Used(), 2_MiB);
  clock_.Advance(1100ms);
  state_.Reap(now());
  EXPECT_EQ(Used(), 0u);
}

TEST_F(MetaLease, ALeaseIsCutToTheLimit) {
  EXPECT_EQ(state_.LeaseFor(0s), state_.options().lease);
  EXPECT_EQ(state_.LeaseFor(std::chrono::hours(100)), state_.options().max_lease);
  EXPECT_EQ(state_.LeaseFor(7s), Duration(7s));
}

TEST_F(MetaLease, PinsHoldTheSpaceUntilUnpinned) {
  FakeNode node = Join("n", 2_MiB);
  const uint64_t session = OpenSession(), other = OpenSession();
  ASSERT_EQ(Put(session, "a", 2_MiB), Code::kOk);
  const uint64_t generation = Lookup("a", 1s, session, true).generation;
  Lookup("a", 1s, session, true);
  EXPECT_EQ(state_.figures().pins, 2u);
  EXPECT_EQ(Remove("a"), Code::kOk);
  SyncAll(node);
  clock_.Advance(10s);
  state_.Reap(now());
  EXPECT_EQ(Used(), 2_MiB);
  std::vector<Code> codes(1);
  ASSERT_TRUE(state_.Unpin(other, {&generation, 1}, codes, now()).ok());
  EXPECT_EQ(codes[0], Code::kNotFound) << "another session's pin";
  ASSERT_TRUE(state_.Unpin(session, {&generation, 1}, codes, now()).ok());
  EXPECT_EQ(Used(), 2_MiB) << "pinned twice";
  ASSERT_TRUE(state_.Unpin(session, {&generation, 1}, codes, now()).ok());
  EXPECT_EQ(codes[0], Code::kOk);
  EXPECT_EQ(Used(), 0u);
  EXPECT_EQ(state_.figures().pins, 0u);
}

TEST_F(MetaLease, UnpinBeforeTheAcknowledgementStillWaitsForIt) {
  FakeNode node = Join("n", 2_MiB);
  const uint64_t session = OpenSession();
  ASSERT_EQ(Put(session, "a", 2_MiB), Code::kOk);
  const uint64_t generation = Lookup("a", 1s, session, true).generation;
  Remove("a");
  clock_.Advance(2s);
  std::vector<Code> codes(1);
  ASSERT_TRUE(state_.Unpin(session, {&generation, 1}, codes, now()).ok());
  EXPECT_EQ(Used(), 2_MiB);
  SyncAll(node);
  EXPECT_EQ(Used(), 0u);
}

TEST_F(MetaLease, TheEndOfASessionEndsItsPins) {
  FakeNode node = Join("n", 2_MiB);
  const uint64_t session = OpenSession();
  ASSERT_EQ(Put(session, "a", 2_MiB), Code::kOk);
  Lookup("a", 1ms, session, true);
  Remove("a");
  SyncAll(node);
  clock_.Advance(1s);
  ASSERT_TRUE(state_.CloseSession(session, now()).ok());
  EXPECT_EQ(Used(), 0u);
  EXPECT_EQ(state_.figures().pins, 0u);
}

TEST_F(MetaLease, APinNeedsASession) {
  const std::string_view key = "a";
  ReadRow row;
  EXPECT_EQ(state_.Lookup(0, {&key, 1}, 1s, true, {&row, 1}, &views_, now()).code(),
            Code::kInvalidArgument);
  EXPECT_EQ(state_.Lookup(77, {&key, 1}, 1s, false, {&row, 1}, &views_, now()).code(),
            Code::kSessionLost);
}

TEST_F(MetaLease, StatShowsLeaseAndPinsAndExistsTakesNone) {
  Join("n", 2_MiB);
  const uint64_t session = OpenSession();
  ASSERT_EQ(Put(session, "a", 4096), Code::kOk);
  Exists("a");
  const std::string_view key = "a";
  ReadRow row;
  state_.Stat({&key, 1}, {&row, 1}, &views_, now());
  EXPECT_EQ(row.lease_left, Duration(0));
  Lookup("a", 3s, session, true);
  clock_.Advance(1s);
  state_.Stat({&key, 1}, {&row, 1}, &views_, now());
  EXPECT_EQ(row.lease_left, Duration(2s));
  EXPECT_EQ(row.pins, 1u);
}

class MetaPinLimit : public MetaFixture {
 protected:
  MetaPinLimit() : MetaFixture({.max_pins_per_session = 2, .max_pins = 3}) {}
};

TEST_F(MetaPinLimit, PinsOfASessionAndOfAllAreBounded) {
  FakeNode node = Join("n", 2_MiB);
  const uint64_t session = OpenSession(), other = OpenSession();
  for (const char* key : {"a", "b", "c"}) ASSERT_EQ(Put(session, key, 4096), Code::kOk);
  EXPECT_EQ(Lookup("a", 1s, session, true).code, Code::kOk);
  EXPECT_EQ(Lookup("b", 1s, session, true).code, Code::kOk);
  EXPECT_EQ(Lookup("c", 1s, session, true).code, Code::kQueueFull) << "the session's own limit";
  EXPECT_EQ(Lookup("c", 1s, session).code, Code::kOk) << "a lease is another thing";
  EXPECT_EQ(Lookup("a", 1s, other, true).code, Code::kOk);
  EXPECT_EQ(Lookup("b", 1s, other, true).code, Code::kQueueFull) << "the limit of all";
  EXPECT_EQ(state_.figures().pins, 3u);
  ASSERT_TRUE(state_.CloseSession(session, now()).ok());
  EXPECT_EQ(Lookup("b", 1s, other, true).code, Code::kOk);
}

}  // namespace
}  // namespace mmc::meta
