// PutStart: grants for keys that are not there. See meta_service.h for when it waits.
#include <algorithm>
#include <string>

#include "common/base/bytes.h"
#include "meta_service/ops/common.h"

namespace mmc::meta::ops {

namespace {

constexpr int kMaxPreferred = 64;
// How long a call that already holds grants waits for space for the rest: its own grants might be
// what fills the pool.
constexpr auto kPartialWait = std::chrono::seconds(1);
// Leases end without an event, so a wait for space looks again from time to time.
constexpr auto kLookAgain = std::chrono::milliseconds(50);
// So many calls wait for space, and as many for other writers; one more is answered at once and may come again. Those
// that wait look again the more seldom the more they are: tens of thousands of them would leave no time for others.
constexpr size_t kMaxWaiting = 4096;
constexpr size_t kWaitingAtFullPace = 256;
// Of one tenant, so that others can wait too.
constexpr uint32_t kMaxWaitingOfOne = kMaxWaiting / 2;

// Counts one waiting call of a tenant, as long as it lives.
class Waiting {
 public:
  explicit Waiting(Tenant& tenant) : tenant_(tenant), number_(tenant_.waiting_puts.fetch_add(1)) {}
  ~Waiting() { tenant_.waiting_puts.fetch_sub(1); }
  Waiting(const Waiting&) = delete;
  Waiting& operator=(const Waiting&) = delete;
  bool allowed() const { return number_ < kMaxWaitingOfOne; }

 private:
  Tenant& tenant_;
  const uint32_t number_;
};

class PutCall {
 public:
  Status Prepare(OpEnv& env, const Context& context, const proto::PutStartRequest& request);
  Status Try(OpEnv& env);
  // Until when it makes sense to wait for what is not settled; now or earlier: it does not.
  TimePoint WaitUntil(TimePoint started, TimePoint limit) const;
  uint16_t tenant() const { return spec_.tenant; }
  bool LacksSpace() const {
    return std::any_of(rows_.begin(), rows_.end(),
                       [](const PutRow& row) { return row.code == Code::kNoSpace; });
  }
  // The call fails as a whole, with words, when all its keys met the same lack; else the reply has
  // the codes.
  Status Finish(OpEnv& env, const Context& context, proto::PutStartReply* reply);

 private:
  bool Granted() const {
    return std::any_of(rows_.begin(), rows_.end(), [](const PutRow& row) { return row.grant != 0; });
  }

  PutSpec spec_;
  Keys keys_;
  std::vector<uint32_t> preferred_;
  std::vector<PutRow> rows_;
  Views views_;
  TimePoint first_granted_;  // not after the first of the grants
};

Code JudgeSize(uint64_t size) {
  if (size == 0) return Code::kInvalidArgument;
  return size > kMaxValueBytes ? Code::kTooLarge : Code::kOk;
}

Status PutCall::Prepare(OpEnv& env, const Context& context, const proto::PutStartRequest& request) {
  MMC_ASSIGN_OR_RETURN(const std::string_view tenant, TenantOf(context, request.tenant()));
  MMC_ASSIGN_OR_RETURN(const uint16_t slot, env.state.tenants().SlotOf(tenant));
  MMC_RETURN_IF_ERROR(keys_.Take(request.keys(), tenant));
  const std::span<const std::string_view> keys = keys_.given();
  MMC_RETURN_IF_ERROR(CheckSameLength("sizes", request.sizes_size(), "keys", keys.size()));
  if (request.replicas() > kMaxReplicas) {
    return Status(Code::kInvalidArgument,
                  std::to_string(request.replicas()) + " replicas asked for, 1..8 are possible");
  }
  if (request.preferred_nodes_size() > kMaxPreferred) {
    return Status(Code::kInvalidArgument, "more than 64 preferred nodes");
  }
  if (request.medium() < 0 || request.medium() >= kMediums) {
    return Status(Code::kInvalidArgument,
                  "medium " + std::to_string(request.medium()) + " is not known");
  }
  preferred_.assign(request.preferred_nodes().begin(), request.preferred_nodes().end());
  spec_ = {.session = request.session(),
           .tenant = slot,
           .call = env.state.NextCall(),
           .replicas = std::max(1u, request.replicas()),
           .preferred = preferred_,
           .medium = static_cast<Medium>(request.medium()),
           .prefer_local = request.prefer_local(),
           .strict_medium = request.strict_medium()};
  rows_.resize(keys.size());
  for (size_t i = 0; i < keys.size(); ++i) {
    PutRow& row = rows_[i];
    row.key = keys_.stored()[i];
    row.size = request.sizes(static_cast<int>(i));
    row.code = JudgeKey(keys[i]);
    if (row.code == Code::kOk) row.code = JudgeSize(row.size);
    row.settled = row.code != Code::kOk;
    if (!row.settled) row.hash = HashKey(row.key);
  }
  return Status::Ok();
}

Status PutCall::Try(OpEnv& env) {
  const TimePoint now = env.clock.Now();
  if (!Granted()) first_granted_ = now;
  return env.state.PutStart(spec_, rows_, &views_, now);
}

TimePoint PutCall::WaitUntil(TimePoint started, TimePoint limit) const {
  bool granted = false, lacks_space = false, unsettled = false;
  for (const PutRow& row : rows_) {
    granted |= row.grant != 0;
    unsettled |= !row.settled;
    lacks_space |= !row.settled && row.code == Code::kNoSpace;
  }
  if (!unsettled) return started;
  if (!granted) return limit;
  // Two calls that each hold what the other waits for would both wait in vain: only space, and only
  // for a while.
  return lacks_space ? std::min(limit, started + kPartialWait) : started;
}

Status PutCall::Finish(OpEnv& env, const Context& context, proto::PutStartReply* reply) {
  const auto all = [this](Code code) {
    return !rows_.empty() && std::all_of(rows_.begin(), rows_.end(),
                                         [code](const PutRow& row) { return row.code == code; });
  };
  if (all(Code::kNoSpace)) {
    return Status(Code::kNoSpace, env.state.ExplainNoSpace(spec_.medium, spec_.tenant, env.clock.Now()));
  }
  if (all(Code::kNoNode)) {
    return Status(Code::kNoNode, "fewer than " + std::to_string(spec_.replicas) +
                                     " serving nodes have a " + MediumName(spec_.medium) +
                                     " segment that could hold " + FormatBytes(rows_[0].size) +
                                     "; start local services or ask for less");
  }
  reply->mutable_status()->Reserve(static_cast<int>(rows_.size()));
  reply->mutable_grant()->Reserve(static_cast<int>(rows_.size()));
  for (const PutRow& row : rows_) {
    reply->mutable_status()->AddAlreadyReserved(static_cast<uint32_t>(row.code));
    reply->mutable_grant()->AddAlreadyReserved(row.grant);
  }
  FillReplicas(std::span<const PutRow>(rows_), views_, reply->mutable_replicas());
  if (env.tickets.needed()) {
    env.tickets.Seal({.holder = fabric::HolderOf(*context.identity),
                      .session = spec_.session,
                      .direction = fabric::Direction::kWrite},
                     Tickets::EndMs(first_granted_, env.state.options().write_ticket), reply->mutable_replicas());
  }
  reply->set_directory_version(env.state.directory_version());
  return Status::Ok();
}

}  // namespace

Status PutStartNow(OpEnv& env, const Context& context, const proto::PutStartRequest& request,
                   proto::PutStartReply* reply) {
  PutCall call;
  MMC_RETURN_IF_ERROR(call.Prepare(env, context, request));
  MMC_RETURN_IF_ERROR(call.Try(env));
  return call.Finish(env, context, reply);
}

Awaitable<Status> PutStart(OpEnv& env, Context context, const proto::PutStartRequest& request,
                           proto::PutStartReply* reply) {
  PutCall call;
  if (Status prepared = call.Prepare(env, context, request); !prepared.ok()) co_return prepared;
  const TimePoint started = env.clock.Now();
  const TimePoint limit = WaitLimit(env, context);
  for (;;) {
    const uint64_t space = env.waiters.space().ticket();
    const uint64_t keys = env.waiters.keys().ticket();
    if (Status tried = call.Try(env); !tried.ok()) co_return tried;
    const TimePoint now = env.clock.Now();
    const TimePoint until = call.WaitUntil(started, limit);
    if (until <= now) break;
    if (env.waiters.closed())
      co_return Status(Code::kShuttingDown, "the meta service stops, nothing was started");
    const size_t waiting = (call.LacksSpace() ? env.waiters.space() : env.waiters.keys()).waiting();
    const Waiting one_of_the_tenant(env.state.tenants().At(call.tenant()));
    if (waiting >= kMaxWaiting || !one_of_the_tenant.allowed()) break;
    if (call.LacksSpace()) {
      const auto pause = kLookAgain * (1 + waiting / kWaitingAtFullPace);
      co_await env.waiters.space().Wait(space, std::min<TimePoint>(until, now + pause));
    } else {
      co_await env.waiters.keys().Wait(keys, until);
    }
  }
  co_return call.Finish(env, context, reply);
}

}  // namespace mmc::meta::ops
