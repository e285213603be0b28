// PutCommit and PutAbort: the two ends of a grant.
#include <string>
#include <utility>

#include "meta_service/background/members_file.h"
#include "meta_service/ops/common.h"

namespace mmc::meta::ops {

namespace {

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
  std::vector<Code> codes(n);
  MMC_RETURN_IF_ERROR(env.state.PutCommit(
      request.session(), {request.grant().data(), n},
      {request.checksum().data(), static_cast<size_t>(request.checksum_size())},
      {request.failed_replicas().data(), static_cast<size_t>(request.failed_replicas_size())},
      codes, env.clock.Now(), waits));
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
