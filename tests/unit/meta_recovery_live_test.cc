// What happens while nodes report: removals, pins, deaths, joins that come again, and all of it on many threads.
#include <atomic>
#include <random>
#include <thread>

#include "tests/unit/meta_recovery_fixture.h"

namespace mmc::meta {
namespace {

class MetaRecoveryLive : public RecoveryFixture {};

// ---- while it goes on --------------------------------------------------------------------------------------------

TEST_F(MetaRecoveryLive, WhatIsRemovedMeanwhileDoesNotComeBack) {
  Owner a = Node("a"), b = Node("b"), c = Node("c");
  a.Hold(One("k", 5, 0, 100));
  b.Hold(One("k", 5, 7, 100));  // the second replica
  c.Hold(One("k", 4, 7, 100));  // an older one
  Return(a);
  EXPECT_EQ(Remove("k"), Code::kOk);
  Return(b);
  Return(c);
  EXPECT_NE(Lookup("k").code, Code::kOk);
  EXPECT_EQ(Conflicts(ConflictKind::kRemoved), 2u);
  a.Sync(state_, now());
  EXPECT_TRUE(a.catalog.empty() && b.catalog.empty() && c.catalog.empty());
  clock_.Advance(2s);
  state_.Reap(now());
  EXPECT_EQ(UsedUnits(), 0u);
}

TEST_F(MetaRecoveryLive, TheReplicaOfANodeThatDiesMeanwhileIsFoundOnTheOther) {
  Owner a = Node("a"), b = Node("b");
  a.Hold(One("k", 5, 0, 100));
  b.Hold(One("k", 5, 7, 100));
  Return(a);
  ASSERT_TRUE(state_.NodeLeave(a.id, a.incarnation, now()).ok());
  EXPECT_EQ(Lookup("k").code, Code::kRecovering);
  Return(b);
  EXPECT_EQ(Lookup("k").code, Code::kOk);
}

TEST_F(MetaRecoveryLive, PinsStayOnAnObjectThatGetsAnotherReplica) {
  Owner a = Node("a"), b = Node("b");
  a.Hold(One("k", 5, 0, 100));
  b.Hold(One("k", 5, 7, 100));
  Return(a);
  ASSERT_EQ(Lookup("k", true).code, Code::kOk);
  Return(b);
  EXPECT_EQ(Lookup("k", true).replicas, 2u);
  EXPECT_EQ(Remove("k"), Code::kOk);
  a.Sync(state_, now());
  b.Sync(state_, now());
  clock_.Advance(5s);
  state_.Reap(now());
  EXPECT_EQ(UsedUnits(), 2u);  // pinned
  const uint64_t generations[] = {5, 5};
  Code codes[2];
  ASSERT_TRUE(state_.Unpin(session_, generations, codes, now()).ok());
  EXPECT_EQ(codes[1], Code::kOk);
  EXPECT_EQ(UsedUnits(), 0u);
  EXPECT_EQ(state_.figures().pins, 0u);
}

TEST_F(MetaRecoveryLive, RecordsFlowOnlyWhenTheReportIsDone) {
  Owner a = Node("a"), b = Node("b");
  a.Hold(One("k", 5, 0, 100));
  Return(a);
  b.Hold(One("k", 4, 0, 100));
  b.Join(state_, now(), true);
  ASSERT_TRUE(b.Report(state_, now(), {{"bad", 9, 9, 1, 0, {0}, {1}}}, false).ok());
  b.Sync(state_, now());
  EXPECT_EQ(b.acked, 0u);
  b.ReportAll(state_, now());
  b.Sync(state_, now());
  EXPECT_EQ(b.forgotten, 2u);
}

TEST_F(MetaRecoveryLive, NothingIsPlacedOnANodeBeforeItHasFencedAll) {
  Owner a = Node("a");
  a.Hold(One("k", 5, 0, 100));
  a.Join(state_, now(), true);
  a.ReportAll(state_, now());
  a.Sync(state_, now());
  EndRecovery();
  EXPECT_EQ(Lookup("k").code, Code::kOk);  // reads are served
  const PutRow refused = PutStart("new", 100);  // whatever the reason it gives
  EXPECT_EQ(refused.grant, 0u);
  EXPECT_EQ(RecoveryOf(refused.code), Recovery::kBackoff) << CodeName(refused.code);
  a.Sync(state_, now(), true);
  EXPECT_EQ(Put("new", 100), Code::kOk);
}

TEST_F(MetaRecoveryLive, ANodeThatComesEmptyHandedNeedsNoFence) {
  Owner a = Node("a");
  EXPECT_FALSE(a.Join(state_, now(), false).want_catalog);
  EndRecovery();
  EXPECT_EQ(Put("k", 100), Code::kOk);
}

TEST_F(MetaRecoveryLive, JoiningAgainStartsTheReportAnew) {
  Owner a = Node("a");
  a.Hold(One("k", 5, 0, 100));
  a.Join(state_, now(), true);
  ASSERT_TRUE(a.Report(state_, now(), {One("gone", 4, 9, 100)}, false).ok());
  const Joined again = a.Join(state_, now(), true);
  EXPECT_TRUE(again.want_catalog);
  EXPECT_FALSE(again.resumed);
  EXPECT_EQ(a.ReportAll(state_, now()).adopted, 1u);
  EXPECT_EQ(Lookup("gone").code, Code::kRecovering);
  // All is there; only the fence is missing, and it is asked for again.
  const Joined third = a.Join(state_, now(), true);
  EXPECT_TRUE(third.resumed);
  EXPECT_TRUE(third.want_catalog);
  a.ReportAll(state_, now());
  a.Sync(state_, now(), true);
  EXPECT_EQ(a.forgotten, 0u);
  const Joined fourth = a.Join(state_, now(), true);
  EXPECT_TRUE(fourth.resumed);
  EXPECT_FALSE(fourth.want_catalog);
  EXPECT_EQ(UsedUnits(), 1u);
}

TEST_F(MetaRecoveryLive, ANodeThatDiesInItsReportLeavesNothing) {
  Owner a = Node("a", 64_MiB);
  for (uint64_t i = 0; i < 5000; ++i) a.Hold(One("k" + std::to_string(i), 1 + i, i, 100));
  a.Join(state_, now(), true);
  ASSERT_TRUE(a.Report(state_, now(), a.All(), true).ok());
  ASSERT_TRUE(state_.AdoptStep(a.id, 1, now()).ok());  // a part of it
  ASSERT_TRUE(state_.AdoptStep(a.id, 1, now()).ok());
  clock_.Advance(31s);
  state_.CheckNodes(now());
  EXPECT_EQ(state_.AdoptStep(a.id, 1, now()).code(), Code::kStaleNode);
  EXPECT_EQ(state_.figures().objects, 0u);
  EXPECT_TRUE(state_.Recover(now()));
  state_.Reap(now());
  // The same name with a new life begins from nothing.
  Owner b = Node("a");
  b.incarnation = 2;
  b.Hold(One("k", 5, 0, 100));
  EXPECT_EQ(Return(b).adopted, 1u);
}

TEST_F(MetaRecoveryLive, AnIncarnationThatIsOverIsNotAdopted) {
  Owner a = Node("a");
  a.Join(state_, now(), false);
  ASSERT_TRUE(state_.NodeLeave(a.id, 1, now()).ok());
  const JoinSpec spec{.name = "a", .incarnation = 1, .segments = a.segments, .keeps_memory = true};
  EXPECT_EQ(state_.Join(spec, now()).code(), Code::kStaleNode);
}

TEST_F(MetaRecoveryLive, MoreRecordsThanSpaceAreRefused) {
  Owner a = Node("a");
  a.Join(state_, now(), true);
  const std::vector<Held> many(60'000, One("k", 5, 0, 100));
  ASSERT_TRUE(a.Report(state_, now(), many, false).ok());
  EXPECT_EQ(a.Report(state_, now(), many, false).code(), Code::kTooLarge);
}

// ---- many threads ------------------------------------------------------------------------------------------------

TEST_F(MetaRecoveryLive, ReportsReadsRemovalsAndPinsAtTheSameTime) {
  constexpr uint64_t kObjects = 8'000;
  std::vector<Owner> owners;
  for (const char* name : {"a", "b", "c"}) {
    Owner owner = Node(name, 64_MiB);
    for (uint64_t i = 0; i < kObjects; ++i) {
      // Half of the keys have one generation everywhere, the others a different one on each node.
      const uint64_t generation = i % 2 == 0 ? 1 + i : 1 + i + (owners.size() + 1) * 10 * kObjects;
      owner.Hold(One("k" + std::to_string(i), generation, i, 100));
    }
    owners.push_back(std::move(owner));
  }
  std::atomic<int> reporting{static_cast<int>(owners.size())};
  std::vector<std::thread> threads;
  for (Owner& owner : owners) {
    threads.emplace_back([this, &owner, &reporting] {
      owner.Join(state_, now(), true);
      owner.ReportAll(state_, now());
      reporting.fetch_sub(1);
    });
  }
  threads.emplace_back([this, &reporting] {
    std::mt19937_64 random(1);
    Views views;
    while (reporting.load() > 0) {
      const std::string key = "k" + std::to_string(random() % kObjects);
      const std::string_view view = key;
      ReadRow row;
      views.Clear();
      ASSERT_TRUE(state_.Lookup(session_, {&view, 1}, 1s, true, {&row, 1}, &views, now()).ok());
      if (row.code != Code::kOk) continue;
      Code code = Code::kInternal;
      ASSERT_TRUE(state_.Unpin(session_, {&row.generation, 1}, {&code, 1}, now()).ok());
      ASSERT_EQ(code, Code::kOk);
    }
  });
  threads.emplace_back([this, &reporting] {
    std::mt19937_64 random(2);
    while (reporting.load() > 0) Remove("k" + std::to_string(random() % kObjects));
  });
  for (std::thread& thread : threads) thread.join();
  for (Owner& owner : owners) owner.Sync(state_, now());
  clock_.Advance(5s);
  state_.Reap(now());
  uint64_t held = 0;
  for (const Owner& owner : owners) held += owner.UnitsHeld();
  EXPECT_EQ(UsedUnits(), held);
  EXPECT_EQ(state_.figures().pins, 0u);
  EXPECT_EQ(state_.CommittedReplicas(), held);
  for (const Owner& owner : owners) {
    for (const Held& record : owner.All()) EXPECT_EQ(Lookup(record.key).generation, record.generation) << record.key;
  }
}

}  // namespace
}  // namespace mmc::meta
