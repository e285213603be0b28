// Eviction: the oldest of all shards first, by bytes, never what is leased or pinned; what is soft-pinned
// last. Whose, says Tenants::Turns: see
// docs/decisions/0010.
#include <algorithm>
#include <functional>
#include <queue>
#include <utility>

#include "meta_service/state/meta_state.h"

namespace mmc::meta {

namespace {
constexpr uint64_t kNothing = UINT64_MAX;
constexpr uint32_t kStepsPerLock = 16;  // replicas handled before a shard's lock is given up again
constexpr uint64_t kRounds = 8;         // turns go by this part of what is wanted, or more
}  // namespace

Replica* MetaState::VictimIn(Shard& shard, const EvictQueue& queue) {
  return queue.segment == kAnySegment ? shard.policy->VictimOf(queue.tenant, queue.retention)
                                      : shard.policy->Victim(queue.tenant, queue.retention, queue.segment);
}

uint64_t MetaState::OldestStamp(Shard& shard, const EvictQueue& queue) {
  MutexLock lock(shard.mutex);
  Replica* victim = VictimIn(shard, queue);
  return victim == nullptr ? kNothing : Object::Of(victim)->stamp;
}

// Takes victims of one shard while they are no younger than `limit`. Returns the units detached.
uint64_t MetaState::EvictStep(Shard& shard, const EvictQueue& queue, uint64_t limit, uint64_t wanted_units,
                              EvictCause cause, uint32_t* steps, TimePoint now, Effects* effects) {
  uint64_t units = 0, objects = 0;
  for (uint32_t n = 0; n < kStepsPerLock && *steps > 0 && units < wanted_units; ++n) {
    Replica* victim = VictimIn(shard, queue);
    if (victim == nullptr) break;
    Object* object = Object::Of(victim);
    if (object->stamp > limit) break;
    --*steps;
    if (object->Leased(now) || object->pins > 0) {
      object->stamp = next_stamp_.fetch_add(1, std::memory_order_relaxed);
      shard.policy->Touch(object);
      continue;
    }
    units += victim->placed.units();
    if (object->replica_count > 1) {
      object->asked = object->replica_count - 1;  // wanted so: the room is needed
      DropReplica(shard, object, victim->placed.index, now, effects);
    } else {
      if (object->grouped) {
        const auto members = groups_.MembersOf({&object->generation, 1});
        effects->orphans.insert(effects->orphans.end(), members.begin(), members.end());
      }
      RemoveObject(shard, object, HashKey(object->key()), now, effects);
      ++objects;
    }
  }
  CountEvicted(queue.tenant, objects, units, cause);
  return units;
}

void MetaState::CountEvicted(uint16_t tenant_slot, uint64_t objects, uint64_t units, EvictCause cause) {
  const int c = static_cast<int>(cause);
  counters_.evicted_objects[c].fetch_add(objects, std::memory_order_relaxed);
  counters_.evicted_bytes[c].fetch_add(units * kUnitBytes, std::memory_order_relaxed);
  Tenant& tenant = tenants_.At(tenant_slot);
  tenant.evicted_objects.fetch_add(objects, std::memory_order_relaxed);
  tenant.evicted_bytes.fetch_add(units * kUnitBytes, std::memory_order_relaxed);
}

uint64_t MetaState::EvictOrphans(const EvictQueue& queue, EvictCause cause, TimePoint now, Effects* effects) {
  uint64_t here = 0, units = 0, objects = 0;
  for (const Groups::Member& orphan : std::exchange(effects->orphans, {})) {
    Shard& shard = ShardOf(orphan.hash);
    MutexLock lock(shard.mutex);
    Object* object = shard.table.FindGeneration(orphan.hash, orphan.generation);
    if (object == nullptr || object->Leased(now) || object->pins > 0) continue;
    const Retention kept = object->retention();
    if (kept == Retention::kHard || (kept == Retention::kSoft && !options_.evict_soft_pinned)) continue;
    for (uint32_t i = 0; i < object->replica_count; ++i) {
      const Placed& placed = object->replicas()[i].placed;
      units += placed.units();
      if (queue.segment == kAnySegment || queue.segment == placed.segment) here += placed.units();
    }
    ++objects;
    RemoveObject(shard, object, orphan.hash, now, effects);
  }
  CountEvicted(queue.tenant, objects, units, cause);
  return here;
}

// What is soft-pinned goes when nothing else of this tenant can.
uint64_t MetaState::EvictOldest(EvictQueue queue, uint64_t wanted_units, EvictCause cause, uint32_t* steps,
                                TimePoint now) {
  const uint64_t units = EvictLeastRecent(queue, wanted_units, cause, steps, now);
  const bool any = counters_.kept[static_cast<int>(Retention::kSoft)].load(std::memory_order_relaxed) > 0;
  if (units >= wanted_units || !any || !options_.evict_soft_pinned) return units;
  queue.retention = Retention::kSoft;
  return units + EvictLeastRecent(queue, wanted_units - units, cause, steps, now);
}

uint64_t MetaState::EvictLeastRecent(const EvictQueue& queue, uint64_t wanted_units, EvictCause cause,
                                     uint32_t* steps, TimePoint now) {
  using Head = std::pair<uint64_t, uint32_t>;  // stamp of a shard's oldest replica, shard
  std::priority_queue<Head, std::vector<Head>, std::greater<>> heads;
  // What is used from here on is not looked at again: a lap over leased objects ends.
  const uint64_t end = next_stamp_.load(std::memory_order_relaxed);
  for (uint32_t i = 0; i < kShards; ++i) {
    const uint64_t stamp = OldestStamp(shards_[i], queue);
    if (stamp != kNothing) heads.push({stamp, i});
  }
  Effects effects;
  uint64_t units = 0;
  while (!heads.empty() && units < wanted_units && *steps > 0) {
    const uint32_t i = heads.top().second;
    heads.pop();
    const uint64_t limit = std::min(end, heads.empty() ? kNothing : heads.top().first);
    Shard& shard = shards_[i];
    {
      MutexLock lock(shard.mutex);
      units += EvictStep(shard, queue, limit, wanted_units - units, cause, steps, now, &effects);
    }
    if (!effects.orphans.empty()) units += EvictOrphans(queue, cause, now, &effects);
    const uint64_t next = OldestStamp(shard, queue);
    if (next <= end) heads.push({next, i});
  }
  Tell(effects);
  return units;
}

// Who is furthest above its share gives first, until it is no further above than the next. Nobody gives who is at
// `floor` of its share or below.
uint64_t MetaState::EvictInTurns(uint32_t segment_slot, uint64_t wanted_units, std::vector<Tenants::Turn> turns,
                                 double floor, EvictCause cause, uint32_t* steps, TimePoint now) {
  uint64_t units = 0;
  while (units < wanted_units && *steps > 0) {
    Tenants::Turn* first = nullptr;
    double next = floor;
    for (Tenants::Turn& turn : turns) {
      if (first == nullptr || turn.ratio() > first->ratio()) {
        if (first != nullptr) next = std::max(next, first->ratio());
        first = &turn;
      } else {
        next = std::max(next, turn.ratio());
      }
    }
    if (first == nullptr || first->ratio() < floor) break;
    const uint64_t left = wanted_units - units;
    const uint64_t least = std::min(left, (wanted_units + kRounds - 1) / kRounds);
    const double above = first->used - next * first->share;
    const uint64_t now_wanted = std::clamp(static_cast<uint64_t>(std::max(above, 0.0)), least, left);
    const uint64_t got = EvictOldest({first->tenant, segment_slot}, now_wanted, cause, steps, now);
    units += got;
    first->used -= static_cast<double>(got);
    if (got < now_wanted) {  // the rest of what it has here is in use
      *first = turns.back();
      turns.pop_back();
    }
  }
  return units;
}

uint64_t MetaState::EvictFrom(uint32_t segment_slot, uint64_t bytes, EvictCause cause, uint32_t max_steps,
                              TimePoint now) {
  const uint64_t wanted = UnitsOf(bytes);
  if (tenants_.count() == 1) return EvictOldest({0, segment_slot}, wanted, cause, &max_steps, now) * kUnitBytes;
  // Who is a good way below its share keeps what it has: the others must be above theirs.
  const double floor = cause == EvictCause::kBackground ? options_.evict_low / 100.0 : 0.0;
  return EvictInTurns(segment_slot, wanted, tenants_.Turns(tenants_.count(), 0), floor, cause, &max_steps, now) *
         kUnitBytes;
}

// A put of `asker` needs room: first those give who hold more of their share than the asker does with its put, until
// they do no more; then the asker itself. Nobody else.
uint64_t MetaState::EvictFor(uint16_t asker, uint32_t segment_slot, uint64_t units, uint32_t max_steps,
                             TimePoint now) {
  if (tenants_.count() == 1) return EvictOldest({0, segment_slot}, units, EvictCause::kInline, &max_steps, now);
  std::vector<Tenants::Turn> turns = tenants_.Turns(asker, units);
  double floor = 0;
  for (const Tenants::Turn& turn : turns) {
    if (turn.tenant == asker) floor = turn.ratio();
  }
  std::erase_if(turns, [=](const Tenants::Turn& turn) { return turn.tenant == asker || turn.ratio() <= floor; });
  const uint64_t others =
      EvictInTurns(segment_slot, units, std::move(turns), floor, EvictCause::kInline, &max_steps, now);
  if (others >= units) return others;
  return others + EvictOldest({asker, segment_slot}, units - others, EvictCause::kInline, &max_steps, now);
}

// What is on its way already counts as found.
void MetaState::EvictForQuota(uint16_t slot, uint64_t units, TimePoint now) {
  constexpr uint32_t kMaxSteps = 8192;
  const Tenant& tenant = tenants_.At(slot);
  const uint64_t limit = tenant.limit_units.load(std::memory_order_relaxed);
  const uint64_t held = tenant.held_units.load(std::memory_order_relaxed);
  const uint64_t stays = held - std::min(held, tenant.soon_units.load(std::memory_order_relaxed));
  if (stays + units <= limit) return;
  uint32_t steps = kMaxSteps;
  EvictOldest({slot, kAnySegment}, stays + units - limit, EvictCause::kInline, &steps, now);
}

uint64_t MetaState::EvictOverQuotas(uint32_t* steps, TimePoint now) {
  uint64_t units = 0;
  for (uint16_t slot = 0; slot < tenants_.count(); ++slot) {
    const Tenant& tenant = tenants_.At(slot);
    const uint64_t limit = tenant.limit_units.load(std::memory_order_relaxed), live = tenant.live_units();
    if (limit == Tenant::kNoLimit || live * 100 <= limit * options_.evict_high) continue;
    units += EvictOldest({slot, kAnySegment}, live - limit * options_.evict_low / 100, EvictCause::kBackground, steps,
                         now);
  }
  return units;
}

uint64_t MetaState::EvictBetweenThresholds(uint32_t max_steps, TimePoint now) {
  uint32_t steps = max_steps;
  uint64_t bytes = EvictOverQuotas(&steps, now) * kUnitBytes;
  for (const auto& segment : segments_.All()) {
    const uint64_t total = segment->total_units(), live = segment->live_units();
    if (segment->dead() || live * 100 <= total * options_.evict_high) continue;
    const uint64_t target = total * options_.evict_low / 100;
    bytes += EvictFrom(segment->slot(), (live - target) * kUnitBytes, EvictCause::kBackground, max_steps, now);
  }
  return bytes;
}

}  // namespace mmc::meta
