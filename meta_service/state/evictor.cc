// Eviction: the oldest of all shards first, by bytes, never what is leased or pinned.
#include <algorithm>
#include <functional>
#include <queue>
#include <utility>

#include "meta_service/state/meta_state.h"

namespace mmc::meta {

namespace {
constexpr uint64_t kNothing = UINT64_MAX;
constexpr uint32_t kStepsPerLock = 16;  // replicas handled before a shard's lock is given up again
}  // namespace

uint64_t MetaState::OldestStamp(Shard& shard, uint32_t segment_slot) {
  MutexLock lock(shard.mutex);
  Replica* victim = shard.policy->Victim(segment_slot);
  return victim == nullptr ? kNothing : Object::Of(victim)->stamp;
}

// Takes victims of one shard while they are no younger than `limit`. Returns the units detached.
uint64_t MetaState::EvictStep(Shard& shard, uint32_t segment_slot, uint64_t limit,
                              uint64_t wanted_units, EvictCause cause, uint32_t* steps,
                              TimePoint now, Effects* effects) {
  uint64_t units = 0, objects = 0;
  for (uint32_t n = 0; n<kStepsPerLock&& * steps> 0 && units < wanted_units; ++n) {
    Replica* victim = shard.policy->Victim(segment_slot);
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
      RemoveObject(shard, object, HashKey(object->key()), now, effects);
      ++objects;
    }
  }
  const int c = static_cast<int>(cause);
  counters_.evicted_objects[c].fetch_add(objects, std::memory_order_relaxed);
  counters_.evicted_bytes[c].fetch_add(units * kUnitBytes, std::memory_order_relaxed);
  return units;
}

uint64_t MetaState::EvictFrom(uint32_t segment_slot, uint64_t bytes, EvictCause cause,
                              uint32_t max_steps, TimePoint now) {
  using Head = std::pair<uint64_t, uint32_t>;  // stamp of a shard's oldest replica, shard
  std::priority_queue<Head, std::vector<Head>, std::greater<>> heads;
  // What is used from here on is not looked at again: a lap over leased objects ends.
  const uint64_t end = next_stamp_.load(std::memory_order_relaxed);
  for (uint32_t i = 0; i < kShards; ++i) {
    const uint64_t stamp = OldestStamp(shards_[i], segment_slot);
    if (stamp != kNothing) heads.push({stamp, i});
  }
  Effects effects;
  const uint64_t wanted = UnitsOf(bytes);
  uint64_t units = 0;
  while (!heads.empty() && units < wanted && max_steps > 0) {
    const uint32_t i = heads.top().second;
    heads.pop();
    const uint64_t limit = std::min(end, heads.empty() ? kNothing : heads.top().first);
    Shard& shard = shards_[i];
    MutexLock lock(shard.mutex);
    units +=
        EvictStep(shard, segment_slot, limit, wanted - units, cause, &max_steps, now, &effects);
    Replica* victim = shard.policy->Victim(segment_slot);
    if (victim != nullptr && Object::Of(victim)->stamp <= end)
      heads.push({Object::Of(victim)->stamp, i});
  }
  Tell(effects);
  return units * kUnitBytes;
}

uint64_t MetaState::EvictBetweenThresholds(uint32_t max_steps, TimePoint now) {
  uint64_t bytes = 0;
  for (const auto& segment : segments_.All()) {
    const uint64_t total = segment->total_units(), live = segment->live_units();
    if (segment->dead() || live * 100 <= total * options_.evict_high) continue;
    const uint64_t target = total * options_.evict_low / 100;
    bytes += EvictFrom(segment->slot(), (live - target) * kUnitBytes, EvictCause::kBackground,
                       max_steps, now);
  }
  return bytes;
}

}  // namespace mmc::meta
