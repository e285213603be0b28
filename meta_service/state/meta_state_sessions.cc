// Sessions, their end, and the end of the pins and grants with them.
#include <algorithm>

#include "meta_service/state/meta_state.h"

namespace mmc::meta {

Result<uint64_t> MetaState::OpenSession(const std::string& name, const std::string& host_id, uint32_t pid,
                                        TimePoint now, uint16_t slot,
                                        const std::shared_ptr<const security::Identity>& owner) {
  Tenant& tenant = tenants_.At(slot);
  if (tenant.sessions.fetch_add(1, std::memory_order_relaxed) >= options_.max_sessions_per_tenant) {
    tenant.sessions.fetch_sub(1, std::memory_order_relaxed);
    return Status(Code::kQueueFull, "tenant '" + std::string(TenantShown(tenant.name)) + "' has " +
                                        std::to_string(options_.max_sessions_per_tenant) +
                                        " client sessions open, no more are taken");
  }
  auto session = sessions_.Open(name, host_id, pid, slot, owner, options_.max_sessions, now);
  if (session.ok()) return (*session)->id();
  tenant.sessions.fetch_sub(1, std::memory_order_relaxed);
  return session.status();
}

bool MetaState::OwnsSession(const security::Identity& caller, uint64_t id) const {
  const auto session = sessions_.Find(id);
  if (!session.ok()) return true;
  const security::Identity& owner = (*session)->owner();
  return owner.role == caller.role && owner.subject == caller.subject && owner.tenant == caller.tenant &&
         owner.name == caller.name;
}

Status MetaState::SessionHeartbeat(uint64_t id, TimePoint now) {
  MMC_ASSIGN_OR_RETURN(auto session, sessions_.Find(id));
  session->Heard(now);
  return Status::Ok();
}

Result<uint64_t> MetaState::RemovalLimit(uint64_t session_id, uint64_t call, TimePoint now) {
  // Whatever is committed from here on has a higher generation, so it does not matter when it is carried out.
  const uint64_t next = next_generation_.load();
  if (session_id == 0) return next;
  MMC_ASSIGN_OR_RETURN(auto session, sessions_.Find(session_id));
  session->Heard(now);
  return session->RemovalLimit(call, next);
}

Status MetaState::CloseSession(uint64_t id, TimePoint now) {
  MMC_ASSIGN_OR_RETURN(auto session, sessions_.Find(id));
  Effects effects;
  EndSession(session, now, &effects);
  Tell(effects);
  return Status::Ok();
}

bool MetaState::EndSession(const std::shared_ptr<Session>& session, TimePoint now,
                           Effects* effects) {
  std::unordered_map<uint64_t, Pin> pins;
  if (!session->End(&pins)) return false;
  sessions_.Erase(session->id());
  tenants_.At(session->tenant()).sessions.fetch_sub(1, std::memory_order_relaxed);
  for (const auto& [generation, pin] : pins) DropPin(generation, pin, pin.count, now, effects);
  RevokeGrants(session->id(), effects);
  return true;
}

// The keys are free at once; the space waits until the node says that nobody of the session can
// write any more.
void MetaState::RevokeGrants(uint64_t session, Effects* effects) {
  for (Shard& shard : shards_) {
    MutexLock lock(shard.mutex);
    for (Grant& grant : shard.grants.slots()) {
      if (grant.object == nullptr || grant.session != session) continue;
      Object* object = grant.object;
      shard.table.Erase(grant.hash, object);
      for (uint32_t i = 0; i < object->replica_count; ++i) {
        Segment& segment = segments_.Get(object->replicas()[i].placed.segment);
        FreeItem item = Detach(segment, object->replicas()[i].placed, 0, false, object->tenant);
        if (segment.feed().AwaitFence(session, &item)) effects->feeds.push_back(segment.node());
        if (item.held()) {  // the node is gone
          Free(std::move(item));
          effects->space = true;
        }
      }
      EraseGrant(shard, &grant);
      Object::Destroy(object);
      effects->keys = true;
    }
  }
}

std::vector<uint64_t> MetaState::SessionsOfExpiredGrants(TimePoint now) {
  std::vector<uint64_t> sessions;
  const int64_t nanos = now.time_since_epoch().count();
  for (Shard& shard : shards_) {
    MutexLock lock(shard.mutex);
    for (const Grant& grant : shard.grants.slots()) {
      if (grant.object != nullptr && grant.expiry <= nanos) sessions.push_back(grant.session);
    }
  }
  return sessions;
}

size_t MetaState::ExpireSessions(TimePoint now) {
  Effects effects;
  size_t ended = 0;
  const TimePoint silent_since = now - options_.session_expiry;
  if (silent_since >= ListeningSince()) {
    for (const auto& session : sessions_.SilentSince(silent_since)) {
      ended += EndSession(session, now, &effects);
    }
  }
  for (uint64_t id : SessionsOfExpiredGrants(now)) {
    auto session = sessions_.Find(id);
    if (session.ok()) ended += EndSession(*session, now, &effects);
  }
  Tell(effects);
  return ended;
}

}  // namespace mmc::meta
