// A scripted meta service over the real RPC layer, and a node's body that only writes down what it is told: for tests
// of the agent between the two.
//
// Thread safety: both from any thread. Ownership: MetaAgentTest owns all.
#pragma once

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

namespace asio = boost::asio;

inline TimePoint Soon() { return Clock::Real().Now() + std::chrono::seconds(30); }

// Answers joins with what is queued, else with node 5; hands out sync replies one by one.
class ScriptedMeta {
 public:
  struct JoinAnswer {
    Status status;
    bool resumed = false;
    bool want_catalog = false;
    uint64_t term = 1;
    uint64_t newer_join = 0;
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
    return Wait([&]() MMC_REQUIRES(mutex_) { return reports_.size() >= n; });
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
    return Wait([&]() MMC_REQUIRES(mutex_) { return fenced_all_; });
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
    return Wait([&]() MMC_REQUIRES(mutex_) { return joins_.size() >= n; });
  }
  bool WaitBeats(int n) {
    return Wait([&]() MMC_REQUIRES(mutex_) { return beats_ >= n; });
  }
  bool WaitAck(uint64_t seq) {
    return Wait([&]() MMC_REQUIRES(mutex_) { return !syncs_.empty() && syncs_.back().acked_seq() >= seq; });
  }
  bool WaitFenced(uint64_t session) {
    return Wait([&]() MMC_REQUIRES(mutex_) { return std::count(fenced_.begin(), fenced_.end(), session) > 0; });
  }
  bool WaitSyncs(size_t n) {
    return Wait([&]() MMC_REQUIRES(mutex_) { return syncs_.size() >= n; });
  }
  size_t syncs() {
    MutexLock lock(mutex_);
    return syncs_.size();
  }
  proto::JoinRequest join(size_t i) {
    MutexLock lock(mutex_);
    return joins_.at(i);
  }
  proto::CatalogSyncRequest sync(size_t i) {
    MutexLock lock(mutex_);
    return syncs_.at(i);
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
    reply->set_newer_join(answer.newer_join);
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

inline AgentTimes QuickTimes() {
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

inline proto::CatalogSyncReply Records(std::vector<uint64_t> seqs) {
  proto::CatalogSyncReply reply;
  for (const uint64_t seq : seqs) reply.add_records()->set_seq(seq);
  return reply;
}

}  // namespace mmc::local
