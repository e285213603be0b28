// Remove, RemoveAll, RemoveByPrefix. The walks give the thread away now and then. With durable commits they are
// answered when the catalogs have forgotten what was removed, by this attempt or by another.
#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>

#include "meta_service/background/members_file.h"
#include "meta_service/ops/common.h"

namespace mmc::meta::ops {

namespace {

namespace asio = boost::asio;

constexpr int kStepsPerTurn = 4;  // of about a thousand keys

// Until no catalog has what was removed of these keys. Nodes that died, or did not come back in time, are not waited
// for: they are over for the next start too, once the members file says so.
Awaitable<Status> AwaitForgotten(OpEnv& env, Context context, const std::function<bool(std::string_view)>& of) {
  std::vector<AckWait> waits;
  env.state.AwaitForgotten(of, &waits);
  const Status forgotten = co_await AwaitAcks(env, std::move(context), std::move(waits), "removed", "remove again");
  if (forgotten.ok() && env.members != nullptr) env.members->SaveIfChanged();
  co_return forgotten;
}

Awaitable<Status> RemoveWalk(OpEnv& env, Context context, KeyMatch match, uint64_t session, uint64_t call,
                             proto::RemoveManyReply* reply) {
  if (env.state.recovering()) co_return StillRecovering();
  const auto limit = env.state.RemovalLimit(session, call, env.clock.Now());
  if (!limit.ok()) co_return limit.status();
  WalkCursor cursor;
  uint64_t removed = 0;
  for (int step = 1; !cursor.done; ++step) {
    removed += env.state.RemoveStep(match, &cursor, env.clock.Now(), *limit);
    if (step % kStepsPerTurn != 0) continue;
    if (env.waiters.closed())
      co_return Status(Code::kShuttingDown, "the meta service stops, some keys may be left");
    if (Clock::Real().Now() >= context.deadline) {
      co_return Status(Code::kDeadline,
                       std::to_string(removed) + " keys are removed, more are left: call again");
    }
    co_await asio::post(co_await asio::this_coro::executor, asio::use_awaitable);
  }
  reply->set_removed(removed);
  if (!env.options.commit_durable) co_return Status::Ok();
  const std::function<bool(std::string_view)> of = match;
  co_return co_await AwaitForgotten(env, std::move(context), of);
}

Status RemoveKeys(OpEnv& env, const proto::RemoveRequest& request, const Keys& keys, proto::RemoveReply* reply) {
  MMC_ASSIGN_OR_RETURN(const uint64_t limit,
                       env.state.RemovalLimit(request.session(), request.call(), env.clock.Now()));
  std::vector<Code> codes(keys.size());
  env.state.Remove(keys.stored(), codes, env.clock.Now(), limit);
  for (size_t i = 0; i < keys.size(); ++i) {
    if (const Code judged = JudgeKey(keys.given()[i]); judged != Code::kOk) codes[i] = judged;
  }
  FillStatus(codes, reply->mutable_status());
  return Status::Ok();
}

}  // namespace

Status Remove(OpEnv& env, const Context& context, const proto::RemoveRequest& request, proto::RemoveReply* reply) {
  MMC_ASSIGN_OR_RETURN(const std::string_view tenant, TenantOf(context, request.tenant()));
  Keys keys;
  MMC_RETURN_IF_ERROR(keys.Take(request.keys(), tenant));
  if (env.state.recovering() && MissesAny(env, keys)) return StillRecovering();
  return RemoveKeys(env, request, keys, reply);
}

Awaitable<Status> RemoveDurable(OpEnv& env, Context context, const proto::RemoveRequest& request,
                                proto::RemoveReply* reply) {
  const auto tenant = TenantOf(context, request.tenant());
  if (!tenant.ok()) co_return tenant.status();
  Keys keys;
  if (Status taken = keys.Take(request.keys(), *tenant); !taken.ok()) co_return taken;
  // Also of a key that is there: another node may have a replica, and nothing could tell the next start of the removal.
  if (env.state.recovering()) co_return StillRecovering();
  if (Status removed = RemoveKeys(env, request, keys, reply); !removed.ok()) co_return removed;
  const std::unordered_set<std::string_view> names(keys.stored().begin(), keys.stored().end());
  const std::function<bool(std::string_view)> of = [&names](std::string_view key) { return names.contains(key); };
  co_return co_await AwaitForgotten(env, std::move(context), of);
}

Awaitable<Status> RemoveAll(OpEnv& env, Context context, const proto::RemoveAllRequest& request,
                            proto::RemoveManyReply* reply) {
  const auto tenant = TenantOf(context, request.tenant());
  if (!tenant.ok()) co_return tenant.status();
  co_return co_await RemoveWalk(env, context, KeyMatch(*tenant, {}), request.session(), request.call(), reply);
}

Awaitable<Status> RemoveByPrefix(OpEnv& env, Context context,
                                 const proto::RemoveByPrefixRequest& request,
                                 proto::RemoveManyReply* reply) {
  if (const Code judged = JudgeKey(request.prefix()); judged != Code::kOk) {
    co_return Status(judged, "a prefix has 1..2048 bytes; to remove everything call RemoveAll");
  }
  const auto tenant = TenantOf(context, request.tenant());
  if (!tenant.ok()) co_return tenant.status();
  co_return co_await RemoveWalk(env, context, KeyMatch(*tenant, request.prefix()), request.session(), request.call(),
                                reply);
}

}  // namespace mmc::meta::ops
