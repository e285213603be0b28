// CatalogSync: the long poll by which a node takes its catalog records and fences.
#include <algorithm>
#include <utility>

#include "meta_service/ops/common.h"

namespace mmc::meta::ops {

namespace {

constexpr size_t kMaxEntries = 4096;
constexpr uint64_t kMaxWaitMs = 60'000;

void FillRecord(CatalogEntry& entry, proto::CatalogRecord* out) {
  out->set_seq(entry.seq);
  out->set_op(entry.forget ? proto::CATALOG_FORGET : proto::CATALOG_ADD);
  out->set_segment(entry.segment);
  out->set_generation(entry.generation);
  out->set_key(std::move(entry.key));
  if (entry.forget) return;
  out->set_size(entry.size);
  out->set_checksum(entry.checksum);
  out->set_replicas(entry.asked);
  out->set_hard_pinned(entry.hard_pinned);
  out->add_extent_offset(entry.first.offset);
  out->add_extent_length(entry.first.length);
  for (const ExtentView& extent : entry.others) {
    out->add_extent_offset(extent.offset);
    out->add_extent_length(extent.length);
  }
}

}  // namespace

Awaitable<Status> CatalogSync(OpEnv& env, Context context, const proto::CatalogSyncRequest& request,
                              proto::CatalogSyncReply* reply) {
  if (Status size = CheckBatch("fenced sessions", request.fenced_sessions_size()); !size.ok())
    co_return size;
  WaitQueue& queue = env.waiters.feed(request.node());
  const TimePoint until = std::min(WaitLimit(env, context),
                                   env.clock.Now() + std::chrono::milliseconds(std::min<uint64_t>(
                                                         request.wait_ms(), kMaxWaitMs)));
  // A poll that was on its way while this service started speaks of a fence for the one before it.
  const bool fenced_all = request.fenced_all() && request.term() == env.term;
  CatalogBatch batch;
  bool took = false;
  for (;;) {
    const uint64_t ticket = queue.ticket();
    const TimePoint now = env.clock.Now();
    batch = {};
    Status polled = env.state.CatalogSync(
        request.node(), request.incarnation(), request.acked_seq(),
        {request.fenced_sessions().data(), static_cast<size_t>(request.fenced_sessions_size())},
        kMaxEntries, &batch, now, fenced_all, request.join());
    if (!polled.ok()) co_return polled;
    if (!std::exchange(took, true)) {  // this incarnation is the one that was asked
      if (Status results = TakeResults(env, request); !results.ok()) co_return results;
    }
    const bool work = TakeWork(env, request, reply);
    if (batch.fresh || work || now >= until || env.waiters.closed()) break;
    co_await queue.Wait(ticket, until);
  }
  for (CatalogEntry& entry : batch.entries) FillRecord(entry, reply->add_records());
  for (uint64_t session : batch.fences) reply->add_fence_sessions(session);
  reply->set_term(env.term);
  reply->set_oldest_session(env.state.OldestSession());
  co_return Status::Ok();
}

}  // namespace mmc::meta::ops
