// Goal: a node says the right thing to the meta service, whatever that answers, and never keeps an
// incarnation whose grants somebody else may have given out. Method: a scripted meta service over
// the real RPC layer, and a body that only writes down what it is told.
#include <gtest/gtest.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
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
    return Wait([&] {
      for (const uint64_t fenced : fenced_) {
        if (fenced == session) return true;
      }
      return false;
    });
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
    changed_.NotifyAll();
    reply->set_node(5);
    reply->set_term(1);
    reply->set_heartbeat_ms(10);
    if (join_answers_.empty()) return Status::Ok();
    const JoinAnswer answer = join_answers_.front();
    join_answers_.pop_front();
    reply->set_resumed(answer.resumed);
    return answer.status;
  }

  asio::awaitable<Status> Sync(const proto::CatalogSyncRequest& request,
                               proto::CatalogSyncReply* reply) {
    {
      MutexLock lock(mutex_);
      syncs_.push_back(request);
      fenced_.insert(fenced_.end(), request.fenced_sessions().begin(),
                     request.fenced_sessions().end());
      changed_.NotifyAll();
      for (const uint64_t session : request.fenced_sessions()) open_fences_.erase(session);
      const bool has_records = !sync_answers_.empty();
      if (has_records) {
        *reply = sync_answers_.front();
        sync_answers_.pop_front();
      }
      reply->set_term(1);
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

TEST_F(MetaAgentTest, ANodeThatWasForgottenBecomesANewOne) {
  StartJoined();
  meta_.AnswerJoin({.resumed = false});
  meta_.AnswerBeat(Code::kStaleNode);
  ASSERT_TRUE(meta_.WaitJoins(3));
  EXPECT_EQ(meta_.join(1).incarnation(), 100u);
  EXPECT_EQ(meta_.join(2).incarnation(), 101u);
  EXPECT_EQ(body_.renewals(), 1);
}

TEST_F(MetaAgentTest, AJoinThatIsRefusedAsStaleMakesANewNode) {
  meta_.AnswerJoin({.status = Status(Code::kStaleNode)});
  StartJoined();
  EXPECT_EQ(meta_.join(1).incarnation(), 101u);
  EXPECT_EQ(body_.renewals(), 1);
}

TEST_F(MetaAgentTest, AJoinWithUnknownOutcomeIsNotBuiltOn) {
  StartJoined();
  // The second join may have been taken by a meta service that forgot the node and gave its space
  // out again: that the third one is "resumed" then says nothing about the objects.
  meta_.AnswerJoin({.status = Status(Code::kConnectionLost)});
  meta_.AnswerJoin({.resumed = true});
  meta_.AnswerBeat(Code::kStaleNode);
  ASSERT_TRUE(meta_.WaitJoins(4));
  EXPECT_EQ(meta_.join(2).incarnation(), 100u);
  EXPECT_EQ(meta_.join(3).incarnation(), 101u);
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
