// PutCommit and PutAbort: the two ends of a grant.
#include <algorithm>
#include <chrono>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/base/limits.h"
#include "meta_service/background/members_file.h"
#include "meta_service/ops/common.h"

namespace mmc::meta::ops {

namespace {

// `names` holds what it points to.
Result<Keeping> KeepingOf(const proto::PutCommitRequest& request, std::vector<std::string_view>* names) {
  const int retention = request.retention();
  if (retention < 0 || retention >= kRetentions) {
    return Status(Code::kInvalidArgument, "retention " + std::to_string(retention) +
                                              ": 0 (normal), 1 (soft) and 2 (hard) are possible");
  }
  if (request.group_size() != 0) {
    MMC_RETURN_IF_ERROR(CheckSameLength("groups", request.group_size(), "grants", request.grant_size()));
  }
  for (const std::string& name : request.group()) {
    if (name.size() > kMaxKeyBytes) {
      return Status(Code::kInvalidArgument, "the name of a group has " + std::to_string(name.size()) +
                                                " bytes, at most " + std::to_string(kMaxKeyBytes) + " are possible");
    }
    names->push_back(name);
  }
  const uint64_t most = std::chrono::duration_cast<std::chrono::milliseconds>(Duration::max()).count();
  return Keeping{.retention = static_cast<Retention>(retention),
                 .soft_pin = std::chrono::milliseconds(std::min(request.soft_pin_ms(), most)),
                 .groups = *names};
}

Status Commit(OpEnv& env, const proto::PutCommitRequest& request, proto::PutCommitReply* reply,
              std::vector<AckWait>* waits) {
  const size_t n = request.grant_size();
  MMC_RETURN_IF_ERROR(CheckBatch("grants", n));
  if (request.checksum_size() != 0) {
    MMC_RETURN_IF_ERROR(CheckSameLength("checksums", request.checksum_size(), "grants", n));
  }
  if (request.failed_replicas_size() != 0) {
    MMC_RETURN_IF_ERROR(
        CheckSameLength("failed_replicas", request.failed_replicas_size(), "grants", n));
  }
  std::vector<std::string_view> groups;
  MMC_ASSIGN_OR_RETURN(const Keeping keeping, KeepingOf(request, &groups));
  std::vector<Code> codes(n);
  MMC_RETURN_IF_ERROR(env.state.PutCommit(
      request.session(), {request.grant().data(), n},
      {request.checksum().data(), static_cast<size_t>(request.checksum_size())},
      {request.failed_replicas().data(), static_cast<size_t>(request.failed_replicas_size())},
      codes, env.clock.Now(), waits, keeping));
  FillStatus(codes, reply->mutable_status());
  return Status::Ok();
}

}  // namespace

Status PutCommit(OpEnv& env, const Context&, const proto::PutCommitRequest& request, proto::PutCommitReply* reply) {
  return Commit(env, request, reply, nullptr);
}

Awaitable<Status> PutCommitDurable(OpEnv& env, Context context,
                                   const proto::PutCommitRequest& request,
                                   proto::PutCommitReply* reply) {
  std::vector<AckWait> waits;
  if (Status committed = Commit(env, request, reply, &waits); !committed.ok()) co_return committed;
  const Status durable = co_await AwaitAcks(env, std::move(context), std::move(waits), "committed", "ask with Stat");
  // An owner that came late has by now all it was told, and counts for the next start.
  if (durable.ok() && env.members != nullptr) env.members->SaveIfChanged();
  co_return durable;
}

Awaitable<Status> AwaitAcks(OpEnv& env, Context context, std::vector<AckWait> waits, const char* done,
                            const char* remedy) {
  const TimePoint limit = WaitLimit(env, context);
  for (const AckWait& wait : waits) {
    WaitQueue& queue = env.waiters.acked(wait.feed->node());
    for (;;) {
      const uint64_t ticket = queue.ticket();
      if (wait.feed->Settled(wait.seq)) break;
      if (env.waiters.closed() || env.clock.Now() >= limit) {
        co_return Status(Code::kDeadline, std::string(done) + ", but the catalog of node " +
                                              std::to_string(wait.feed->node()) +
                                              " has not said yet that it knows: " + remedy);
      }
      co_await queue.Wait(ticket, limit);
    }
  }
  co_return Status::Ok();
}

Status PutAbort(OpEnv& env, const Context&, const proto::PutAbortRequest& request, proto::PutAbortReply* reply) {
  const size_t n = request.grant_size();
  MMC_RETURN_IF_ERROR(CheckBatch("grants", n));
  std::vector<Code> codes(n);
  MMC_RETURN_IF_ERROR(env.state.PutAbort(request.session(), {request.grant().data(), n},
                                         request.unconfirmed(), codes, env.clock.Now()));
  FillStatus(codes, reply->mutable_status());
  return Status::Ok();
}

}  // namespace mmc::meta::ops
