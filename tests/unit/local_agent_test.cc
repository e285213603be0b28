// Goal: a node says the right thing to the meta service, whatever that answers, and never keeps an
// incarnation whose grants somebody else may have given out. Method: a scripted meta service over
// the real RPC layer, and a body that only writes down what it is told.
#include "tests/unit/local_agent_fixture.h"

namespace mmc::local {
namespace {

TEST_F(MetaAgentTest, TriesOnUntilItIsTakenThenBeats) {
  meta_.AnswerJoin({.status = Status(Code::kRecovering, "later")});
  meta_.AnswerJoin({.status = Status(Code::kShuttingDown)});
  StartJoined();
  EXPECT_EQ(agent_.node(), 5u);
  EXPECT_EQ(agent_.joins(), 1u);
  EXPECT_TRUE(meta_.WaitBeats(3));
  EXPECT_EQ(meta_.join(2).incarnation(), 100u);
  EXPECT_EQ(body_.renewals(), 0);
}

TEST_F(MetaAgentTest, JoinsAreNumberedAboveWhatTheMetaServiceKnows) {
  constexpr uint64_t kAhead = uint64_t{1} << 60;
  meta_.AnswerJoin({.status = Status(Code::kRecovering, "later")});
  meta_.AnswerJoin({.newer_join = kAhead});
  StartJoined();
  EXPECT_GT(meta_.join(0).join(), 0u);
  EXPECT_GT(meta_.join(1).join(), meta_.join(0).join());
  EXPECT_EQ(meta_.join(2).join(), kAhead + 1);
  EXPECT_EQ(agent_.joins(), 1u);
  ASSERT_TRUE(meta_.WaitSyncs(1));
  EXPECT_EQ(meta_.sync(0).join(), kAhead + 1);
}

TEST_F(MetaAgentTest, AppliesRecordsOnceInOrderAndAcknowledgesThem) {
  proto::CatalogSyncReply first = Records({1, 2, 3});
  first.mutable_records(1)->set_key("no room");  // counts as applied: the node goes on
  meta_.AnswerSync(first);
  meta_.AnswerSync(Records({2, 3, 4}));  // an answer that was lost on the way comes again
  StartJoined();
  EXPECT_TRUE(meta_.WaitAck(4));
  EXPECT_EQ(body_.applied(), (std::vector<uint64_t>{1, 2, 3, 4}));
  EXPECT_EQ(agent_.applied_seq(), 4u);
  EXPECT_EQ(body_.renewals(), 0);
}

TEST_F(MetaAgentTest, AMissingRecordMakesANewNode) {
  meta_.AnswerSync(Records({1, 2}));
  meta_.AnswerSync(Records({4}));
  StartJoined();
  EXPECT_TRUE(meta_.WaitJoins(2));
  EXPECT_TRUE(meta_.Wait([&] { return agent_.joins() >= 2; }));
  EXPECT_EQ(body_.renewals(), 1);
  EXPECT_EQ(meta_.join(1).incarnation(), 101u);
  EXPECT_EQ(meta_.join(1).acked_seq(), 0u);
  EXPECT_TRUE(body_.applied().empty());
}

TEST_F(MetaAgentTest, AResumedNodeKeepsItsObjects) {
  meta_.AnswerSync(Records({1, 2}));
  StartJoined();
  ASSERT_TRUE(meta_.WaitAck(2));
  meta_.AnswerJoin({.resumed = true});
  meta_.AnswerBeat(Code::kStaleNode);
  ASSERT_TRUE(meta_.WaitJoins(2));
  EXPECT_EQ(meta_.join(1).incarnation(), 100u);
  EXPECT_EQ(meta_.join(1).acked_seq(), 2u);
  meta_.AnswerSync(Records({3}));
  EXPECT_TRUE(meta_.WaitAck(3));
  EXPECT_EQ(body_.renewals(), 0);
}

TEST_F(MetaAgentTest, ANodeThatWasForgottenReportsWhatItHolds) {
  StartJoined();
  meta_.AnswerJoin({.want_catalog = true, .term = 2});
  meta_.SetSyncTerm(2);  // a newer one answers: it joins there
  ASSERT_TRUE(meta_.WaitReports(3));
  ASSERT_TRUE(meta_.WaitFencedAll());
  const auto reports = meta_.reports();
  ASSERT_EQ(reports.size(), 3u);
  EXPECT_EQ(reports[0].records_size(), 2);
  EXPECT_EQ(reports[1].records_size(), 1);
  EXPECT_EQ(reports[1].records(0).generation(), 3u);
  EXPECT_FALSE(reports[1].last());
  EXPECT_TRUE(reports[2].last());
  EXPECT_EQ(reports[2].records_size(), 0);
  EXPECT_EQ(reports[2].incarnation(), 100u);
  EXPECT_TRUE(meta_.join(1).keeps_memory());
  EXPECT_EQ(body_.renewals(), 0);
  EXPECT_EQ(body_.terms(), (std::vector<uint64_t>{1, 2}));
  EXPECT_EQ(body_.first_sessions().back(), 1000u);
}

TEST_F(MetaAgentTest, APollThatSaysThatAllIsFencedNamesTheTermItIsTrueFor) {
  StartJoined();
  ASSERT_TRUE(meta_.WaitFencedAll());
  body_.HoldFenceAll();
  meta_.AnswerJoin({.resumed = true, .term = 2});
  meta_.SetSyncTerm(2);
  body_.WaitFenceAlls(2);
  ASSERT_TRUE(meta_.WaitSyncs(meta_.syncs() + 3));
  body_.ReleaseFenceAll();
  ASSERT_TRUE(meta_.WaitFencedAll());
  EXPECT_EQ(meta_.FencedTerms(), (std::set<uint64_t>{1, 2}));
  EXPECT_EQ(agent_.joins(), 2u);
}

TEST_F(MetaAgentTest, ALostBatchMakesItJoinAgainAndReportFromTheStart) {
  meta_.AnswerJoin({.want_catalog = true});
  meta_.AnswerJoin({.want_catalog = true});
  meta_.AnswerReport(Status::Ok());
  meta_.AnswerReport(Status(Code::kConnectionLost));
  StartJoined();
  const auto reports = meta_.reports();
  ASSERT_EQ(reports.size(), 5u);
  EXPECT_EQ(reports[2].records(0).generation(), 1u);
  EXPECT_TRUE(reports[4].last());
  EXPECT_EQ(meta_.join(1).incarnation(), 100u);
}

TEST_F(MetaAgentTest, TheEndOfAReportIsSaidUntilItIsHeard) {
  meta_.AnswerJoin({.want_catalog = true});
  meta_.AnswerReport(Status::Ok());
  meta_.AnswerReport(Status::Ok());
  meta_.AnswerReport(Status(Code::kDeadline, "still taking it in"));
  meta_.AnswerReport(Status(Code::kConnectionLost));
  StartJoined();
  const auto reports = meta_.reports();
  ASSERT_EQ(reports.size(), 5u);
  for (const int end : {2, 3, 4}) EXPECT_TRUE(reports[static_cast<size_t>(end)].last());
  EXPECT_EQ(agent_.joins(), 1u);
}

TEST_F(MetaAgentTest, NothingIsCalledFencedBeforeEveryFenceOfAllIsThrough) {
  body_.HoldFenceAll();
  StartJoined();  // it serves readers meanwhile
  EXPECT_FALSE(agent_.settled());
  meta_.AnswerJoin({.want_catalog = true});
  meta_.AnswerBeat(Code::kStaleNode);
  body_.WaitFenceAlls(2);
  body_.ReleaseFenceAll();  // of the first join: says nothing about the second
  EXPECT_TRUE(meta_.WaitSyncs(meta_.syncs() + 3));
  EXPECT_FALSE(meta_.FencedAll());
  body_.ReleaseFenceAll();
  EXPECT_TRUE(meta_.WaitFencedAll());
}

TEST_F(MetaAgentTest, AServiceOfAnOlderTermIsNotObeyed) {
  agent_.GoOnFrom(7, 5);
  meta_.AnswerJoin({.resumed = true, .term = 4});
  meta_.AnswerJoin({.resumed = true, .term = 5});
  meta_.SetSyncTerm(5);
  StartJoined();
  EXPECT_EQ(meta_.join(0).acked_seq(), 7u);
  EXPECT_EQ(agent_.joins(), 1u);
  EXPECT_TRUE(body_.first_sessions().empty()) << "the same service as before: its grants stand";
  meta_.SetSyncTerm(4);
  meta_.AnswerSync(Records({8}));
  EXPECT_TRUE(meta_.WaitSyncs(meta_.syncs() + 4));
  EXPECT_TRUE(body_.applied().empty());
  meta_.SetSyncTerm(5);
  meta_.AnswerSync(Records({8}));
  EXPECT_TRUE(meta_.WaitAck(8));
}

TEST_F(MetaAgentTest, ANodeThatIsToComeBackDoesNotSayGoodbye) {
  StartJoined();
  agent_.Stop(Soon(), false);
  EXPECT_TRUE(meta_.leaves().empty());
}

TEST_F(MetaAgentTest, AJoinThatIsRefusedAsStaleMakesANewNode) {
  meta_.AnswerJoin({.status = Status(Code::kStaleNode)});
  StartJoined();
  EXPECT_EQ(meta_.join(1).incarnation(), 101u);
  EXPECT_EQ(body_.renewals(), 1);
}

TEST_F(MetaAgentTest, LostHeartbeatsChangeNothing) {
  for (int i = 0; i < 5; ++i) meta_.AnswerBeat(Code::kConnectionLost);
  StartJoined();
  EXPECT_TRUE(meta_.WaitBeats(8));
  EXPECT_EQ(agent_.joins(), 1u);
  EXPECT_TRUE(agent_.joined());
}

TEST_F(MetaAgentTest, AFenceIsReportedWhenItIsDoneAndAskedForOnce) {
  meta_.OpenFence(7);
  meta_.OpenFence(8);
  StartJoined();
  body_.FinishFence(7);
  EXPECT_TRUE(meta_.WaitFenced(7));
  body_.WaitFence(8);
  EXPECT_TRUE(meta_.WaitSyncs(meta_.syncs() + 3));  // it goes on polling while 8 is open
  EXPECT_EQ(meta_.fenced(), std::vector<uint64_t>{7});
  EXPECT_EQ(body_.fence_calls(), 2);
  body_.FinishFence(8);
  EXPECT_TRUE(meta_.WaitFenced(8));
}

TEST_F(MetaAgentTest, SessionsThatAreOverNeedNotBeRemembered) {
  proto::CatalogSyncReply reply;
  reply.set_oldest_session(70);
  meta_.AnswerSync(reply);
  StartJoined();
  EXPECT_TRUE(meta_.Wait([&] { return body_.refused_below == 70; }));
}

TEST_F(MetaAgentTest, StopSaysGoodbye) {
  StartJoined();
  agent_.Stop(Soon());
  ASSERT_EQ(meta_.leaves().size(), 1u);
  EXPECT_EQ(meta_.leaves()[0].node(), 5u);
  EXPECT_EQ(meta_.leaves()[0].incarnation(), 100u);
  agent_.Stop(Soon());
  EXPECT_EQ(meta_.leaves().size(), 1u);
  EXPECT_EQ(agent_.WaitJoined(Soon()).code(), Code::kCancelled);
}

TEST_F(MetaAgentTest, InterruptEndsTheWaitForAJoin) {
  for (int i = 0; i < 10'000; ++i) meta_.AnswerJoin({.status = Status(Code::kRecovering)});
  agent_.Start();
  ASSERT_TRUE(meta_.WaitJoins(2));
  agent_.Interrupt();
  EXPECT_EQ(agent_.WaitJoined(Soon()).code(), Code::kCancelled);
}

TEST_F(MetaAgentTest, AJoinThatIsNotTakenInTimeSaysWhy) {
  for (int i = 0; i < 10'000; ++i)
    meta_.AnswerJoin({.status = Status(Code::kRecovering, "still reading catalogs")});
  agent_.Start();
  ASSERT_TRUE(meta_.WaitJoins(2));
  const Status status = agent_.WaitJoined(Clock::Real().Now());
  EXPECT_EQ(status.code(), Code::kUnavailable);
  EXPECT_NE(status.message().find("still reading catalogs"), std::string::npos)
      << status.ToString();
}

}  // namespace
}  // namespace mmc::local
