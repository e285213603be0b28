// PutStart, PutCommit, PutAbort.
#include <algorithm>
#include <bit>
#include <utility>

#include "meta_service/state/meta_state.h"
#include "meta_service/state/placement.h"

namespace mmc::meta {

namespace {

void AddWait(const Segment& segment, uint64_t seq, std::vector<AckWait>* waits) {
  const auto same = std::find_if(waits->begin(), waits->end(),
                                 [&](const AckWait& wait) { return wait.feed == segment.shared_feed(); });
  if (same == waits->end()) {
    waits->push_back({segment.shared_feed(), seq});
  } else {
    same->seq = std::max(same->seq, seq);
  }
}

}  // namespace

// True when the row's key is in the table: nothing to place.
bool MetaState::SettleIfThere(Shard& shard, const PutSpec& spec, PutRow* row) {
  Object* object = shard.table.Find(row->hash, row->key);
  if (object == nullptr) return false;
  if (object->writing) {
    row->code = Code::kBeingWritten;
    row->settled =
        shard.grants.Of(*object).call == spec.call;  // waiting for oneself would never end
  } else {
    row->code = Code::kExists;
    row->settled = true;
  }
  return true;
}

void MetaState::SettleKnown(const PutSpec& spec, std::span<PutRow> rows) {
  const bool recovering = this->recovering();  // before the look at the tables
  for (PutRow& row : rows) {
    if (row.settled) continue;
    Shard& shard = ShardOf(row.hash);
    MutexLock lock(shard.mutex);
    if (SettleIfThere(shard, spec, &row)) continue;
    row.code = recovering ? Code::kRecovering : Code::kOk;
    row.settled = recovering;
  }
}

Status MetaState::PutStart(const PutSpec& spec, std::span<PutRow> rows, Views* views,
                           TimePoint now) {
  MMC_ASSIGN_OR_RETURN(auto session, sessions_.Find(spec.session));
  if (session->tenant() != spec.tenant) {
    return Status(Code::kPermission, "session " + std::to_string(spec.session) + " was opened for another tenant");
  }
  session->Heard(now);
  for (const PutRow& row : rows) ShardOf(row.hash).PrefetchSlot(row.hash);
  SettleKnown(spec, rows);

  Effects effects;
  Placer placer(membership_.View(), spec, session->host_id(), options_.seed + spec.call);
  std::vector<Placed> placed;
  Tenant& tenant = tenants_.At(spec.tenant);
  uint64_t lacking_units = 0;
  for (PutRow& row : rows) {
    if (row.settled || row.code == Code::kBeingWritten) continue;
    if (session->grants().load(std::memory_order_relaxed) >= options_.max_grants_per_session ||
        tenant.grants.load(std::memory_order_relaxed) >= options_.max_grants_per_tenant) {
      row.code = Code::kQueueFull;
      row.settled = true;
      continue;
    }
    if (!ChargeRow(tenant, spec, &row, &lacking_units)) continue;
    row.code = placer.Place(row.size, &placed);
    if (row.code == Code::kOk) {
      InsertGrant(spec, *session, placed, &row, views, now, &effects);
    } else {
      tenant.Uncharge(uint64_t{UnitsOf(row.size)} * spec.replicas);
      row.settled = row.code != Code::kNoSpace;
    }
  }
  if (lacking_units > 0) EvictForQuota(spec.tenant, lacking_units, now);
  EvictForNeeds(placer, spec.tenant, now);
  Tell(effects);
  return session->ended()
             ? Status(Code::kSessionLost, "the session ended during the call, open a new one")
             : Status::Ok();
}

bool MetaState::ChargeRow(Tenant& tenant, const PutSpec& spec, PutRow* row, uint64_t* lacking_units) {
  const uint64_t units = uint64_t{UnitsOf(row->size)} * spec.replicas;
  if (tenant.TryCharge(units)) return true;
  row->code = Code::kNoSpace;
  row->settled = units > tenant.limit_units.load(std::memory_order_relaxed);
  if (!row->settled) *lacking_units += units;
  return false;
}

void MetaState::InsertGrant(const PutSpec& spec, Session& session, std::span<const Placed> placed,
                            PutRow* row, Views* views, TimePoint now, Effects* effects) {
  Object* object = Object::Make(row->key, static_cast<uint32_t>(row->size), spec.tenant, placed);
  object->writing = true;
  const bool ticketed = std::any_of(placed.begin(), placed.end(), [this](const Placed& extents) {
    return segments_.Get(extents.segment).ticketed();
  });
  if (ticketed) object->lease_until = (now + options_.write_ticket).time_since_epoch().count();
  Shard& shard = ShardOf(row->hash);
  {
    MutexLock lock(shard.mutex);
    // Another call may have come first; an ended session gets nothing (its grants were collected
    // under this lock).
    if (!SettleIfThere(shard, spec, row)) {
      if (session.ended()) {
        row->code = Code::kSessionLost;
      } else {
        const Grant grant{.session = spec.session,
                          .call = spec.call,
                          .hash = row->hash,
                          .object = object,
                          .expiry = (now + options_.grant).time_since_epoch().count()};
        row->grant = shard.grants.Add(row->hash % kShards, grant);
        row->code = row->grant != 0 ? Code::kOk : Code::kQueueFull;
        if (row->grant != 0) shard.table.Insert(row->hash, object);
      }
      row->settled = true;
    }
    if (row->code == Code::kOk) {
      AppendReplicas(*object, &row->first_replica, &row->replicas, views);
      session.grants().fetch_add(1, std::memory_order_relaxed);
      tenants_.At(spec.tenant).grants.fetch_add(1, std::memory_order_relaxed);
      return;
    }
  }
  Object::Destroy(object);
  for (const Placed& extents : placed) FreeUnwritten(extents, spec.tenant, effects);
}

// Nothing was written there, or whoever did is done: no lease, no catalog record, no fence to wait
// for.
void MetaState::FreeUnwritten(const Placed& placed, uint16_t tenant, Effects* effects) {
  tenants_.At(tenant).Uncharge(placed.units());
  segments_.Get(placed.segment).Free(placed);
  effects->space = true;
}

// Whoever was granted it may still have a ticket for it, used or not.
void MetaState::FreeGranted(const Object& object, const Placed& placed, TimePoint now, Effects* effects) {
  if (!object.Leased(now)) return FreeUnwritten(placed, object.tenant, effects);
  Release(Detach(segments_.Get(placed.segment), placed, object.lease_until, false, object.tenant), now, effects);
}

// What is on its way already (detached, waiting for an acknowledgement only) counts as found.
void MetaState::EvictForNeeds(const Placer& placer, uint16_t tenant, TimePoint now) {
  constexpr uint32_t kMaxSteps = 8192;
  for (const auto& [slot, need] : placer.needs()) {
    const uint64_t coming = need.segment->free_units() + need.segment->soon_units();
    if (coming >= need.units || need.segment->dead()) continue;
    EvictFor(tenant, slot, need.units - coming, kMaxSteps, now);
  }
}

void MetaState::EraseGrant(Shard& shard, Grant* grant) {
  tenants_.At(grant->object->tenant).grants.fetch_sub(1, std::memory_order_relaxed);
  shard.grants.Erase(grant);
}

Status MetaState::PutCommit(uint64_t session_id, std::span<const uint64_t> grants,
                            std::span<const uint64_t> checksums,
                            std::span<const uint32_t> failed_replicas, std::span<Code> codes,
                            TimePoint now, std::vector<AckWait>* waits, const Keeping& keeping) {
  MMC_ASSIGN_OR_RETURN(auto session, sessions_.Find(session_id));
  session->Heard(now);
  Effects effects;
  const uint64_t stamp = next_stamp_.fetch_add(grants.size(), std::memory_order_relaxed);
  const uint64_t generation = next_generation_.fetch_add(grants.size(), std::memory_order_relaxed);
  uint32_t ended = 0;
  uint64_t committed = 0;
  // From the last to the first: the first keys of a batch are the most valuable and become the
  // youngest.
  for (size_t i = grants.size(); i-- > 0;) {
    const CommitRow row{.grant = grants[i],
                        .checksum = checksums.empty() ? 0 : checksums[i],
                        .failed = failed_replicas.empty() ? 0 : failed_replicas[i],
                        .stamp = stamp + (grants.size() - 1 - i),
                        .generation = generation + i,
                        .group = keeping.groups.empty() ? std::string_view() : keeping.groups[i]};
    codes[i] = CommitOne(session_id, row, keeping, now, &effects, waits);
    ended += codes[i] == Code::kOk || codes[i] == Code::kReplicasLost;
    committed += codes[i] == Code::kOk;
  }
  session->grants().fetch_sub(ended, std::memory_order_relaxed);
  counters_.puts.fetch_add(committed, std::memory_order_relaxed);
  effects.keys = ended > 0;
  Tell(effects);
  return Status::Ok();
}

Code MetaState::CommitOne(uint64_t session, const CommitRow& row, const Keeping& keeping, TimePoint now,
                          Effects* effects, std::vector<AckWait>* waits) {
  if (GrantSlab::ShardOf(row.grant) >= kShards) return Code::kGrantLost;
  Shard& shard = shards_[GrantSlab::ShardOf(row.grant)];
  MutexLock lock(shard.mutex);
  Grant* grant = shard.grants.Find(row.grant);
  if (grant == nullptr || grant->session != session) return Code::kGrantLost;
  Object* object = grant->object;
  for (uint32_t i = 0; i < object->replica_count; ++i) {
    const Segment& segment = segments_.Get(object->replicas()[i].placed.segment);
    if ((row.failed >> i & 1) == 0 && !segment.dead() && !segment.feed().HasRoom())
      return Code::kQueueFull;
  }
  for (uint32_t i = object->replica_count; i-- > 0;) {
    const Placed placed = object->replicas()[i].placed;
    if ((row.failed >> i & 1) == 0 && !segments_.Get(placed.segment).dead()) continue;
    CloseUp(shard, object, i);
    FreeGranted(*object, placed, now, effects);
  }
  const uint64_t hash = grant->hash;
  EraseGrant(shard, grant);
  if (object->replica_count == 0) {
    shard.table.Erase(hash, object);
    Object::Destroy(object);
    return Code::kReplicasLost;
  }
  object->generation = row.generation;
  object->checksum = row.checksum;
  object->stamp = row.stamp;
  object->pins = 0;
  object->writing = false;
  object->kept = static_cast<uint8_t>(keeping.retention);
  NoteKept(shard, object, hash, keeping, row.group, now);
  for (uint32_t i = 0; i < object->replica_count; ++i) shard.policy->Insert(object->replicas() + i);
  Tenant& tenant = tenants_.At(object->tenant);
  tenant.objects.fetch_add(1, std::memory_order_relaxed);
  tenant.value_bytes.fetch_add(object->size, std::memory_order_relaxed);
  NoteReplicas(shard, object, hash);
  QueueAdds(*object, effects, waits);
  return Code::kOk;
}

void MetaState::QueueAdds(const Object& object, Effects* effects, std::vector<AckWait>* waits) {
  for (uint32_t i = 0; i < object.replica_count; ++i)
    QueueAdd(object, object.replicas()[i].placed, effects, waits);
}

void MetaState::QueueAdd(const Object& object, const Placed& placed, Effects* effects,
                         std::vector<AckWait>* waits) {
  Segment& segment = segments_.Get(placed.segment);
  segment.replicas().fetch_add(1, std::memory_order_relaxed);
  CatalogEntry entry;
  entry.segment = segment.info().id;
  entry.generation = object.generation;
  entry.size = object.size;
  entry.checksum = object.checksum;
  entry.key = object.key();
  entry.asked = object.asked;
  entry.hard_pinned = object.retention() == Retention::kHard;
  uint64_t left = object.size;
  placed.ForEach([&](const Extent& extent) {
    const ExtentView view{extent.offset * kUnitBytes,
                          std::min<uint64_t>(left, extent.units * kUnitBytes)};
    if (left == object.size) {
      entry.first = view;
    } else {
      entry.others.push_back(view);
    }
    left -= view.length;
  });
  uint64_t seq = 0;
  if (segment.feed().Add(std::move(entry), &seq)) effects->feeds.push_back(segment.node());
  if (waits == nullptr) return;
  AddWait(segment, seq, waits);
}

void MetaState::AwaitCatalogs(std::span<const std::string_view> keys, std::vector<AckWait>* waits) {
  for (const std::string_view key : keys) {
    const uint64_t hash = HashKey(key);
    Shard& shard = ShardOf(hash);
    MutexLock lock(shard.mutex);
    const Object* object = shard.table.Find(hash, key);
    if (object == nullptr || object->writing) continue;
    for (uint32_t i = 0; i < object->replica_count; ++i) {
      const Segment& segment = segments_.Get(object->replicas()[i].placed.segment);
      AddWait(segment, segment.feed().last_seq(), waits);
    }
  }
}

Code MetaState::AbortOne(uint64_t session, uint64_t grant_id, TimePoint now, Effects* effects) {
  if (GrantSlab::ShardOf(grant_id) >= kShards) return Code::kGrantLost;
  Shard& shard = shards_[GrantSlab::ShardOf(grant_id)];
  MutexLock lock(shard.mutex);
  Grant* grant = shard.grants.Find(grant_id);
  if (grant == nullptr || grant->session != session) return Code::kGrantLost;
  Object* object = grant->object;
  shard.table.Erase(grant->hash, object);
  EraseGrant(shard, grant);
  for (uint32_t i = 0; i < object->replica_count; ++i)
    FreeGranted(*object, object->replicas()[i].placed, now, effects);
  Object::Destroy(object);
  return Code::kOk;
}

Status MetaState::PutAbort(uint64_t session_id, std::span<const uint64_t> grants, bool unconfirmed,
                           std::span<Code> codes, TimePoint now) {
  MMC_ASSIGN_OR_RETURN(auto session, sessions_.Find(session_id));
  session->Heard(now);
  Effects effects;
  uint32_t ended = 0;
  for (size_t i = 0; i < grants.size(); ++i) {
    if (unconfirmed) {
      codes[i] = Code::kOk;  // EndSession takes them all
      continue;
    }
    codes[i] = AbortOne(session_id, grants[i], now, &effects);
    ended += codes[i] == Code::kOk;
  }
  session->grants().fetch_sub(ended, std::memory_order_relaxed);
  effects.keys = ended > 0;
  if (unconfirmed) EndSession(session, now, &effects);
  Tell(effects);
  return Status::Ok();
}

}  // namespace mmc::meta
