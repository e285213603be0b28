#include "local_service/meta_agent.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "common/base/thread.h"
#include "common/obs/log.h"
#include "proto/methods.h"

namespace mmc::local {

namespace {

// Joins are numbered from the clock of the machine on, so that those of a later process are newer.
uint64_t FirstJoin() {
  const auto since_epoch = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::microseconds>(since_epoch).count();
}

}  // namespace

struct MetaAgent::Core {
  Mutex mutex;
  CondVar changed;
  bool interrupted MMC_GUARDED_BY(mutex) = false;
  bool joined MMC_GUARDED_BY(mutex) = false;
  Membership member MMC_GUARDED_BY(mutex);
  uint64_t serial MMC_GUARDED_BY(mutex) = 0;
  uint64_t joins MMC_GUARDED_BY(mutex) = 0;
  uint64_t term MMC_GUARDED_BY(mutex) = 0;
  uint64_t last_join MMC_GUARDED_BY(mutex) = FirstJoin();
  std::chrono::milliseconds heartbeat MMC_GUARDED_BY(mutex){1000};
  bool must_renew MMC_GUARDED_BY(mutex) = false;
  bool report_due MMC_GUARDED_BY(mutex) = false;  // by this membership
  // The fence of all connections: how many were begun, and how far they are through. Nothing is
  // claimed to be fenced while the two differ.
  uint64_t fence_alls MMC_GUARDED_BY(mutex) = 0;
  uint64_t fenced_all MMC_GUARDED_BY(mutex) = 0;
  uint64_t announced MMC_GUARDED_BY(mutex) = 0;  // and how far the meta service knows of it
  uint64_t polled MMC_GUARDED_BY(mutex) = 0;     // the serial of the last membership with an answer
  uint64_t applied MMC_GUARDED_BY(mutex) = 0;
  std::set<uint64_t> fencing MMC_GUARDED_BY(mutex);
  bool work_ready MMC_GUARDED_BY(mutex) = false;
  std::set<uint64_t> fenced MMC_GUARDED_BY(mutex);
  Status last_error MMC_GUARDED_BY(mutex);
};

struct MetaAgent::Trouble {
  explicit Trouble(std::chrono::milliseconds line_every) : every(line_every) {}
  void Note(const char* what, const Status& status) {
    const TimePoint now = Clock::Real().Now();
    ++times;
    if (times > 1 && now < next_line) return;
    next_line = now + every;
    MMC_LOG(WARNING) << what << " failed, attempt " << times << ": " << status.ToString()
                     << "; trying on";
  }
  void Over(const char* what) {
    if (times > 0) MMC_LOG(INFO) << what << " works again after " << times << " failed attempts";
    times = 0;
  }
  std::chrono::milliseconds every;
  uint64_t times = 0;
  TimePoint next_line;
};

MetaAgent::MetaAgent(std::shared_ptr<rpc::Channel> meta, NodeBody& body, AgentTimes times)
    : meta_(std::move(meta)), body_(body), times_(times), core_(std::make_shared<Core>()) {}

MetaAgent::~MetaAgent() { Stop(Clock::Real().Now()); }

void MetaAgent::GoOnFrom(uint64_t applied_seq, uint64_t term) {
  MutexLock lock(core_->mutex);
  core_->applied = applied_seq;
  core_->term = term;
}

void MetaAgent::Start() {
  beat_thread_ = StartThread([this] { BeatLoop(); });
  catalog_thread_ = StartThread([this] { CatalogLoop(); });
}

Status MetaAgent::WaitJoined(TimePoint deadline) {
  MutexLock lock(core_->mutex);
  // With the first answer to a poll the report is taken, and mostly the old connections are closed.
  const auto serves = [&]() MMC_NO_THREAD_SAFETY_ANALYSIS {
    return core_->joined && core_->polled == core_->serial;
  };
  while (!serves() && !core_->interrupted) {
    if (!core_->changed.WaitUntil(core_->mutex, deadline) && Clock::Real().Now() >= deadline) {
      if (serves()) break;
      const std::string why =
          core_->last_error.ok() ? "no answer yet" : core_->last_error.ToString();
      return Status(Code::kUnavailable, "the meta service did not take this node in time (" + why +
                                            "); check ock.mmc.meta_service_url and that it runs");
    }
  }
  if (core_->interrupted) return Status(Code::kCancelled, "stopped while joining");
  return Status::Ok();
}

void MetaAgent::Interrupt() {
  MutexLock lock(core_->mutex);
  core_->interrupted = true;
  core_->changed.NotifyAll();
}

void MetaAgent::Stop(TimePoint deadline, bool leave) {
  Interrupt();
  if (beat_thread_.joinable()) beat_thread_.join();
  if (catalog_thread_.joinable()) catalog_thread_.join();
  Membership member;
  {
    MutexLock lock(core_->mutex);
    if (!core_->joined) return;
    core_->joined = false;
    member = core_->member;
  }
  if (!leave) return;
  proto::NodeLeaveRequest request;
  request.set_node(member.node);
  request.set_incarnation(member.incarnation);
  proto::Empty reply;
  const Status status = meta_->Call(proto::kNodeLeave, request, &reply,
                                    std::min(deadline, Clock::Real().Now() + times_.leave));
  if (!status.ok()) {
    MMC_LOG(WARNING) << "could not tell the meta service that node " << member.node
                     << " leaves: " << status.ToString()
                     << "; it will notice when the heartbeats stay away";
  }
}

bool MetaAgent::joined() const {
  MutexLock lock(core_->mutex);
  return core_->joined;
}

uint32_t MetaAgent::node() const {
  MutexLock lock(core_->mutex);
  return core_->member.node;
}

uint64_t MetaAgent::applied_seq() const {
  MutexLock lock(core_->mutex);
  return core_->applied;
}

uint64_t MetaAgent::joins() const {
  MutexLock lock(core_->mutex);
  return core_->joins;
}

bool MetaAgent::settled() const {
  MutexLock lock(core_->mutex);
  return core_->joined && core_->polled == core_->serial && core_->announced == core_->fence_alls;
}

bool MetaAgent::WaitApplied(uint64_t seq, TimePoint deadline) {
  MutexLock lock(core_->mutex);
  while (core_->applied < seq) {
    if (!core_->changed.WaitUntil(core_->mutex, deadline) && Clock::Real().Now() >= deadline) {
      return core_->applied >= seq;
    }
  }
  return true;
}

template <typename Method, typename Request, typename Reply>
Status MetaAgent::Call(const Method& method, const Request& request, Reply* reply,
                       std::chrono::milliseconds timeout) {
  // The answer may come after an interrupt made this call return: it is then nobody's.
  struct Pending {
    bool done = false;  // guarded by core->mutex
    Status status;
    std::shared_ptr<Reply> reply;
  };
  auto pending = std::make_shared<Pending>();
  const TimePoint deadline = Clock::Real().Now() + timeout;
  meta_->CallAsync(method, request, deadline,
                   [core = core_, pending](Status status, std::shared_ptr<Reply> answer) {
                     MutexLock lock(core->mutex);
                     pending->status = std::move(status);
                     pending->reply = std::move(answer);
                     pending->done = true;
                     core->changed.NotifyAll();
                   });
  // The channel keeps the deadline; the slack only guards against one that does not.
  const TimePoint give_up = deadline + std::chrono::seconds(2);
  MutexLock lock(core_->mutex);
  while (!pending->done && !core_->interrupted) {
    if (!core_->changed.WaitUntil(core_->mutex, give_up) && Clock::Real().Now() >= give_up) break;
  }
  if (!pending->done) {
    return core_->interrupted ? Status(Code::kCancelled)
                              : Status(Code::kDeadline, "no answer from the meta service");
  }
  if (pending->status.ok()) *reply = std::move(*pending->reply);
  return pending->status;
}

bool MetaAgent::Sleep(std::chrono::milliseconds time) {
  const TimePoint until = Clock::Real().Now() + time;
  MutexLock lock(core_->mutex);
  while (!core_->interrupted && Clock::Real().Now() < until)
    core_->changed.WaitUntil(core_->mutex, until);
  return !core_->interrupted;
}

// Membership `serial` is over; does nothing when another one is current by now.
void MetaAgent::Lose(uint64_t serial, const std::string& why, bool renew) {
  MutexLock lock(core_->mutex);
  if (!core_->joined || core_->serial != serial) return;
  core_->joined = false;
  core_->must_renew = core_->must_renew || renew;
  core_->changed.NotifyAll();
  MMC_LOG(WARNING) << "node " << core_->member.node << " has to join again: " << why;
}

Status MetaAgent::Join() {
  bool renew;
  proto::JoinRequest request;
  {
    MutexLock body(body_mutex_);
    {
      MutexLock lock(core_->mutex);
      renew = core_->must_renew;
    }
    if (renew) {
      const auto give_up = [this] {
        MutexLock lock(core_->mutex);
        return core_->interrupted;
      };
      MMC_RETURN_IF_ERROR(body_.Renew(give_up));
      MutexLock lock(core_->mutex);
      core_->must_renew = false;
      core_->applied = 0;
      core_->fenced.clear();
    }
    request = body_.Describe();
    MutexLock lock(core_->mutex);
    request.set_acked_seq(core_->applied);
    request.set_keeps_memory(true);
    request.set_join(++core_->last_join);
  }
  proto::JoinReply reply;
  const TimePoint asked = Clock::Real().Now();
  const Status status = Call(proto::kJoin, request, &reply, times_.call);

  uint64_t fence_all = 0;
  {
    MutexLock lock(core_->mutex);
    if (status.code() == Code::kStaleNode) core_->must_renew = true;
    if (!status.ok()) return status;
    if (reply.newer_join() != 0) {  // of an earlier process, whose clock was ahead of this one
      core_->last_join = std::max(core_->last_join, reply.newer_join());
      return Status(Code::kUnavailable, "join " + std::to_string(request.join()) + " of this node is older than join " +
                                            std::to_string(reply.newer_join()) + ", which came before: the clock of "
                                            "this machine was set back, or another node has the same name");
    }
    if (reply.term() < core_->term) {
      return Status(Code::kNotLeader, "a meta service of term " + std::to_string(reply.term()) +
                                          " answered; the term is " + std::to_string(core_->term) +
                                          ": a newer one has started, or the clock there is wrong");
    }
    // Before the first poll of this membership: it must not claim what is not done.
    if (reply.want_catalog() || reply.term() != core_->term) fence_all = ++core_->fence_alls;
  }
  if (fence_all != 0) {
    MutexLock body(body_mutex_);
    body_.NoteTerm(reply.term());
  }
  body_.LearnTickets(reply, asked);
  if (fence_all != 0) StartFenceAll(reply.first_session(), fence_all);
  Become(request, reply);
  return Status::Ok();
}

void MetaAgent::Become(const proto::JoinRequest& request, const proto::JoinReply& reply) {
  MutexLock lock(core_->mutex);
  core_->joined = true;
  core_->report_due = reply.want_catalog();
  core_->member = {.node = reply.node(),
                   .incarnation = request.incarnation(),
                   .serial = ++core_->serial,
                   .term = reply.term(),
                   .join = request.join()};
  core_->term = std::max(core_->term, reply.term());
  core_->heartbeat =
      std::chrono::milliseconds(std::clamp<uint64_t>(reply.heartbeat_ms(), 10, 60'000));
  ++core_->joins;
  core_->changed.NotifyAll();
  MMC_LOG(INFO) << "joined as node " << reply.node() << " incarnation " << std::hex
                << request.incarnation() << std::dec << " term " << reply.term()
                << (reply.resumed() ? ", objects kept" : "");
}

void MetaAgent::BeatLoop() {
  Trouble joining(times_.log_every);
  Trouble beating(times_.log_every);
  std::chrono::milliseconds backoff = times_.backoff_min;
  for (;;) {
    Membership member;
    {
      MutexLock lock(core_->mutex);
      if (core_->joined) {
        const TimePoint next = Clock::Real().Now() + core_->heartbeat;
        while (core_->joined && !core_->interrupted && Clock::Real().Now() < next) {
          core_->changed.WaitUntil(core_->mutex, next);
        }
      }
      if (core_->interrupted) return;
      if (core_->joined) member = core_->member;
    }
    if (member.serial == 0) {
      const Status status = Join();
      if (status.ok()) {
        joining.Over("joining");
        backoff = times_.backoff_min;
        continue;
      }
      if (status.code() == Code::kCancelled) return;
      // Being unknown is an answer, not trouble: become a new node at once.
      if (status.code() != Code::kStaleNode) joining.Note("joining the meta service", status);
      {
        MutexLock lock(core_->mutex);
        core_->last_error = status;
      }
      if (!Sleep(backoff)) return;
      backoff = std::min(backoff * 2, times_.backoff_max);
      continue;
    }
    proto::NodeHeartbeatRequest request;
    request.set_node(member.node);
    request.set_incarnation(member.incarnation);
    proto::NodeHeartbeatReply reply;
    const TimePoint asked = Clock::Real().Now();
    const Status status = Call(proto::kNodeHeartbeat, request, &reply, times_.call);
    if (status.ok() && reply.state() != proto::NODE_DEAD) {
      beating.Over("the heartbeat");
      // That of another meta service says nothing of the tickets that count here.
      if (reply.term() == member.term) body_.LearnClock(reply.clock_ms(), asked);
    } else if (status.ok() || status.code() == Code::kStaleNode) {
      Lose(member.serial, status.ok() ? "the meta service holds it for dead" : status.ToString(),
           false);
    } else if (status.code() != Code::kCancelled) {
      beating.Note("the heartbeat", status);
    }
  }
}

void MetaAgent::CatalogLoop() {
  Trouble polling(times_.log_every);
  std::chrono::milliseconds backoff = times_.backoff_min;
  std::chrono::milliseconds fence_wait = times_.backoff_min;
  for (;;) {
    const std::chrono::milliseconds longest = AwaitWork();
    Membership member;
    bool fences_open;
    bool news;
    bool report_due;
    {
      MutexLock lock(core_->mutex);
      while (!core_->joined && !core_->interrupted) core_->changed.Wait(core_->mutex);
      if (core_->interrupted) return;
      report_due = core_->report_due;
      const auto open = [&]() MMC_NO_THREAD_SAFETY_ANALYSIS {
        return !core_->fencing.empty() || core_->fence_alls != core_->fenced_all;
      };
      // Fences mostly end at once: give them a moment, so that the next poll reports them.
      const TimePoint until = Clock::Real().Now() + fence_wait;
      while (!report_due && open() && core_->fenced.empty() && !core_->interrupted &&
             Clock::Real().Now() < until) {
        core_->changed.WaitUntil(core_->mutex, until);
      }
      if (core_->interrupted) return;
      member = core_->member;
      fences_open = open();
      news = core_->polled != core_->serial || core_->announced != core_->fence_alls;
    }
    if (report_due) {
      if (Report(member).ok()) continue;
      if (!Sleep(backoff)) return;
      backoff = std::min(backoff * 2, times_.backoff_max);
      continue;
    }
    // While a fence is open the poll stays short: its end has to be told. So does what waits for
    // an answer.
    fence_wait =
        fences_open ? std::min(fence_wait * 2, times_.backoff_max / 4) : times_.backoff_min;
    std::set<uint64_t> to_fence;
    const Status status =
        Poll(member, fences_open || news ? std::chrono::milliseconds(0) : longest, &to_fence);
    if (status.ok()) {
      polling.Over("the catalog poll");
      backoff = times_.backoff_min;
      StartFences(to_fence);
      continue;
    }
    if (status.code() == Code::kCancelled) return;
    if (status.code() == Code::kStaleNode) {
      Lose(member.serial, status.ToString(), false);
      continue;
    }
    polling.Note("the catalog poll", status);
    if (!Sleep(backoff)) return;
    backoff = std::min(backoff * 2, times_.backoff_max);
  }
}

std::chrono::milliseconds MetaAgent::AwaitWork() {
  const std::chrono::milliseconds longest = body_.LongestPoll(times_.poll_wait);
  if (longest.count() != 0) return longest;
  const TimePoint until = Clock::Real().Now() + times_.work_wait;
  MutexLock lock(core_->mutex);
  while (!core_->work_ready && core_->joined && !core_->interrupted && Clock::Real().Now() < until) {
    core_->changed.WaitUntil(core_->mutex, until);
  }
  core_->work_ready = false;
  return longest;
}

void MetaAgent::WorkReady() {
  MutexLock lock(core_->mutex);
  core_->work_ready = true;
  core_->changed.NotifyAll();
}

Status MetaAgent::Poll(const Membership& member, std::chrono::milliseconds wait,
                       std::set<uint64_t>* to_fence) {
  proto::CatalogSyncRequest request;
  request.set_node(member.node);
  request.set_incarnation(member.incarnation);
  request.set_wait_ms(static_cast<uint64_t>(wait.count()));
  request.set_term(member.term);
  request.set_join(member.join);
  uint64_t fenced_all;
  bool newer = false;
  {
    MutexLock lock(core_->mutex);
    // What is fenced by now may be so for another membership.
    if (!core_->joined || core_->serial != member.serial) return Status::Ok();
    request.set_acked_seq(core_->applied);
    for (const uint64_t session : core_->fenced) request.add_fenced_sessions(session);
    request.set_fenced_all(core_->fence_alls == core_->fenced_all &&
                           core_->announced != core_->fenced_all);
    fenced_all = core_->fenced_all;
  }
  body_.TellWork(&request);
  proto::CatalogSyncReply reply;
  MMC_RETURN_IF_ERROR(Call(proto::kCatalogSync, request, &reply, wait + times_.call));
  {
    MutexLock lock(core_->mutex);
    for (const uint64_t session : request.fenced_sessions()) core_->fenced.erase(session);
    if (!core_->joined || core_->serial != member.serial)
      return Status::Ok();  // of a membership that is over
    if (reply.term() < core_->term) {
      return Status(Code::kNotLeader, "records of term " + std::to_string(reply.term()) +
                                          " refused; the term is " + std::to_string(core_->term));
    }
    newer = reply.term() > member.term;
  }
  if (newer) {
    Lose(member.serial, "a meta service of term " + std::to_string(reply.term()) + " answers", false);
    return Status::Ok();
  }
  {
    MutexLock lock(core_->mutex);
    if (!core_->joined || core_->serial != member.serial) return Status::Ok();
    core_->polled = member.serial;
    body_.TakeWork(request, reply);  // under the lock: not after a fence of all for another term
    if (request.fenced_all()) core_->announced = std::max(core_->announced, fenced_all);
    core_->changed.NotifyAll();
  }
  if (reply.oldest_session() != 0) body_.RefuseBelow(reply.oldest_session());
  if (!ApplyAll(member, reply)) {
    Lose(member.serial, "catalog records are missing", true);
    return Status::Ok();
  }
  to_fence->insert(reply.fence_sessions().begin(), reply.fence_sessions().end());
  return Status::Ok();
}

bool MetaAgent::ApplyAll(const Membership& member, const proto::CatalogSyncReply& reply) {
  MutexLock body(body_mutex_);
  uint64_t applied;
  {
    MutexLock lock(core_->mutex);
    if (!core_->joined || core_->serial != member.serial) return true;
    applied = core_->applied;
  }
  bool complete = true;
  for (const proto::CatalogRecord& record : reply.records()) {
    if (record.seq() <= applied) continue;
    if (record.seq() != applied + 1) {
      complete = false;
      break;
    }
    const Status status = body_.Apply(record);
    if (const TimePoint now = Clock::Real().Now(); !status.ok() && now >= next_record_line_) {
      next_record_line_ = now + times_.log_every;
      MMC_LOG(ERROR) << "catalog record " << record.seq() << " is left out: " << status.ToString()
                     << "; the object is served but would not outlive a restart";
    }
    applied = record.seq();
  }
  MutexLock lock(core_->mutex);
  core_->applied = applied;
  core_->changed.NotifyAll();
  return complete;
}

Status MetaAgent::ReportBatches(const Membership& member) {
  uint64_t cursor = 0;
  do {
    proto::CatalogReportRequest request;
    request.set_node(member.node);
    request.set_incarnation(member.incarnation);
    request.set_join(member.join);
    {
      MutexLock body(body_mutex_);
      cursor = body_.Report(cursor, &request);
    }
    if (request.records_size() == 0) break;
    proto::CatalogReportReply reply;
    MMC_RETURN_IF_ERROR(Call(proto::kCatalogReport, request, &reply, times_.report));
  } while (cursor != 0);
  return Status::Ok();
}

Status MetaAgent::Report(const Membership& member) {
  Status status = ReportBatches(member);
  proto::CatalogReportRequest last;
  last.set_node(member.node);
  last.set_incarnation(member.incarnation);
  last.set_join(member.join);
  last.set_last(true);
  proto::CatalogReportReply reply;
  std::chrono::milliseconds backoff = times_.backoff_min;
  // The end holds no records: it may be said again until it was heard.
  while (status.ok()) {
    status = Call(proto::kCatalogReport, last, &reply, times_.report);
    if (status.ok()) break;
    const Recovery recovery = status.recovery();
    const bool again = recovery == Recovery::kAskOutcome || recovery == Recovery::kBackoff;
    if (!again || status.code() == Code::kStaleNode) break;
    if (!Sleep(backoff)) return Status(Code::kCancelled);
    backoff = std::min(backoff * 2, times_.backoff_max);
    status = Status::Ok();
  }
  if (status.code() == Code::kCancelled) return status;
  if (!status.ok()) {
    Lose(member.serial, "its report broke off: " + status.ToString(), false);
    return status;
  }
  MutexLock lock(core_->mutex);
  if (core_->joined && core_->serial == member.serial) core_->report_due = false;
  core_->changed.NotifyAll();
  MMC_LOG(INFO) << "the meta service took " << reply.adopted() << " objects of this node";
  return status;
}

void MetaAgent::StartFenceAll(uint64_t first_session, uint64_t number) {
  body_.FenceAll(first_session, [core = core_, number] {
    MutexLock lock(core->mutex);
    core->fenced_all = std::max(core->fenced_all, number);
    core->changed.NotifyAll();
  });
}

void MetaAgent::StartFences(const std::set<uint64_t>& sessions) {
  for (const uint64_t session : sessions) {
    {
      MutexLock lock(core_->mutex);
      if (core_->fenced.count(session) != 0 || !core_->fencing.insert(session).second) continue;
    }
    body_.Fence(session, [core = core_, session] {
      MutexLock lock(core->mutex);
      core->fencing.erase(session);
      core->fenced.insert(session);
      core->changed.NotifyAll();
    });
  }
}

}  // namespace mmc::local
