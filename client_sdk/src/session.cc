#include "client_sdk/src/session.h"

#include <unistd.h>

#include <algorithm>

#include "common/base/limits.h"
#include "common/base/thread.h"
#include "proto/key_list.h"

namespace mmc::client {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kFirstPause{1};
constexpr milliseconds kLongestPause{200};
constexpr milliseconds kConnectTime{3000};
constexpr milliseconds kNoticeTime{2000};

TimePoint Now() { return Clock::Real().Now(); }

fabric::FabricOptions LinksFor(const ClientOptions& options, uint64_t session,
                               std::shared_ptr<security::TlsContext> tls) {
  fabric::FabricOptions out;
  out.link.tls = std::move(tls);
  out.same_host = options.same_host;
  out.link.session = session;
  out.link.connections = options.tcp_connections;
  out.link.congestion_control = options.tcp_congestion_control;
  out.link.copy_threads = options.copy_threads;
  return out;
}

}  // namespace

Session::Session(const ClientOptions& options, std::vector<MetaRoute> routes,
                 std::shared_ptr<security::TlsContext> data_tls)
    : options_(options),
      data_tls_(std::move(data_tls)),
      routes_(std::move(routes)),
      host_id_(options.same_host ? fabric::HostId() : std::string()),
      directory_(std::make_shared<Directory>()) {}

Session::~Session() { Close(Now()); }

Result<std::shared_ptr<Session>> Session::Open(const ClientOptions& options,
                                               std::vector<MetaRoute> routes) {
  using security::Role;
  MMC_ASSIGN_OR_RETURN(auto data_tls,
                       security::TlsContext::LoadFor(options.data_tls,
                                                     {Role::kClient, Role::kAdmin, Role::kLocal}));
  std::shared_ptr<Session> session(new Session(options, std::move(routes), std::move(data_tls)));
  const bool one_round = options.connect_retry.count() == 0;
  const TimePoint deadline = Now() + (one_round ? options.timeout : options.connect_retry);
  MMC_RETURN_IF_ERROR(session->OpenOnce(deadline, one_round));
  session->thread_ = StartThread([raw = session.get()] { raw->Run(); });
  return session;
}

Status Session::OpenOnce(TimePoint deadline, bool one_round) {
  proto::OpenSessionRequest request;
  request.set_client_name(options_.name);
  request.set_tenant(options_.tenant);
  request.set_host_id(fabric::HostId());
  request.set_pid(static_cast<uint32_t>(getpid()));
  proto::OpenSessionReply reply;
  milliseconds pause = kFirstPause;
  while (true) {
    Status status = TryRoutes(request, &reply, deadline);
    if (status.ok()) break;
    // An answer that got lost leaves at worst a session nobody uses; it expires by itself.
    if (one_round || status.recovery() == Recovery::kNone || !Pause(pause, deadline)) return status;
    pause = std::min(pause * 2, kLongestPause);
  }
  auto opened = std::make_shared<OpenedSession>();
  opened->id = reply.session();
  opened->term = reply.term();
  opened->heartbeat = milliseconds(std::max<uint64_t>(1, reply.heartbeat_ms()));
  opened->expiry = milliseconds(std::max<uint64_t>(1, reply.expiry_ms()));
  opened->lease = milliseconds(reply.lease_ms());
  opened->fabric = std::make_shared<fabric::Fabric>(LinksFor(options_, opened->id, data_tls_));
  MutexLock lock(mutex_);
  opened_ = std::move(opened);
  directory_ = std::make_shared<Directory>();
  return Status::Ok();
}

Status Session::TryRoutes(const proto::OpenSessionRequest& request, proto::OpenSessionReply* reply,
                          TimePoint deadline) {
  std::string answers;
  Status last;
  const size_t first = route_.load();
  for (size_t i = 0; i < routes_.size(); ++i) {
    const size_t at = (first + i) % routes_.size();
    last = routes_[at].channel->Call(proto::kOpenSession, request, reply, deadline);
    if (last.ok()) {
      route_ = at;
      return last;
    }
    answers += (answers.empty() ? "" : "; ") + routes_[at].url + ": " + last.ToString();
  }
  return Status(last.code(), "no session with the meta service: " + answers +
                                 "; is it running, and is the url right?");
}

Status Session::CallRaw(uint16_t method, const char* name,
                        const google::protobuf::MessageLite& request,
                        google::protobuf::MessageLite* reply, TimePoint deadline,
                        OnLostAnswer on_lost) {
  milliseconds pause = kFirstPause;
  while (true) {
    if (closed()) return Status(Code::kClosed, "the client is closed");
    const size_t at = route_.load();
    const Status status = routes_[at].channel->CallRaw(method, request, reply, deadline);
    if (status.ok() || status.code() == Code::kSessionLost) return status;
    const Status named = status.Annotate(std::string(name) + " at " + routes_[at].url);
    switch (status.recovery()) {
      case Recovery::kNone:
      case Recovery::kDropReplica:
        return named;
      case Recovery::kAskOutcome:
        if (on_lost == OnLostAnswer::kReport) return named;
        break;
      case Recovery::kRefresh:
      case Recovery::kReconnect: {
        size_t expected = at;
        route_.compare_exchange_strong(expected, (at + 1) % routes_.size());
        break;
      }
      case Recovery::kBackoff:
        // No space, another writer: about the keys, not the service. The caller knows how long it
        // makes sense to wait.
        if (status.code() >= Code::kExists) return named;
        break;
    }
    if (!Pause(pause, deadline)) return named;
    pause = std::min(pause * 2, kLongestPause);
  }
}

std::shared_ptr<const OpenedSession> Session::current() const {
  MutexLock lock(mutex_);
  return opened_;
}

std::shared_ptr<const Directory> Session::directory() const {
  MutexLock lock(mutex_);
  return directory_;
}

Status Session::Reopen(const OpenedSession& lost, TimePoint deadline) {
  MutexLock one_at_a_time(reopen_mutex_);
  if (closed()) return Status(Code::kClosed, "the client is closed");
  if (current()->id != lost.id) return Status::Ok();
  return OpenOnce(deadline, false);
}

Status Session::Abandon(const OpenedSession& opened, TimePoint deadline) {
  proto::CloseSessionRequest request;
  request.set_session(opened.id);
  routes_[route_.load()].channel->CallAsync<proto::CloseSessionRequest, proto::Empty>(
      proto::kCloseSession, request, Now() + kNoticeTime,
      [](Status, std::shared_ptr<proto::Empty>) {});
  return Reopen(opened, deadline);
}

Result<std::shared_ptr<const Directory>> Session::DirectoryAt(const OpenedSession& opened,
                                                              uint64_t version,
                                                              TimePoint deadline) {
  const std::shared_ptr<const Directory> before = directory();
  const bool ours = before->version != 0 && before->term == opened.term;
  if (ours && (version == 0 || before->version == version)) return before;
  proto::DirectoryReply reply;
  MMC_RETURN_IF_ERROR(Call(proto::kDirectory, proto::DirectoryRequest(), &reply, deadline));
  if (reply.term() != opened.term) {
    return Status(Code::kSessionLost, "the meta service is in term " +
                                          std::to_string(reply.term()) + ", the session of term " +
                                          std::to_string(opened.term) + " is over");
  }
  std::shared_ptr<const Directory> after = MakeDirectory(reply, host_id_);
  {
    MutexLock lock(mutex_);
    if (opened_->term == after->term) directory_ = after;
  }
  if (!ours) return after;
  for (const auto& [id, node] : before->nodes) {
    const DirectoryNode* now = after->Find(id);
    if (now == nullptr || now->peer != node.peer || now->state == proto::NODE_DEAD)
      opened.fabric->Forget(node.peer);
  }
  return after;
}

Result<std::shared_ptr<fabric::Link>> Session::LinkTo(const OpenedSession& opened, uint32_t node,
                                                      TimePoint deadline) {
  MMC_ASSIGN_OR_RETURN(auto nodes, DirectoryAt(opened, 0, deadline));
  const DirectoryNode* found = nodes->Find(node);
  if (found == nullptr) {
    MMC_ASSIGN_OR_RETURN(nodes, DirectoryAt(opened, nodes->version + 1, deadline));
    found = nodes->Find(node);
  }
  if (found == nullptr) {
    return Status(Code::kStaleNode,
                  "node " + std::to_string(node) + " is not in the meta service's directory");
  }
  auto link = opened.fabric->LinkTo(found->peer, found->endpoints, found->same_host,
                                    std::min(deadline, Now() + kConnectTime), found->name);
  if (!link.ok()) return link.status().Annotate("node " + found->name);
  return link;
}

void Session::ReportReplica(const OpenedSession& opened, uint32_t node, const Status& met) {
  proto::ReportReplicaRequest request;
  request.set_session(opened.id);
  request.set_node(node);
  request.set_status(static_cast<uint32_t>(met.code()));
  Report(request);
}

void Session::ReportCorrupt(const OpenedSession& opened, uint32_t node, std::string_view key,
                            uint64_t generation) {
  proto::ReportReplicaRequest request;
  request.set_session(opened.id);
  request.set_node(node);
  request.set_tenant(options_.tenant);
  request.set_status(static_cast<uint32_t>(Code::kCorrupt));
  request.set_key(key.data(), key.size());
  request.set_generation(generation);
  Report(request);
}

void Session::Report(const proto::ReportReplicaRequest& request) {
  if (closed()) return;
  routes_[route_.load()].channel->CallAsync<proto::ReportReplicaRequest, proto::Empty>(
      proto::kReportReplica, request, Now() + kNoticeTime,
      [](Status, std::shared_ptr<proto::Empty>) {});
}

void Session::Unpin(uint64_t session, std::string key, uint64_t generation) {
  if (closed()) return;
  MutexLock lock(mutex_);
  unpins_.push_back({session, std::move(key), generation});
  wake_.NotifyAll();
}

bool Session::Pause(Duration pause, TimePoint deadline) {
  const TimePoint until = Now() + pause;
  if (until >= deadline) return false;
  MutexLock lock(mutex_);
  while (!stopping_ && Now() < until) wake_.WaitUntil(mutex_, until);
  return !stopping_;
}

void Session::Run() {
  TimePoint next_beat = Now() + current()->heartbeat;
  while (true) {
    bool unpin = false;
    {
      MutexLock lock(mutex_);
      while (!stopping_ && unpins_.empty() && Now() < next_beat) wake_.WaitUntil(mutex_, next_beat);
      if (stopping_) return;
      unpin = !unpins_.empty();
    }
    if (unpin) FlushUnpins(Now() + current()->heartbeat);
    if (Now() >= next_beat) {
      Beat();
      next_beat = Now() + current()->heartbeat;
    }
  }
}

void Session::Beat() {
  const auto opened = current();
  proto::SessionHeartbeatRequest request;
  request.set_session(opened->id);
  proto::SessionHeartbeatReply reply;
  const Status status = Call(proto::kSessionHeartbeat, request, &reply, Now() + opened->heartbeat);
  if (status.code() == Code::kSessionLost) ReopenInBackground(*opened);
}

void Session::ReopenInBackground(const OpenedSession& lost) {
  // When this fails, the next beat, or the next call that needs a session, tries again.
  const Status ignored = Reopen(lost, Now() + lost.heartbeat);
  (void)ignored;
}

void Session::FlushUnpins(TimePoint deadline) {
  std::vector<PendingUnpin> batch;
  const auto opened = current();
  {
    MutexLock lock(mutex_);
    // Pins of sessions that are gone went with them.
    std::erase_if(unpins_, [&](const PendingUnpin& u) { return u.session != opened->id; });
    const size_t n = std::min<size_t>(unpins_.size(), kMaxBatch);
    batch.assign(std::make_move_iterator(unpins_.end() - static_cast<ptrdiff_t>(n)),
                 std::make_move_iterator(unpins_.end()));
    unpins_.resize(unpins_.size() - n);
  }
  if (batch.empty()) return;
  proto::UnpinRequest request;
  request.set_session(opened->id);
  for (const PendingUnpin& u : batch) {
    proto::AppendKey(u.key, request.mutable_keys());
    request.add_generation(u.generation);
  }
  proto::UnpinReply reply;
  // An unpin that was applied though its answer got lost must not be repeated: it would end a later
  // pin.
  const Status status = Call(proto::kUnpin, request, &reply, deadline, OnLostAnswer::kReport);
  if (status.code() == Code::kSessionLost) return ReopenInBackground(*opened);
  if (status.recovery() != Recovery::kReconnect && status.recovery() != Recovery::kBackoff) return;
  MutexLock lock(mutex_);
  unpins_.insert(unpins_.end(), std::make_move_iterator(batch.begin()),
                 std::make_move_iterator(batch.end()));
}

void Session::Close(TimePoint deadline) {
  {
    MutexLock lock(mutex_);
    if (stopping_) return;
    stopping_ = true;
    wake_.NotifyAll();
  }
  if (thread_.joinable()) {
    thread_.join();
    const auto opened = current();
    proto::CloseSessionRequest request;
    request.set_session(opened->id);
    proto::Empty reply;
    // Pins end with the session. One attempt: a service that is away ends the session when it
    // expires.
    Status ignored =
        routes_[route_.load()].channel->Call(proto::kCloseSession, request, &reply, deadline);
    (void)ignored;
    opened->fabric->Close();
  }
  closed_ = true;
  for (const MetaRoute& route : routes_) route.channel->Close();
}

}  // namespace mmc::client
