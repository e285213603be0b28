#include "local_service/local_service.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <utility>

#include "common/base/mutex.h"
#include "common/obs/log.h"
#include "fabric/fabric.h"
#include "fabric/memory.h"
#include "fabric/ticket.h"
#include "local_service/endpoints.h"
#include "local_service/meta_agent.h"
#include "local_service/node_work.h"
#include "local_service/storage.h"

namespace mmc::local {
namespace {

// One call of a report.
constexpr int kReportRecords = 4096;
constexpr size_t kReportBytes = 4u << 20;
constexpr std::chrono::milliseconds kFenceStep{20};
constexpr std::chrono::milliseconds kFenceLog{5000};
constexpr std::chrono::milliseconds kDrainStep{5};
// A transfer is several requests with nothing under way in between: this long without any is the
// end.
constexpr std::chrono::milliseconds kQuiet{50};
constexpr std::chrono::hours kWarnBeforeEnd{24 * 30};  // of a certificate

std::string HostName() {
  char text[256] = {};
  if (::gethostname(text, sizeof text - 1) != 0 || text[0] == '\0') return "node";
  return text;
}

// What two threads wait for by polling: listeners have no way to call a condition variable that may
// be gone.
struct Flag {
  Mutex mutex;
  CondVar changed;
  bool set MMC_GUARDED_BY(mutex) = false;

  void Set() {
    MutexLock lock(mutex);
    set = true;
    changed.NotifyAll();
  }
  bool WaitFor(std::chrono::milliseconds time) {
    const TimePoint until = Clock::Real().Now() + time;
    MutexLock lock(mutex);
    while (!set && Clock::Real().Now() < until) changed.WaitUntil(mutex, until);
    return set;
  }
};

}  // namespace

struct LocalService::Impl final : NodeBody {
  Impl(LocalOptions opts, std::shared_ptr<rpc::Channel> channel,
       std::shared_ptr<security::TlsContext> tls)
      : options(std::move(opts)),
        meta(std::move(channel)),
        data_tls(std::move(tls)),
        tickets(options.data_tickets && options.tls.enable && data_tls != nullptr
                    ? std::make_shared<fabric::TicketJudge>()
                    : nullptr),
        endpoints(options, regions, data_tls, tickets) {}

  Status Open();
  void Drain(TimePoint until);
  void Close(TimePoint deadline, bool keep);
  Status Lend();
  void KeepOut();
  Status CheckOwnName() const;

  proto::JoinRequest Describe() override;
  Status Renew(const std::function<bool()>& give_up) override;
  Status Apply(const proto::CatalogRecord& record) override;
  void Fence(uint64_t session, std::function<void()> done) override;
  void FenceAll(uint64_t first_session, std::function<void()> done) override;
  void RefuseBelow(uint64_t session) override;
  void TellWork(proto::CatalogSyncRequest* request) override { work.Tell(request); }
  void TakeWork(const proto::CatalogSyncRequest& told, const proto::CatalogSyncReply& reply) override {
    work.Take(told, reply, ServiceFilePath(options.catalog_directory, name, "catalog"));
  }
  std::chrono::milliseconds LongestPoll(std::chrono::milliseconds usual) override {
    return work.LongestPoll(usual);
  }
  uint64_t Report(uint64_t cursor, proto::CatalogReportRequest* request) override;
  void LearnTickets(const proto::JoinReply& reply, TimePoint asked) override;
  void LearnClock(uint64_t clock_ms, TimePoint asked) override {
    if (tickets != nullptr) tickets->LearnClock(clock_ms, asked);
  }
  void NoteTerm(uint64_t term) override { storage->catalog().SetTerm(term); }

  LocalOptions options;
  const std::shared_ptr<rpc::Channel> meta;
  const std::shared_ptr<security::TlsContext> data_tls;  // null: none
  const std::shared_ptr<fabric::TicketJudge> tickets;    // null: a certificate is enough
  std::string name;
  std::atomic<uint64_t> incarnation{0};
  std::atomic<bool> stopping{false};
  std::atomic<bool> open{false};
  std::unique_ptr<Storage> storage;  // changed by the agent's threads only, once they run
  fabric::RegionTable regions;
  Endpoints endpoints;
  NodeWork work{regions, {.host_id = fabric::HostId(), .tls = data_tls}, [this] { agent->WorkReady(); }};
  std::unique_ptr<MetaAgent>
      agent;        // made by the constructor's caller, so that Stop may interrupt it at any time
  Mutex lifecycle;  // held by Start and Stop while they run
};

Status LocalService::Impl::Lend() {
  const auto& memory = storage->memory();
  fabric::Region region;
  region.ref = storage->region();
  region.memory = {memory->data(), memory->size()};
  region.access = fabric::Access::kReadWrite;
  region.segment = memory;
  return regions.Add(std::move(region));
}

// Those whom an earlier process has fenced: their grants may be somebody else's by now.
void LocalService::Impl::KeepOut() {
  const CatalogFences fences = storage->catalog().fences();
  endpoints.RefuseBelow(fences.refused_below);
  for (const uint64_t session : fences.sessions) {
    if (session != 0) endpoints.Fence(session, [] {});
  }
}

Status LocalService::Impl::Open() {
  // Before the memory: a node without a name is called after its port.
  MMC_RETURN_IF_ERROR(endpoints.OpenNetwork());
  name = options.name;
  if (name.empty()) {
    const uint64_t suffix =
        endpoints.data_port() != 0 ? endpoints.data_port() : static_cast<uint64_t>(::getpid());
    name = HostName() + ":" + std::to_string(suffix);
  }
  MMC_RETURN_IF_ERROR(CheckOwnName());
  MMC_ASSIGN_OR_RETURN(storage, Storage::Open(options, name));
  incarnation = storage->identity().incarnation;
  agent->GoOnFrom(storage->applied_seq(), storage->term());
  KeepOut();  // before there is anything to reach
  MMC_RETURN_IF_ERROR(Lend());
  // After the storage: its lock says that no other service of this name uses the socket.
  Presence* const presence = storage->presence();
  MMC_RETURN_IF_ERROR(endpoints.OpenHost(name, presence == nullptr ? "" : presence->path()));
  KeepOut();  // there too; nobody knows its address before the join
  for (const fabric::Endpoint& endpoint : endpoints.List()) {
    // Without the random number of a same-host address, which is for those who may connect.
    MMC_LOG(INFO) << "serving " << endpoint.transport << " at "
                  << endpoint.address.substr(0, endpoint.address.find('#'));
  }
  open = true;
  return Status::Ok();
}

// Clients would refuse the node.
Status LocalService::Impl::CheckOwnName() const {
  if (data_tls == nullptr) return Status::Ok();
  for (const std::string& line : data_tls->EndingWithin(kWarnBeforeEnd)) MMC_LOG(WARNING) << line;
  const std::string own = data_tls->own()->name;
  if (own == name) return Status::Ok();
  return Status(Code::kConfig, data_tls->options().cert_path + ": the certificate speaks for " +
                                   (own.empty() ? "no node" : "node '" + own + "'") + ", and this node is '" + name +
                                   "'; set ock.mmc.local_service.name, or get one with the name mmc:node:" + name);
}

// The pool has forgotten the node; what still runs are transfers of those who had asked before.
void LocalService::Impl::Drain(TimePoint until) {
  Flag never;
  TimePoint quiet_since = Clock::Real().Now();
  while (endpoints.connections() != 0) {
    const TimePoint now = Clock::Real().Now();
    if (endpoints.running() != 0) quiet_since = now;
    if (now >= until || now - quiet_since >= kQuiet) return;
    never.WaitFor(kDrainStep);
  }
}

void LocalService::Impl::Close(TimePoint deadline, bool keep) {
  agent->Stop(deadline, !keep);
  work.Stop();
  if (open) Drain(std::min(deadline, Clock::Real().Now() + options.drain));
  const bool was_open = open.exchange(false);
  endpoints.Close();
  if (storage == nullptr || storage->memory() == nullptr) return;  // closed before
  regions.Remove(storage->region());
  if (keep && was_open) {
    MMC_LOG(INFO) << "node " << name << " keeps its " << storage->catalog().objects()
                  << " objects for the next start";
  } else if (!keep) {
    storage->Remove();
  }
  storage->Unmap();
}

proto::JoinRequest LocalService::Impl::Describe() {
  proto::JoinRequest request;
  request.set_name(name);
  request.set_incarnation(incarnation.load());
  request.set_host_id(fabric::HostId());
  request.set_catalog_objects(storage->catalog().objects());
  request.set_wants_tickets(tickets != nullptr);
  for (const fabric::Endpoint& endpoint : endpoints.List()) {
    proto::Endpoint* out = request.add_endpoints();
    out->set_transport(endpoint.transport);
    out->set_address(endpoint.address);
  }
  for (const CatalogSegmentRow& row : storage->identity().segments) {
    proto::Segment* out = request.add_segments();
    out->set_id(row.id);
    out->set_epoch(row.epoch);
    out->set_medium(static_cast<proto::Medium>(row.medium));
    out->set_size(row.size);
    out->set_numa_node(row.numa_node);
  }
  return request;
}

void LocalService::Impl::LearnTickets(const proto::JoinReply& reply, TimePoint asked) {
  if (tickets == nullptr) return;
  fabric::TicketKey key{};
  if (reply.ticket_key().size() == key.size()) {
    std::copy(reply.ticket_key().begin(), reply.ticket_key().end(), key.begin());
  } else {
    MMC_LOG(ERROR) << "the meta service gives no tickets: clients that come over TCP are refused; update it, or set "
                      "ock.mmc.local_service.hcom.tls.tickets = false";
  }
  tickets->LearnClock(reply.clock_ms(), asked);
  tickets->LearnKey(key);
}

void LocalService::Impl::RefuseBelow(uint64_t session) {
  storage->catalog().NoteRefusedBelow(session);
  endpoints.RefuseBelow(session);
}

void LocalService::Impl::Fence(uint64_t session, std::function<void()> done) {
  storage->catalog().NoteFenced(session);
  // What an earlier process of this node let in has no connection here, and may be of any session.
  endpoints.Fence(session, [this, done = std::move(done)]() mutable {
    Presence* const presence = storage->presence();
    if (presence == nullptr) return done();
    presence->WhenEarlierGone(std::move(done));
  });
}

void LocalService::Impl::FenceAll(uint64_t first_session, std::function<void()> done) {
  RefuseBelow(first_session);
  // The node's own copies write there too.
  work.Abandon([this, done = std::move(done)]() mutable { Fence(0, std::move(done)); });
}

uint64_t LocalService::Impl::Report(uint64_t cursor, proto::CatalogReportRequest* request) {
  size_t bytes = 0;
  return storage->catalog().Scan(cursor, [&](const CatalogRecordView& view) {
    // The first record always fits: its size has a bound of its own.
    const size_t size = RecordBytes(view.key.size(), view.extents.size());
    const bool full = request->records_size() >= kReportRecords || bytes + size > kReportBytes;
    if (full && request->records_size() != 0) return false;
    bytes += size;
    proto::CatalogRecord* out = request->add_records();
    out->set_segment(view.segment);
    out->set_generation(view.generation);
    out->set_key(view.key.data(), view.key.size());
    out->set_size(view.size);
    out->set_checksum(view.checksum);
    out->set_replicas(view.replicas);
    out->set_hard_pinned(view.hard_pinned);
    for (const CatalogExtent& extent : view.extents) {
      out->add_extent_offset(extent.offset);
      out->add_extent_length(extent.length);
    }
    return true;
  });
}

Status LocalService::Impl::Renew(const std::function<bool()>& give_up) {
  MMC_LOG(WARNING) << "node " << name << " becomes a new incarnation; its "
                   << storage->catalog().objects() << " objects are given up";
  regions.Remove(storage->region());
  auto fenced = std::make_shared<Flag>();
  FenceAll(0, [fenced] { fenced->Set(); });
  TimePoint next_line = Clock::Real().Now() + kFenceLog;
  while (!fenced->WaitFor(kFenceStep)) {
    if (give_up()) return Status(Code::kCancelled, "stopped while data connections were closing");
    if (Clock::Real().Now() < next_line) continue;
    next_line += kFenceLog;
    MMC_LOG(WARNING)
        << "still " << endpoints.connections()
        << " data connections open; a client on this host does not let go of the memory";
  }
  MMC_RETURN_IF_ERROR(storage->Renew());
  incarnation = storage->identity().incarnation;
  return Lend();
}

Status LocalService::Impl::Apply(const proto::CatalogRecord& record) {
  if (record.op() == proto::CATALOG_FORGET) {
    // Not there: its record found no room when it came.
    storage->catalog().Forget(record.segment(), record.generation());
    storage->catalog().SetApplied(record.seq());
    return Status::Ok();
  }
  if (record.extent_offset_size() != record.extent_length_size()) {
    return Status(Code::kMalformed, "extent columns of different length");
  }
  std::vector<CatalogExtent> extents(static_cast<size_t>(record.extent_offset_size()));
  for (int i = 0; i < record.extent_offset_size(); ++i) {
    extents[static_cast<size_t>(i)] = {.offset = record.extent_offset(i),
                                       .length = record.extent_length(i)};
  }
  const auto replicas = static_cast<uint8_t>(std::min<uint32_t>(record.replicas(), UINT8_MAX));
  const Status status = storage->catalog().Add({.key = record.key(),
                                                .generation = record.generation(),
                                                .segment = record.segment(),
                                                .size = record.size(),
                                                .checksum = record.checksum(),
                                                .replicas = replicas,
                                                .hard_pinned = record.hard_pinned(),
                                                .extents = extents});
  storage->catalog().SetApplied(record.seq());
  return status;
}

LocalService::LocalService() = default;

LocalService::~LocalService() {
  if (impl_ != nullptr) Stop(Clock::Real().Now());
}

Result<std::unique_ptr<LocalService>> LocalService::Create(LocalOptions options,
                                                           std::shared_ptr<rpc::Channel> meta) {
  if (options.hbm_bytes != 0 && !options.protocol_strict) {
    MMC_LOG(WARNING)
        << "ock.mmc.local_service.hbm.size = " << options.hbm_bytes
        << ": there is no device memory in this build; only dram.size is given to the pool";
    options.hbm_bytes = 0;
  }
  MMC_RETURN_IF_ERROR(ValidateLocalOptions(options));
  MMC_ASSIGN_OR_RETURN(auto data_tls,
                       security::TlsContext::LoadFor(options.data_tls, {security::Role::kLocal}));
  std::unique_ptr<LocalService> service(new LocalService());
  service->impl_ = std::make_unique<Impl>(std::move(options), meta, std::move(data_tls));
  service->impl_->agent = std::make_unique<MetaAgent>(std::move(meta), *service->impl_);
  return service;
}

Status LocalService::Start() {
  MutexLock lock(impl_->lifecycle);
  if (impl_->stopping) return Status(Code::kCancelled, "stopped before it started");
  Status status = impl_->Open();
  if (status.ok()) {
    impl_->agent->Start();
    const bool endless = impl_->options.join_timeout.count() == 0;
    do {
      const auto wait = endless ? std::chrono::milliseconds(60'000) : impl_->options.join_timeout;
      status = impl_->agent->WaitJoined(Clock::Real().Now() + wait);
    } while (endless && status.code() == Code::kUnavailable);
  }
  if (!status.ok()) {
    impl_->stopping = true;
    impl_->Close(Clock::Real().Now(), impl_->storage != nullptr && impl_->storage->warm());
    return status.code() == Code::kUnavailable ? status.Annotate(impl_->options.meta_url) : status;
  }
  return status;
}

void LocalService::Stop(TimePoint deadline) {
  impl_->stopping = true;
  impl_->agent->Interrupt();
  MutexLock lock(impl_->lifecycle);
  impl_->Close(deadline, impl_->options.keep_on_stop);
}

const std::string& LocalService::name() const { return impl_->name; }

std::vector<fabric::Endpoint> LocalService::endpoints() const { return impl_->endpoints.List(); }

uint64_t LocalService::incarnation() const { return impl_->incarnation.load(); }

std::string LocalService::catalog_path() const {
  return ServiceFilePath(impl_->options.catalog_directory, impl_->name, "catalog");
}

Status LocalService::ReloadCertificates() {
  return impl_->data_tls == nullptr ? Status::Ok() : impl_->data_tls->Reload();
}

LocalStats LocalService::stats() const {
  LocalStats out;
  out.joined = impl_->agent->joined();
  out.joins = impl_->agent->joins();
  if (!impl_->open) return out;
  out.objects = impl_->storage->catalog().objects();
  out.catalog_bytes = impl_->storage->catalog().file_bytes();
  out.catalog_missing = impl_->storage->catalog().missing();
  out.connections = impl_->endpoints.connections();
  return out;
}

MetaAgent& LocalService::agent() { return *impl_->agent; }

}  // namespace mmc::local
