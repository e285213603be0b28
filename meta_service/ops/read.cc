// Lookup (with lease or pin), LookupPrefix, Exists, Stat, Unpin.
#include <limits>
#include <utility>

#include "meta_service/ops/common.h"

namespace mmc::meta::ops {

namespace {

// Big arrays of one call that the next call of the thread uses again.
struct Scratch {
  std::vector<ReadRow> rows;
  Views views;
  Scratch& Fresh(size_t n) {
    rows.resize(n);
    views.Clear();
    return *this;
  }
};

Scratch& ScratchOf(size_t n) {
  thread_local Scratch scratch;
  return scratch.Fresh(n);
}

// Too long to ask for is the same as "for ever": the state cuts it to its own limit.
Duration Millis(uint64_t ms) {
  constexpr uint64_t kMax = std::numeric_limits<int64_t>::max() / 1'000'000;
  return std::chrono::milliseconds(static_cast<int64_t>(std::min(ms, kMax)));
}

Code ReadCode(const ReadRow& row, std::string_view key) {
  if (row.code != Code::kNotFound && row.code != Code::kRecovering) return row.code;
  const Code judged = JudgeKey(key);
  return judged == Code::kOk ? row.code : judged;
}

}  // namespace

Status Lookup(OpEnv& env, const Context& context, const proto::LookupRequest& request, proto::LookupReply* reply) {
  MMC_ASSIGN_OR_RETURN(const std::string_view tenant, TenantOf(context, request.tenant()));
  Keys keys;
  MMC_RETURN_IF_ERROR(keys.Take(request.keys(), tenant));
  const int n = static_cast<int>(keys.size());
  Scratch& scratch = ScratchOf(keys.size());
  const Duration lease = env.state.LeaseFor(Millis(request.lease_ms()));
  const TimePoint now = env.clock.Now();
  MMC_RETURN_IF_ERROR(env.state.Lookup(request.session(), keys.stored(), lease, request.pin(), scratch.rows,
                                       &scratch.views, now));
  reply->mutable_status()->Reserve(n);
  reply->mutable_size()->Reserve(n);
  reply->mutable_generation()->Reserve(n);
  reply->mutable_checksum()->Reserve(n);
  for (int i = 0; i < n; ++i) {
    const ReadRow& row = scratch.rows[i];
    reply->mutable_status()->AddAlreadyReserved(static_cast<uint32_t>(ReadCode(row, keys.given()[i])));
    reply->mutable_size()->AddAlreadyReserved(row.size);
    reply->mutable_generation()->AddAlreadyReserved(row.generation);
    reply->mutable_checksum()->AddAlreadyReserved(row.checksum);
  }
  FillReplicas(std::span<const ReadRow>(scratch.rows), scratch.views, reply->mutable_replicas());
  Duration usable = lease;
  // A pin is for memory that the reader sees itself; its end is not known, so that no ticket could be for it.
  if (env.tickets.needed() && !request.pin() &&
      env.tickets.Seal({.holder = fabric::HolderOf(*context.identity),
                        .session = request.session(),
                        .direction = fabric::Direction::kRead},
                       Tickets::EndMs(now, lease), reply->mutable_replicas())) {
    usable -= Tickets::Margin(lease);
  }
  reply->set_lease_ms(std::chrono::duration_cast<std::chrono::milliseconds>(usable).count());
  reply->set_directory_version(env.state.directory_version());
  return Status::Ok();
}

Status LookupPrefix(OpEnv& env, const Context& context, const proto::LookupPrefixRequest& request,
                    proto::LookupPrefixReply* reply) {
  MMC_ASSIGN_OR_RETURN(const std::string_view tenant, TenantOf(context, request.tenant()));
  Keys keys;
  MMC_RETURN_IF_ERROR(keys.Take(request.keys(), tenant));
  const bool recovering = env.state.recovering();  // before the look at the tables
  const uint32_t present = env.state.LookupPrefix(keys.stored());
  if (recovering && present < keys.size() && JudgeKey(keys.given()[present]) == Code::kOk)
    return StillRecovering();
  reply->set_present(present);
  return Status::Ok();
}

Status Exists(OpEnv& env, const Context& context, const proto::ExistsRequest& request, proto::ExistsReply* reply) {
  MMC_ASSIGN_OR_RETURN(const std::string_view tenant, TenantOf(context, request.tenant()));
  Keys keys;
  MMC_RETURN_IF_ERROR(keys.Take(request.keys(), tenant));
  if (env.state.recovering() && MissesAny(env, keys)) return StillRecovering();
  std::string* present = reply->mutable_present();
  present->resize(keys.size());
  auto* answers = reinterpret_cast<uint8_t*>(present->data());
  if (!request.lease()) {
    env.state.Exists(keys.stored(), answers);
  } else {
    env.state.ExistsLeased(keys.stored(), Millis(request.lease_ms()), answers, env.clock.Now());
  }
  return Status::Ok();
}

Status Stat(OpEnv& env, const Context& context, const proto::StatRequest& request, proto::StatReply* reply) {
  // A writer whose commit was cut off by the stop asks here. What is in the tables may not be in a
  // catalog yet, and then the next meta service will not have it: that one has to answer.
  if (env.waiters.closed()) return Status(Code::kShuttingDown, "the meta service stops");
  MMC_ASSIGN_OR_RETURN(const std::string_view tenant, TenantOf(context, request.tenant()));
  Keys keys;
  MMC_RETURN_IF_ERROR(keys.Take(request.keys(), tenant));
  Scratch& scratch = ScratchOf(keys.size());
  env.state.Stat(keys.stored(), scratch.rows, &scratch.views, env.clock.Now());
  for (size_t i = 0; i < keys.size(); ++i) {
    const ReadRow& row = scratch.rows[i];
    reply->add_status(static_cast<uint32_t>(ReadCode(row, keys.given()[i])));
    reply->add_size(row.size);
    reply->add_generation(row.generation);
    reply->add_checksum(row.checksum);
    reply->add_lease_left_ms(
        std::chrono::duration_cast<std::chrono::milliseconds>(row.lease_left).count());
    reply->add_pins(row.pins);
  }
  FillReplicas(std::span<const ReadRow>(scratch.rows), scratch.views, reply->mutable_replicas());
  return Status::Ok();
}

Awaitable<Status> StatDurable(OpEnv& env, Context context, const proto::StatRequest& request,
                              proto::StatReply* reply) {
  Status status = Stat(env, context, request, reply);
  if (!status.ok() || !request.durable()) co_return status;
  const auto tenant = TenantOf(context, request.tenant());
  if (!tenant.ok()) co_return tenant.status();
  Keys keys;
  status = keys.Take(request.keys(), *tenant);
  if (!status.ok()) co_return status;
  std::vector<AckWait> waits;
  env.state.AwaitCatalogs(keys.stored(), &waits);
  co_return co_await AwaitAcks(env, std::move(context), std::move(waits), "committed", "ask again");
}

Status Unpin(OpEnv& env, const Context&, const proto::UnpinRequest& request, proto::UnpinReply* reply) {
  Keys keys;
  MMC_RETURN_IF_ERROR(keys.Take(request.keys(), {}));  // only counted: a pin is found by its generation
  MMC_RETURN_IF_ERROR(
      CheckSameLength("generations", request.generation_size(), "keys", keys.size()));
  std::vector<Code> codes(keys.size());
  MMC_RETURN_IF_ERROR(env.state.Unpin(request.session(), {request.generation().data(), keys.size()},
                                      codes, env.clock.Now()));
  FillStatus(codes, reply->mutable_status());
  return Status::Ok();
}

}  // namespace mmc::meta::ops
