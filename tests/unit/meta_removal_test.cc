// Removals that come again: an attempt that is carried out late takes nothing that was put since, in whatever order the
// attempts come; and what a removal has to wait for until no catalog has its keys.
#include <gtest/gtest.h>

#include "tests/unit/meta_fixture.h"

namespace mmc::meta {
namespace {

class MetaRemoval : public MetaFixture {
 protected:
  MetaRemoval() : node_(Join("n", 8_MiB)), session_(OpenSession()) {}

  // One attempt of removal `call`.
  Code Attempt(uint64_t session, uint64_t call, const std::string& key) {
    const auto limit = state_.RemovalLimit(session, call, now());
    if (!limit.ok()) return limit.code();
    const std::string_view view = key;
    Code code = Code::kOk;
    state_.Remove({&view, 1}, {&code, 1}, now(), *limit);
    return code;
  }
  uint64_t Walk(uint64_t limit, const std::string& prefix) {
    WalkCursor cursor;
    uint64_t removed = 0;
    while (!cursor.done) removed += state_.RemoveStep(KeyMatch({}, prefix), &cursor, now(), limit);
    return removed;
  }
  size_t Waits(const std::string& key) {
    std::vector<AckWait> waits;
    state_.AwaitForgotten([&key](std::string_view stored) { return stored == key; }, &waits);
    return waits.size();
  }

  FakeNode node_;
  uint64_t session_;
};

TEST_F(MetaRemoval, ALateAttemptTakesNothingThatWasPutSince) {
  ASSERT_EQ(Put(session_, "k", 4096), Code::kOk);
  EXPECT_EQ(Attempt(session_, 1, "k"), Code::kOk);
  ASSERT_EQ(Put(session_, "k", 4096), Code::kOk);
  EXPECT_EQ(Attempt(session_, 1, "k"), Code::kNotFound);
  EXPECT_TRUE(Exists("k"));
  EXPECT_EQ(Attempt(session_, 2, "k"), Code::kOk) << "another call";
  EXPECT_FALSE(Exists("k"));
}

TEST_F(MetaRemoval, TheNumberOfOneSessionSaysNothingInAnother) {
  ASSERT_EQ(Put(session_, "k", 4096), Code::kOk);
  EXPECT_EQ(Attempt(session_, 1, "k"), Code::kOk);
  ASSERT_EQ(Put(session_, "k", 4096), Code::kOk);
  EXPECT_EQ(Attempt(OpenSession(), 1, "k"), Code::kOk);
}

TEST_F(MetaRemoval, WithoutASessionEachAttemptIsOneOfItsOwn) {
  for (int i = 0; i < 2; ++i) {
    ASSERT_EQ(Put(session_, "k", 4096), Code::kOk);
    EXPECT_EQ(Attempt(0, 1, "k"), Code::kOk);
  }
}

TEST_F(MetaRemoval, AnAttemptOfASessionThatIsOverIsNotCarriedOut) {
  const uint64_t over = OpenSession();
  ASSERT_TRUE(state_.CloseSession(over, now()).ok());
  ASSERT_EQ(Put(session_, "k", 4096), Code::kOk);
  EXPECT_EQ(Attempt(over, 1, "k"), Code::kSessionLost);
  EXPECT_TRUE(Exists("k"));
}

TEST_F(MetaRemoval, WhatIsRememberedIsBoundedAndTheRestIsNotCarriedOut) {
  constexpr uint64_t kCalls = 10'000;
  ASSERT_EQ(Put(session_, "k", 4096), Code::kOk);
  for (uint64_t call = 2; call <= kCalls; ++call) ASSERT_EQ(Attempt(session_, call, "other"), Code::kNotFound);
  EXPECT_EQ(Attempt(session_, 1, "k"), Code::kCancelled) << "nobody knows whether it has come before";
  EXPECT_EQ(Attempt(session_, 2, "k"), Code::kCancelled);
  EXPECT_TRUE(Exists("k"));
  ASSERT_EQ(Put(session_, "l", 4096), Code::kOk);
  EXPECT_EQ(Attempt(session_, kCalls, "l"), Code::kNotFound) << "the newest are known";
}

TEST_F(MetaRemoval, ALateWalkTakesNothingThatWasPutSince) {
  for (const char* key : {"p/1", "p/2"}) ASSERT_EQ(Put(session_, key, 4096), Code::kOk);
  const uint64_t limit = *state_.RemovalLimit(session_, 1, now());
  EXPECT_EQ(Walk(limit, "p/"), 2u);
  ASSERT_EQ(Put(session_, "p/2", 4096), Code::kOk);
  EXPECT_EQ(*state_.RemovalLimit(session_, 1, now()), limit);
  EXPECT_EQ(Walk(limit, "p/"), 0u);
  EXPECT_EQ(Walk(limit, ""), 0u);
  EXPECT_TRUE(Exists("p/2"));
}

TEST_F(MetaRemoval, WaitsUntilTheCatalogsHaveForgotten) {
  ASSERT_EQ(Put(session_, "k", 4096), Code::kOk);
  SyncAll(node_);
  EXPECT_EQ(Waits("k"), 0u) << "nothing was removed";
  ASSERT_EQ(Remove("k"), Code::kOk);
  EXPECT_EQ(Waits("k"), 1u);
  EXPECT_EQ(Remove("k"), Code::kNotFound);
  EXPECT_EQ(Waits("k"), 1u) << "gone here, but not there";
  EXPECT_EQ(Waits("other"), 0u);
  std::vector<AckWait> waits;
  state_.AwaitForgotten([](std::string_view) { return true; }, &waits);
  Sync(node_);  // takes it
  EXPECT_FALSE(waits[0].feed->Settled(waits[0].seq));
  Sync(node_);  // has it
  EXPECT_TRUE(waits[0].feed->Settled(waits[0].seq));
  EXPECT_EQ(Waits("k"), 0u);
}

TEST_F(MetaRemoval, ANodeThatReportsMayHoldItStill) {
  const JoinSpec late{.name = "late",
                      .incarnation = 5,
                      .host_id = "h",
                      .segments = {{1, 1, Medium::kDram, 2_MiB, -1}},
                      .keeps_memory = true};
  for (int i = 0; i < 10; ++i) ASSERT_EQ(Put(session_, "later" + std::to_string(i), 4096), Code::kOk);
  SyncAll(node_);
  const uint32_t id = state_.Join(late, now())->node;
  std::vector<AckWait> waits;
  state_.AwaitForgotten([](std::string_view) { return false; }, &waits);
  ASSERT_EQ(waits.size(), 1u);
  const auto settled = [&waits] { return waits[0].feed->Settled(waits[0].seq); };
  EXPECT_EQ(Remove("k"), Code::kNotFound);
  const uint64_t offset = 0, length = 100;
  const ReportedRecord record{.key = "k", .segment = 1, .generation = 7, .size = 100,
                              .offsets = {&offset, 1}, .lengths = {&length, 1}};
  ASSERT_TRUE(state_.TakeReport(id, 5, {&record, 1}, true, now()).ok());
  EXPECT_FALSE(settled());
  while (!state_.AdoptStep(id, 5, now())->done) {
  }
  EXPECT_FALSE(Exists("k"));
  EXPECT_FALSE(settled()) << "it has still to be told";
  CatalogBatch batch;
  ASSERT_TRUE(state_.CatalogSync(id, 5, 0, {}, 10, &batch, now()).ok());
  ASSERT_EQ(batch.entries.size(), 1u);
  EXPECT_TRUE(batch.entries[0].forget);
  EXPECT_FALSE(settled());
  ASSERT_TRUE(state_.CatalogSync(id, 5, 1, {}, 10, &batch, now()).ok());
  EXPECT_TRUE(settled());
}

TEST_F(MetaRemoval, ANodeThatIsGoneIsNotWaitedFor) {
  ASSERT_EQ(Put(session_, "k", 4096), Code::kOk);
  SyncAll(node_);
  ASSERT_EQ(Remove("k"), Code::kOk);
  std::vector<AckWait> waits;
  state_.AwaitForgotten([](std::string_view) { return true; }, &waits);
  ASSERT_EQ(waits.size(), 1u);
  clock_.Advance(40s);
  state_.CheckNodes(now());
  EXPECT_TRUE(waits[0].feed->Settled(waits[0].seq));
  EXPECT_EQ(Waits("k"), 0u);
}

}  // namespace
}  // namespace mmc::meta
