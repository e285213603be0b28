// A state that knows nothing and nodes that do: everything comes back, conflicts go by generation, space that a catalog
// claims is never handed out, and what may still be reported is never called missing.
#include <random>

#include "tests/unit/meta_recovery_fixture.h"

namespace mmc::meta {
namespace {

class MetaRecovery : public RecoveryFixture {};

// ---- everything comes back ---------------------------------------------------------------------------------------

// A life before: puts and removals on two nodes until their segments are in pieces, some objects on both.
class LifeBefore {
 public:
  explicit LifeBefore(uint64_t seed) : random_(seed), state_(StateOptions{.lease = 1ms}) {
    for (const char* name : {"a", "b"}) {
      nodes.push_back({.name = name,
                       .segments = {{1, 1, Medium::kDram, 2_MiB, -1}, {2, 1, Medium::kDram, 4_MiB, -1}},
                       .incarnation = seed + 1});
      EXPECT_FALSE(nodes.back().Join(state_, now(), false).want_catalog);
    }
    session_ = *state_.OpenSession("before", "h", 1, now());
    for (int step = 0; step < 1500; ++step) Step(step);
    for (Owner& node : nodes) node.Sync(state_, now());
    clock_.Advance(1s);
    state_.Reap(now());
  }
  uint64_t UsedUnits() const { return state_.figures().used_bytes / kUnitBytes; }
  uint64_t Objects() const { return state_.figures().objects; }

  std::vector<Owner> nodes;

 private:
  TimePoint now() const { return clock_.Now(); }
  void Step(int step) {
    if (step % 7 == 0) {
      for (Owner& node : nodes) node.Sync(state_, now());
      clock_.Advance(100ms);
      state_.Reap(now());
    }
    if (!keys_.empty() && random_() % 3 == 0) {
      const size_t i = random_() % keys_.size();
      const std::string_view view = keys_[i];
      Code code = Code::kOk;
      state_.Remove({&view, 1}, {&code, 1}, now());
      keys_.erase(keys_.begin() + static_cast<std::ptrdiff_t>(i));
      return;
    }
    const std::string key = "k" + std::to_string(step);
    PutRow row{.key = key, .hash = HashKey(key), .size = 1 + random_() % 100'000};
    Views views;
    const PutSpec spec{
        .session = session_, .call = state_.NextCall(), .replicas = 1 + static_cast<uint32_t>(random_() % 2)};
    ASSERT_TRUE(state_.PutStart(spec, {&row, 1}, &views, now()).ok());
    if (row.code != Code::kOk) return;
    Code code = Code::kOk;
    const uint64_t checksum = random_();
    ASSERT_TRUE(state_.PutCommit(session_, {&row.grant, 1}, {&checksum, 1}, {}, {&code, 1}, now()).ok());
    ASSERT_EQ(code, Code::kOk);
    keys_.push_back(key);
  }

  std::mt19937_64 random_;
  ManualClock clock_;
  MetaState state_;
  uint64_t session_ = 0;
  std::vector<std::string> keys_;
};

// The replica of `row` on this node is what the catalog says.
bool SameReplica(const Owner& owner, const Held& held, const ReadRow& row, const Views& views) {
  for (uint32_t r = row.first_replica; r < row.first_replica + row.replicas; ++r) {
    const ReplicaView& replica = views.replicas[r];
    if (replica.node != owner.id || replica.segment != held.segment) continue;
    std::vector<uint64_t> offsets, lengths;
    for (uint32_t e = replica.first_extent; e < replica.first_extent + replica.extents; ++e) {
      offsets.push_back(views.extents[e].offset);
      lengths.push_back(views.extents[e].length);
    }
    return offsets == held.offsets && lengths == held.lengths;
  }
  return false;
}

// What is never evicted before is not evicted after either; soft pins are forgotten.
TEST_F(MetaRecovery, HardPinsComeBack) {
  Owner node = Node("n");
  StateOptions options;
  MetaState before(options);
  node.Join(before, now(), false);
  const uint64_t session = before.OpenSession("test", "h", 1, now()).value();
  for (const Retention retention : {Retention::kHard, Retention::kSoft, Retention::kNormal}) {
    const std::string key = "k" + std::to_string(static_cast<int>(retention));
    PutRow row{.key = key, .hash = HashKey(key), .size = 64_KiB};
    Views views;
    ASSERT_TRUE(before.PutStart({.session = session, .call = before.NextCall()}, {&row, 1}, &views, now()).ok());
    Code code = Code::kOk;
    const Keeping keeping{.retention = retention};
    ASSERT_TRUE(before.PutCommit(session, {&row.grant, 1}, {}, {}, {&code, 1}, now(), nullptr, keeping).ok());
  }
  node.Sync(before, now());
  node.acked = 0;
  const ReportProgress returned = Return(node);
  EXPECT_EQ(returned.adopted, 3u) << node.catalog.size() << " reported: " << returned.example;
  EndRecovery();
  EXPECT_EQ(state_.figures().hard_pinned, 1u);
  EXPECT_EQ(state_.figures().soft_pinned, 0u);
  EXPECT_EQ(state_.EvictFrom(0, 2_MiB, EvictCause::kBackground, 1000, now()), 2 * 64_KiB);
  EXPECT_EQ(Lookup("k2").code, Code::kOk);
  EXPECT_EQ(state_.CheckInvariants(), "");
}

TEST_F(MetaRecovery, RandomCatalogsComeBackWhole) {
  size_t fragmented = 0, doubled = 0;
  for (uint64_t seed = 1; seed <= 12; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    LifeBefore before(seed);
    MetaState state(Options());
    state.BeginRecovery(now());
    std::mt19937_64 random(seed);
    uint64_t claimed = 0;
    for (Owner& owner : before.nodes) {
      claimed += owner.UnitsHeld();
      owner.acked = 0;  // as far as this state goes
      ASSERT_TRUE(owner.Join(state, now(), true).want_catalog);
      std::vector<Held> records = owner.All();
      std::shuffle(records.begin(), records.end(), random);
      for (size_t at = 0; at < records.size();) {
        const size_t n = std::min<size_t>(records.size() - at, 1 + random() % 40);
        const std::vector<Held> batch(records.begin() + at, records.begin() + at + n);
        at += n;
        ASSERT_TRUE(owner.Report(state, now(), batch, at == records.size()).ok());
      }
      const ReportProgress progress = owner.Finish(state, now());
      EXPECT_EQ(progress.adopted, records.size());
      EXPECT_TRUE(progress.example.empty()) << progress.example;
    }
    EXPECT_EQ(state.figures().used_bytes / kUnitBytes, claimed);
    EXPECT_EQ(claimed, before.UsedUnits());
    EXPECT_EQ(state.figures().objects, before.Objects());
    EXPECT_EQ(state.figures().waiting_bytes, 0u);
    for (const Owner& owner : before.nodes) {
      for (const Held& held : owner.All()) {
        const std::string_view view = held.key;
        ReadRow row;
        Views views;
        ASSERT_TRUE(state.Lookup(0, {&view, 1}, 1s, false, {&row, 1}, &views, now()).ok());
        ASSERT_EQ(row.code, Code::kOk) << held.key;
        EXPECT_EQ(row.size, held.size);
        EXPECT_EQ(row.generation, held.generation);
        EXPECT_EQ(row.checksum, held.checksum);
        EXPECT_TRUE(SameReplica(owner, held, row, views)) << held.key;
        fragmented += held.offsets.size() > 1;
        doubled += row.replicas == 2;
      }
    }
  }
  EXPECT_GT(fragmented, 20u);  // else the test does not test what it says
  EXPECT_GT(doubled, 20u);
}

TEST_F(MetaRecovery, NoSpaceThatACatalogClaimsIsHandedOut) {
  LifeBefore before(77);
  Owner& owner = before.nodes[0];
  owner.acked = 0;
  Return(owner);
  EndRecovery();
  std::set<std::pair<uint32_t, uint64_t>> taken;  // segment, unit
  for (const Held& held : owner.All()) {
    for (size_t i = 0; i < held.offsets.size(); ++i) {
      for (uint32_t u = 0; u < UnitsOf(held.lengths[i]); ++u) {
        taken.insert({held.segment, held.offsets[i] / kUnitBytes + u});
      }
    }
  }
  const uint64_t free_units = (2_MiB + 4_MiB) / kUnitBytes - taken.size();
  uint64_t given = 0;
  for (;; ++given) {
    const std::string key = "new" + std::to_string(given);
    ASSERT_LE(given, free_units);
    const PutRow row = PutStart(key, kUnitBytes);
    if (row.code != Code::kOk) break;
    const ReplicaView& replica = views_.replicas[row.first_replica];
    const uint64_t unit = views_.extents[replica.first_extent].offset / kUnitBytes;
    ASSERT_TRUE(taken.insert({replica.segment, unit}).second) << "unit " << unit << " was handed out twice";
  }
  EXPECT_EQ(given, free_units);
}

TEST_F(MetaRecovery, GenerationsGoOnAboveAllThatWereSeen) {
  Owner owner = Node("a");
  owner.Hold(One("old", 5'000'000, 0, 100));
  Return(owner);
  EndRecovery();
  ASSERT_EQ(Put("new", 100), Code::kOk);
  EXPECT_GT(Lookup("new").generation, 5'000'000u);
}

TEST_F(MetaRecovery, AdoptedObjectsAreEvictedAndRemovedLikeOthers) {
  Owner owner = Node("a");
  for (uint64_t i = 0; i < 10; ++i) owner.Hold(One("k" + std::to_string(i), 100 + i, i * 2, 8192));
  Return(owner);
  EXPECT_EQ(state_.EvictFrom(0, 3 * 8192, EvictCause::kBackground, 100, now()), 3 * 8192u);  // no leases are on them
  EndRecovery();
  EXPECT_EQ(Remove("k9"), Code::kOk);
  owner.Sync(state_, now());
  EXPECT_EQ(owner.catalog.size(), 6u);
  EXPECT_EQ(UsedUnits(), owner.UnitsHeld());
}

// ---- what is not there yet ---------------------------------------------------------------------------------------

TEST_F(MetaRecovery, WhatMayStillBeReportedIsNotCalledMissing) {
  Owner owner = Node("a");
  owner.Hold(One("here", 9, 0, 100));
  Return(owner);
  ASSERT_TRUE(state_.recovering());
  EXPECT_EQ(Lookup("here").code, Code::kOk);
  EXPECT_EQ(Lookup("elsewhere").code, Code::kRecovering);
  const std::string_view key = "elsewhere";
  ReadRow row;
  state_.Stat({&key, 1}, {&row, 1}, &views_, now());
  EXPECT_EQ(row.code, Code::kRecovering);
  EXPECT_EQ(PutStart("elsewhere", 10).code, Code::kRecovering);
  EXPECT_TRUE(PutStart("elsewhere", 10).settled);
  EXPECT_EQ(PutStart("here", 10).code, Code::kExists);
  EndRecovery();
  EXPECT_EQ(Lookup("elsewhere").code, Code::kNotFound);
  EXPECT_EQ(Put("elsewhere", 10), Code::kOk);
}

TEST_F(MetaRecovery, NothingOfAReportIsSeenBeforeItIsComplete) {
  Owner owner = Node("a");
  owner.Join(state_, now(), true);
  ASSERT_TRUE(owner.Report(state_, now(), {One("k", 5, 0, 100)}, false).ok());
  EXPECT_EQ(Lookup("k").code, Code::kRecovering);
  ASSERT_TRUE(owner.Report(state_, now(), {One("k", 6, 0, 100)}, true).ok());
  owner.Finish(state_, now());
  EXPECT_EQ(Lookup("k").generation, 6u);
}

TEST_F(MetaRecovery, AnOpenReportHoldsTheEndUpAndTenWindowsEndIt) {
  Owner owner = Node("a");
  owner.Join(state_, now(), true);
  clock_.Advance(4s);
  EXPECT_FALSE(state_.Recover(now()));
  EXPECT_TRUE(state_.recovering());
  clock_.Advance(26s);
  EXPECT_TRUE(state_.Recover(now()));
  EXPECT_FALSE(state_.recovering());
  // It is not too late for the node.
  owner.Hold(One("late", 5, 0, 100));
  EXPECT_EQ(owner.ReportAll(state_, now()).adopted, 1u);
  EXPECT_EQ(Lookup("late").code, Code::kOk);
}

TEST_F(MetaRecovery, TheEndOfTheLastReportEndsItWhenTheWindowIsOver) {
  Owner owner = Node("a");
  owner.Join(state_, now(), true);
  clock_.Advance(4s);
  owner.ReportAll(state_, now());
  EXPECT_FALSE(state_.recovering());
}

TEST(MetaRecoveryMembers, AllMembersBackEndItEarly) {
  ManualClock clock;
  StateOptions options;
  options.recovery = 3s;
  options.members_known = true;
  options.members = {{.name = "a", .incarnation = 1}, {.name = "b", .incarnation = 7}};
  MetaState state(options);
  state.BeginRecovery(clock.Now());
  Owner a{.name = "a", .segments = {{1, 1, Medium::kDram, 2_MiB, -1}}};
  Owner b{.name = "b", .segments = {{1, 1, Medium::kDram, 2_MiB, -1}}};
  a.Join(state, clock.Now(), true);
  a.ReportAll(state, clock.Now());
  EXPECT_TRUE(state.recovering());
  EXPECT_EQ(state.Members(), options.members);  // b is still a member
  b.Join(state, clock.Now(), false);                                  // it has lost its memory: nothing to wait for
  EXPECT_TRUE(state.Recover(clock.Now()));
  EXPECT_FALSE(state.recovering());
}

TEST(MetaRecoveryMembers, WithoutMembersThereIsNothingToWaitFor) {
  ManualClock clock;
  StateOptions options;
  options.recovery = 3s;
  options.members_known = true;
  MetaState state(options);
  state.BeginRecovery(clock.Now());
  EXPECT_TRUE(state.Recover(clock.Now()));
}

TEST(MetaRecoveryMembers, OffMeansOff) {
  ManualClock clock;
  MetaState state(StateOptions{});
  state.BeginRecovery(clock.Now());
  EXPECT_FALSE(state.recovering());
}

// ---- conflicts ---------------------------------------------------------------------------------------------------

TEST_F(MetaRecovery, OfTwoGenerationsTheHigherWins) {
  for (const bool older_first : {true, false}) {
    SCOPED_TRACE(older_first);
    const std::string key = older_first ? "x" : "y";
    const std::string suffix = older_first ? "1" : "2";
    Owner old_one = Node("old" + suffix), new_one = Node("new" + suffix);
    old_one.Hold(One(key, 10, 3, 5000));
    new_one.Hold(One(key, 11, 0, 100));
    Return(older_first ? old_one : new_one);
    Return(older_first ? new_one : old_one);
    old_one.Sync(state_, now());
    const ReadRow row = Lookup(key);
    ASSERT_EQ(row.code, Code::kOk);
    EXPECT_EQ(row.generation, 11u);
    ASSERT_EQ(row.replicas, 1u);
    EXPECT_EQ(views_.replicas[row.first_replica].node, new_one.id);
    EXPECT_TRUE(old_one.catalog.empty());
    EXPECT_TRUE(new_one.Holds(11));
  }
  EXPECT_EQ(Conflicts(ConflictKind::kGeneration), 2u);
  EXPECT_EQ(UsedUnits(), 2u);  // what is forgotten is free again
}

TEST_F(MetaRecovery, AWriterOfTheKeyIsNewerThanALateReport) {
  Owner first = Node("first"), late = Node("late");
  Return(first);
  EndRecovery();
  const PutRow row = PutStart("k", 100);
  ASSERT_EQ(row.code, Code::kOk);
  late.Hold(One("k", 10, 0, 100));
  Return(late);
  EXPECT_TRUE(late.catalog.empty());
  Code code = Code::kOk;
  ASSERT_TRUE(state_.PutCommit(session_, {&row.grant, 1}, {}, {}, {&code, 1}, now()).ok());
  EXPECT_EQ(code, Code::kOk);
  EXPECT_GT(Lookup("k").generation, 10u);
}

TEST_F(MetaRecovery, OfOverlappingRecordsTheHighestGenerationStays) {
  Owner owner = Node("a");
  owner.Hold(One("low", 10, 0, 4 * kUnitBytes));
  owner.Hold(One("high", 20, 3, 2 * kUnitBytes));   // over the end of low
  owner.Hold(One("lower", 5, 4, 4 * kUnitBytes));   // over the end of high
  owner.Hold(One("apart", 1, 100, kUnitBytes));
  Held twice = One("selfish", 2, 200, 2 * kUnitBytes);
  twice.offsets = {200 * kUnitBytes, 200 * kUnitBytes};
  twice.lengths = {kUnitBytes, kUnitBytes};
  owner.Hold(twice);
  const ReportProgress progress = Return(owner);
  EXPECT_EQ(progress.adopted, 2u);
  EXPECT_EQ(Conflicts(ConflictKind::kOverlap), 3u);
  EXPECT_EQ(Lookup("high").code, Code::kOk);
  EXPECT_EQ(Lookup("apart").code, Code::kOk);
  for (const char* key : {"low", "lower", "selfish"}) EXPECT_EQ(Lookup(key).code, Code::kRecovering) << key;
  EXPECT_EQ(owner.catalog.size(), 2u);
  EXPECT_EQ(UsedUnits(), owner.UnitsHeld());
}

TEST_F(MetaRecovery, RandomOverlapsLeaveNoTwoRecordsOnOneUnit) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937_64 random(seed);
    MetaState state(Options());
    Owner owner = Node("a");
    for (uint64_t i = 0; i < 200; ++i) {
      const uint64_t units = 1 + random() % 6;
      owner.Hold(One("k" + std::to_string(i), 1 + i, random() % (512 - units), units * kUnitBytes));
    }
    // The model: from the highest generation down, whoever finds its units free has them.
    std::set<uint64_t> taken, expected;
    for (uint64_t generation = 200; generation > 0; --generation) {
      const Held& held = owner.catalog.at({1, generation});
      const uint64_t first = held.offsets[0] / kUnitBytes, units = UnitsOf(held.size);
      bool free = true;
      for (uint64_t u = first; u < first + units; ++u) free &= !taken.contains(u);
      if (!free) continue;
      for (uint64_t u = first; u < first + units; ++u) taken.insert(u);
      expected.insert(generation);
    }
    owner.Join(state, now(), true);
    owner.ReportAll(state, now());
    owner.Sync(state, now());
    std::set<uint64_t> left;
    for (const auto& [id, held] : owner.catalog) left.insert(id.second);
    EXPECT_EQ(left, expected);
    EXPECT_EQ(state.figures().used_bytes / kUnitBytes, taken.size());
  }
}

TEST_F(MetaRecovery, BadRecordsAreForgottenAndTheOthersStay) {
  const std::vector<std::pair<const char*, Held>> bad = {
      {"no such segment", One("k", 2, 0, 100, 7)},
      {"begins outside", One("k", 2, 512, 100)},
      {"ends outside", One("k", 2, 511, 2 * kUnitBytes)},
      {"far outside", {"k", 1, 2, 100, 0, {~uint64_t{0} - 4095}, {100}}},
      {"not aligned", {"k", 1, 2, 100, 0, {100}, {100}}},
      {"empty extent", {"k", 1, 2, 100, 0, {0, 4096}, {100, 0}}},
      {"lengths short of the size", {"k", 1, 2, 100, 0, {0}, {99}}},
      {"lengths beyond the size", {"k", 1, 2, 100, 0, {0}, {101}}},
      {"a part of a unit in the middle", {"k", 1, 2, 5000, 0, {0, 8192}, {904, 4096}}},
      {"no extents", {"k", 1, 2, 100, 0, {}, {}}},
      {"columns of two lengths", {"k", 1, 2, 100, 0, {0, 4096}, {100}}},
      {"no size", {"k", 1, 2, 0, 0, {0}, {0}}},
      {"no generation", One("k", 0, 0, 100)},
      {"a generation out of this world", One("k", ~uint64_t{0}, 0, 100)},
      {"no key", One("", 2, 0, 100)},
      {"a key too long", One(std::string(5000, 'k'), 2, 0, 100)},
  };
  for (const auto& [what, record] : bad) {
    SCOPED_TRACE(what);
    MetaState state(Options());
    state.BeginRecovery(now());
    Owner owner = Node("a");
    owner.Hold(One("good", 1, 300, 100));
    owner.Hold(record);
    owner.Join(state, now(), true);
    const ReportProgress progress = owner.ReportAll(state, now());
    EXPECT_EQ(progress.adopted, 1u);
    EXPECT_EQ(progress.conflicts[static_cast<int>(ConflictKind::kBadRecord)], 1u);
    EXPECT_FALSE(progress.example.empty());
    owner.Sync(state, now());
    EXPECT_EQ(owner.catalog.size(), 1u);
    EXPECT_TRUE(owner.Holds(1));
    EXPECT_EQ(state.figures().used_bytes, kUnitBytes);
  }
}

TEST_F(MetaRecovery, ABatchThatComesTwiceIsTheSameAsOnce) {
  Owner owner = Node("a");
  owner.Hold(One("k", 5, 0, 100));
  owner.Hold(One("l", 6, 1, 100));
  owner.Join(state_, now(), true);
  ASSERT_TRUE(owner.Report(state_, now(), owner.All(), false).ok());
  ASSERT_TRUE(owner.Report(state_, now(), owner.All(), true).ok());
  ASSERT_TRUE(owner.Report(state_, now(), owner.All(), true).ok());  // and "last" twice
  EXPECT_EQ(owner.Finish(state_, now()).adopted, 2u);
  EXPECT_TRUE(owner.Report(state_, now(), owner.All(), true)->done);  // and once more when all is over
  owner.Sync(state_, now());
  EXPECT_EQ(owner.catalog.size(), 2u);
  EXPECT_EQ(owner.forgotten, 0u);
  EXPECT_EQ(UsedUnits(), 2u);
}

TEST_F(MetaRecovery, ASecondReplicaOnTheSameNodeOrOfAnotherSizeIsDropped) {
  Owner a = Node("a"), b = Node("b");
  a.segments.push_back({2, 1, Medium::kDram, 2_MiB, -1});
  a.Hold(One("k", 5, 0, 100));
  a.Hold(One("k", 5, 9, 100, 2));
  b.Hold(One("k", 5, 0, 200));
  Return(a);
  Return(b);
  EXPECT_EQ(Lookup("k").replicas, 1u);
  EXPECT_EQ(Lookup("k").size, 100u);
  EXPECT_EQ(Conflicts(ConflictKind::kDuplicate), 2u);
  EXPECT_TRUE(b.catalog.empty());
  EXPECT_EQ(a.catalog.size(), 1u);
  EXPECT_EQ(UsedUnits(), 1u);
}

}  // namespace
}  // namespace mmc::meta
