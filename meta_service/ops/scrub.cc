// Scrub, ScrubStatus, and replicas that clients have found bad.
#include "meta_service/ops/common.h"

namespace mmc::meta::ops {

Status Scrub(OpEnv& env, const Context&, const proto::ScrubRequest& request, proto::ScrubReply* reply) {
  uint64_t version = 0;
  std::vector<uint32_t> asked;
  MMC_ASSIGN_OR_RETURN(const uint64_t id,
                       env.scrubs.Start(request.node(), request.bytes_per_second(),
                                        env.state.Directory(env.clock.Now(), &version), &asked));
  for (const uint32_t node : asked) env.waiters.OnFeed(node);
  reply->set_id(id);
  return Status::Ok();
}

Status ScrubStatus(OpEnv& env, const Context&, const proto::ScrubStatusRequest& request,
                   proto::ScrubStatusReply* reply) {
  uint64_t version = 0;
  return env.scrubs.Show(request.id(), env.state.Directory(env.clock.Now(), &version), reply);
}

Status DropReported(OpEnv& env, const Context& context, const proto::ReportReplicaRequest& request) {
  if (CodeFromWire(request.status()) != Code::kCorrupt || request.key().empty()) return Status::Ok();
  if (const Code code = JudgeKey(request.key()); code != Code::kOk) return Status(code, "the key of the replica");
  MMC_ASSIGN_OR_RETURN(const std::string_view tenant, TenantOf(context, request.tenant()));
  std::string stored;
  AppendStoredKey(tenant, request.key(), &stored);
  env.mover.DropBad(request.node(), stored, request.generation(), env.clock.Now());
  return Status::Ok();
}

}  // namespace mmc::meta::ops
