// ClusterStatus: everything `mmc status` and the HTTP pages show.
#include "meta_service/ops/common.h"

namespace mmc::meta::ops {

Status ClusterStatus(OpEnv& env, const proto::ClusterStatusRequest&,
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
    FillNode(node, reply->add_nodes());
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
