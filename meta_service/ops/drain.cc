// Drain, and what nodes say in their polls about the copies they make.
#include "meta_service/background/members_file.h"
#include "meta_service/mover/mover.h"
#include "meta_service/ops/common.h"

namespace mmc::meta::ops {

Status Drain(OpEnv& env, const Context&, const proto::DrainRequest& request, proto::Empty*) {
  if (request.node().empty() || request.node().size() > kMaxNodeNameBytes) {
    return Status(Code::kInvalidArgument, "a node's name has 1..255 bytes");
  }
  MMC_RETURN_IF_ERROR(env.mover.Drain(request.node(), request.cancel(), env.clock.Now()));
  if (env.members != nullptr) env.members->Save();
  return Status::Ok();
}

Status TakeResults(OpEnv& env, const proto::CatalogSyncRequest& request) {
  MMC_RETURN_IF_ERROR(CheckBatch("copy results", request.copy_results_size()));
  MMC_RETURN_IF_ERROR(CheckBatch("scrub results", request.scrub_results_size()));
  const TimePoint now = env.clock.Now();
  for (const proto::CopyResult& result : request.copy_results()) {
    env.mover.Finish(request.node(), result.id(), CodeFromWire(result.status()), now);
  }
  for (const proto::ScrubResult& result : request.scrub_results()) {
    MMC_RETURN_IF_ERROR(env.scrubs.Take(request.node(), request.incarnation(), result, now));
  }
  return Status::Ok();
}

bool TakeWork(OpEnv& env, const proto::CatalogSyncRequest& request, proto::CatalogSyncReply* reply) {
  reply->clear_copies();
  reply->clear_scrubs();
  const bool copies = env.mover.Collect(request.node(), reply->mutable_copies());
  const bool scrubs = env.scrubs.Collect(request.node(), request.incarnation(), reply->mutable_scrubs());
  return copies || scrubs;
}

}  // namespace mmc::meta::ops
