// The calls of the meta service that wait: for space, for another writer, for catalog records; and
// what ends them.
#include "tests/unit/meta_ops_fixture.h"

namespace mmc::meta {
namespace {

TEST_F(MetaOps, AFullLeasedPoolSaysSoBeforeTheDeadlineAndLosesNothing) {
  StartNode(4_MiB);
  Put({"a", "b"}, 2_MiB);
  proto::LookupRequest lookup;
  FillKeys({"a", "b"}, lookup.mutable_keys());
  lookup.set_lease_ms(600'000);
  proto::LookupReply found;
  ASSERT_TRUE(Call(proto::kLookup, lookup, &found).ok());
  proto::PutStartReply started;
  const Status full = Call(proto::kPutStart, PutRequest({"c"}, 4096), &started, 2s);
  EXPECT_EQ(full.code(), Code::kNoSpace) << full.ToString();
  EXPECT_NE(full.message().find("leased"), std::string::npos) << full.message();
  EXPECT_EQ(Exists({"a", "b"}), std::string("\1\1", 2));
}

TEST_F(MetaOps, AFullPoolMakesRoomWithinTheCall) {
  StartNode(4_MiB);
  for (int i = 0; i < 50; ++i) Put({"k" + std::to_string(i), "l" + std::to_string(i)}, 2_MiB);
  EXPECT_EQ(Exists({"k49", "l49"}), std::string("\1\1", 2));
  EXPECT_GT(ClusterStatus().evicted_objects(), 90u);
}

TEST_F(MetaOps, ASecondPutWaitsForTheFirstOnesCommit) {
  StartNode(64_MiB);
  proto::PutStartReply first;
  ASSERT_TRUE(Call(proto::kPutStart, PutRequest({"a"}, 4096), &first).ok());
  auto second = std::async(std::launch::async, [this] {
    proto::PutStartReply reply;
    const Status status =
        Call(proto::kPutStart, PutRequest({"a"}, 4096, OpenSession()), &reply, 30s);
    EXPECT_TRUE(status.ok()) << status.ToString();
    return reply.status(0);
  });
  EXPECT_EQ(second.wait_for(50ms), std::future_status::timeout) << "it waits for the outcome";
  proto::PutCommitReply committed;
  ASSERT_TRUE(Commit(first, session_, &committed).ok());
  EXPECT_EQ(second.get(), Number(Code::kExists));
}

class MetaOpsOfMortals : public MetaOps {
 protected:
  MetaOpsOfMortals() : MetaOps(2s) {}
};

TEST_F(MetaOpsOfMortals, ASecondPutTakesOverFromADeadWriter) {
  StartNode(64_MiB);
  const uint64_t dead = OpenSession();  // never heard again
  proto::PutStartReply first;
  ASSERT_TRUE(Call(proto::kPutStart, PutRequest({"a"}, 4096, dead), &first).ok());
  const uint64_t alive = OpenSession();
  auto second = std::async(std::launch::async, [this, alive] {
    proto::PutStartReply reply;
    const Status status = Call(proto::kPutStart, PutRequest({"a"}, 4096, alive), &reply, 30s);
    EXPECT_TRUE(status.ok()) << status.ToString();
    return status.ok() ? reply.status(0) : Number(status.code());
  });
  proto::SessionHeartbeatRequest beat;
  beat.set_session(alive);
  proto::SessionHeartbeatReply beaten;
  do {
    ASSERT_TRUE(Call(proto::kSessionHeartbeat, beat, &beaten).ok());
  } while (second.wait_for(50ms) == std::future_status::timeout);
  EXPECT_EQ(second.get(), Number(Code::kOk));
  proto::PutCommitReply committed;
  EXPECT_EQ(Commit(first, dead, &committed).code(), Code::kSessionLost);
}

TEST_F(MetaOps, AWriterThatNeverEndsIsReportedAtTheDeadline) {
  StartNode(64_MiB);
  proto::PutStartReply first, second;
  ASSERT_TRUE(Call(proto::kPutStart, PutRequest({"a"}, 4096), &first).ok());
  ASSERT_TRUE(Call(proto::kPutStart, PutRequest({"a"}, 4096), &second, 1s).ok());
  EXPECT_EQ(second.status(0), Number(Code::kBeingWritten));
  ASSERT_TRUE(Call(proto::kPutStart, PutRequest({"b", "a"}, 4096), &second, 30s).ok());
  EXPECT_EQ(second.status(0), Number(Code::kOk));
  EXPECT_EQ(second.status(1), Number(Code::kBeingWritten))
      << "a call that holds grants does not wait for others";
  proto::PutAbortRequest abort;
  abort.set_session(session_);
  abort.add_grant(first.grant(0));
  abort.add_grant(12345);
  proto::PutAbortReply aborted;
  ASSERT_TRUE(Call(proto::kPutAbort, abort, &aborted).ok());
  EXPECT_EQ(aborted.status(0), Number(Code::kOk));
  EXPECT_EQ(aborted.status(1), Number(Code::kGrantLost));
}

TEST_F(MetaOps, OfManyWritersOfOneKeyOneWrites) {
  StartNode(64_MiB);
  constexpr int kWriters = 8;
  std::vector<std::future<uint32_t>> writers;
  for (int i = 0; i < kWriters; ++i) {
    writers.push_back(std::async(std::launch::async, [this] {
      const uint64_t session = OpenSession();
      proto::PutStartReply started;
      EXPECT_TRUE(Call(proto::kPutStart, PutRequest({"same"}, 4096, session), &started, 30s).ok());
      if (started.status(0) != Number(Code::kOk)) return started.status(0);
      proto::PutCommitReply committed;
      EXPECT_TRUE(Commit(started, session, &committed).ok());
      return committed.status(0);
    }));
  }
  int ok = 0, exists = 0;
  for (auto& writer : writers) {
    const uint32_t code = writer.get();
    ok += code == Number(Code::kOk);
    exists += code == Number(Code::kExists);
  }
  EXPECT_EQ(ok, 1);
  EXPECT_EQ(exists, kWriters - 1);
}

TEST_F(MetaOps, CatalogSyncWaitsAndIsWokenByACommit) {
  FakeNode quiet(channel_, "q", 64_MiB);  // its thread is not started: this test polls
  proto::CatalogSyncRequest poll;
  poll.set_node(quiet.id());
  poll.set_incarnation(1);
  poll.set_wait_ms(30'000);
  auto polled = std::async(std::launch::async, [&] {
    proto::CatalogSyncReply reply;
    EXPECT_TRUE(Call(proto::kCatalogSync, poll, &reply, 30s).ok());
    return reply;
  });
  Put({"a"}, 5000);
  const auto reply = polled.get();
  ASSERT_EQ(reply.records_size(), 1);
  EXPECT_EQ(reply.records(0).seq(), 1u);
  EXPECT_EQ(reply.records(0).key(), "a");
  EXPECT_EQ(reply.records(0).op(), proto::CATALOG_ADD);
  EXPECT_EQ(reply.records(0).extent_length(0), 5000u);
  poll.set_acked_seq(1);
  poll.set_wait_ms(1);
  proto::CatalogSyncReply nothing;
  ASSERT_TRUE(Call(proto::kCatalogSync, poll, &nothing).ok());
  EXPECT_EQ(nothing.records_size(), 0);
  poll.set_acked_seq(2);
  EXPECT_EQ(Call(proto::kCatalogSync, poll, &nothing).code(), Code::kInvalidArgument);
}

TEST_F(MetaOps, StopEndsWaitingCalls) {
  FakeNode quiet(channel_, "q", 64_MiB);
  proto::CatalogSyncRequest poll;
  poll.set_node(quiet.id());
  poll.set_incarnation(1);
  poll.set_wait_ms(30'000);
  auto polled = std::async(std::launch::async, [&] {
    proto::CatalogSyncReply reply;
    return Call(proto::kCatalogSync, poll, &reply, 60s);
  });
  service_->Stop(Clock::Real().Now() + 10s);
  const Status ended = polled.get();
  EXPECT_TRUE(ended.ok() || ended.recovery() == Recovery::kReconnect ||
              ended.code() == Code::kCancelled)
      << ended.ToString();
  EXPECT_FALSE(service_->ready());
}

}  // namespace
}  // namespace mmc::meta
