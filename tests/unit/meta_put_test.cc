// PutStart, PutCommit, PutAbort at the state: visibility, duplicates, placement, space.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "tests/unit/meta_fixture.h"

namespace mmc::meta {
namespace {

class MetaPut : public MetaFixture {};

TEST_F(MetaPut, AKeyIsInvisibleUntilItsCommit) {
  FakeNode node = Join("n", 16_MiB);
  const uint64_t session = OpenSession();
  const auto rows = PutStart(session, {"a"}, 10'000);
  ASSERT_EQ(rows[0].code, Code::kOk);
  ASSERT_EQ(rows[0].replicas, 1u);
  EXPECT_EQ(views_.replicas[0].node, node.id);
  EXPECT_EQ(views_.extents[0].length, 10'000u);
  EXPECT_FALSE(Exists("a"));
  EXPECT_EQ(Lookup("a").code, Code::kNotFound);
  EXPECT_EQ(Remove("a"), Code::kNotFound);
  EXPECT_EQ(Used(), 12'288u) << "in units of 4 KiB";
  EXPECT_EQ(Commit(session, Grants(rows))[0], Code::kOk);
  EXPECT_TRUE(Exists("a"));
  const ReadRow row = Lookup("a");
  EXPECT_EQ(row.code, Code::kOk);
  EXPECT_EQ(row.size, 10'000u);
  EXPECT_EQ(Sync(node), 1u);
  EXPECT_EQ(node.catalog.at("a"), row.generation);
  EXPECT_EQ(state_.figures().grants, 0u);
}

TEST_F(MetaPut, ACommittedKeyAnswersExistsAndItsValueStays) {
  Join("n", 16_MiB);
  const uint64_t session = OpenSession();
  ASSERT_EQ(Put(session, "a", 4096), Code::kOk);
  const uint64_t generation = Lookup("a").generation;
  const auto rows = PutStart(session, {"a"}, 8192);
  EXPECT_EQ(rows[0].code, Code::kExists);
  EXPECT_TRUE(rows[0].settled);
  EXPECT_EQ(Lookup("a").generation, generation);
  EXPECT_EQ(Used(), 4096u);
}

TEST_F(MetaPut, ASecondWriterIsToldToWaitAndTakesOverAfterAnAbort) {
  Join("n", 16_MiB);
  const uint64_t first = OpenSession(), second = OpenSession();
  const auto rows = PutStart(first, {"a"}, 4096);
  const auto other = PutStart(second, {"a"}, 4096);
  EXPECT_EQ(other[0].code, Code::kBeingWritten);
  EXPECT_FALSE(other[0].settled) << "waiting may help";
  EXPECT_EQ(Used(), 4096u);
  std::vector<Code> codes(1);
  ASSERT_TRUE(state_.PutAbort(first, Grants(rows), false, codes, now()).ok());
  EXPECT_EQ(codes[0], Code::kOk);
  EXPECT_EQ(Used(), 0u) << "an abort gives the space back at once";
  EXPECT_EQ(Put(second, "a", 4096), Code::kOk);
  EXPECT_EQ(Commit(first, Grants(rows))[0], Code::kGrantLost) << "the old grant is dead";
}

TEST_F(MetaPut, TheSameKeyTwiceInOneCallNeverWaitsForItself) {
  Join("n", 16_MiB);
  const uint64_t session = OpenSession();
  const auto rows = PutStart(session, {"a", "b", "a"}, 4096);
  EXPECT_EQ(rows[0].code, Code::kOk);
  EXPECT_EQ(rows[1].code, Code::kOk);
  EXPECT_EQ(rows[2].code, Code::kBeingWritten);
  EXPECT_TRUE(rows[2].settled);
}

TEST_F(MetaPut, AGrantIsOfOneSessionAndOneUse) {
  Join("n", 16_MiB);
  const uint64_t mine = OpenSession(), other = OpenSession();
  const auto grants = Grants(PutStart(mine, {"a"}, 4096));
  EXPECT_EQ(Commit(other, grants)[0], Code::kGrantLost);
  EXPECT_EQ(Commit(mine, {grants[0] + (uint64_t{1} << 32)})[0], Code::kGrantLost);
  EXPECT_EQ(Commit(mine, {0, ~uint64_t{0}, 0xFF})[1], Code::kGrantLost);
  EXPECT_EQ(Commit(mine, grants)[0], Code::kOk);
  EXPECT_EQ(Commit(mine, grants)[0], Code::kGrantLost);
  std::vector<Code> codes(1);
  EXPECT_EQ(state_.PutCommit(999, grants, {}, {}, codes, now()).code(), Code::kSessionLost);
}

TEST_F(MetaPut, ReplicasAreOnDistinctNodes) {
  for (int i = 0; i < 4; ++i) Join("n" + std::to_string(i), 16_MiB);
  const uint64_t session = OpenSession();
  PutSpec spec;
  spec.replicas = 3;
  for (int i = 0; i < 50; ++i) {
    const auto rows = PutStart(session, {"k" + std::to_string(i)}, 5000, spec);
    ASSERT_EQ(rows[0].code, Code::kOk);
    std::set<uint32_t> nodes;
    for (const ReplicaView& replica : views_.replicas) nodes.insert(replica.node);
    EXPECT_EQ(nodes.size(), 3u);
  }
  spec.replicas = 5;
  EXPECT_EQ(PutStart(session, {"more"}, 5000, spec)[0].code, Code::kNoNode)
      << "fewer replicas than asked for would be a silent loss of safety";
  EXPECT_EQ(state_.figures().grants, 50u);
}

TEST_F(MetaPut, PreferredThenLocalThenTheEmptier) {
  const FakeNode a = Join("a", 16_MiB, 1, "host-a"), b = Join("b", 16_MiB, 1, "host-b");
  const FakeNode c = Join("c", 64_MiB, 1, "host-c");
  const uint64_t session = OpenSession("host-b");
  PutSpec local;
  local.prefer_local = true;
  PutStart(session, {"local"}, 4096, local);
  EXPECT_EQ(views_.replicas[0].node, b.id);
  const std::vector<uint32_t> wanted{a.id};
  PutSpec preferred = local;
  preferred.preferred = wanted;
  PutStart(session, {"preferred"}, 4096, preferred);
  EXPECT_EQ(views_.replicas[0].node, a.id);
  std::map<uint32_t, int> count;
  for (int i = 0; i < 300; ++i) {
    PutStart(session, {"k" + std::to_string(i)}, 4096);
    ++count[views_.replicas[0].node];
  }
  EXPECT_GT(count[c.id], count[a.id] + count[b.id]) << "two are drawn, the one with more free bytes is taken";
  EXPECT_GT(count[a.id] + count[b.id], 0);
}

TEST_F(MetaPut, SeveralNodesOfTheHostShareItsObjects) {
  const FakeNode a = Join("a", 16_MiB, 1, "host"), b = Join("b", 16_MiB, 1, "host");
  const FakeNode far = Join("far", 1_GiB, 1, "elsewhere");
  const uint64_t session = OpenSession("host");
  PutSpec local;
  local.prefer_local = true;
  std::map<uint32_t, int> count;
  for (int i = 0; i < 200; ++i) {
    PutStart(session, {"k" + std::to_string(i)}, 4096, local);
    ++count[views_.replicas[0].node];
  }
  EXPECT_GT(count[a.id], 50);
  EXPECT_GT(count[b.id], 50);
  EXPECT_EQ(count[far.id], 0);
}

TEST_F(MetaPut, AFullNodeIsPassedOverWhileAnotherHasRoom) {
  const FakeNode a = Join("a", 2_MiB), b = Join("b", 64_MiB);
  const uint64_t session = OpenSession();
  const std::vector<uint32_t> wanted{a.id};
  PutSpec spec;
  spec.preferred = wanted;
  ASSERT_EQ(Put(session, "fills a", 2_MiB, spec), Code::kOk);
  ASSERT_EQ(Put(session, "goes to b", 2_MiB, spec), Code::kOk);
  EXPECT_EQ(Lookup("goes to b").code, Code::kOk);
  EXPECT_EQ(views_.replicas[0].node, b.id);
  EXPECT_TRUE(Exists("fills a"));
}

TEST_F(MetaPut, AnotherMediumOnlyWhenAllowedAndNeeded) {
  const FakeNode hbm = Join("hbm", 16_MiB, 1, "h", Medium::kHbm);
  const uint64_t session = OpenSession();
  PutSpec strict;
  strict.strict_medium = true;
  EXPECT_EQ(PutStart(session, {"a"}, 4096, strict)[0].code, Code::kNoNode);
  EXPECT_EQ(PutStart(session, {"a"}, 4096)[0].code, Code::kOk);
  EXPECT_EQ(views_.replicas[0].node, hbm.id);
  Join("dram", 16_MiB);
  PutStart(session, {"b"}, 4096);
  EXPECT_NE(views_.replicas[0].node, hbm.id);
}

TEST_F(MetaPut, ASizeThatFitsNoSegmentIsNoNode) {
  Join("n", 16_MiB);
  EXPECT_EQ(PutStart(OpenSession(), {"a"}, 32_MiB)[0].code, Code::kNoNode);
}

TEST_F(MetaPut, FragmentationNeverFailsAPut) {
  FakeNode node = Join("n", 2_MiB);  // 512 units
  const uint64_t session = OpenSession();
  std::vector<std::string> keys;
  for (int i = 0; i < 512; ++i) keys.push_back("k" + std::to_string(i));
  Commit(session, Grants(PutStart(session, keys, 4096)));
  for (int i = 0; i < 512; i += 2) ASSERT_EQ(Remove(keys[i]), Code::kOk);
  SyncAll(node);
  const auto rows = PutStart(session, {"big"}, 1_MiB - 100);
  ASSERT_EQ(rows[0].code, Code::kOk);
  EXPECT_EQ(views_.replicas[0].extents, 256u);
  uint64_t sum = 0;
  for (const ExtentView& extent : views_.extents) sum += extent.length;
  EXPECT_EQ(sum, 1_MiB - 100);
  EXPECT_EQ(Commit(session, Grants(rows))[0], Code::kOk);
  EXPECT_EQ(Remove("big"), Code::kOk);
  SyncAll(node);
  EXPECT_EQ(Used(), 1_MiB);
}

TEST_F(MetaPut, FailedReplicasAreGivenUpAndAllFailedIsReplicasLost) {
  FakeNode a = Join("a", 16_MiB), b = Join("b", 16_MiB);
  const uint64_t session = OpenSession();
  PutSpec spec;
  spec.replicas = 2;
  const auto one = PutStart(session, {"one"}, 4096, spec);
  const uint32_t second = views_.replicas[1].node;
  const auto none = PutStart(session, {"none"}, 4096, spec);
  EXPECT_EQ(Commit(session, Grants(one), {0b01})[0], Code::kOk);
  EXPECT_EQ(Commit(session, Grants(none), {0b11})[0], Code::kReplicasLost);
  EXPECT_FALSE(Exists("none"));
  EXPECT_EQ(Lookup("one").replicas, 1u);
  EXPECT_EQ(views_.replicas[0].node, second);
  EXPECT_EQ(Used(), 4096u);
  SyncAll(a);
  SyncAll(b);
  EXPECT_EQ(a.catalog.size() + b.catalog.size(), 1u);
}

TEST_F(MetaPut, AFullCatalogQueuePushesBackAndTheGrantStays) {
  StateOptions options;
  options.max_feed_records = 2;
  MetaState small(options);
  JoinSpec join{.name = "n", .incarnation = 1, .segments = {{1, 1, Medium::kDram, 16_MiB, -1}}};
  const uint32_t node = small.Join(join, now())->node;
  const uint64_t session = *small.OpenSession("s", "h", 1, now());
  const std::string keys[] = {"a", "b", "c"};
  std::vector<PutRow> rows(3);
  for (int i = 0; i < 3; ++i) rows[i] = {.key = keys[i], .hash = HashKey(keys[i]), .size = 4096};
  Views views;
  ASSERT_TRUE(small.PutStart({.session = session, .call = 1}, rows, &views, now()).ok());
  std::vector<Code> codes(3);
  ASSERT_TRUE(small.PutCommit(session, Grants(rows), {}, {}, codes, now()).ok());
  EXPECT_EQ(std::count(codes.begin(), codes.end(), Code::kQueueFull), 1);
  CatalogBatch batch;
  ASSERT_TRUE(small.CatalogSync(node, 1, 0, {}, 10, &batch, now()).ok());
  ASSERT_TRUE(small.CatalogSync(node, 1, 2, {}, 10, &batch, now()).ok());
  ASSERT_TRUE(small.PutCommit(session, Grants(rows), {}, {}, codes, now()).ok());
  EXPECT_EQ(std::count(codes.begin(), codes.end(), Code::kOk), 1);
  EXPECT_EQ(small.figures().objects, 3u);
}

}  // namespace
}  // namespace mmc::meta
