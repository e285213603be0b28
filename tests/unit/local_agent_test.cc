// Goal: a node says the right thing to the meta service, whatever that answers, and never keeps an
// incarnation whose grants somebody else may have given out. Method: a scripted meta service over
// the real RPC layer, and a body that only writes down what it is told.
#include <gtest/gtest.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <algorithm>
#include <atomic>
#include <deque>
#include <map>
#include <set>
#include <vector>

#include "common/rpc/server.h"
#include "local_service/meta_agent.h"
#include "proto/methods.h"

namespace mmc::local {
namespace {

namespace asio = boost::asio;

TimePoint Soon() { return Clock::Real().Now() + std::chrono::seconds(30); }

// Answers joins with what is queued, else with node 5; hands out sync replies one by one.
class ScriptedMeta {
 public:
  struct JoinAnswer {
    Status status;
    bool resumed = false;
    bool want_catalog = false;
    uint64_t term = 1;
  };

  ScriptedMeta() {
    server_ = rpc::MakeServer({});
    server_->Handle(proto::kJoin, [this](const rpc::CallContext&, const proto::JoinRequest& request,
                                         proto::JoinReply* reply) { return Join(request, reply); });
    server_->Handle(proto::kNodeHeartbeat,
                    [this](const rpc::CallContext&, const proto::NodeHeartbeatRequest&,
                           proto::NodeHeartbeatReply*) {
                      MutexLock lock(mutex_);
                      ++beats_;
                      changed_.NotifyAll();
                      if (beat_answers_.empty()) return Status::Ok();
                      const Status status = beat_answers_.front();
                      beat_answers_.pop_front();
                      return status;
                    });
    server_->Handle(
        proto::kNodeLeave,
        [this](const rpc::CallContext&, const proto::NodeLeaveRequest& request, proto::Empty*) {
          MutexLock lock(mutex_);
          leaves_.push_back(request);
          changed_.NotifyAll();
          return Status::Ok();
        });
    server_->Handle(proto::kCatalogReport,
                    [this](const rpc::CallContext&, const proto::CatalogReportRequest& request,
                           proto::CatalogReportReply*) {
                      MutexLock lock(mutex_);
                      reports_.push_back(request);
                      changed_.NotifyAll();
                      if (report_answers_.empty()) return Status::Ok();
                      const Status status = report_answers_.front();
                      report_answers_.pop_front();
                      return status;
                    });
    server_->HandleAsync(proto::kCatalogSync,
                         [this](rpc::CallContext, const proto::CatalogSyncRequest& request,
                                proto::CatalogSyncReply* reply) { return Sync(request, reply); });
    EXPECT_TRUE(server_->Start().ok());
  }
  ~ScriptedMeta() { server_->Stop(Clock::Real().Now()); }

  std::shared_ptr<rpc::Channel> Channel() { return server_->InProcessChannel(); }

  void AnswerJoin(JoinAnswer answer) {
    MutexLock lock(mutex_);
    join_answers_.push_back(answer);
  }
  void AnswerBeat(Status status) {
    MutexLock lock(mutex_);
    beat_answers_.push_back(status);
  }
  void AnswerReport(Status status) {
    MutexLock lock(mutex_);
    report_answers_.push_back(status);
  }
  // Of the polls from now on.
  void SetSyncTerm(uint64_t term) {
    MutexLock lock(mutex_);
    sync_term_ = term;
  }
  bool WaitReports(size_t n) {
    return Wait([&] { return reports_.size() >= n; });
  }
  std::vector<proto::CatalogReportRequest> reports() {
    MutexLock lock(mutex_);
    return reports_;
  }
  // Whether a poll since the last join has said that all old connections are closed.
  bool FencedAll() {
    MutexLock lock(mutex_);
    return fenced_all_;
  }
  // The terms of the polls that have said so.
  std::set<uint64_t> FencedTerms() {
    MutexLock lock(mutex_);
    std::set<uint64_t> terms;
    for (const auto& sync : syncs_) {
      if (sync.fenced_all()) terms.insert(sync.term());
    }
    return terms;
  }
  bool WaitFencedAll() {
    return Wait([&] { return fenced_all_; });
  }
  // Asks for it in every answer until it is reported, as the meta service does.
  void OpenFence(uint64_t session) {
    MutexLock lock(mutex_);
    open_fences_.insert(session);
  }
  void AnswerSync(proto::CatalogSyncReply reply) {
    MutexLock lock(mutex_);
    sync_answers_.push_back(std::move(reply));
  }
  // Waits until `ready` holds, under the lock.
  template <typename Ready>
  bool Wait(Ready ready) {
    const TimePoint deadline = Soon();
    MutexLock lock(mutex_);
    while (!ready()) {
      if (!changed_.WaitUntil(mutex_, deadline) && Clock::Real().Now() >= deadline) return ready();
    }
    return true;
  }
  bool WaitJoins(size_t n) {
    return Wait([&] { return joins_.size() >= n; });
  }
  bool WaitBeats(int n) {
    return Wait([&] { return beats_ >= n; });
  }
  bool WaitAck(uint64_t seq) {
    return Wait([&] { return !syncs_.empty() && syncs_.back().acked_seq() >= seq; });
  }
  bool WaitFenced(uint64_t session) {
    return Wait([&] { return std::count(fenced_.begin(), fenced_.end(), session) > 0; });
  }
  bool WaitSyncs(size_t n) {
    return Wait([&] { return syncs_.size() >= n; });
  }
  size_t syncs() {
    MutexLock lock(mutex_);
    return syncs_.size();
  }
  proto::JoinRequest join(size_t i) {
    MutexLock lock(mutex_);
    return joins_.at(i);
  }
  std::vector<proto::NodeLeaveRequest> leaves() {
    MutexLock lock(mutex_);
    return leaves_;
  }
  std::vector<uint64_t> fenced() {
    MutexLock lock(mutex_);
    return fenced_;
  }

 private:
  Status Join(const proto::JoinRequest& request, proto::JoinReply* reply) {
    MutexLock lock(mutex_);
    joins_.push_back(request);
    fenced_all_ = false;
    changed_.NotifyAll();
    reply->set_node(5);
    reply->set_term(1);
    reply->set_first_session(1000);
    reply->set_heartbeat_ms(10);
    if (join_answers_.empty()) return Status::Ok();
    const JoinAnswer answer = join_answers_.front();
    join_answers_.pop_front();
    reply->set_resumed(answer.resumed);
    reply->set_want_catalog(answer.want_catalog);
    reply->set_term(answer.term);
    return answer.status;
  }

  asio::awaitable<Status> Sync(const proto::CatalogSyncRequest& request,
                               proto::CatalogSyncReply* reply) {
    {
      MutexLock lock(mutex_);
      syncs_.push_back(request);
      fenced_all_ = fenced_all_ || request.fenced_all();
      fenced_.insert(fenced_.end(), request.fenced_sessions().begin(),
                     request.fenced_sessions().end());
      changed_.NotifyAll();
      for (const uint64_t session : request.fenced_sessions()) open_fences_.erase(session);
      const bool has_records = !sync_answers_.empty();
      if (has_records) {
        *reply = sync_answers_.front();
        sync_answers_.pop_front();
      }
      reply->set_term(sync_term_);
      for (const uint64_t session : open_fences_) reply->add_fence_sessions(session);
      if (has_records) co_return Status::Ok();
    }
    asio::steady_timer timer(server_->executor(), std::chrono::milliseconds(2));
    co_await timer.async_wait(asio::as_tuple(asio::use_awaitable));
    co_return Status::Ok();
  }

  std::unique_ptr<rpc::Server> server_;
  Mutex mutex_;
  CondVar changed_;
  std::deque<JoinAnswer> join_answers_ MMC_GUARDED_BY(mutex_);
  std::deque<Status> beat_answers_ MMC_GUARDED_BY(mutex_);
  std::deque<proto::CatalogSyncReply> sync_answers_ MMC_GUARDED_BY(mutex_);
  std::deque<Status> report_answers_ MMC_GUARDED_BY(mutex_);
  std::vector<proto::CatalogReportRequest> reports_ MMC_GUARDED_BY(mutex_);
  uint64_t sync_term_ MMC_GUARDED_BY(mutex_) = 1;
  bool fenced_all_ MMC_GUARDED_BY(mutex_) = false;
  std::vector<proto::JoinRequest> joins_ MMC_GUARDED_BY(mutex_);
  std::vector<proto::NodeLeaveRequest> leaves_ MMC_GUARDED_BY(mutex_);
  std::vector<proto::CatalogSyncRequest> syncs_ MMC_GUARDED_BY(mutex_);
  std::vector<uint64_t> fenced_ MMC_GUARDED_BY(mutex_);
  std::set<uint64_t> open_fences_ MMC_GUARDED_BY(mutex_);
  int beats_ MMC_GUARDED_BY(mutex_) = 0;
};

class WritingBody final : public NodeBody {
 public:
  proto::JoinRequest Describe() override {
    MutexLock lock(mutex_);
    proto::JoinRequest request;
    request.set_name("node");
    request.set_incarnation(incarnation_);
    return request;
  }
  Status Renew(const std::function<bool()>& give_up) override {
    EXPECT_FALSE(give_up());
    MutexLock lock(mutex_);
    ++incarnation_;
    ++renewals_;
    applied_.clear();
    return Status::Ok();
  }
  Status Apply(const proto::CatalogRecord& record) override {
    MutexLock lock(mutex_);
    applied_.push_back(record.seq());
    return record.key() == "no room" ? Status(Code::kIo, "full") : Status::Ok();
  }
  void Fence(uint64_t session, std::function<void()> done) override {
    MutexLock lock(mutex_);
    fences_.emplace(session, std::move(done));
    ++fence_calls_;
    changed_.NotifyAll();
  }

  // Completes at once, unless it was told to hold.
  void FenceAll(uint64_t first_session, std::function<void()> done) override {
    {
      MutexLock lock(mutex_);
      first_sessions_.push_back(first_session);
      changed_.NotifyAll();
      if (hold_) {
        held_.push_back(std::move(done));
        return;
      }
    }
    done();
  }
  // Three records in two batches.
  uint64_t Report(uint64_t cursor, proto::CatalogReportRequest* request) override {
    for (uint64_t generation = cursor + 1; generation <= 3; ++generation) {
      request->add_records()->set_generation(generation);
      if (generation == 2) return 2;
    }
    return 0;
  }
  void NoteTerm(uint64_t term) override {
    MutexLock lock(mutex_);
    terms_.push_back(term);
  }
  void RefuseBelow(uint64_t session) override { refused_below = session; }
  std::atomic<uint64_t> refused_below{0};
  void HoldFenceAll() {
    MutexLock lock(mutex_);
    hold_ = true;
  }
  // The oldest one that is held.
  void ReleaseFenceAll() {
    std::function<void()> done;
    {
      MutexLock lock(mutex_);
      while (held_.empty()) changed_.Wait(mutex_);
      done = std::move(held_.front());
      held_.pop_front();
    }
    done();
  }
  void WaitFenceAlls(size_t n) {
    MutexLock lock(mutex_);
    while (first_sessions_.size() < n) changed_.Wait(mutex_);
  }
  std::vector<uint64_t> first_sessions() {
    MutexLock lock(mutex_);
    return first_sessions_;
  }
  std::vector<uint64_t> terms() {
    MutexLock lock(mutex_);
    return terms_;
  }

  // Waits until the body was asked for the fence, then completes it.
  void FinishFence(uint64_t session) {
    std::function<void()> done;
    {
      MutexLock lock(mutex_);
      while (fences_.count(session) == 0) changed_.Wait(mutex_);
      done = fences_.at(session);
    }
    done();
  }
  void WaitFence(uint64_t session) {
    MutexLock lock(mutex_);
    while (fences_.count(session) == 0) changed_.Wait(mutex_);
  }
  std::vector<uint64_t> applied() {
    MutexLock lock(mutex_);
    return applied_;
  }
  int renewals() {
    MutexLock lock(mutex_);
    return renewals_;
  }
  int fence_calls() {
    MutexLock lock(mutex_);
    return fence_calls_;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  uint64_t incarnation_ MMC_GUARDED_BY(mutex_) = 100;
  int renewals_ MMC_GUARDED_BY(mutex_) = 0;
  int fence_calls_ MMC_GUARDED_BY(mutex_) = 0;
  std::vector<uint64_t> applied_ MMC_GUARDED_BY(mutex_);
  bool hold_ MMC_GUARDED_BY(mutex_) = false;
  std::deque<std::function<void()>> held_ MMC_GUARDED_BY(mutex_);
  std::vector<uint64_t> first_sessions_ MMC_GUARDED_BY(mutex_);
  std::vector<uint64_t> terms_ MMC_GUARDED_BY(mutex_);
  std::map<uint64_t, std::function<void()>> fences_ MMC_GUARDED_BY(mutex_);
};

AgentTimes QuickTimes() {
  AgentTimes times;
  times.backoff_min = times.backoff_max = std::chrono::milliseconds(1);
  return times;
}

class MetaAgentTest : public testing::Test {
 protected:
  // The members end in the reverse order: the agent first.
  ScriptedMeta meta_;
  WritingBody body_;
  MetaAgent agent_{meta_.Channel(), body_, QuickTimes()};

  void StartJoined() {
    agent_.Start();
    const Status status = agent_.WaitJoined(Soon());
    ASSERT_TRUE(status.ok()) << status.ToString();
  }
};

proto::CatalogSyncReply Records(std::vector<uint64_t> seqs) {
  proto::CatalogSyncReply reply;
  for (const uint64_t seq : seqs) reply.add_records()->set_seq(seq);
  return reply;
}

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
