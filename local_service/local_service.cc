#include "local_service/local_service.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <random>
#include <utility>

#include "common/base/mutex.h"
#include "common/obs/log.h"
#include "fabric/fabric.h"
#include "fabric/memory.h"
#include "local_service/catalog.h"
#include "local_service/endpoints.h"
#include "local_service/meta_agent.h"

namespace mmc::local {
namespace {

constexpr uint32_t kDramSegment = 1;
constexpr std::chrono::milliseconds kFenceStep{20};
constexpr std::chrono::milliseconds kFenceLog{5000};
constexpr std::chrono::milliseconds kDrainStep{5};
// A transfer is several requests with nothing under way in between: this long without any is the
// end.
constexpr std::chrono::milliseconds kQuiet{50};

uint64_t RandomNonZero() {
  std::random_device source;
  uint64_t value = 0;
  while (value == 0) value = (uint64_t{source()} << 32) | source();
  return value;
}

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
  Impl(LocalOptions opts, std::shared_ptr<rpc::Channel> channel)
      : options(std::move(opts)), meta(std::move(channel)), endpoints(options, regions) {}

  Status Open();
  void Drain(TimePoint until);
  void Close(TimePoint deadline);
  Status Lend();
  CatalogIdentity Identity() const;

  proto::JoinRequest Describe() override;
  Status Renew(const std::function<bool()>& give_up) override;
  Status Apply(const proto::CatalogRecord& record) override;
  void Fence(uint64_t session, std::function<void()> done) override {
    endpoints.Fence(session, std::move(done));
  }

  LocalOptions options;
  const std::shared_ptr<rpc::Channel> meta;
  std::string name;
  std::atomic<uint64_t> incarnation{0};
  std::atomic<bool> stopping{false};
  std::atomic<bool> open{false};
  uint32_t epoch = 0;  // changed by the agent's threads only, once they run
  std::shared_ptr<fabric::SegmentMemory> memory;
  fabric::RegionTable regions;
  Endpoints endpoints;
  std::unique_ptr<Catalog> catalog;
  std::unique_ptr<MetaAgent>
      agent;        // made by the constructor's caller, so that Stop may interrupt it at any time
  Mutex lifecycle;  // held by Start and Stop while they run
};

CatalogIdentity LocalService::Impl::Identity() const {
  CatalogIdentity identity;
  identity.node = name;
  identity.incarnation = incarnation.load();
  identity.segments.push_back({.id = kDramSegment,
                               .epoch = epoch,
                               .medium = proto::MEDIUM_DRAM,
                               .numa_node = options.numa_node,
                               .size = options.dram_bytes});
  return identity;
}

Status LocalService::Impl::Lend() {
  fabric::Region region;
  region.ref = {.segment = kDramSegment, .epoch = epoch};
  region.memory = {memory->data(), memory->size()};
  region.access = fabric::Access::kReadWrite;
  region.segment = memory;
  return regions.Add(std::move(region));
}

Status LocalService::Impl::Open() {
  fabric::SegmentOptions segment;
  segment.name = "mmc-dram";
  segment.size = options.dram_bytes;
  segment.numa_node = options.numa_node;
  segment.hugetlb = options.hugepages;
  segment.prefault = options.prefault;
  MMC_ASSIGN_OR_RETURN(memory, fabric::SegmentMemory::Create(segment));
  MMC_LOG(INFO) << "segment " << kDramSegment << " of " << FormatBytes(memory->size())
                << ", pages: " << memory->page_kind();
  epoch = static_cast<uint32_t>(RandomNonZero() >> 33) + 1;  // 31 bits: there is room to count up
  incarnation = RandomNonZero();
  MMC_RETURN_IF_ERROR(Lend());
  MMC_RETURN_IF_ERROR(endpoints.OpenNetwork());
  name = options.name;
  if (name.empty()) {
    const uint64_t suffix =
        endpoints.data_port() != 0 ? endpoints.data_port() : static_cast<uint64_t>(::getpid());
    name = HostName() + ":" + std::to_string(suffix);
  }
  MMC_ASSIGN_OR_RETURN(
      catalog,
      Catalog::Create(ServiceFilePath(options.catalog_directory, name, "catalog"), Identity()));
  // After the catalog: its lock says that no other service of this name uses the socket.
  MMC_RETURN_IF_ERROR(endpoints.OpenHost(name));
  for (const fabric::Endpoint& endpoint : endpoints.List()) {
    MMC_LOG(INFO) << "serving " << endpoint.transport << " at " << endpoint.address;
  }
  open = true;
  return Status::Ok();
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

void LocalService::Impl::Close(TimePoint deadline) {
  agent->Stop(deadline);
  if (open) Drain(std::min(deadline, Clock::Real().Now() + options.drain));
  open = false;
  endpoints.Close();
  regions.Remove({.segment = kDramSegment, .epoch = epoch});
  if (catalog != nullptr) catalog->Remove();
  memory.reset();
}

proto::JoinRequest LocalService::Impl::Describe() {
  proto::JoinRequest request;
  request.set_name(name);
  request.set_incarnation(incarnation.load());
  request.set_host_id(fabric::HostId());
  for (const fabric::Endpoint& endpoint : endpoints.List()) {
    proto::Endpoint* out = request.add_endpoints();
    out->set_transport(endpoint.transport);
    out->set_address(endpoint.address);
  }
  for (const CatalogSegmentRow& row : Identity().segments) {
    proto::Segment* out = request.add_segments();
    out->set_id(row.id);
    out->set_epoch(row.epoch);
    out->set_medium(static_cast<proto::Medium>(row.medium));
    out->set_size(row.size);
    out->set_numa_node(row.numa_node);
  }
  return request;
}

Status LocalService::Impl::Renew(const std::function<bool()>& give_up) {
  MMC_LOG(WARNING) << "node " << name << " becomes a new incarnation; its " << catalog->objects()
                   << " objects are given up";
  regions.Remove({.segment = kDramSegment, .epoch = epoch});
  auto fenced = std::make_shared<Flag>();
  endpoints.Fence(0, [fenced] { fenced->Set(); });
  TimePoint next_line = Clock::Real().Now() + kFenceLog;
  while (!fenced->WaitFor(kFenceStep)) {
    if (give_up()) return Status(Code::kCancelled, "stopped while data connections were closing");
    if (Clock::Real().Now() < next_line) continue;
    next_line += kFenceLog;
    MMC_LOG(WARNING)
        << "still " << endpoints.connections()
        << " data connections open; a client on this host does not let go of the memory";
  }
  ++epoch;
  incarnation = RandomNonZero();
  MMC_RETURN_IF_ERROR(catalog->Reset(Identity()));
  return Lend();
}

Status LocalService::Impl::Apply(const proto::CatalogRecord& record) {
  if (record.op() == proto::CATALOG_FORGET) {
    // Not there: its record found no room when it came.
    catalog->Forget(record.segment(), record.generation());
    catalog->SetApplied(record.seq());
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
  const Status status = catalog->Add({.key = record.key(),
                                      .generation = record.generation(),
                                      .segment = record.segment(),
                                      .size = record.size(),
                                      .checksum = record.checksum(),
                                      .extents = extents});
  catalog->SetApplied(record.seq());
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
  std::unique_ptr<LocalService> service(new LocalService());
  service->impl_ = std::make_unique<Impl>(std::move(options), meta);
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
    impl_->Close(Clock::Real().Now());
    return status.code() == Code::kUnavailable ? status.Annotate(impl_->options.meta_url) : status;
  }
  return status;
}

void LocalService::Stop(TimePoint deadline) {
  impl_->stopping = true;
  impl_->agent->Interrupt();
  MutexLock lock(impl_->lifecycle);
  impl_->Close(deadline);
}

const std::string& LocalService::name() const { return impl_->name; }

std::vector<fabric::Endpoint> LocalService::endpoints() const { return impl_->endpoints.List(); }

uint64_t LocalService::incarnation() const { return impl_->incarnation.load(); }

std::string LocalService::catalog_path() const {
  return ServiceFilePath(impl_->options.catalog_directory, impl_->name, "catalog");
}

LocalStats LocalService::stats() const {
  LocalStats out;
  out.joined = impl_->agent->joined();
  out.joins = impl_->agent->joins();
  if (!impl_->open) return out;
  out.objects = impl_->catalog->objects();
  out.catalog_bytes = impl_->catalog->file_bytes();
  out.catalog_missing = impl_->catalog->missing();
  out.connections = impl_->endpoints.connections();
  return out;
}

MetaAgent& LocalService::agent() { return *impl_->agent; }

}  // namespace mmc::local
