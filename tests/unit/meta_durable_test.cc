// Commits and removals that wait for the owners' catalogs (ock.mmc.meta.commit_mode = sync).
#include <future>

#include "meta_service/state/meta_state.h"
#include "tests/unit/meta_service_fixture.h"

namespace mmc::meta {
namespace {

class Durable : public Service {
 protected:
  void SetUp() override {
    MetaOptions options;
    options.commit_durable = true;
    StartService(options, &Clock::Real());
    node_ = Join("n", false).node();
  }
  std::future<Status> CommitLater(const proto::PutStartReply& started, Duration within) {
    return std::async(std::launch::async, [this, started, within] { return Commit(started, &reply_, within); });
  }
  std::future<Status> RemoveLater(const std::string& key, Duration within) {
    return std::async(std::launch::async, [this, key, within] {
      proto::RemoveReply reply;
      return Call(proto::kRemove, Keys<proto::RemoveRequest>({key}), &reply, within);
    });
  }
  // The one record that is queued, by a poll that waits for it.
  uint64_t Take(proto::CatalogOp op) {
    proto::CatalogSyncRequest request;
    request.set_node(node_);
    request.set_incarnation(kIncarnation);
    request.set_acked_seq(acked_);
    request.set_wait_ms(10'000);
    proto::CatalogSyncReply reply;
    EXPECT_TRUE(Call(proto::kCatalogSync, request, &reply, 30s).ok());
    EXPECT_EQ(reply.records_size(), 1);
    if (reply.records_size() != 1) return 0;
    EXPECT_EQ(reply.records(0).op(), op);
    return reply.records(0).seq();
  }
  uint64_t TakeAdd() { return Take(proto::CATALOG_ADD); }
  // A key that the node's catalog has.
  void PutAcked(const std::string& key) {
    auto committed = CommitLater(PutStart(key), 30s);
    acked_ = TakeAdd();
    Poll(node_, acked_);
    EXPECT_TRUE(committed.get().ok());
  }

  uint32_t node_ = 0;
  uint64_t acked_ = 0;
  proto::PutCommitReply reply_;
};

TEST_F(Durable, ACommitIsAnsweredWhenTheCatalogHasIt) {
  auto committed = CommitLater(PutStart("k"), 30s);
  const uint64_t seq = TakeAdd();
  EXPECT_EQ(CodeOf(proto::kExists, {"k"}), Code::kOk);
  EXPECT_NE(committed.wait_for(0s), std::future_status::ready);  // taken, not applied
  Poll(node_, seq);
  EXPECT_TRUE(committed.get().ok());
  EXPECT_THAT(reply_.status(), ElementsAre(0u));
}

TEST_F(Durable, WithoutTheAcknowledgementTheOutcomeIsUnknownInTime) {
  const Status committed = Commit(PutStart("k"), &reply_, 1s);
  EXPECT_EQ(committed.code(), Code::kDeadline);
  proto::StatReply stat;
  ASSERT_TRUE(Call(proto::kStat, Keys<proto::StatRequest>({"k"}), &stat).ok());
  EXPECT_EQ(stat.status(0), 0u);
  // That is how its writer asks: it is there, but nobody vouches for it yet.
  auto asked = Keys<proto::StatRequest>({"k"});
  asked.set_durable(true);
  EXPECT_EQ(Call(proto::kStat, asked, &stat, 1s).code(), Code::kDeadline);
  Poll(node_, TakeAdd());
  ASSERT_TRUE(Call(proto::kStat, asked, &stat).ok());
  EXPECT_EQ(stat.status(0), 0u);
}

TEST_F(Durable, ANodeThatLeavesIsNotWaitedFor) {
  auto committed = CommitLater(PutStart("k"), 30s);
  TakeAdd();
  proto::NodeLeaveRequest leave;
  leave.set_node(node_);
  leave.set_incarnation(kIncarnation);
  proto::Empty empty;
  ASSERT_TRUE(Call(proto::kNodeLeave, leave, &empty).ok());
  EXPECT_TRUE(committed.get().ok());
}

TEST_F(Durable, ARemovalIsAnsweredWhenTheCatalogHasForgotten) {
  PutAcked("k");
  auto removed = RemoveLater("k", 30s);
  const uint64_t seq = Take(proto::CATALOG_FORGET);
  proto::ExistsReply there;
  ASSERT_TRUE(Call(proto::kExists, Keys<proto::ExistsRequest>({"k"}), &there).ok());
  EXPECT_EQ(there.present(), std::string(1, '\0')) << "invisible at once";
  EXPECT_NE(removed.wait_for(0s), std::future_status::ready);  // taken, not applied
  proto::RemoveReply reply;
  EXPECT_EQ(Call(proto::kRemove, Keys<proto::RemoveRequest>({"k"}), &reply, 1s).code(), Code::kDeadline)
      << "nor is another one answered";
  Poll(node_, seq);
  EXPECT_TRUE(removed.get().ok());
  EXPECT_EQ(CodeOf(proto::kRemove, {"k"}), Code::kOk);
}

TEST_F(Durable, WithoutTheAcknowledgementARemovalIsInDoubtInTime) {
  PutAcked("p/1");
  proto::RemoveManyReply many;
  proto::RemoveByPrefixRequest prefix;
  prefix.set_prefix("p/");
  const Status removed = Call(proto::kRemoveByPrefix, prefix, &many, 1s);
  EXPECT_EQ(removed.code(), Code::kDeadline);
  EXPECT_THAT(removed.message(), HasSubstr("removed, but"));
  EXPECT_EQ(Call(proto::kRemoveAll, {}, &many, 1s).code(), Code::kDeadline);
  prefix.set_prefix("q/");
  EXPECT_TRUE(Call(proto::kRemoveByPrefix, prefix, &many).ok()) << "others do not wait";
  Poll(node_, Take(proto::CATALOG_FORGET));
  EXPECT_TRUE(Call(proto::kRemoveAll, {}, &many).ok());
}

TEST_F(Durable, ANodeThatLeavesIsNotWaitedForByARemoval) {
  PutAcked("k");
  auto removed = RemoveLater("k", 30s);
  Take(proto::CATALOG_FORGET);
  proto::NodeLeaveRequest leave;
  leave.set_node(node_);
  leave.set_incarnation(kIncarnation);
  proto::Empty empty;
  ASSERT_TRUE(Call(proto::kNodeLeave, leave, &empty).ok());
  EXPECT_TRUE(removed.get().ok());
}

TEST_F(Service, WhileItRecoversADurableRemovalWaitsForAll) {
  MetaOptions options;
  options.recovery = 3s;
  options.commit_durable = true;
  StartService(options);
  const uint32_t node = Join("n", true).node();
  auto report = Report(node, true);
  AddRecord(&report, "a", 10, 0, 5000);
  proto::CatalogReportReply taken;
  ASSERT_TRUE(Call(proto::kCatalogReport, report, &taken).ok());
  EXPECT_EQ(CodeOf(proto::kRemove, {"a"}), Code::kRecovering) << "another node may have it too";
  EXPECT_EQ(CodeOf(proto::kExists, {"a"}), Code::kOk);
}

TEST_F(Service, ARemovalNamesItsSession) {
  StartService({});
  auto request = Keys<proto::RemoveRequest>({"k"});
  request.set_session(session_);
  request.set_call(1);
  proto::RemoveReply reply;
  EXPECT_TRUE(Call(proto::kRemove, request, &reply).ok());
  request.set_session(session_ + 1);
  EXPECT_EQ(Call(proto::kRemove, request, &reply).code(), Code::kSessionLost);
  proto::RemoveManyReply many;
  proto::RemoveAllRequest all;
  all.set_session(session_ + 1);
  EXPECT_EQ(Call(proto::kRemoveAll, all, &many).code(), Code::kSessionLost);
}

TEST_F(Service, AnOlderJoinIsToldTheNewerOne) {
  StartService({});
  proto::JoinRequest join;
  join.set_name("n");
  join.set_incarnation(kIncarnation);
  join.set_join(9);
  proto::JoinReply reply;
  ASSERT_TRUE(Call(proto::kJoin, join, &reply).ok());
  EXPECT_EQ(reply.newer_join(), 0u);
  EXPECT_NE(reply.node(), 0u);
  join.set_join(8);
  reply.Clear();
  ASSERT_TRUE(Call(proto::kJoin, join, &reply).ok());
  EXPECT_EQ(reply.newer_join(), 9u);
  EXPECT_EQ(reply.node(), 0u);
}

TEST_F(Durable, LostGrantsAreAnsweredAtOnce) {
  proto::PutStartReply none;
  none.add_grant(12345);
  ASSERT_TRUE(Commit(none, &reply_).ok());
  EXPECT_THAT(reply_.status(), ElementsAre(static_cast<uint32_t>(Code::kGrantLost)));
}

}  // namespace
}  // namespace mmc::meta
