// Goal: objects get back the replicas they lost, a drained node ends up empty, and neither pins nor space are left
// behind, whatever happens to nodes and objects in between. Method: a state turned by hand, nodes that answer when
// told to.
#include "meta_service/mover/mover.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "meta_service/mover/scrubs.h"
#include "proto/key_list.h"
#include "tests/unit/meta_fixture.h"

namespace mmc::meta {
namespace {

using Commands = google::protobuf::RepeatedPtrField<proto::CopyCommand>;

class MoverTest : public MetaFixture {
 protected:
  explicit MoverTest(MoverOptions options = {}) : mover_(state_, options) {}

  FakeNode Node(const std::string& name, uint64_t bytes = 16_MiB) {
    FakeNode node = Join(name, bytes, 1, "host-" + name);
    names_[node.id] = name;
    return node;
  }
  Code PutTwice(const std::string& key, uint64_t size) { return Put(session_, key, size, {.replicas = 2}); }
  Commands Collect(const FakeNode& node, bool* fresh = nullptr) {
    Commands commands;
    const bool is_fresh = mover_.Collect(node.id, &commands);
    if (fresh != nullptr) *fresh = is_fresh;
    return commands;
  }
  void Tick() {
    clock_.Advance(10ms);
    mover_.Tick(now());
  }
  // Every node does what it is asked, until nobody is asked for anything.
  size_t CopyAll(std::initializer_list<FakeNode*> nodes, Code code = Code::kOk, int ticks = 400) {
    size_t copies = 0;
    for (int idle = 0; idle < ticks; ++idle) {
      Tick();
      for (FakeNode* node : nodes) {
        for (const auto& command : Collect(*node)) {
          ++copies;
          mover_.Finish(node->id, command.id(), code, now());
        }
        SyncAll(*node);
      }
      state_.Reap(now());
    }
    return copies;
  }
  // Only the others live on.
  void Kill(const FakeNode& node, std::initializer_list<FakeNode*> others) {
    clock_.Advance(29s);
    for (FakeNode* other : others) Sync(*other);
    ASSERT_TRUE(state_.SessionHeartbeat(session_, now()).ok());
    clock_.Advance(2s);
    for (FakeNode* other : others) Sync(*other);
    ASSERT_TRUE(state_.SessionHeartbeat(session_, now()).ok());
    state_.CheckNodes(now());
    (void)node;
  }
  std::vector<uint32_t> NodesOf(const std::string& key) {
    const std::string_view view = key;
    ReadRow row;
    views_.Clear();
    state_.Stat({&view, 1}, {&row, 1}, &views_, now());
    std::vector<uint32_t> nodes;
    for (uint32_t i = 0; row.code == Code::kOk && i < row.replicas; ++i) nodes.push_back(views_.replicas[i].node);
    std::sort(nodes.begin(), nodes.end());
    return nodes;
  }
  NodeInfo Info(const FakeNode& node) {
    uint64_t version = 0;
    for (NodeInfo& info : state_.Directory(now(), &version)) {
      if (info.id == node.id) return info;
    }
    return {};
  }
  uint64_t Pins() const { return state_.figures().pins; }

  Mover mover_;
  std::map<uint32_t, std::string> names_;
  uint64_t session_ = OpenSession();
};

TEST_F(MoverTest, AnObjectThatLostAReplicaGetsAnother) {
  FakeNode a = Node("a"), b = Node("b"), c = Node("c");
  ASSERT_EQ(Put(session_, "k", 10'000, {.replicas = 2, .preferred = std::vector<uint32_t>{a.id, b.id}}), Code::kOk);
  ASSERT_EQ(NodesOf("k"), (std::vector<uint32_t>{a.id, b.id}));
  EXPECT_EQ(mover_.figures().under_replicated, 0u);
  for (FakeNode* node : {&a, &b, &c}) SyncAll(*node);
  Kill(a, {&b, &c});
  EXPECT_EQ(mover_.figures().under_replicated, 1u);
  EXPECT_EQ(NodesOf("k"), (std::vector<uint32_t>{b.id}));

  Tick();
  bool fresh = false;
  const Commands commands = Collect(c, &fresh);
  ASSERT_EQ(commands.size(), 1);
  EXPECT_TRUE(fresh);
  EXPECT_EQ(Collect(b).size(), 0);
  const proto::CopyCommand& command = commands[0];
  EXPECT_EQ(command.key(), "k");
  EXPECT_EQ(command.size(), 10'000u);
  EXPECT_EQ(command.source_name(), "b");
  EXPECT_EQ(command.source_host_id(), "host-b");
  EXPECT_EQ(command.source_endpoints_size(), 1);
  EXPECT_EQ(std::accumulate(command.length().begin(), command.length().end(), uint64_t{0}), 10'000u);
  EXPECT_EQ(std::accumulate(command.source_length().begin(), command.source_length().end(), uint64_t{0}), 10'000u);
  EXPECT_EQ(Pins(), 1u) << "the source must not be evicted while it is read";
  // Until it is answered it is told again, but does not wake anybody.
  EXPECT_EQ(Collect(c, &fresh).size(), 1);
  EXPECT_FALSE(fresh);

  mover_.Finish(c.id, command.id(), Code::kOk, now());
  EXPECT_EQ(NodesOf("k"), (std::vector<uint32_t>{b.id, c.id}));
  EXPECT_EQ(mover_.figures().under_replicated, 0u);
  EXPECT_EQ(mover_.figures().copied_bytes, 10'000u);
  EXPECT_EQ(Pins(), 0u);
  SyncAll(c);
  EXPECT_EQ(c.catalog.count("k"), 1u) << "its catalog must know the new replica";
  EXPECT_EQ(c.catalog["k"], b.catalog["k"]);
  EXPECT_EQ(Collect(c).size(), 0);
  // Twice the same answer changes nothing.
  mover_.Finish(c.id, command.id(), Code::kOk, now());
  EXPECT_EQ(NodesOf("k").size(), 2u);
}

TEST_F(MoverTest, AWriteThatReachedOneReplicaOnlyIsMadeWhole) {
  FakeNode a = Node("a"), b = Node("b"), c = Node("c");
  const auto rows = PutStart(session_, {"k"}, 5000, {.replicas = 2});
  ASSERT_EQ(Commit(session_, Grants(rows), {0b10})[0], Code::kOk);
  EXPECT_EQ(mover_.figures().under_replicated, 1u);
  EXPECT_EQ(CopyAll({&a, &b, &c}, Code::kOk, 5), 1u);
  EXPECT_EQ(NodesOf("k").size(), 2u);
  EXPECT_EQ(mover_.figures().under_replicated, 0u);
}

TEST_F(MoverTest, AFailedCopyGivesItsSpaceBackAndIsTriedAgain) {
  FakeNode a = Node("a"), b = Node("b");
  const auto rows = PutStart(session_, {"k"}, 1_MiB, {.replicas = 2});
  ASSERT_EQ(Commit(session_, Grants(rows), {0b01})[0], Code::kOk);
  const uint64_t used = Used();
  FakeNode& to = NodesOf("k")[0] == a.id ? b : a;
  Tick();
  Commands commands = Collect(to);
  ASSERT_EQ(commands.size(), 1);
  EXPECT_EQ(Used(), used + 1_MiB);
  mover_.Finish(to.id, commands[0].id(), Code::kPeerUnreachable, now());
  EXPECT_EQ(mover_.figures().failed, 1u);
  EXPECT_EQ(Used(), used);
  EXPECT_EQ(Pins(), 0u);
  Tick();
  EXPECT_EQ(Collect(to).size(), 0) << "not again at once";
  clock_.Advance(1s);
  Tick();
  commands = Collect(to);
  ASSERT_EQ(commands.size(), 1);
  mover_.Finish(to.id, commands[0].id(), Code::kOk, now());
  EXPECT_EQ(NodesOf("k").size(), 2u);
}

TEST_F(MoverTest, WhatIsRemovedWhileItIsCopiedStaysRemoved) {
  FakeNode a = Node("a"), b = Node("b");
  const auto rows = PutStart(session_, {"k"}, 1_MiB, {.replicas = 2});
  ASSERT_EQ(Commit(session_, Grants(rows), {0b01})[0], Code::kOk);
  FakeNode& to = NodesOf("k")[0] == a.id ? b : a;
  Tick();
  const Commands commands = Collect(to);
  ASSERT_EQ(commands.size(), 1);
  ASSERT_EQ(Remove("k"), Code::kOk);
  EXPECT_EQ(mover_.figures().under_replicated, 0u);
  EXPECT_EQ(Used(), 2_MiB) << "both the source, being read, and the destination, being written, are held";
  mover_.Finish(to.id, commands[0].id(), Code::kOk, now());
  EXPECT_FALSE(Exists("k"));
  for (int i = 0; i < 3; ++i) {
    SyncAll(a);
    SyncAll(b);
    clock_.Advance(100ms);
    state_.Reap(now());
  }
  EXPECT_EQ(Used(), 0u);
  EXPECT_EQ(Pins(), 0u);
  EXPECT_TRUE(a.catalog.empty() && b.catalog.empty());
}

TEST_F(MoverTest, ADestinationThatDiesIsReplaced) {
  FakeNode a = Node("a"), b = Node("b"), c = Node("c");
  ASSERT_EQ(Put(session_, "k", 1_MiB, {.replicas = 2, .preferred = std::vector<uint32_t>{a.id, b.id}}), Code::kOk);
  FakeNode d = Node("d");
  for (FakeNode* node : {&a, &b, &c, &d}) SyncAll(*node);
  Kill(b, {&a, &c, &d});
  Tick();
  FakeNode& first = Collect(c).empty() ? d : c;
  FakeNode& second = &first == &c ? d : c;
  ASSERT_EQ(Collect(first).size(), 1);
  const uint64_t late = Collect(first)[0].id();
  Kill(first, {&a, &second});
  EXPECT_EQ(CopyAll({&a, &second}, Code::kOk, 5), 1u);
  mover_.Finish(first.id, late, Code::kOk, now());
  std::vector<uint32_t> expected{a.id, second.id};
  std::sort(expected.begin(), expected.end());
  EXPECT_EQ(NodesOf("k"), expected);
  EXPECT_EQ(Pins(), 0u);
  EXPECT_EQ(Used(), 2_MiB);
}

TEST_F(MoverTest, ASourceThatDiesMakesItsCopyWorthless) {
  FakeNode a = Node("a"), b = Node("b");
  const auto rows = PutStart(session_, {"k"}, 1_MiB, {.replicas = 2});
  ASSERT_EQ(Commit(session_, Grants(rows), {0b10})[0], Code::kOk);
  FakeNode& from = NodesOf("k")[0] == a.id ? a : b;
  FakeNode& to = &from == &a ? b : a;
  Tick();
  const Commands commands = Collect(to);
  ASSERT_EQ(commands.size(), 1);
  Kill(from, {&to});
  EXPECT_FALSE(Exists("k"));
  EXPECT_EQ(Used(), 1_MiB) << "somebody may still write there";
  mover_.Finish(to.id, commands[0].id(), Code::kOk, now());
  EXPECT_FALSE(Exists("k"));
  SyncAll(to);
  EXPECT_EQ(Used(), 0u);
  EXPECT_EQ(Pins(), 0u);
}

TEST_F(MoverTest, EvictionOfOneOfTwoReplicasIsNoLoss) {
  FakeNode a = Node("a"), b = Node("b");
  ASSERT_EQ(PutTwice("k", 1_MiB), Code::kOk);
  EXPECT_GT(state_.EvictFrom(0, 1_MiB, EvictCause::kBackground, 100, now()), 0u);
  EXPECT_EQ(NodesOf("k").size(), 1u);
  EXPECT_EQ(mover_.figures().under_replicated, 0u) << "the room was needed, the copy must not come back";
}

TEST_F(MoverTest, CopiesDoNotMakeTheEvictorWork) {
  FakeNode a = Node("a", 16_MiB), b = Node("b", 4_MiB);
  ASSERT_EQ(Put(session_, "full", 3_MiB, {.preferred = std::vector<uint32_t>{b.id}}), Code::kOk);
  ASSERT_EQ(Put(session_, "k", 1_MiB, {.preferred = std::vector<uint32_t>{a.id}}), Code::kOk);
  ASSERT_TRUE(mover_.Drain("a", false, now()).ok());
  EXPECT_EQ(CopyAll({&a, &b}), 0u);  // 4 of 4 MiB would be above 90%
  EXPECT_EQ(NodesOf("k"), (std::vector<uint32_t>{a.id})) << "what fits nowhere stays";
  EXPECT_EQ(Info(a).drain_left_objects, 1u);
  EXPECT_EQ(Info(a).drain_left_bytes, 1_MiB);
  EXPECT_TRUE(Exists("full"));
  // It goes as soon as there is room.
  ASSERT_EQ(Remove("full"), Code::kOk);
  EXPECT_EQ(CopyAll({&a, &b}), 1u);
  EXPECT_EQ(NodesOf("k"), (std::vector<uint32_t>{b.id}));
}

TEST_F(MoverTest, ADrainedNodeLeavesAndNothingIsLost) {
  FakeNode a = Node("a"), b = Node("b"), c = Node("c");
  std::vector<std::string> keys;
  for (int i = 0; i < 300; ++i) {
    keys.push_back("key-" + std::to_string(i));
    ASSERT_EQ(Put(session_, keys.back(), 1000 + i * 37, {.replicas = 1u + i % 2}), Code::kOk);
  }
  ASSERT_GT(Info(a).objects, 50u);
  ASSERT_TRUE(mover_.Drain("a", false, now()).ok());
  EXPECT_EQ(Info(a).health, NodeHealth::kDraining);
  EXPECT_EQ(Info(a).drain_left_objects, Info(a).objects);
  for (int i = 0; i < 20; ++i) {
    keys.push_back("later-" + std::to_string(i));
    ASSERT_EQ(Put(session_, keys.back(), 5000), Code::kOk);
    EXPECT_NE(NodesOf(keys.back()), (std::vector<uint32_t>{a.id})) << "nothing new goes there";
  }
  CopyAll({&a, &b, &c});
  EXPECT_EQ(Info(a).drain_left_objects, 0u);
  EXPECT_EQ(Info(a).drain_left_bytes, 0u);
  EXPECT_TRUE(a.catalog.empty());
  EXPECT_EQ(Pins(), 0u);
  ASSERT_TRUE(state_.NodeLeave(a.id, a.incarnation, now()).ok());
  for (int i = 0; i < 300; ++i) EXPECT_EQ(NodesOf(keys[i]).size(), 1u + i % 2) << keys[i];
  for (const std::string& key : keys) EXPECT_TRUE(Exists(key)) << key;
  EXPECT_EQ(mover_.figures().under_replicated, 0u);
  EXPECT_EQ(b.catalog.size() + c.catalog.size(), 300u + 150u + 20u);
}

// Else a meta service that dies between the two finds the object in no catalog.
TEST_F(MoverTest, WhatIsDrainedIsForgottenOnceTheOtherCatalogHasIt) {
  FakeNode a = Node("a"), b = Node("b");
  ASSERT_EQ(Put(session_, "k", 1_MiB, {.preferred = std::vector<uint32_t>{a.id}}), Code::kOk);
  SyncAll(a);
  ASSERT_TRUE(mover_.Drain("a", false, now()).ok());
  EXPECT_EQ(CopyAll({&a}), 0u);
  for (const auto& command : Collect(b)) mover_.Finish(b.id, command.id(), Code::kOk, now());
  EXPECT_EQ(CopyAll({&a}), 0u);
  EXPECT_EQ(NodesOf("k"), (std::vector<uint32_t>{a.id, b.id}));
  EXPECT_EQ(a.catalog.size(), 1u);
  EXPECT_EQ(CopyAll({&a, &b}), 0u);
  EXPECT_EQ(NodesOf("k"), (std::vector<uint32_t>{b.id}));
  EXPECT_TRUE(a.catalog.empty());
}

TEST_F(MoverTest, ReadersOfADrainedNodeKeepTheirLeaseAndTheirPins) {
  FakeNode a = Node("a"), b = Node("b");
  ASSERT_EQ(Put(session_, "leased", 1_MiB, {.preferred = std::vector<uint32_t>{a.id}}), Code::kOk);
  ASSERT_EQ(Put(session_, "pinned", 1_MiB, {.preferred = std::vector<uint32_t>{a.id}}), Code::kOk);
  const uint64_t reader = OpenSession();
  const ReadRow pinned = Lookup("pinned", 1s, reader, true);
  ASSERT_EQ(pinned.code, Code::kOk);
  ASSERT_EQ(Lookup("leased", 9s).code, Code::kOk);
  ASSERT_TRUE(mover_.Drain("a", false, now()).ok());
  CopyAll({&a, &b}, Code::kOk, 200);
  EXPECT_EQ(NodesOf("leased"), (std::vector<uint32_t>{b.id}));
  EXPECT_EQ(NodesOf("pinned"), (std::vector<uint32_t>{a.id, b.id})) << "pinned bytes stay where they are";
  EXPECT_EQ(Info(a).drain_left_objects, 1u);
  EXPECT_EQ(Waiting(), 1_MiB) << "the leased bytes too, until the lease is over";
  Code code = Code::kOk;
  ASSERT_TRUE(state_.Unpin(reader, {&pinned.generation, 1}, {&code, 1}, now()).ok());
  CopyAll({&a, &b});
  EXPECT_EQ(NodesOf("pinned"), (std::vector<uint32_t>{b.id}));
  EXPECT_EQ(Info(a).drain_left_objects, 0u);
}

TEST_F(MoverTest, ACancelledDrainTakesObjectsAgain) {
  FakeNode a = Node("a");
  ASSERT_EQ(Put(session_, "k", 1_MiB), Code::kOk);
  ASSERT_TRUE(mover_.Drain("a", false, now()).ok());
  EXPECT_EQ(Put(session_, "no", 1_MiB), Code::kNoNode);
  ASSERT_TRUE(mover_.Drain("a", true, now()).ok());
  EXPECT_EQ(Info(a).health, NodeHealth::kServing);
  EXPECT_EQ(Put(session_, "yes", 1_MiB), Code::kOk);
  FakeNode b = Node("b");
  EXPECT_EQ(CopyAll({&a, &b}, Code::kOk, 20), 0u);
  EXPECT_EQ(mover_.Drain("nobody", false, now()).code(), Code::kNotFound);
}

TEST_F(MoverTest, ANewIncarnationIsNotDraining) {
  FakeNode a = Node("a");
  ASSERT_TRUE(mover_.Drain("a", false, now()).ok());
  ASSERT_TRUE(state_.NodeLeave(a.id, a.incarnation, now()).ok());
  Join("a", 16_MiB, 2);
  EXPECT_EQ(Put(session_, "k", 1_MiB), Code::kOk);
}

TEST_F(MoverTest, TwoBadCopiesOfOneSourceEndIt) {
  FakeNode a = Node("a"), b = Node("b"), c = Node("c");
  const auto rows = PutStart(session_, {"k"}, 1_MiB, {.replicas = 3});
  ASSERT_EQ(Commit(session_, Grants(rows), {0b100})[0], Code::kOk);
  const std::vector<uint32_t> held = NodesOf("k");
  EXPECT_EQ(CopyAll({&a, &b, &c}, Code::kCorrupt, 1), 1u);
  EXPECT_EQ(NodesOf("k"), held) << "once may be the fault of the way";
  clock_.Advance(1s);
  CopyAll({&a, &b, &c}, Code::kCorrupt, 2);
  EXPECT_LT(NodesOf("k").size(), held.size());
  EXPECT_GE(mover_.figures().bad_replicas, 1u);
}

TEST_F(MoverTest, BadReplicasGoAndTheOthersStay) {
  FakeNode a = Node("a"), b = Node("b");
  ASSERT_EQ(PutTwice("k", 1_MiB), Code::kOk);
  ASSERT_EQ(Put(session_, "lone", 1_MiB, {.preferred = std::vector<uint32_t>{a.id}}), Code::kOk);
  const uint64_t reader = OpenSession();
  const ReadRow row = Lookup("k", 1ms, reader, true);
  mover_.DropBad(a.id, "k", row.generation + 1, now());
  EXPECT_EQ(NodesOf("k").size(), 2u) << "of another generation";
  mover_.DropBad(a.id, "k", row.generation, now());
  EXPECT_EQ(NodesOf("k").size(), 2u) << "pinned bytes stay where they are";
  Code code = Code::kOk;
  ASSERT_TRUE(state_.Unpin(reader, {&row.generation, 1}, {&code, 1}, now()).ok());
  clock_.Advance(1s);
  mover_.Tick(now());
  EXPECT_EQ(NodesOf("k"), (std::vector<uint32_t>{b.id}));
  mover_.DropBad(a.id, "lone", Lookup("lone", 1ms).generation, now());
  EXPECT_FALSE(Exists("lone"));
  EXPECT_EQ(mover_.figures().bad_replicas, 2u);
}

class SlowMoverTest : public MoverTest {
 protected:
  SlowMoverTest() : MoverTest({.bytes_per_second = 10'000'000, .max_copies_per_node = 2}) {}
};

TEST_F(SlowMoverTest, KeepsItsPaceAndItsBounds) {
  FakeNode a = Node("a"), b = Node("b");
  for (int i = 0; i < 10; ++i) {
    ASSERT_EQ(Put(session_, "k" + std::to_string(i), 1'000'000, {.preferred = std::vector<uint32_t>{a.id}}), Code::kOk);
  }
  ASSERT_TRUE(mover_.Drain("a", false, now()).ok());
  EXPECT_LE(Collect(b).size(), 2);
  // 10 MB at 10 MB/s: after half a second no more than about half of it.
  CopyAll({&a, &b}, Code::kOk, 50);
  EXPECT_GE(mover_.figures().copied_objects, 3u);
  EXPECT_LE(mover_.figures().copied_objects, 7u);
  CopyAll({&a, &b}, Code::kOk, 100);
  EXPECT_EQ(mover_.figures().copied_objects, 10u);
}

TEST_F(SlowMoverTest, NoMoreThanSoManyAtOnce) {
  FakeNode a = Node("a"), b = Node("b");
  for (int i = 0; i < 10; ++i) {
    ASSERT_EQ(Put(session_, "k" + std::to_string(i), 1000, {.preferred = std::vector<uint32_t>{a.id}}), Code::kOk);
  }
  ASSERT_TRUE(mover_.Drain("a", false, now()).ok());
  for (int i = 0; i < 5; ++i) Tick();
  EXPECT_EQ(Collect(b).size(), 2);
  EXPECT_EQ(mover_.figures().in_flight, 2u);
}

TEST_F(MoverTest, ChecksAreAskedOnceAndCounted) {
  FakeNode a = Node("a"), b = Node("b");
  ASSERT_EQ(PutTwice("k", 1000), Code::kOk);
  const uint64_t generation = Lookup("k", 1ms).generation;
  Scrubs scrubs(mover_, 100);
  uint64_t version = 0;
  std::vector<uint32_t> asked;
  EXPECT_EQ(scrubs.Start("nobody", 0, state_.Directory(now(), &version), &asked).code(), Code::kNotFound);
  const auto id = scrubs.Start("", 5, state_.Directory(now(), &version), &asked);
  ASSERT_TRUE(id.ok());
  EXPECT_EQ(asked.size(), 2u);
  google::protobuf::RepeatedPtrField<proto::ScrubCommand> commands;
  EXPECT_TRUE(scrubs.Collect(a.id, a.incarnation, &commands));
  ASSERT_EQ(commands.size(), 1);
  EXPECT_EQ(commands[0].bytes_per_second(), 5u);
  EXPECT_FALSE(scrubs.Collect(a.id, a.incarnation, &commands)) << "told again, but not new";
  EXPECT_EQ(commands.size(), 2);
  EXPECT_FALSE(scrubs.Collect(a.id, a.incarnation + 1, &commands));

  proto::ScrubResult result;
  result.set_id(*id);
  result.set_checked_objects(1);
  result.set_checked_bytes(1000);
  result.add_bad_generation(generation);
  EXPECT_EQ(scrubs.Take(a.id, a.incarnation, result, now()).code(), Code::kMalformed);
  proto::AppendKey("k", result.mutable_bad_keys());
  result.set_done(true);
  ASSERT_TRUE(scrubs.Take(a.id, a.incarnation, result, now()).ok());
  ASSERT_TRUE(scrubs.Take(a.id, a.incarnation, result, now()).ok());  // came twice
  EXPECT_EQ(NodesOf("k"), (std::vector<uint32_t>{b.id}));
  proto::ScrubStatusReply status;
  ASSERT_TRUE(scrubs.Show(*id, state_.Directory(now(), &version), &status).ok());
  EXPECT_EQ(status.nodes(), 2u);
  EXPECT_EQ(status.nodes_done(), 1u);
  EXPECT_EQ(status.bad_replicas(), 1u);
  ASSERT_TRUE(state_.NodeLeave(b.id, b.incarnation, now()).ok());
  ASSERT_TRUE(scrubs.Show(*id, state_.Directory(now(), &version), &status).ok());
  EXPECT_EQ(status.nodes_done(), 2u) << "who is gone does not hold it up";
  EXPECT_EQ(scrubs.Show(*id + 1, {}, &status).code(), Code::kNotFound);
}

}  // namespace
}  // namespace mmc::meta
