// Sessions: silence, fencing of writers, unconfirmed aborts, grants that are never ended.
#include <gtest/gtest.h>

#include "tests/unit/meta_fixture.h"

namespace mmc::meta {
namespace {

class MetaSession : public MetaFixture {};

TEST_F(MetaSession, ASilentSessionExpiresAndAHeardOneStays) {
  const uint64_t silent = OpenSession(), heard = OpenSession();
  clock_.Advance(6s);
  ASSERT_TRUE(state_.SessionHeartbeat(heard, now()).ok());
  clock_.Advance(6s);
  EXPECT_EQ(state_.ExpireSessions(now()), 1u);
  EXPECT_EQ(state_.SessionHeartbeat(silent, now()).code(), Code::kSessionLost);
  EXPECT_TRUE(state_.SessionHeartbeat(heard, now()).ok());
}

TEST_F(MetaSession, ADeadWritersSpaceIsFreeOnlyAfterTheFence) {
  FakeNode node = Join("n", 2_MiB);
  const uint64_t dead = OpenSession();
  const auto rows = PutStart(dead, {"a"}, 2_MiB);
  ASSERT_EQ(rows[0].code, Code::kOk);
  clock_.Advance(11s);
  ASSERT_EQ(state_.ExpireSessions(now()), 1u);
  EXPECT_EQ(Used(), 2_MiB);
  EXPECT_EQ(state_.figures().fences_waiting, 1u);
  const uint64_t next = OpenSession();
  EXPECT_EQ(PutStart(next, {"a"}, 2_MiB)[0].code, Code::kNoSpace)
      << "the key is free, its space is not";
  Sync(node, true);
  ASSERT_EQ(node.fences, std::vector<uint64_t>{dead});
  Sync(node, true);
  EXPECT_EQ(node.fences, std::vector<uint64_t>{dead}) << "told again until acknowledged";
  EXPECT_EQ(Used(), 2_MiB);
  Sync(node);
  EXPECT_EQ(Used(), 0u);
  EXPECT_EQ(state_.figures().fences_waiting, 0u);
  EXPECT_EQ(Put(next, "a", 2_MiB), Code::kOk);
  std::vector<Code> codes(1);
  EXPECT_EQ(state_.PutCommit(dead, Grants(rows), {}, {}, codes, now()).code(), Code::kSessionLost);
}

TEST_F(MetaSession, AFenceIsNotAcknowledgedBeforeItWasSent) {
  FakeNode node = Join("n", 2_MiB);
  const uint64_t dead = OpenSession();
  PutStart(dead, {"a"}, 4096);
  ASSERT_TRUE(state_.CloseSession(dead, now()).ok());
  CatalogBatch batch;
  ASSERT_TRUE(state_.CatalogSync(node.id, node.incarnation, 0, {&dead, 1}, 10, &batch, now()).ok());
  EXPECT_EQ(batch.fences.size(), 1u);
  EXPECT_TRUE(batch.fresh);
  EXPECT_EQ(Used(), 4096u);
  batch = {};
  ASSERT_TRUE(state_.CatalogSync(node.id, node.incarnation, 0, {}, 10, &batch, now()).ok());
  EXPECT_FALSE(batch.fresh) << "an old fence alone does not end a poll's wait";
}

TEST_F(MetaSession, AnUnconfirmedAbortFencesAndEndsTheSession) {
  FakeNode a = Join("a", 2_MiB), b = Join("b", 2_MiB);
  const uint64_t session = OpenSession();
  PutSpec spec;
  spec.replicas = 2;
  const auto rows = PutStart(session, {"x", "y"}, 4096, spec);
  std::vector<Code> codes(1);
  const std::vector<uint64_t> grant{rows[0].grant};
  ASSERT_TRUE(state_.PutAbort(session, grant, true, codes, now()).ok());
  EXPECT_EQ(state_.SessionHeartbeat(session, now()).code(), Code::kSessionLost);
  EXPECT_EQ(state_.figures().grants, 0u) << "all its grants are gone";
  EXPECT_EQ(Used(), 4 * 4096u);
  SyncAll(a);
  EXPECT_EQ(Used(), 2 * 4096u);
  SyncAll(b);
  EXPECT_EQ(Used(), 0u);
}

TEST_F(MetaSession, AGrantThatIsNeverEndedEndsItsSession) {
  FakeNode node = Join("n", 2_MiB);
  const uint64_t session = OpenSession();
  PutStart(session, {"a"}, 4096);
  for (Duration passed{0}; passed < state_.options().grant; passed += 5s) {
    clock_.Advance(5s);
    ASSERT_TRUE(state_.SessionHeartbeat(session, now()).ok());
  }
  EXPECT_EQ(state_.ExpireSessions(now()), 1u);
  SyncAll(node);
  EXPECT_EQ(Used(), 0u);
  EXPECT_EQ(PutStart(OpenSession(), {"a"}, 4096)[0].code, Code::kOk) << "the key was not poisoned";
}

TEST_F(MetaSession, ClosingWithoutGrantsFencesNobody) {
  FakeNode node = Join("n", 2_MiB);
  const uint64_t session = OpenSession();
  ASSERT_EQ(Put(session, "a", 4096), Code::kOk);
  ASSERT_TRUE(state_.CloseSession(session, now()).ok());
  SyncAll(node);
  EXPECT_TRUE(node.fences.empty());
  EXPECT_TRUE(Exists("a"));
  EXPECT_EQ(state_.CloseSession(session, now()).code(), Code::kSessionLost);
}

TEST_F(MetaSession, SessionsAndGrantsAreBounded) {
  StateOptions options;
  options.max_sessions = 2;
  options.max_grants_per_session = 3;
  MetaState small(options);
  JoinSpec join{.name = "n", .incarnation = 1, .segments = {{1, 1, Medium::kDram, 2_MiB, -1}}};
  ASSERT_TRUE(small.Join(join, now()).ok());
  const uint64_t session = *small.OpenSession("a", "h", 1, now());
  ASSERT_TRUE(small.OpenSession("b", "h", 1, now()).ok());
  EXPECT_EQ(small.OpenSession("c", "h", 1, now()).code(), Code::kQueueFull);
  const std::string keys[] = {"a", "b", "c", "d"};
  std::vector<PutRow> rows(4);
  for (int i = 0; i < 4; ++i) rows[i] = {.key = keys[i], .hash = HashKey(keys[i]), .size = 4096};
  Views views;
  ASSERT_TRUE(small.PutStart({.session = session, .call = 1}, rows, &views, now()).ok());
  EXPECT_EQ(rows[2].code, Code::kOk);
  EXPECT_EQ(rows[3].code, Code::kQueueFull);
}

TEST_F(MetaSession, TheOldestThatIsOpenIsKnown) {
  const uint64_t before = state_.OldestSession();
  const uint64_t first = OpenSession(), second = OpenSession();
  EXPECT_EQ(state_.OldestSession(), std::min(before, first));
  ASSERT_TRUE(state_.CloseSession(first, now()).ok());
  EXPECT_LE(state_.OldestSession(), second);
  ASSERT_TRUE(state_.CloseSession(second, now()).ok());
  const uint64_t next = state_.OldestSession();
  EXPECT_LE(next, OpenSession()) << "one that is to come is never below it";
}

}  // namespace
}  // namespace mmc::meta
