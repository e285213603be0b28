// What writers want to be kept: soft pins, hard pins, groups.
#include <gtest/gtest.h>

#include <random>
#include <thread>

#include "tests/unit/meta_fixture.h"

namespace mmc::meta {
namespace {

constexpr Keeping kSoft{.retention = Retention::kSoft};
constexpr Keeping kHard{.retention = Retention::kHard};

class MetaKeep : public MetaFixture {
 protected:
  explicit MetaKeep(StateOptions options = {}) : MetaFixture(std::move(options)) {}
  ~MetaKeep() override { EXPECT_EQ(state_.CheckInvariants(), ""); }

  void PutKept(uint64_t session, const std::vector<std::string>& keys, const Keeping& keeping, PutSpec spec = {}) {
    const auto rows = PutStart(session, keys, 64_KiB, std::move(spec));
    std::vector<Code> codes(rows.size());
    ASSERT_TRUE(state_.PutCommit(session, Grants(rows), {}, {}, codes, now(), nullptr, keeping).ok());
    for (const Code code : codes) EXPECT_EQ(code, Code::kOk);
  }
  void PutGroup(uint64_t session, const std::vector<std::string>& keys, std::string_view group) {
    const std::vector<std::string_view> groups(keys.size(), group);
    PutKept(session, keys, {.groups = groups});
  }
  static std::vector<std::string> Keys(int from, int to) {
    std::vector<std::string> keys;
    for (int i = from; i < to; ++i) keys.push_back("k" + std::to_string(i));
    return keys;
  }
  int Present(const std::vector<std::string>& keys) {
    int present = 0;
    for (const std::string& key : keys) present += Exists(key);
    return present;
  }
  uint64_t Evict(uint64_t objects) {
    return state_.EvictFrom(0, objects * 64_KiB, EvictCause::kBackground, 1000, now()) / 64_KiB;
  }
};

TEST_F(MetaKeep, SoftPinnedGoAfterAllOthersInTheirOrder) {
  Join("n", 4_MiB);
  const uint64_t session = OpenSession();
  for (const std::string& key : Keys(0, 10)) PutKept(session, {key}, kSoft);
  PutKept(session, Keys(10, 30), {});
  Lookup("k0", 1ms);  // the soft-pinned one that was used last
  clock_.Advance(1s);
  EXPECT_EQ(state_.figures().soft_pinned, 10u);
  EXPECT_EQ(Evict(15), 15u);
  EXPECT_EQ(Present(Keys(0, 10)), 10);
  EXPECT_EQ(Present(Keys(10, 30)), 5);
  EXPECT_EQ(Evict(8), 8u) << "the others, then three soft-pinned ones";
  EXPECT_EQ(Present(Keys(10, 30)), 0);
  EXPECT_EQ(Present(Keys(1, 4)), 0) << "the longest unused first";
  EXPECT_TRUE(Exists("k0"));
  EXPECT_EQ(state_.figures().soft_pinned, 7u);
  EXPECT_EQ(Evict(100), 7u);
}

TEST_F(MetaKeep, ASoftPinEndsWithItsTimeAndReadsDoNotExtendIt) {
  Join("n", 4_MiB);
  const uint64_t session = OpenSession();
  PutKept(session, {"short"}, {.retention = Retention::kSoft, .soft_pin = 10s});
  PutKept(session, {"usual"}, kSoft);
  PutKept(session, {"longest"}, {.retention = Retention::kSoft, .soft_pin = std::chrono::hours(10'000)});
  PutKept(session, {"gone"}, {.retention = Retention::kSoft, .soft_pin = 10s});
  EXPECT_EQ(Remove("gone"), Code::kOk);
  clock_.Advance(9s);
  Lookup("short", 1ms);
  state_.EndSoftPins(now());
  EXPECT_EQ(state_.figures().soft_pinned, 3u);
  clock_.Advance(1s);
  state_.EndSoftPins(now());
  EXPECT_EQ(state_.figures().soft_pinned, 2u);
  PutKept(session, Keys(0, 3), {});
  EXPECT_EQ(Evict(4), 4u);
  EXPECT_FALSE(Exists("short")) << "as all others now";
  EXPECT_TRUE(Exists("usual"));
  clock_.Advance(state_.options().soft_pin);
  state_.EndSoftPins(now());
  EXPECT_EQ(state_.figures().soft_pinned, 1u);
  clock_.Advance(state_.options().max_soft_pin);
  state_.EndSoftPins(now());
  EXPECT_EQ(state_.figures().soft_pinned, 0u) << "cut to the longest";
}

TEST_F(MetaKeep, HardPinnedStayUntilTheyAreRemoved) {
  FakeNode node = Join("n", 4_MiB);
  const uint64_t session = OpenSession();
  PutKept(session, Keys(0, 20), kHard);
  PutKept(session, Keys(20, 60), {});
  ASSERT_TRUE(state_.CloseSession(session, now()).ok()) << "who put them does not matter";
  clock_.Advance(std::chrono::hours(100));
  EXPECT_EQ(Evict(64), 40u);
  EXPECT_EQ(Present(Keys(0, 20)), 20);
  EXPECT_EQ(state_.figures().hard_pinned, 20u);
  EXPECT_EQ(Remove("k0"), Code::kOk);
  EXPECT_EQ(state_.figures().hard_pinned, 19u);
  EXPECT_NE(state_.ExplainNoSpace(Medium::kDram, 0, now()).find("19 objects are hard-pinned"), std::string::npos);
  SyncAll(node);
}

TEST_F(MetaKeep, APoolOfHardPinsIsFullForOthers) {
  FakeNode node = Join("n", 2_MiB);
  const uint64_t session = OpenSession();
  PutKept(session, Keys(0, 32), kHard);
  EXPECT_EQ(Put(session, "more", 64_KiB), Code::kNoSpace);
  Remove("k0");
  SyncAll(node);
  EXPECT_EQ(Put(session, "more", 64_KiB), Code::kOk);
}

TEST_F(MetaKeep, OfTwoReplicasASoftPinnedObjectKeepsItsPlace) {
  Join("a", 4_MiB);
  Join("b", 4_MiB);
  const uint64_t session = OpenSession();
  PutKept(session, Keys(0, 4), kSoft, {.replicas = 2});
  PutKept(session, Keys(4, 8), {}, {.replicas = 2});
  for (const uint32_t segment : {0u, 1u}) {
    EXPECT_EQ(state_.EvictFrom(segment, 4 * 64_KiB, EvictCause::kBackground, 1000, now()), 4 * 64_KiB);
  }
  EXPECT_EQ(Present(Keys(0, 4)), 4);
  EXPECT_EQ(Present(Keys(4, 8)), 0);
  EXPECT_EQ(Lookup("k0").replicas, 2u);
}

class MetaKeepAlways : public MetaKeep {
 protected:
  MetaKeepAlways() : MetaKeep({.evict_soft_pinned = false}) {}
};

TEST_F(MetaKeepAlways, SoftPinnedAreNotEvictedWhereTheOptionSaysSo) {
  Join("n", 2_MiB);
  const uint64_t session = OpenSession();
  PutKept(session, Keys(0, 32), {.retention = Retention::kSoft, .soft_pin = 60s});
  EXPECT_EQ(Put(session, "more", 64_KiB), Code::kNoSpace);
  EXPECT_EQ(Evict(32), 0u);
  clock_.Advance(60s);
  state_.EndSoftPins(now());
  EXPECT_EQ(Evict(32), 32u);
}

TEST_F(MetaKeep, AGroupGoesTogether) {
  Join("n", 4_MiB);
  const uint64_t session = OpenSession();
  PutGroup(session, {"a1"}, "a");
  PutGroup(session, {"b1"}, "b");
  PutKept(session, Keys(0, 10), {});
  PutGroup(session, {"a2", "a3"}, "a");
  PutGroup(session, {"b2"}, "b");
  EXPECT_EQ(Evict(1), 3u) << "a1 is the oldest";
  EXPECT_EQ(Present({"a1", "a2", "a3"}), 0);
  EXPECT_EQ(Present({"b1", "b2"}), 2);
  EXPECT_EQ(Present(Keys(0, 10)), 10);
  EXPECT_EQ(Evict(1), 2u);
  EXPECT_EQ(Present({"b1", "b2"}), 0);
  EXPECT_EQ(state_.figures().evicted_objects[static_cast<int>(EvictCause::kBackground)], 5u);
}

TEST_F(MetaKeep, AReadOfOneLeasesItsGroup) {
  Join("n", 4_MiB);
  const uint64_t session = OpenSession();
  PutGroup(session, {"a1", "a2", "a3"}, "a");
  PutGroup(session, {"b1", "b2"}, "b");
  PutKept(session, Keys(0, 5), {});
  Lookup("a2", 100s);
  const std::string_view asked = "b1";
  uint8_t present = 0;
  state_.ExistsLeased({&asked, 1}, 50s, &present, now());
  EXPECT_EQ(Evict(64), 5u);
  EXPECT_EQ(Present({"a1", "a2", "a3", "b1", "b2"}), 5);
  clock_.Advance(50s);
  EXPECT_EQ(Evict(64), 2u);
  clock_.Advance(50s);
  EXPECT_EQ(Evict(64), 3u);
}

TEST_F(MetaKeep, MembersInUseStay) {
  Join("n", 4_MiB);
  const uint64_t session = OpenSession();
  PutGroup(session, {"old"}, "g");
  std::vector<std::string_view> group{"g"};
  PutKept(session, {"hard"}, {.retention = Retention::kHard, .groups = group});
  PutGroup(session, {"pinned"}, "g");
  Lookup("pinned", 1ms, session, true);
  clock_.Advance(1s);
  PutGroup(session, {"other"}, "");
  EXPECT_EQ(Evict(1), 1u);
  EXPECT_EQ(Present({"old", "hard", "pinned", "other"}), 3);
}

TEST_F(MetaKeep, GroupsAreOfATenantAndForgetTheirMembers) {
  Join("n", 4_MiB);
  const uint64_t session = OpenSession();
  PutGroup(session, {"a1", "a2"}, "a");
  Remove("a1");
  PutKept(session, {"a1"}, {});  // of no group any more
  EXPECT_EQ(Evict(1), 1u);
  EXPECT_EQ(Present({"a1", "a2"}), 1);
  EXPECT_TRUE(Exists("a1"));
}

TEST(Groups, MembersAndBounds) {
  Groups groups;
  for (uint64_t i = 0; i < Groups::kMaxMembers; ++i) ASSERT_TRUE(groups.Add(0, "g", {i, i + 1}));
  EXPECT_FALSE(groups.Add(0, "g", {9, 5000}));
  EXPECT_TRUE(groups.Add(1, "g", {9, 5001})) << "another tenant's";
  const uint64_t asked[] = {1, 2, 5001, 7777};
  EXPECT_EQ(groups.MembersOf(asked).size(), Groups::kMaxMembers + 1) << "each group once";
  EXPECT_EQ(groups.size(), 2u);
  for (uint64_t i = 0; i < Groups::kMaxMembers; ++i) groups.Erase(i + 1);
  groups.Erase(1);
  EXPECT_EQ(groups.size(), 1u);
  EXPECT_TRUE(groups.Add(0, "g", {9, 5000}));
}

// Against each other: puts of all kinds, reads of groups, removals, eviction, the end of soft pins.
TEST_F(MetaKeep, FromManyThreads) {
  FakeNode node = Join("n", 4_MiB);
  constexpr int kThreads = 3, kRounds = 400;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937_64 random(t);
      const uint64_t session = state_.OpenSession("t", "h", 1, now()).value();
      Views views;
      for (int i = 0; i < kRounds; ++i) {
        const std::string key = "k" + std::to_string(random() % 64);
        PutRow row{.key = key, .hash = HashKey(key), .size = 64_KiB};
        const PutSpec spec{.session = session, .call = state_.NextCall()};
        ASSERT_TRUE(state_.PutStart(spec, {&row, 1}, &views, now()).ok());
        if (row.code == Code::kOk) {
          const std::string name = "g" + std::to_string(random() % 4);
          const std::string_view group = name;
          const Keeping keeping{.retention = static_cast<Retention>(random() % 8 == 0 ? 2 : random() % 2),
                                .soft_pin = 1ns,
                                .groups = {&group, 1}};
          Code code = Code::kOk;
          ASSERT_TRUE(state_.PutCommit(session, {&row.grant, 1}, {}, {}, {&code, 1}, now(), nullptr, keeping).ok());
        }
        const std::string_view other = key;
        ReadRow read;
        ASSERT_TRUE(state_.Lookup(0, {&other, 1}, 1ns, false, {&read, 1}, &views, now()).ok());
        if (random() % 4 == 0) {
          Code code = Code::kOk;
          state_.Remove({&other, 1}, {&code, 1}, now());
        }
      }
    });
  }
  std::thread evictor([&] {
    for (int i = 0; i < kRounds; ++i) {
      state_.EvictFrom(0, 8 * 64_KiB, EvictCause::kBackground, 1000, now());
      state_.EndSoftPins(now());
    }
  });
  for (std::thread& thread : threads) thread.join();
  evictor.join();
}

}  // namespace
}  // namespace mmc::meta
