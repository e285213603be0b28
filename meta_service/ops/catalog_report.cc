// CatalogReport: what a node holds, to a meta service that does not know it (any more).
#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <string>

#include "common/obs/log.h"
#include "meta_service/background/members_file.h"
#include "meta_service/ops/common.h"

namespace mmc::meta::ops {

namespace {

namespace asio = boost::asio;

constexpr int kMaxRecords = 1 << 16;

// One line per report, whatever was in it.
void Log(uint32_t node, const ReportProgress& progress) {
  std::string conflicts;
  for (int kind = 0; kind < kConflictKinds; ++kind) {
    if (progress.conflicts[kind] == 0) continue;
    conflicts += (conflicts.empty() ? "" : ", ") + std::to_string(progress.conflicts[kind]) + " " +
                 ConflictName(static_cast<ConflictKind>(kind));
  }
  if (conflicts.empty()) {
    MMC_LOG(INFO) << "node " << node << " reported " << progress.records << " replicas, all adopted";
  } else {
    MMC_LOG(WARNING) << "node " << node << " reported " << progress.records << " replicas, " << progress.adopted
                     << " adopted, dropped: " << conflicts << "; the first is " << progress.example;
  }
}

}  // namespace

Awaitable<Status> CatalogReport(OpEnv& env, Context context, const proto::CatalogReportRequest& request,
                                proto::CatalogReportReply* reply) {
  if (request.records_size() > kMaxRecords) {
    co_return Status(Code::kTooLarge, std::to_string(request.records_size()) + " records in one report, at most " +
                                          std::to_string(kMaxRecords) + " are taken: split it");
  }
  auto progress = env.state.TakeReport(request.node(), request.incarnation(), ReportedRecords(request), request.last(),
                                       env.clock.Now(), request.join());
  if (!progress.ok()) co_return progress.status();
  const bool over = progress->done;
  while (request.last() && !progress->done) {
    progress = env.state.AdoptStep(request.node(), request.incarnation(), env.clock.Now());
    if (!progress.ok()) co_return progress.status();
    if (progress->done) break;
    if (env.waiters.closed()) co_return Status(Code::kShuttingDown, "the meta service stops");
    if (Clock::Real().Now() >= context.deadline) {
      co_return Status(Code::kDeadline, std::to_string(progress->adopted) + " replicas are adopted: send `last` again");
    }
    co_await asio::post(co_await asio::this_coro::executor, asio::use_awaitable);
  }
  if (request.last() && !over) Log(request.node(), *progress);
  if (request.last() && env.members != nullptr) env.members->SaveIfChanged();
  reply->set_adopted(request.last() ? progress->adopted : progress->records);
  co_return Status::Ok();
}

}  // namespace mmc::meta::ops
