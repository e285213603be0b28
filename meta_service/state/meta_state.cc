#include "meta_service/state/meta_state.h"

#include <algorithm>
#include <utility>

#include "common/base/bytes.h"

namespace mmc::meta {

MetaState::MetaState(StateOptions options)
    : options_(std::move(options)),
      next_generation_(options_.id_base),
      tenants_(options_.quotas),
      sessions_(options_.id_base),
      membership_(segments_, options_.members) {
  for (Shard& shard : shards_) {
    MutexLock lock(shard.mutex);
    shard.policy = MakeEvictionPolicy(options_.evict_policy);
  }
}

MetaState::~MetaState() {
  // Objects that only pins of open sessions keep are in no table any more: ending the sessions
  // gives them back.
  Effects effects;
  for (const auto& session : sessions_.SilentSince(TimePoint::max()))
    EndSession(session, TimePoint(), &effects);
}

void MetaState::Tell(const Effects& effects) {
  StateListener* listener = listener_.load(std::memory_order_acquire);
  if (listener == nullptr) return;
  if (effects.keys) listener->OnKeys();
  if (effects.space) listener->OnSpace();
  for (uint32_t node : effects.feeds) listener->OnFeed(node);
  for (uint32_t node : effects.acked) listener->OnAcked(node);
}

// The catalog has forgotten the replica (or never knew it, or its node is gone): only leases are
// left to wait for.
void MetaState::Release(FreeItem item, TimePoint now, Effects* effects) {
  Segment& segment = segments_.Get(item.placed().segment);
  if (item.lease_until() > now.time_since_epoch().count() && !segment.dead()) {
    deferred_.Add(std::move(item));
    return;
  }
  Free(std::move(item));
  effects->space = true;
}

FreeItem MetaState::Detach(Segment& segment, const Placed& placed, int64_t lease_until, bool soon, uint16_t tenant) {
  tenants_.At(tenant).Detached(placed.units(), soon);
  return segment.Detach(placed, lease_until, soon, tenant);
}

void MetaState::Free(FreeItem item) {
  tenants_.Freed(item);
  segments_.Get(item.placed().segment).Free(std::move(item));
}

void MetaState::DetachReplica(const Object& object, Replica* replica, bool keep, TimePoint now,
                              Effects* effects) {
  const Placed placed = replica->placed;
  Segment& segment = segments_.Get(placed.segment);
  segment.replicas().fetch_sub(1, std::memory_order_relaxed);
  FreeItem item = Detach(segment, placed, object.lease_until, !keep && !object.Leased(now), object.tenant);
  uint64_t seq = 0;
  if (!segment.dead()) {
    CatalogEntry entry;
    entry.forget = true;
    entry.segment = segment.info().id;
    entry.generation = object.generation;
    entry.key = object.key();
    if (segment.feed().Forget(std::move(entry), keep ? nullptr : &item, &seq)) {
      effects->feeds.push_back(segment.node());
    }
  }
  if (keep) {
    replica->forget_seq = seq;
    item.Take();  // stays with the object
  } else if (item.held()) {
    Release(std::move(item), now, effects);  // no feed any more
  }
}

void MetaState::CloseUp(Shard& shard, Object* object, uint32_t index) {
  Replica* replicas = object->replicas();
  for (uint32_t i = index + 1; i < object->replica_count; ++i) {
    if (!object->writing) shard.policy->Move(&replicas[i], &replicas[i - 1]);
    replicas[i - 1] = replicas[i];
    replicas[i - 1].placed.index = i - 1;
  }
  --object->replica_count;
}

void MetaState::DropReplica(Shard& shard, Object* object, uint32_t index, TimePoint now,
                            Effects* effects) {
  Replica* replica = object->replicas() + index;
  shard.policy->Erase(replica);
  DetachReplica(*object, replica, false, now, effects);
  CloseUp(shard, object, index);
  NoteReplicas(shard, object, HashKey(object->key()));
}

Object* MetaState::AddReplica(Shard& shard, Object* object, uint64_t hash, const Placed& placed) {
  std::vector<Placed> all;
  for (uint32_t i = 0; i < object->replica_count; ++i) all.push_back(object->replicas()[i].placed);
  all.push_back(placed);
  Object* grown = Object::Make(object->key(), object->size, object->tenant, all);
  grown->generation = object->generation;
  grown->checksum = object->checksum;
  grown->lease_until = object->lease_until;
  grown->pins = object->pins;
  grown->kept = object->kept;
  grown->grouped = object->grouped;
  grown->asked = std::max(object->asked, grown->replica_count);
  for (uint32_t i = 0; i < object->replica_count; ++i) {
    const Replica* from = object->replicas() + i;
    Replica* to = grown->replicas() + i;
    to->older = from->older;
    to->newer = from->newer;
    shard.policy->Move(object->replicas() + i, to);
  }
  shard.table.Replace(hash, object, grown);
  if (grown->pins > 0) shard.pinned[grown->generation] = grown;
  Object::Destroy(object);
  // The new replica is at the young end of its segment, and one stamp stands for all.
  grown->stamp = next_stamp_.fetch_add(1, std::memory_order_relaxed);
  shard.policy->Insert(grown->replicas() + grown->replica_count - 1);
  shard.policy->Touch(grown);
  NoteReplicas(shard, grown, hash);
  return grown;
}

void MetaState::NoteReplicas(Shard& shard, const Object* object, uint64_t hash) {
  if (object->replica_count >= object->asked) return NoteGone(shard, object);
  counters_.thin.fetch_add(shard.thin.emplace(object->generation, hash).second,
                           std::memory_order_relaxed);
}

void MetaState::NoteGone(Shard& shard, const Object* object) {
  if (shard.thin.empty()) return;
  counters_.thin.fetch_sub(shard.thin.erase(object->generation), std::memory_order_relaxed);
}

void MetaState::RemoveObject(Shard& shard, Object* object, uint64_t hash, TimePoint now,
                             Effects* effects) {
  shard.table.Erase(hash, object);
  // Replicas of the same generation elsewhere are as good as ever; older generations are over.
  if (burying_.load(std::memory_order_relaxed)) Bury(shard, hash, object->generation - 1);
  Tenant& tenant = tenants_.At(object->tenant);
  tenant.objects.fetch_sub(1, std::memory_order_relaxed);
  tenant.value_bytes.fetch_sub(object->size, std::memory_order_relaxed);
  NoteGone(shard, object);
  NoteNotKept(shard, object);
  const bool pinned = object->pins > 0;
  for (uint32_t i = 0; i < object->replica_count; ++i) {
    shard.policy->Erase(object->replicas() + i);
    DetachReplica(*object, object->replicas() + i, pinned, now, effects);
  }
  object->detached = true;
  if (!pinned) Object::Destroy(object);
}

// The last pin of an object that is out of the table: now its space goes on its way.
void MetaState::DropPin(uint64_t generation, const Pin& pin, uint32_t count, TimePoint now,
                        Effects* effects) {
  Shard& shard = ShardOf(pin.hash);
  MutexLock lock(shard.mutex);
  const auto pinned = shard.pinned.find(generation);
  Object* object = pinned->second;
  object->pins -= count;
  counters_.pins.fetch_sub(count, std::memory_order_relaxed);
  tenants_.At(object->tenant).pins.fetch_sub(count, std::memory_order_relaxed);
  if (object->pins > 0) return;
  shard.pinned.erase(pinned);
  if (!object->detached) return;
  for (uint32_t i = 0; i < object->replica_count; ++i) {
    Replica& replica = object->replicas()[i];
    Segment& segment = segments_.Get(replica.placed.segment);
    FreeItem item(replica.placed, object->lease_until, false, object->tenant);
    segment.feed().AwaitAck(replica.forget_seq, &item);
    if (item.held()) Release(std::move(item), now, effects);
  }
  Object::Destroy(object);
}

void MetaState::Reap(TimePoint now) {
  Effects effects;
  for (FreeItem& item : deferred_.TakeDue(now)) {
    Free(std::move(item));
    effects.space = true;
  }
  segments_.Sweep();
  Tell(effects);
}

Figures MetaState::figures() const {
  Figures f;
  const auto read = [](const std::atomic<uint64_t>& value) {
    return value.load(std::memory_order_relaxed);
  };
  for (uint16_t slot = 0; slot < tenants_.count(); ++slot) {
    const Tenant& tenant = tenants_.At(slot);
    f.objects += read(tenant.objects);
    f.value_bytes += read(tenant.value_bytes);
    f.grants += read(tenant.grants);
  }
  f.pins = read(counters_.pins);
  f.soft_pinned = read(counters_.kept[static_cast<int>(Retention::kSoft)]);
  f.hard_pinned = read(counters_.kept[static_cast<int>(Retention::kHard)]);
  f.hits = read(counters_.hits);
  f.misses = read(counters_.misses);
  f.puts = read(counters_.puts);
  f.gets = read(counters_.gets);
  f.removes = read(counters_.removes);
  for (int i = 0; i < kEvictCauses; ++i) {
    f.evicted_objects[i] = read(counters_.evicted_objects[i]);
    f.evicted_bytes[i] = read(counters_.evicted_bytes[i]);
  }
  f.adopted = read(counters_.adopted);
  for (int i = 0; i < kConflictKinds; ++i) f.conflicts[i] = read(counters_.conflicts[i]);
  f.recovering = recovering();
  f.sessions = sessions_.size();
  for (const auto& segment : segments_.All()) {
    if (segment->dead()) continue;
    f.capacity_bytes += segment->total_units() * kUnitBytes;
    f.used_bytes += segment->used_units() * kUnitBytes;
    f.waiting_bytes += segment->waiting_units() * kUnitBytes;
  }
  f.fences_waiting = membership_.FencesWaiting();
  f.feed_records = membership_.FeedRecords();
  return f;
}

void MetaState::RefreshPool() {
  uint64_t units = 0;
  for (const auto& segment : segments_.All()) units += segment->dead() ? 0 : segment->total_units();
  tenants_.SetPool(units);
}

std::string MetaState::ExplainNoSpace(Medium medium, uint16_t slot, TimePoint) const {
  const Tenant& tenant = tenants_.At(slot);
  const uint64_t limit = tenant.limit_units.load(std::memory_order_relaxed) / 100 * options_.evict_high;
  const uint64_t held = tenant.held_units.load(std::memory_order_relaxed);
  if (held >= limit) {
    return "tenant '" + std::string(TenantShown(tenant.name)) + "' is at its quota: it holds " +
           FormatBytes(held * kUnitBytes) + " of " +
           FormatBytes(tenant.limit_units.load(std::memory_order_relaxed) * kUnitBytes) +
           ", leased, pinned, being written or not free yet; retry later, ask for less or raise the quota";
  }
  uint64_t total = 0, waiting = 0, live = 0, soon = 0;
  for (const auto& segment : segments_.All()) {
    if (segment->dead() || segment->info().medium != medium) continue;
    total += segment->total_units() * kUnitBytes;
    live += segment->live_units() * kUnitBytes;
    waiting += segment->waiting_units() * kUnitBytes;
    soon += segment->soon_units() * kUnitBytes;
  }
  const Figures now_kept = figures();
  return std::string(MediumName(medium)) + " is full: of " + FormatBytes(total) + ", " +
         FormatBytes(live) + " are leased, pinned or being written (" + std::to_string(now_kept.grants) +
         " grants; " + std::to_string(now_kept.hard_pinned) + " objects are hard-pinned, " +
         std::to_string(now_kept.soft_pinned) + " soft-pinned), " + FormatBytes(waiting - std::min(soon, waiting)) +
         " wait for leases or fences, " + FormatBytes(soon) +
         " for catalog acknowledgements; retry later or add memory";
}

uint64_t MetaState::MetadataBytes() const {
  uint64_t bytes = 0;
  for (const Shard& shard : shards_) {
    MutexLock lock(shard.mutex);
    bytes += shard.table.MetadataBytes() + shard.policy->MetadataBytes();
  }
  for (const auto& segment : segments_.All()) bytes += segment->MetadataBytes();
  constexpr uint64_t kMallocHeader = 8,
                     kMallocRounding = 8;  // glibc: header, and half of its 16-byte steps
  const uint64_t objects = figures().objects;
  return bytes + objects * (sizeof(Object) + kMallocHeader + kMallocRounding) +
         CommittedReplicas() * sizeof(Replica);
}

uint64_t MetaState::CommittedReplicas() const {
  uint64_t replicas = 0;
  for (const auto& segment : segments_.All())
    replicas += segment->replicas().load(std::memory_order_relaxed);
  return replicas;
}

}  // namespace mmc::meta
