// Remove, RemoveAll, RemoveByPrefix. The walks give the thread away now and then.
#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <string>

#include "meta_service/ops/common.h"

namespace mmc::meta::ops {

namespace {

namespace asio = boost::asio;

constexpr int kStepsPerTurn = 4;  // of about a thousand keys

Awaitable<Status> RemoveWalk(OpEnv& env, Context context, KeyMatch match, proto::RemoveManyReply* reply) {
  if (env.state.recovering()) co_return StillRecovering();
  WalkCursor cursor;
  uint64_t removed = 0;
  for (int step = 1; !cursor.done; ++step) {
    removed += env.state.RemoveStep(match, &cursor, env.clock.Now());
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
  co_return Status::Ok();
}

}  // namespace

Status Remove(OpEnv& env, const Context& context, const proto::RemoveRequest& request, proto::RemoveReply* reply) {
  MMC_ASSIGN_OR_RETURN(const std::string_view tenant, TenantOf(context, request.tenant()));
  Keys keys;
  MMC_RETURN_IF_ERROR(keys.Take(request.keys(), tenant));
  if (env.state.recovering() && MissesAny(env, keys)) return StillRecovering();
  std::vector<Code> codes(keys.size());
  env.state.Remove(keys.stored(), codes, env.clock.Now());
  for (size_t i = 0; i < keys.size(); ++i) {
    if (const Code judged = JudgeKey(keys.given()[i]); judged != Code::kOk) codes[i] = judged;
  }
  FillStatus(codes, reply->mutable_status());
  return Status::Ok();
}

Awaitable<Status> RemoveAll(OpEnv& env, Context context, const proto::RemoveAllRequest& request,
                            proto::RemoveManyReply* reply) {
  const auto tenant = TenantOf(context, request.tenant());
  if (!tenant.ok()) co_return tenant.status();
  co_return co_await RemoveWalk(env, context, KeyMatch(*tenant, {}), reply);
}

Awaitable<Status> RemoveByPrefix(OpEnv& env, Context context,
                                 const proto::RemoveByPrefixRequest& request,
                                 proto::RemoveManyReply* reply) {
  if (const Code judged = JudgeKey(request.prefix()); judged != Code::kOk) {
    co_return Status(judged, "a prefix has 1..2048 bytes; to remove everything call RemoveAll");
  }
  const auto tenant = TenantOf(context, request.tenant());
  if (!tenant.ok()) co_return tenant.status();
  co_return co_await RemoveWalk(env, context, KeyMatch(*tenant, request.prefix()), reply);
}

}  // namespace mmc::meta::ops
