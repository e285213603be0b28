// ClusterStatus: everything `mmc status` and the HTTP pages show.
#include "meta_service/ops/admit.h"
#include "meta_service/ops/common.h"

namespace mmc::meta::ops {

namespace {

// Who else is there, and how much they hold, is nobody's business but an admin's.
bool MaySee(const Context& context, const std::string& tenant) {
  if (!Authenticated(context)) return true;
  const security::Identity& caller = *context.identity;
  if (caller.role == security::Role::kAdmin && caller.tenant.empty()) return true;
  const bool user = caller.role == security::Role::kAdmin || caller.role == security::Role::kClient;
  const auto own = TenantFrom(caller.tenant);
  return user && own.ok() && *own == tenant;
}

void FillTenant(const TenantFigures& figures, proto::TenantUse* out) {
  out->set_name(std::string(TenantShown(figures.name)));
  out->set_objects(figures.objects);
  out->set_value_bytes(figures.value_bytes);
  out->set_used_bytes(figures.used_bytes);
  out->set_waiting_bytes(figures.waiting_bytes);
  out->set_quota_bytes(figures.quota_bytes);
  out->set_sessions(figures.sessions);
  out->set_grants(figures.grants);
  out->set_pins(figures.pins);
  out->set_evicted_objects(figures.evicted_objects);
  out->set_evicted_bytes(figures.evicted_bytes);
}

}  // namespace

Status ClusterStatus(OpEnv& env, const Context& context, const proto::ClusterStatusRequest&,
                     proto::ClusterStatusReply* reply) {
  const TimePoint now = env.clock.Now();
  const Figures f = env.state.figures();
  reply->set_term(env.term);
  reply->set_uptime_ms(
      std::chrono::duration_cast<std::chrono::milliseconds>(now - env.started).count());
  reply->set_objects(f.objects);
  reply->set_value_bytes(f.value_bytes);
  reply->set_capacity_bytes(f.capacity_bytes);
  reply->set_used_bytes(f.used_bytes);
  reply->set_sessions(f.sessions);
  reply->set_grants(f.grants);
  reply->set_pins(f.pins);
  reply->set_soft_pinned(f.soft_pinned);
  reply->set_hard_pinned(f.hard_pinned);
  reply->set_waiting_to_free_bytes(f.waiting_bytes);
  reply->set_lookups_hit(f.hits);
  reply->set_lookups_missed(f.misses);
  uint64_t objects = 0, bytes = 0;
  for (int cause = 0; cause < kEvictCauses; ++cause) {
    objects += f.evicted_objects[cause];
    bytes += f.evicted_bytes[cause];
  }
  reply->set_evicted_objects(objects);
  reply->set_evicted_bytes(bytes);
  reply->set_puts(f.puts);
  reply->set_gets(f.gets);
  reply->set_removes(f.removes);
  uint64_t version = 0;
  for (const NodeInfo& node : env.state.Directory(now, &version))
    FillNode(node, OnlyReads(env, context), reply->add_nodes());
  for (const TenantFigures& tenant : env.state.TenantUse()) {
    if (MaySee(context, tenant.name)) FillTenant(tenant, reply->add_tenants());
  }
  reply->set_version(MMC_VERSION);
  reply->set_evict_threshold_high(env.options.evict_threshold_high);
  reply->set_evict_threshold_low(env.options.evict_threshold_low);
  reply->set_recovering(f.recovering != 0);
  const MoverFigures moves = env.mover.figures();
  reply->set_under_replicated(moves.under_replicated);
  reply->set_copies_in_flight(moves.in_flight);
  return Status::Ok();
}

}  // namespace mmc::meta::ops
