#include "meta_service/meta_service.h"

#include <glog/logging.h>

#include <algorithm>
#include <atomic>
#include <utility>

#include "common/rpc/server.h"
#include "common/security/tls_context.h"
#include "meta_service/background/members_file.h"
#include "meta_service/background/runner.h"
#include "meta_service/metrics.h"
#include "meta_service/mover/mover_job.h"
#include "meta_service/mover/mover_metrics.h"
#include "meta_service/ops/ops.h"
#include "meta_service/state/meta_state.h"

namespace mmc::meta {

namespace {

// Sessions and generations of a later start are greater than those of an earlier one: counted from
// the wall clock in microseconds, and no service hands out a million a second for long.
uint64_t IdBase() {
  const auto since_epoch = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::microseconds>(since_epoch).count();
}

// What the members file knows of the starts before this one.
struct Before {
  std::string path;  // empty: no file is kept
  bool members_known = false;
  std::vector<MemberRow> members;
  uint64_t term = 1;  // of this start
};

Result<Before> ReadBefore(const MetaOptions& options) {
  const auto since_epoch = std::chrono::system_clock::now().time_since_epoch();
  Before before;
  before.term = std::chrono::duration_cast<std::chrono::milliseconds>(since_epoch).count();
  if (options.state_path.empty()) return before;
  before.path = options.state_path + "/members";
  MMC_ASSIGN_OR_RETURN(auto file, MembersFile::Load(before.path));
  if (!file) return before;
  before.members_known = true;
  before.members = std::move(file->rows);
  for (MemberRow& row : before.members) {
    // It stayed away for all of the term before: what was removed meanwhile it does not know.
    if (row.kind == MemberRow::Kind::kMissing) row.kind = MemberRow::Kind::kGone;
  }
  before.term = std::max(before.term, file->term + 1);
  return before;
}

std::vector<std::unique_ptr<Job>> JobsOf(MetaState& state, Mover& mover, MembersWriter* members) {
  auto jobs = AllJobs(state);
  jobs.push_back(std::make_unique<Moving>(mover));
  if (members != nullptr) jobs.push_back(std::make_unique<MembersJob>(*members));
  return jobs;
}

StateOptions StateOptionsFrom(const MetaOptions& options, const Before& before) {
  return {.evict_high = options.evict_threshold_high,
          .evict_low = options.evict_threshold_low,
          .evict_policy = options.evict_policy,
          .lease = options.lease,
          .max_lease = options.max_lease,
          .grant = options.grant,
          .soft_pin = options.soft_pin,
          .max_soft_pin = options.max_soft_pin,
          .evict_soft_pinned = options.evict_soft_pinned,
          .write_ticket = options.write_ticket,
          .session_expiry = options.session_expiry,
          .node_suspect = options.node_suspect,
          .node_grace = options.node_grace,
          .max_sessions = options.max_sessions,
          .id_base = IdBase(),
          .seed = IdBase(),
          .recovery = options.recovery,
          .members_known = before.members_known,
          .members = before.members,
          .quotas = options.tenant_quotas,
          .max_sessions_per_tenant = options.max_sessions_per_tenant,
          .max_grants_per_tenant = options.max_grants_per_tenant,
          .max_pins_per_tenant = options.max_pins_per_tenant};
}

}  // namespace

struct MetaService::Impl {
  Impl(MetaOptions o, const Before& before, Clock& c, std::shared_ptr<security::TlsContext> secure)
      : options(std::move(o)),
        tls(std::move(secure)),
        clock(c),
        state(StateOptionsFrom(options, before)),
        mover(state, {.bytes_per_second = options.copy_bytes_per_second}),
        scrubs(mover, state.options().id_base),
        members(before.path.empty() ? nullptr
                                    : std::make_unique<MembersWriter>(state, before.path, before.term)),
        env{.state = state,
            .waiters = waiters,
            .mover = mover,
            .scrubs = scrubs,
            .options = options,
            .access = options.access,
            .clock = clock,
            .members = members.get(),
            .term = before.term,
            .started = clock.Now()},
        server(rpc::MakeServer({.url = options.url,
                                .url_key = "ock.mmc.meta_service_url",
                                .io_threads = options.io_threads,
                                .max_connections = options.max_connections,
                                .max_buffer_bytes = options.max_buffer_bytes,
                                .metrics = &registry,
                                .tls = tls})),
        runner(JobsOf(state, mover, members.get()), clock,
               [this](TimePoint now) { waiters.Expire(now); },
               [this](TimePoint now) { state.Resumed(now); }) {
    state.SetListener(&waiters);
    state.BeginRecovery(clock.Now());
    keeper.Add("rpc", tls);
    keeper.RegisterMetrics(registry);
    RegisterMetrics(registry, state, clock);
    RegisterMoverMetrics(registry, mover);
    RegisterOps(env, *server);
  }

  const MetaOptions options;
  const std::shared_ptr<security::TlsContext> tls;
  Clock& clock;
  obs::Registry registry;
  security::TlsKeeper keeper;
  Waiters waiters;
  MetaState state;
  Mover mover;
  Scrubs scrubs;
  const std::unique_ptr<MembersWriter> members;
  OpEnv env;
  std::unique_ptr<rpc::Server> server;
  Runner runner;
  std::atomic<bool> ready{false};
  bool stopped = false;
};

MetaService::MetaService() = default;

MetaService::~MetaService() { Stop(Clock::Real().Now()); }

Result<std::unique_ptr<MetaService>> MetaService::Create(MetaOptions options, Clock& clock) {
  if (options.evict_threshold_low >= options.evict_threshold_high ||
      options.evict_threshold_high > 100) {
    return Status(Code::kInvalidArgument,
                  "evict_threshold_low " + std::to_string(options.evict_threshold_low) +
                      " must be below _high " + std::to_string(options.evict_threshold_high) +
                      ", and that at most 100");
  }
  if (!KnownEvictionPolicy(options.evict_policy)) {
    return Status(Code::kInvalidArgument,
                  "eviction policy '" + options.evict_policy + "' is not known, try 'lru'");
  }
  MMC_ASSIGN_OR_RETURN(auto tls, security::TlsContext::LoadFor(options.tls, {security::Role::kMeta}));
  std::unique_ptr<MetaService> service(new MetaService());
  MMC_ASSIGN_OR_RETURN(const Before before, ReadBefore(options));
  service->impl_ = std::make_unique<Impl>(std::move(options), before, clock, std::move(tls));
  return service;
}

Status MetaService::Start() {
  MMC_RETURN_IF_ERROR(impl_->server->Start());
  impl_->runner.Start();
  impl_->ready.store(true);
  return Status::Ok();
}

void MetaService::Stop(TimePoint deadline) {
  if (impl_ == nullptr || std::exchange(impl_->stopped, true)) return;
  impl_->ready.store(false);
  impl_->waiters
      .Close();  // long polls and waiting puts end: nothing else keeps the server from draining
  impl_->server->Stop(deadline);
  impl_->runner.Stop();
}

bool MetaService::ready() const { return impl_->ready.load() && !recovering(); }
bool MetaService::recovering() const { return impl_->state.recovering(); }
uint64_t MetaService::term() const { return impl_->env.term; }
uint16_t MetaService::port() const {
  return impl_->options.url.empty() ? 0 : impl_->server->port();
}
std::shared_ptr<rpc::Channel> MetaService::InProcessChannel() {
  return impl_->server->InProcessChannel();
}
security::TlsKeeper& MetaService::tls_keeper() { return impl_->keeper; }
obs::Registry& MetaService::metrics() { return impl_->registry; }
MetaState& MetaService::state() { return impl_->state; }
const MetaOptions& MetaService::options() const { return impl_->options; }
void MetaService::RunBackgroundNow() { impl_->runner.RunAll(); }

}  // namespace mmc::meta
