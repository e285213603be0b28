// Nodes: join, resume, new incarnation, suspect, dead, leave; what happens to their objects.
#include <gtest/gtest.h>

#include "tests/unit/meta_fixture.h"

namespace mmc::meta {
namespace {

class MetaMembership : public MetaFixture {
 protected:
  NodeInfo Info(uint32_t node) {
    uint64_t version = 0;
    for (const NodeInfo& info : state_.Directory(now(), &version)) {
      if (info.id == node) return info;
    }
    return {};
  }
};

TEST_F(MetaMembership, TheSameIncarnationResumesWithItsObjects) {
  FakeNode node = Join("n", 2_MiB, 7);
  const uint64_t session = OpenSession();
  ASSERT_EQ(Put(session, "a", 4096), Code::kOk);
  Sync(node);
  JoinSpec again{.name = "n",
                 .incarnation = 7,
                 .host_id = "h",
                 .endpoints = {{"tcp", "127.0.0.1:2"}},
                 .segments = {{1, 1, Medium::kDram, 2_MiB, -1}},
                 .acked_seq = node.acked};
  const uint64_t version = state_.directory_version();
  const auto joined = state_.Join(again, now());
  ASSERT_TRUE(joined.ok());
  EXPECT_TRUE(joined->resumed);
  EXPECT_EQ(joined->node, node.id);
  EXPECT_TRUE(Exists("a"));
  EXPECT_GT(state_.directory_version(), version);
  EXPECT_EQ(Info(node.id).endpoints[0].address, "127.0.0.1:2");
  again.segments[0].size = 4_MiB;
  EXPECT_EQ(state_.Join(again, now()).code(), Code::kStaleNode);
}

TEST_F(MetaMembership, AnOlderJoinThatComesLateChangesNothing) {
  JoinSpec spec{.name = "n",
                .incarnation = 7,
                .host_id = "h",
                .endpoints = {{"tcp", "127.0.0.1:2"}},
                .segments = {{1, 1, Medium::kDram, 2_MiB, -1}},
                .join = 20};
  const auto joined = state_.Join(spec, now());
  ASSERT_TRUE(joined.ok());
  EXPECT_EQ(joined->newer_join, 0u);
  ASSERT_EQ(Put(OpenSession(), "a", 4096), Code::kOk);
  const uint64_t version = state_.directory_version();
  JoinSpec late = spec;  // of the process before
  late.join = 19;
  late.endpoints = {{"tcp", "127.0.0.1:1"}};
  EXPECT_EQ(state_.Join(late, now())->newer_join, 20u);
  late.incarnation = 6;  // and of the one before that
  EXPECT_EQ(state_.Join(late, now())->newer_join, 20u);
  EXPECT_EQ(Info(joined->node).endpoints[0].address, "127.0.0.1:2");
  EXPECT_EQ(state_.directory_version(), version);
  EXPECT_TRUE(Exists("a"));
  spec.join = 21;
  EXPECT_TRUE(state_.Join(spec, now())->resumed);
  spec.join = 0;  // of a version that does not number them
  EXPECT_TRUE(state_.Join(spec, now())->resumed);
}

TEST_F(MetaMembership, WhatAnEarlierProcessSaidLateIsNotTheWordOfTheNode) {
  JoinSpec spec{.name = "n",
                .incarnation = 7,
                .host_id = "h",
                .segments = {{1, 1, Medium::kDram, 2_MiB, -1}},
                .join = 20};
  const uint32_t node = state_.Join(spec, now())->node;
  const uint64_t dead = OpenSession();
  ASSERT_EQ(PutStart(dead, {"a"}, 4096)[0].code, Code::kOk);
  ASSERT_TRUE(state_.CloseSession(dead, now()).ok());
  CatalogBatch batch;
  ASSERT_TRUE(state_.CatalogSync(node, 7, 0, {}, 10, &batch, now(), false, 20).ok());
  ASSERT_EQ(batch.fences, std::vector<uint64_t>{dead});
  spec.join = 21;
  ASSERT_TRUE(state_.Join(spec, now())->resumed);
  EXPECT_EQ(state_.CatalogSync(node, 7, 0, {&dead, 1}, 10, &batch, now(), false, 20).code(), Code::kStaleNode);
  EXPECT_EQ(Used(), 4096u) << "the new process may have let it in";
  EXPECT_EQ(state_.TakeReport(node, 7, {}, true, now(), 20).code(), Code::kStaleNode);
  batch = {};
  ASSERT_TRUE(state_.CatalogSync(node, 7, 0, {}, 10, &batch, now(), false, 21).ok());
  ASSERT_TRUE(state_.CatalogSync(node, 7, 0, {&dead, 1}, 10, &batch, now(), false, 21).ok());
  EXPECT_EQ(Used(), 0u);
}

TEST_F(MetaMembership, ANewIncarnationDropsTheOldReplicas) {
  FakeNode old = Join("n", 2_MiB, 1);
  const FakeNode other = Join("other", 2_MiB);
  const uint64_t session = OpenSession();
  const std::vector<uint32_t> here{old.id};
  PutSpec spec;
  spec.preferred = here;
  ASSERT_EQ(Put(session, "only here", 4096, spec), Code::kOk);
  spec.replicas = 2;
  ASSERT_EQ(Put(session, "both", 4096, spec), Code::kOk);
  const auto writing = PutStart(session, {"writing"}, 4096, PutSpec{.preferred = here});
  FakeNode fresh = Join("n", 2_MiB, 2);
  EXPECT_EQ(fresh.id, old.id) << "a node is its name";
  EXPECT_FALSE(Exists("only here"));
  ASSERT_TRUE(Exists("both"));
  EXPECT_EQ(Lookup("both").replicas, 1u);
  EXPECT_EQ(views_.replicas[0].node, other.id);
  EXPECT_EQ(Commit(session, Grants(writing))[0], Code::kReplicasLost);
  EXPECT_EQ(Used(), 4096u) << "the new segment is empty";
  EXPECT_EQ(state_.NodeHeartbeat(old.id, 1, now()).code(), Code::kStaleNode);
  EXPECT_EQ(Sync(fresh), 0u) << "nothing of the old incarnation is told to the new one";
}

TEST_F(MetaMembership, SuspectGetsNoPlacementAndDeadLosesItsObjects) {
  FakeNode node = Join("n", 2_MiB);
  const uint64_t session = OpenSession();
  ASSERT_EQ(Put(session, "a", 4096), Code::kOk);
  clock_.Advance(4s);
  state_.CheckNodes(now());
  EXPECT_EQ(Info(node.id).health, NodeHealth::kSuspect);
  EXPECT_EQ(PutStart(session, {"b"}, 4096)[0].code, Code::kNoNode);
  EXPECT_EQ(Lookup("a").code, Code::kOk) << "reads are still tried";
  EXPECT_EQ(*state_.NodeHeartbeat(node.id, 1, now()), NodeHealth::kServing);
  EXPECT_EQ(Put(session, "b", 4096), Code::kOk);
  clock_.Advance(31s);
  state_.CheckNodes(now());
  EXPECT_EQ(Info(node.id).health, NodeHealth::kDead);
  EXPECT_FALSE(Exists("a"));
  EXPECT_EQ(state_.figures().objects, 0u);
  EXPECT_EQ(state_.NodeHeartbeat(node.id, 1, now()).code(), Code::kStaleNode);
  JoinSpec back{.name = "n", .incarnation = 1, .segments = {{1, 1, Medium::kDram, 2_MiB, -1}}};
  EXPECT_EQ(state_.Join(back, now()).code(), Code::kStaleNode)
      << "late writers of that incarnation may be about";
  EXPECT_EQ(Join("n", 2_MiB, 2).id, node.id);
}

TEST_F(MetaMembership, WhatAStoppedServiceDidNotHearIsNobodysSilence) {
  const FakeNode node = Join("n", 2_MiB);
  const uint64_t session = OpenSession();
  ASSERT_EQ(Put(session, "a", 4096), Code::kOk);
  clock_.Advance(3600s);
  state_.Resumed(now());
  state_.CheckNodes(now());
  EXPECT_EQ(state_.ExpireSessions(now()), 0u);
  EXPECT_EQ(Info(node.id).health, NodeHealth::kServing);
  EXPECT_TRUE(Exists("a"));
  clock_.Advance(9s);
  state_.CheckNodes(now());
  EXPECT_EQ(state_.ExpireSessions(now()), 0u);
  EXPECT_EQ(Info(node.id).health, NodeHealth::kSuspect) << "from here on it counts";
  clock_.Advance(22s);
  state_.CheckNodes(now());
  EXPECT_EQ(state_.ExpireSessions(now()), 1u);
  EXPECT_EQ(Info(node.id).health, NodeHealth::kDead);
}

TEST_F(MetaMembership, AReportMakesSuspectForAWhile) {
  const FakeNode node = Join("n", 2_MiB);
  const uint64_t session = OpenSession();
  ASSERT_TRUE(state_.ReportReplica(session, node.id, Code::kStaleRegion, now()).ok());
  EXPECT_EQ(Info(node.id).health, NodeHealth::kServing) << "says nothing about the node";
  ASSERT_TRUE(state_.ReportReplica(session, node.id, Code::kPeerUnreachable, now()).ok());
  EXPECT_EQ(Info(node.id).health, NodeHealth::kSuspect);
  EXPECT_EQ(*state_.NodeHeartbeat(node.id, 1, now()), NodeHealth::kSuspect);
  clock_.Advance(4s);
  EXPECT_EQ(*state_.NodeHeartbeat(node.id, 1, now()), NodeHealth::kServing);
  EXPECT_EQ(state_.ReportReplica(session, 99, Code::kPeerUnreachable, now()).code(),
            Code::kNotFound);
  EXPECT_EQ(state_.ReportReplica(12345, node.id, Code::kPeerUnreachable, now()).code(),
            Code::kSessionLost);
}

TEST_F(MetaMembership, LeavingDropsTheObjectsAtOnce) {
  FakeNode node = Join("n", 2_MiB);
  const uint64_t session = OpenSession();
  ASSERT_EQ(Put(session, "a", 4096), Code::kOk);
  Lookup("a", 100s, session, true);
  PutStart(session, {"w"}, 4096);
  ASSERT_TRUE(state_.NodeLeave(node.id, 1, now()).ok());
  EXPECT_FALSE(Exists("a"));
  EXPECT_EQ(Info(node.id).id, 0u) << "not in the directory any more";
  EXPECT_EQ(state_.figures().capacity_bytes, 0u);
  EXPECT_EQ(state_.NodeLeave(node.id, 1, now()).code(), Code::kStaleNode);
  ASSERT_TRUE(state_.CloseSession(session, now()).ok());
  EXPECT_EQ(state_.figures().pins, 0u);
  state_.Reap(now());
}

TEST_F(MetaMembership, AWrongAcknowledgementIsRefused) {
  const FakeNode node = Join("n", 2_MiB);
  CatalogBatch batch;
  EXPECT_EQ(state_.CatalogSync(node.id, 1, 5, {}, 10, &batch, now()).code(),
            Code::kInvalidArgument);
  EXPECT_EQ(state_.CatalogSync(node.id, 2, 0, {}, 10, &batch, now()).code(), Code::kStaleNode);
  EXPECT_EQ(state_.CatalogSync(77, 1, 0, {}, 10, &batch, now()).code(), Code::kStaleNode);
}

TEST_F(MetaMembership, ALostAnswerIsSentAgain) {
  const FakeNode node = Join("n", 2_MiB);
  ASSERT_EQ(Put(OpenSession(), "a", 4096), Code::kOk);
  CatalogBatch first, second;
  ASSERT_TRUE(state_.CatalogSync(node.id, 1, 0, {}, 10, &first, now()).ok());
  ASSERT_TRUE(state_.CatalogSync(node.id, 1, 0, {}, 10, &second, now()).ok());
  ASSERT_EQ(second.entries.size(), 1u);
  EXPECT_EQ(second.entries[0].seq, first.entries[0].seq);
  EXPECT_TRUE(second.fresh);
}

TEST_F(MetaMembership, SegmentsOfTheDeadAreForgottenAndTheirSlotsUsedAgain) {
  for (uint64_t incarnation = 1; incarnation <= 200; ++incarnation) {
    FakeNode node = Join("n", 2_MiB, incarnation);
    const uint64_t session = OpenSession();
    ASSERT_EQ(Put(session, "k" + std::to_string(incarnation), 4096), Code::kOk);
    Lookup("k" + std::to_string(incarnation), 1s, session, true);
    PutStart(session, {"w"}, 4096);
    if (incarnation % 2 == 0) {
      ASSERT_TRUE(state_.CloseSession(session, now()).ok());
    }
    clock_.Advance(11s);
    state_.ExpireSessions(now());
    state_.Reap(now());
  }
  EXPECT_EQ(state_.figures().objects, 1u);
  EXPECT_EQ(state_.figures().capacity_bytes, 2_MiB);
}

}  // namespace
}  // namespace mmc::meta
