// Tenants in the state: stored keys, quotas, whose blocks go, caps.
#include <gtest/gtest.h>

#include <random>
#include <set>

#include "meta_service/state/stored_key.h"
#include "tests/unit/meta_fixture.h"

namespace mmc::meta {
namespace {

std::string Stored(std::string_view tenant, std::string_view key) {
  std::string out;
  AppendStoredKey(tenant, key, &out);
  return out;
}

// Short names and keys of few letters, so that what could collide does.
std::string RandomText(std::mt19937_64& random, std::string_view letters, size_t most) {
  std::string out(1 + random() % most, '\0');
  for (char& c : out) c = letters[random() % letters.size()];
  return out;
}

TEST(StoredKey, OrdinaryKeysOfTheDefaultTenantStayAsTheyAre) {
  EXPECT_EQ(Stored("", "model@1"), "model@1");
  EXPECT_EQ(Stored("", std::string("\x00z", 2)), std::string("\x00z", 2));
  EXPECT_EQ(Stored("a", "k"), std::string("\xff\x01", 2) + "ak");
  EXPECT_EQ(Stored("", "\xffk"), std::string("\xff\x00\xff", 3) + "k");
}

TEST(StoredKey, NoKeyOfATenantIsAnotherOnes) {
  std::mt19937_64 random(7);
  const std::string_view key_letters("\xff\x00\x01\x02"
                                     "ab",
                                     6);
  std::map<std::string, std::pair<std::string, std::string>> seen;
  for (int i = 0; i < 20'000; ++i) {
    const std::string tenant = random() % 3 == 0 ? "" : RandomText(random, "ab", 2);
    const std::string key = RandomText(random, key_letters, 5);
    const std::string stored = Stored(tenant, key);
    const auto split = SplitStoredKey(stored);
    ASSERT_TRUE(split);
    ASSERT_EQ(split->tenant, tenant);
    ASSERT_EQ(split->key, key);
    const auto [it, fresh] = seen.try_emplace(stored, tenant, key);
    ASSERT_EQ(it->second, std::make_pair(tenant, key)) << "two keys with one stored key";
  }
  for (const auto& [stored, whose] : seen) {
    for (const std::string_view tenant : {"", "a", "b", "aa", "ab"}) {
      for (const std::string_view prefix : {std::string_view(), std::string_view("a"), std::string_view("\xff"),
                                            std::string_view("\xff\x01")}) {
        const bool own = whose.first == tenant && whose.second.starts_with(prefix);
        ASSERT_EQ(KeyMatch(tenant, prefix)(stored), own) << "tenant '" << tenant << "'";
      }
    }
  }
}

TEST(StoredKey, WhatIsNoStoredKeyIsSeen) {
  EXPECT_FALSE(SplitStoredKey(""));
  EXPECT_FALSE(SplitStoredKey("\xff"));
  EXPECT_FALSE(SplitStoredKey("\xff\x01"));
  EXPECT_FALSE(SplitStoredKey("\xff\x01"
                              "a"));
  EXPECT_FALSE(SplitStoredKey("\xff\x40"
                              "short"));
  EXPECT_FALSE(SplitStoredKey(std::string("\xff\x00k", 3))) << "a second name of the default tenant's key k";
}

TEST(TenantQuotas, AreReadFromText) {
  const auto quotas = ParseTenantQuotas(" a:10GB, b.x:20% ,default:1TB,*:5%");
  ASSERT_TRUE(quotas.ok()) << quotas.status().ToString();
  ASSERT_EQ(quotas->size(), 4u);
  EXPECT_EQ((*quotas)[0].tenant, "a");
  EXPECT_EQ((*quotas)[0].bytes, 10_GiB);
  EXPECT_EQ((*quotas)[1].percent, 20u);
  EXPECT_EQ((*quotas)[2].tenant, "");
  EXPECT_EQ((*quotas)[3].tenant, "*");
  EXPECT_TRUE(ParseTenantQuotas("")->empty());
  for (const char* wrong : {"a", "a:", ":1GB", "a:1KB", "a:0%", "a:101%", "a:x%", "a b:1GB", "a:1GB,a:2GB",
                            "default:1GB,default:2GB", "a:1GB,,b:1GB"}) {
    EXPECT_EQ(ParseTenantQuotas(wrong).status().code(), Code::kConfig) << wrong;
  }
}

TEST(TenantNames, DefaultIsTheOneWithoutAName) {
  EXPECT_EQ(*TenantFrom("default"), "");
  EXPECT_EQ(*TenantFrom(""), "");
  EXPECT_EQ(*TenantFrom("a-B_1.c"), "a-B_1.c");
  for (const std::string& wrong :
       {std::string(65, 'a'), std::string("a/b"), std::string("a\0b", 3), std::string("\xff")}) {
    EXPECT_EQ(TenantFrom(wrong).status().code(), Code::kInvalidArgument);
  }
}

StateOptions WithQuotas(const std::string& quotas) {
  StateOptions options;
  options.quotas = *ParseTenantQuotas(quotas);
  options.max_sessions_per_tenant = 3;
  options.max_grants_per_tenant = 100;
  options.max_pins_per_tenant = 10;
  return options;
}

class MetaTenants : public MetaFixture {
 protected:
  explicit MetaTenants(StateOptions options = {}) : MetaFixture(std::move(options)) {}

  struct Who {
    std::string name;
    uint16_t slot = 0;
    uint64_t session = 0;
    std::string Key(int i) const { return Stored(name, "k" + std::to_string(i)); }
  };
  Who Open(const std::string& name) {
    Who who{.name = name, .slot = *state_.tenants().SlotOf(name)};
    who.session = state_.OpenSession("test", "h", 1, now(), who.slot).value_or(0);
    EXPECT_NE(who.session, 0u);
    return who;
  }
  Code PutOf(const Who& who, int i, uint64_t size = 64_KiB) {
    return Put(who.session, who.Key(i), size, PutSpec{.tenant = who.slot});
  }
  void Fill(const Who& who, int from, int to) {
    for (int i = from; i < to; ++i) ASSERT_EQ(PutOf(who, i), Code::kOk) << who.name << " " << i;
  }
  // As long as there is room on its way: what a client does.
  Code PutWaiting(const Who& who, int i, FakeNode& node, uint64_t size = 64_KiB) {
    for (int n = 0; n < 4; ++n) {
      const Code code = PutOf(who, i, size);
      if (code != Code::kNoSpace) return code;
      SyncAll(node);
    }
    return Code::kNoSpace;
  }
  int Present(const Who& who, int from, int to) {
    int present = 0;
    for (int i = from; i < to; ++i) present += Exists(who.Key(i));
    return present;
  }
  TenantFigures Use(const Who& who) { return state_.TenantUse()[who.slot]; }
};

TEST_F(MetaTenants, ASessionWritesForItsOwnTenantOnly) {
  Join("n", 4_MiB);
  const Who a = Open("a");
  PutRow row{.key = "k", .hash = HashKey("k"), .size = 4096};
  PutSpec spec{.session = a.session, .tenant = 0, .call = state_.NextCall()};
  EXPECT_EQ(state_.PutStart(spec, {&row, 1}, &views_, now()).code(), Code::kPermission);
}

TEST_F(MetaTenants, WhoFloodsAFullPoolEvictsItself) {
  FakeNode node = Join("n", 4_MiB);  // 64 blocks
  const Who a = Open("a"), b = Open("b");
  Fill(a, 0, 20);
  Fill(b, 0, 44);
  for (int i = 44; i < 200; ++i) ASSERT_EQ(PutWaiting(b, i, node), Code::kOk) << i;
  EXPECT_EQ(Present(a, 0, 20), 20) << "a is below its half";
  EXPECT_EQ(Present(b, 156, 200), 44);
  EXPECT_EQ(Use(a).evicted_objects, 0u);
  EXPECT_EQ(Use(b).evicted_objects, 156u);
}

TEST_F(MetaTenants, ANewcomerGetsItsShareFromThoseAboveTheirs) {
  FakeNode node = Join("n", 4_MiB);
  const Who a = Open("a"), b = Open("b");
  Fill(a, 0, 64);
  for (int i = 0; i < 100; ++i) ASSERT_EQ(PutWaiting(b, i, node), Code::kOk) << i;
  EXPECT_EQ(Present(b, 0, 100), 32);
  EXPECT_EQ(Present(a, 0, 64), 32);
  EXPECT_EQ(Present(a, 32, 64), 32) << "the oldest of a went";
}

TEST_F(MetaTenants, NobodyBelowItsShareGivesWayWhenTheOthersAreLeased) {
  FakeNode node = Join("n", 4_MiB);
  const Who a = Open("a"), b = Open("b");
  Fill(a, 0, 20);
  Fill(b, 0, 44);
  for (int i = 0; i < 44; ++i) Lookup(b.Key(i), 100s);
  EXPECT_EQ(PutWaiting(b, 44, node), Code::kNoSpace);
  EXPECT_EQ(Present(a, 0, 20), 20);
  EXPECT_EQ(PutWaiting(a, 20, node), Code::kOk) << "its own oldest goes";
  EXPECT_EQ(Present(a, 0, 21), 20);
}

TEST_F(MetaTenants, BetweenThresholdsTheOneAboveItsShareGives) {
  Join("n", 4_MiB);
  const Who a = Open("a"), b = Open("b");
  Fill(a, 0, 10);
  Fill(b, 0, 50);  // 93 %
  EXPECT_GT(state_.EvictBetweenThresholds(1000, now()), 0u);
  EXPECT_EQ(Present(a, 0, 10), 10);
  EXPECT_EQ(Present(b, 0, 50), 41) << "51 of 64 blocks are 80 %";
}

class MetaQuotas : public MetaTenants {
 protected:
  MetaQuotas() : MetaTenants(WithQuotas("a:1MB,b:50%,*:75%")) {}
};

TEST_F(MetaQuotas, PercentagesFollowThePool) {
  FakeNode node = Join("n", 4_MiB);
  const Who b = Open("b"), other = Open("other");
  EXPECT_EQ(Use(b).quota_bytes, 2_MiB);
  EXPECT_EQ(Use(other).quota_bytes, 3_MiB);
  Join("m", 4_MiB);
  EXPECT_EQ(Use(b).quota_bytes, 4_MiB);
  ASSERT_TRUE(state_.NodeLeave(node.id, node.incarnation, now()).ok());
  EXPECT_EQ(Use(b).quota_bytes, 2_MiB);
  EXPECT_EQ(Use(Open("a")).quota_bytes, 1_MiB);
}

TEST_F(MetaQuotas, AtItsQuotaATenantEvictsItsOwnOldest) {
  FakeNode node = Join("n", 4_MiB);
  const Who a = Open("a"), c = Open("c");
  Fill(c, 0, 10);
  Fill(a, 0, 16);
  ASSERT_EQ(PutOf(a, 16), Code::kNoSpace) << "the pool has room, the quota has not";
  EXPECT_NE(state_.ExplainNoSpace(Medium::kDram, a.slot, now()).find("tenant 'a' is at its quota"), std::string::npos);
  SyncAll(node);
  EXPECT_EQ(PutOf(a, 16), Code::kOk);
  EXPECT_EQ(Present(a, 1, 17), 16);
  EXPECT_EQ(Present(c, 0, 10), 10);
  for (int i = 17; i < 60; ++i) ASSERT_EQ(PutWaiting(a, i, node), Code::kOk);
  EXPECT_EQ(Present(c, 0, 10), 10);
  EXPECT_LE(Use(a).used_bytes, 1_MiB);
  EXPECT_EQ(PutOf(a, 99, 2_MiB), Code::kNoSpace) << "more than the quota";
}

TEST_F(MetaQuotas, TheBackgroundKeepsTenantsBetweenTheThresholdsOfTheirQuotas) {
  Join("n", 4_MiB);
  const Who a = Open("a"), c = Open("c");
  Fill(c, 0, 10);
  Fill(a, 0, 14);
  EXPECT_EQ(state_.EvictBetweenThresholds(1000, now()), 0u) << "87 %";
  Fill(a, 14, 15);
  EXPECT_EQ(state_.EvictBetweenThresholds(1000, now()), 3 * 64_KiB) << "94 %, down to 80 %";
  EXPECT_EQ(Present(a, 3, 15), 12);
  EXPECT_EQ(Present(c, 0, 10), 10);
}

TEST_F(MetaQuotas, ReplicasAndWhatWaitsForLeasesCount) {
  FakeNode n = Join("n", 4_MiB), m = Join("m", 4_MiB);
  const Who a = Open("a");
  ASSERT_EQ(Put(a.session, a.Key(0), 256_KiB, PutSpec{.tenant = a.slot, .replicas = 2}), Code::kOk);
  EXPECT_EQ(Use(a).used_bytes, 512_KiB);
  EXPECT_EQ(Use(a).value_bytes, 256_KiB);
  Lookup(a.Key(0), 100s);
  ASSERT_EQ(Remove(a.Key(0)), Code::kOk);
  SyncAll(n);
  SyncAll(m);
  EXPECT_EQ(Use(a).used_bytes, 512_KiB) << "a reader may still use it";
  EXPECT_EQ(Use(a).waiting_bytes, 512_KiB);
  Fill(a, 1, 9);
  EXPECT_EQ(PutOf(a, 20), Code::kNoSpace) << "removing what is leased makes no room";
  clock_.Advance(101s);
  state_.Reap(now());
  EXPECT_EQ(Use(a).waiting_bytes, 64_KiB) << "what the last put pushed out";
  EXPECT_EQ(PutOf(a, 20), Code::kOk);
}

TEST_F(MetaQuotas, SessionsGrantsAndPinsAreCappedForEach) {
  Join("n", 4_MiB);
  const Who c = Open("c"), d = Open("d");
  Open("c");
  Open("c");
  const auto refused = state_.OpenSession("test", "h", 1, now(), c.slot);
  EXPECT_EQ(refused.status().code(), Code::kQueueFull) << refused.status().ToString();
  EXPECT_EQ(Use(c).sessions, 3u);
  Open("d");

  std::vector<std::string> keys;
  for (int i = 0; i < 101; ++i) keys.push_back(c.Key(i));
  const auto rows = PutStart(c.session, keys, 4096, PutSpec{.tenant = c.slot});
  EXPECT_EQ(rows[99].code, Code::kOk);
  EXPECT_EQ(rows[100].code, Code::kQueueFull);
  EXPECT_EQ(Use(c).grants, 100u);
  EXPECT_EQ(PutOf(d, 0), Code::kOk);
  for (Code code : Commit(c.session, Grants({rows.begin(), rows.begin() + 100}))) ASSERT_EQ(code, Code::kOk);
  for (int i = 0; i < 10; ++i) ASSERT_EQ(Lookup(c.Key(i), 1s, c.session, true).code, Code::kOk);
  EXPECT_EQ(Lookup(c.Key(10), 1s, c.session, true).code, Code::kQueueFull);
  EXPECT_EQ(Lookup(d.Key(0), 1s, d.session, true).code, Code::kOk);

  ASSERT_TRUE(state_.CloseSession(c.session, now()).ok());
  EXPECT_EQ(Use(c).sessions, 2u);
  EXPECT_EQ(Use(c).pins, 0u);
  EXPECT_EQ(Use(c).grants, 0u);
}

TEST_F(MetaTenants, OneTenantsWordKeepsNobodyFromANodeForLong) {
  const FakeNode node = Join("n", 4_MiB);
  const Who a = Open("a"), b = Open("b");
  const auto suspect = [this] {
    uint64_t version = 0;
    return state_.Directory(now(), &version)[0].health == NodeHealth::kSuspect;
  };
  int suspected = 0;
  for (int second = 0; second < 60; ++second) {
    ASSERT_TRUE(state_.ReportReplica(a.session, node.id, Code::kPeerUnreachable, now()).ok());
    ASSERT_TRUE(state_.NodeHeartbeat(node.id, node.incarnation, now()).ok());
    state_.CheckNodes(now());
    suspected += suspect();
    clock_.Advance(1s);
  }
  EXPECT_GT(suspected, 0);
  EXPECT_LE(suspected, 10);
  ASSERT_FALSE(suspect());
  ASSERT_TRUE(state_.ReportReplica(b.session, node.id, Code::kPeerUnreachable, now()).ok());
  EXPECT_TRUE(suspect()) << "another one's word counts";
}

// Whatever happened, what the tenants hold is what the pool has given out.
TEST_F(MetaQuotas, TheBooksBalance) {
  FakeNode node = Join("n", 4_MiB);
  std::vector<Who> all = {Open("a"), Open("b"), Open("c"), Open("")};
  std::mt19937_64 random(11);
  for (int step = 0; step < 3000; ++step) {
    Who& who = all[random() % all.size()];
    const int key = static_cast<int>(random() % 40);
    switch (random() % 8) {
      case 0:
      case 1:
      case 2:
        PutOf(who, key, 4096 * (1 + random() % 20));
        break;
      case 3:
        Remove(who.Key(key));
        break;
      case 4:
        Lookup(who.Key(key), 1s, who.session, random() % 4 == 0);
        break;
      case 5:
        PutStart(who.session, {who.Key(key)}, 8192, PutSpec{.tenant = who.slot});  // left behind
        break;
      case 6:
        clock_.Advance(200ms);
        state_.Reap(now());
        state_.EvictBetweenThresholds(10, now());
        break;
      default:
        if (random() % 10 == 0) {
          ASSERT_TRUE(state_.CloseSession(who.session, now()).ok());
          who = Open(who.name);
        } else {
          Sync(node);
        }
    }
    uint64_t used = 0, waiting = 0, objects = 0;
    for (const TenantFigures& tenant : state_.TenantUse()) {
      used += tenant.used_bytes;
      waiting += tenant.waiting_bytes;
      objects += tenant.objects;
      ASSERT_TRUE(tenant.quota_bytes == 0 || tenant.used_bytes <= tenant.quota_bytes) << tenant.name;
    }
    const Figures figures = state_.figures();
    ASSERT_EQ(used, figures.used_bytes) << "step " << step;
    ASSERT_EQ(waiting, figures.waiting_bytes) << "step " << step;
    ASSERT_EQ(objects, figures.objects);
  }
  EXPECT_GT(state_.figures().puts, 200u) << "or nothing was shown";
  EXPECT_GT(Use(all[0]).evicted_objects, 10u);
  for (Who& who : all) ASSERT_TRUE(state_.CloseSession(who.session, now()).ok());
  WalkCursor cursor;
  for (const Who& who : all) {
    for (cursor = {}; !cursor.done;) state_.RemoveStep(KeyMatch(who.name, {}), &cursor, now());
  }
  clock_.Advance(10s);
  SyncAll(node);
  SyncAll(node);
  state_.Reap(now());
  for (const TenantFigures& tenant : state_.TenantUse()) {
    EXPECT_EQ(tenant.used_bytes, 0u) << tenant.name;
    EXPECT_EQ(tenant.objects + tenant.grants + tenant.pins + tenant.sessions, 0u) << tenant.name;
  }
}

}  // namespace
}  // namespace mmc::meta
