// What happens while nodes report: removals, pins, deaths, joins that come again, and all of it on many threads.
#include <atomic>
#include <random>
#include <thread>

#include "meta_service/mover/mover.h"
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

// ---- nodes that come late ----------------------------------------------------------------------------------------

TEST_F(MetaRecoveryLive, WhatWasRemovedDoesNotComeBackWithALateNode) {
  Owner here = Node("here"), late = Node("late");
  here.Hold(One("both", 6, 0, 100));
  Return(here);
  late.Hold(One("both", 6, 0, 100));   // has a replica on the other node too
  late.Hold(One("there", 5, 1, 100));  // only here
  late.Hold(One("again", 4, 2, 100));
  late.Hold(One("kept", 3, 3, 100));
  EndRecovery();
  EXPECT_EQ(Remove("both"), Code::kOk);
  EXPECT_EQ(Remove("there"), Code::kNotFound);  // as far as anybody knows
  ASSERT_EQ(Put("again", 100), Code::kOk);
  EXPECT_EQ(Remove("again"), Code::kOk);
  state_.Recover(now());  // time goes by: what was removed is still known
  EXPECT_EQ(Return(late).adopted, 1u);
  for (const char* key : {"both", "there", "again"}) EXPECT_EQ(Lookup(key).code, Code::kNotFound) << key;
  EXPECT_EQ(Lookup("kept").generation, 3u);
  EXPECT_EQ(late.catalog.size(), 1u);
  EXPECT_EQ(Conflicts(ConflictKind::kRemoved), 3u);
}

TEST_F(MetaRecoveryLive, AfterARemovalByPrefixALateNodeBringsNothing) {
  Owner here = Node("here"), late = Node("late");
  here.Hold(One("both", 6, 0, 100));
  Return(here);
  late.Hold(One("both", 6, 0, 100));
  late.Hold(One("p/1", 5, 1, 100));
  EndRecovery();
  WalkCursor cursor;
  while (!cursor.done) state_.RemoveStep(KeyMatch({}, "p/"), &cursor, now());
  EXPECT_EQ(Return(late).adopted, 1u);
  EXPECT_EQ(Lookup("both").replicas, 2u);  // is there anyway: a second replica of it is as good as the first
  EXPECT_EQ(Lookup("p/1").code, Code::kNotFound);
}

class MetaRecoveryBound : public RecoveryFixture {
 protected:
  static StateOptions Bounded() {
    StateOptions options = Options();
    options.members_known = true;
    options.members = {{.name = "here", .incarnation = 1}, {.name = "late", .incarnation = 1, .draining = true}};
    options.max_buried = 100;
    options.id_base = 1000;
    return options;
  }
  MetaRecoveryBound() : RecoveryFixture(Bounded()) {}
};

TEST_F(MetaRecoveryBound, MoreRemovalsThanAreRememberedCostALateNodeItsObjects) {
  Owner here = Node("here"), late = Node("late");
  Return(here);
  late.Hold(One("kept", 5, 0, 100));
  EndRecovery();
  for (int i = 0; i < 101; ++i) Remove("k" + std::to_string(i));
  state_.Recover(now());
  EXPECT_EQ(Return(late).adopted, 0u);
  EXPECT_EQ(Lookup("kept").code, Code::kNotFound);
  EXPECT_TRUE(late.catalog.empty());
  // The pool goes on.
  EXPECT_EQ(Put("kept", 100), Code::kOk);
}

TEST_F(MetaRecoveryBound, WhenAllAreBackRemovalsAreNotRememberedAnyMore) {
  Owner here = Node("here"), late = Node("late");
  Return(here);
  EndRecovery();
  late.Hold(One("kept", 5, 0, 100));
  EXPECT_EQ(Return(late).adopted, 1u);
  state_.Recover(now());
  for (int i = 0; i < 200; ++i) Remove("k" + std::to_string(i));
  // Were they, a node that was not there before would be refused now.
  Owner fresh = Node("fresh");
  fresh.Hold(One("new", 6, 0, 100));
  EXPECT_EQ(Return(fresh).adopted, 1u);
}

TEST_F(MetaRecoveryBound, MembersSayWhoIsHereWhoIsMissingAndWhatIsOver) {
  using Kind = MemberRow::Kind;
  Owner here = Node("here"), other = Node("other");
  Return(here);
  Return(other);
  EXPECT_EQ(state_.Members(), (std::vector<MemberRow>{{Kind::kHere, "here", 1, false},
                                                      {Kind::kHere, "late", 1, true},
                                                      {Kind::kHere, "other", 1, false}}));
  EndRecovery();
  clock_.Advance(20s);
  ASSERT_TRUE(state_.NodeHeartbeat(here.id, 1, now()).ok());
  clock_.Advance(20s);
  state_.CheckNodes(now());
  EXPECT_EQ(state_.Members(), (std::vector<MemberRow>{{Kind::kHere, "here", 1, false},
                                                      {Kind::kMissing, "late", 1, true},
                                                      {Kind::kGone, "other", 1, false}}));
}

TEST(MetaRecoveryOver, AnIncarnationThatWasOverBeforeIsRefused) {
  ManualClock clock;
  StateOptions options;
  options.recovery = 3s;
  options.members_known = true;
  options.members = {{.kind = MemberRow::Kind::kGone, .name = "a", .incarnation = 1}};
  MetaState state(options);
  state.BeginRecovery(clock.Now());
  EXPECT_TRUE(state.Recover(clock.Now())) << "nobody waits for it";
  JoinSpec spec{.name = "a", .incarnation = 1, .segments = {{1, 1, Medium::kDram, 2_MiB, -1}}, .keeps_memory = true};
  EXPECT_EQ(state.Join(spec, clock.Now()).code(), Code::kStaleNode);
  EXPECT_EQ(state.Members(), options.members) << "nor does the next start take it";
  spec.incarnation = 2;
  EXPECT_TRUE(state.Join(spec, clock.Now()).ok());
  EXPECT_EQ(state.Members().front().incarnation, 2u);
}

TEST(MetaRecoveryDrain, GoesOnForTheIncarnationThatWasDrained) {
  for (const uint64_t incarnation : {1u, 2u}) {
    ManualClock clock;
    StateOptions options;
    options.recovery = 3s;
    options.members_known = true;
    options.members = {{.name = "a", .incarnation = 1, .draining = true}};
    MetaState state(options);
    state.BeginRecovery(clock.Now());
    Owner a{.name = "a", .segments = {{1, 1, Medium::kDram, 2_MiB, -1}}, .incarnation = incarnation};
    a.Join(state, clock.Now(), true);
    a.ReportAll(state, clock.Now());
    uint64_t version = 0;
    EXPECT_EQ(state.Directory(clock.Now(), &version).front().draining, incarnation == 1);
  }
}

// ---- replicas that are missing -----------------------------------------------------------------------------------

TEST_F(MetaRecoveryLive, HowManyReplicasAnObjectShouldHaveIsKnownAgain) {
  Owner a = Node("a"), b = Node("b");
  Held two = One("two", 5, 0, 100), thin = One("thin", 6, 1, 100);
  two.replicas = thin.replicas = 2;
  a.Hold(two);
  a.Hold(thin);
  a.Hold(One("old", 7, 2, 100));  // of a catalog that does not say
  b.Hold(two);
  Mover mover(state_, {});
  Return(a);
  mover.Tick(now());
  EXPECT_EQ(mover.figures().under_replicated, 2u);
  EXPECT_EQ(mover.figures().in_flight, 0u) << "the other replica may just not be reported yet";
  Return(b);
  EXPECT_EQ(mover.figures().under_replicated, 1u);
  EndRecovery();
  mover.Tick(now());
  EXPECT_EQ(mover.figures().in_flight, 1u);
  google::protobuf::RepeatedPtrField<proto::CopyCommand> copies;
  ASSERT_TRUE(mover.Collect(b.id, &copies));
  EXPECT_EQ(copies.Get(0).key(), "thin");
  mover.Finish(b.id, copies.Get(0).id(), Code::kOk, now());
  EXPECT_EQ(mover.figures().under_replicated, 0u);
  b.Sync(state_, now());
  ASSERT_TRUE(b.Holds(6));
  EXPECT_EQ(b.catalog.at({1, 6}).replicas, 2u);
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
