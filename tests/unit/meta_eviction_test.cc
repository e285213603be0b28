// Eviction: order, thresholds, leases and pins, replicas, inline eviction.
#include <gtest/gtest.h>

#include "tests/unit/meta_fixture.h"

namespace mmc::meta {
namespace {

class MetaEviction : public MetaFixture {
 protected:
  void Fill(uint64_t session, int from, int to, uint64_t size = 64_KiB) {
    for (int i = from; i < to; ++i) ASSERT_EQ(Put(session, Key(i), size), Code::kOk);
  }
  static std::string Key(int i) { return "k" + std::to_string(i); }
  int Present(int from, int to) {
    int present = 0;
    for (int i = from; i < to; ++i) present += Exists(Key(i));
    return present;
  }
};

TEST_F(MetaEviction, TheLongestUnusedGoFirstOverAllShards) {
  Join("n", 4_MiB);
  Fill(OpenSession(), 0, 64);
  for (int i = 0; i < 10; ++i) Lookup(Key(i), 1ms);
  Exists(Key(10));  // is no use
  clock_.Advance(1s);
  EXPECT_EQ(state_.EvictFrom(0, 20 * 64_KiB, EvictCause::kBackground, 1000, now()), 20 * 64_KiB);
  EXPECT_EQ(Present(0, 10), 10);
  EXPECT_EQ(Present(10, 30), 0);
  EXPECT_EQ(Present(30, 64), 34);
}

TEST_F(MetaEviction, TheFirstKeysOfABatchLiveLongest) {
  Join("n", 4_MiB);
  const uint64_t session = OpenSession();
  std::vector<std::string> keys;
  for (int i = 0; i < 64; ++i) keys.push_back(Key(i));
  Commit(session, Grants(PutStart(session, keys, 64_KiB)));
  state_.EvictFrom(0, 16 * 64_KiB, EvictCause::kBackground, 1000, now());
  EXPECT_EQ(Present(0, 48), 48);
  EXPECT_EQ(Present(48, 64), 0);
  std::vector<std::string_view> prefix(keys.begin(), keys.end());
  EXPECT_EQ(state_.LookupPrefix(prefix), 48u);
  state_.EvictFrom(0, 16 * 64_KiB, EvictCause::kBackground, 1000, now());
  EXPECT_EQ(Present(0, 32), 32);
  EXPECT_EQ(Present(32, 48), 0);
}

TEST_F(MetaEviction, FromTheHighThresholdToTheLowOneByBytes) {
  FakeNode node = Join("n", 4_MiB);
  Fill(OpenSession(), 0, 57);  // 89 %
  EXPECT_EQ(state_.EvictBetweenThresholds(1000, now()), 0u);
  Fill(OpenSession(), 57, 59);  // 92 %
  EXPECT_GT(state_.EvictBetweenThresholds(1000, now()), 0u);
  EXPECT_EQ(Present(0, 59), 51) << "the last that is at or under 80 %";
  EXPECT_EQ(state_.EvictBetweenThresholds(1000, now()), 0u)
      << "what waits to be free is not counted again";
  EXPECT_EQ(Present(0, 8), 0);
  SyncAll(node);
  EXPECT_EQ(Used(), 51 * 64_KiB);
  EXPECT_EQ(state_.figures().evicted_objects[static_cast<int>(EvictCause::kBackground)], 8u);
}

TEST_F(MetaEviction, LeasedAndPinnedStayAndDoNotStopIt) {
  Join("n", 4_MiB);
  const uint64_t session = OpenSession();
  Fill(session, 0, 64);
  for (int i = 0; i < 20; ++i) Lookup(Key(i), 100s);
  for (int i = 20; i < 30; ++i) Lookup(Key(i), 1ms, session, true);
  for (int i = 30; i < 64; ++i) Lookup(Key(i), 1ms);  // now the protected ones are the oldest
  clock_.Advance(1s);
  EXPECT_EQ(state_.EvictFrom(0, 64 * 64_KiB, EvictCause::kBackground, 1000, now()), 34 * 64_KiB);
  EXPECT_EQ(Present(0, 30), 30);
  EXPECT_EQ(state_.EvictFrom(0, 64_KiB, EvictCause::kBackground, 1000, now()), 0u)
      << "ends after one lap";
  clock_.Advance(200s);
  EXPECT_EQ(state_.EvictFrom(0, 64 * 64_KiB, EvictCause::kBackground, 1000, now()), 20 * 64_KiB);
  EXPECT_EQ(Present(20, 30), 10) << "pins have no end";
}

TEST_F(MetaEviction, TheNumberOfStepsIsBounded) {
  Join("n", 4_MiB);
  Fill(OpenSession(), 0, 64);
  EXPECT_EQ(state_.EvictFrom(0, 4_MiB, EvictCause::kBackground, 5, now()), 5 * 64_KiB);
}

TEST_F(MetaEviction, OnlyTheReplicaOfThatSegmentGoes) {
  FakeNode a = Join("a", 4_MiB), b = Join("b", 4_MiB);
  const uint64_t session = OpenSession();
  PutSpec spec;
  spec.replicas = 2;
  ASSERT_EQ(Put(session, "x", 64_KiB, spec), Code::kOk);
  EXPECT_EQ(state_.EvictFrom(0, 64_KiB, EvictCause::kBackground, 10, now()), 64_KiB);
  ASSERT_TRUE(Exists("x"));
  EXPECT_EQ(Lookup("x", 1ms).replicas, 1u);
  EXPECT_EQ(views_.replicas[0].node, b.id);
  EXPECT_EQ(state_.figures().evicted_objects[0], 0u);
  clock_.Advance(1s);
  EXPECT_EQ(state_.EvictFrom(1, 64_KiB, EvictCause::kBackground, 10, now()), 64_KiB);
  EXPECT_FALSE(Exists("x"));
  EXPECT_EQ(state_.figures().evicted_objects[0], 1u);
  SyncAll(a);
  SyncAll(b);
  EXPECT_EQ(Used(), 0u);
}

TEST_F(MetaEviction, AFullPoolEvictsWhatAPutNeedsAndNotMore) {
  FakeNode node = Join("n", 4_MiB);
  const uint64_t session = OpenSession();
  Fill(session, 0, 64);
  EXPECT_EQ(PutStart(session, {"new"}, 128_KiB)[0].code, Code::kNoSpace);
  EXPECT_EQ(PutStart(session, {"new"}, 128_KiB)[0].code, Code::kNoSpace);
  EXPECT_EQ(Present(0, 64), 62) << "asking again while the space is on its way evicts nothing more";
  SyncAll(node);
  EXPECT_EQ(Put(session, "new", 128_KiB), Code::kOk);
  EXPECT_EQ(Present(0, 64), 62);
  EXPECT_EQ(state_.figures().evicted_objects[static_cast<int>(EvictCause::kInline)], 2u);
}

TEST_F(MetaEviction, ABatchEvictsForAllItsKeysAtOnce) {
  FakeNode node = Join("n", 4_MiB);
  const uint64_t session = OpenSession();
  Fill(session, 0, 64);
  std::vector<std::string> keys;
  for (int i = 100; i < 116; ++i) keys.push_back(Key(i));
  for (const PutRow& row : PutStart(session, keys, 64_KiB)) EXPECT_EQ(row.code, Code::kNoSpace);
  SyncAll(node);
  for (const PutRow& row : PutStart(session, keys, 64_KiB)) EXPECT_EQ(row.code, Code::kOk);
  EXPECT_EQ(Present(0, 64), 48);
}

TEST_F(MetaEviction, APoolThatIsLeasedLosesNothing) {
  Join("n", 4_MiB);
  const uint64_t session = OpenSession();
  Fill(session, 0, 64);
  for (int i = 0; i < 64; ++i) Lookup(Key(i), 100s);
  EXPECT_EQ(PutStart(session, {"new"}, 64_KiB)[0].code, Code::kNoSpace);
  EXPECT_EQ(Present(0, 64), 64);
  EXPECT_NE(state_.ExplainNoSpace(Medium::kDram, 0, now()).find("4.00 MiB are leased"),
            std::string::npos);
}

}  // namespace
}  // namespace mmc::meta
