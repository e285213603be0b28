// What writers want to be kept for longer than others, and together.
#include <algorithm>

#include "meta_service/state/meta_state.h"

namespace mmc::meta {

namespace {
constexpr int kMostPerLock = 1024;  // soft pins that end under one lock
}  // namespace

Duration MetaState::SoftPinFor(Duration asked) const {
  return asked.count() <= 0 ? options_.soft_pin : std::min(asked, options_.max_soft_pin);
}

void MetaState::NoteKept(Shard& shard, Object* object, uint64_t hash, const Keeping& keeping, std::string_view group,
                         TimePoint now) {
  counters_.kept[object->kept].fetch_add(1, std::memory_order_relaxed);
  if (object->retention() == Retention::kSoft) {
    const int64_t until = (now + SoftPinFor(keeping.soft_pin)).time_since_epoch().count();
    shard.soft_pins.Add(object->generation, hash, until);
  }
  object->grouped = !group.empty() && groups_.Add(object->tenant, group, {hash, object->generation});
}

void MetaState::NoteNotKept(Shard& shard, const Object* object) {
  counters_.kept[object->kept].fetch_sub(1, std::memory_order_relaxed);
  if (object->retention() == Retention::kSoft) shard.soft_pins.Erase(object->generation);
  if (object->grouped) groups_.Erase(object->generation);
}

void MetaState::SetRetention(Shard& shard, Object* object, Retention retention) {
  for (uint32_t i = 0; i < object->replica_count; ++i) shard.policy->Erase(object->replicas() + i);
  counters_.kept[object->kept].fetch_sub(1, std::memory_order_relaxed);
  object->kept = static_cast<uint8_t>(retention);
  counters_.kept[object->kept].fetch_add(1, std::memory_order_relaxed);
  object->stamp = next_stamp_.fetch_add(1, std::memory_order_relaxed);
  for (uint32_t i = 0; i < object->replica_count; ++i) shard.policy->Insert(object->replicas() + i);
}

void MetaState::EndSoftPins(TimePoint now) {
  if (counters_.kept[static_cast<int>(Retention::kSoft)].load(std::memory_order_relaxed) == 0) return;
  const int64_t at = now.time_since_epoch().count();
  for (Shard& shard : shards_) {
    MutexLock lock(shard.mutex);
    uint64_t generation = 0, hash = 0;
    for (int n = 0; n < kMostPerLock && shard.soft_pins.TakeDue(at, &generation, &hash); ++n) {
      SetRetention(shard, shard.table.FindGeneration(hash, generation), Retention::kNormal);
    }
  }
}

void MetaState::UseGroups(std::span<const uint64_t> generations, int64_t lease_until) {
  for (const Groups::Member& member : groups_.MembersOf(generations)) {
    Shard& shard = ShardOf(member.hash);
    MutexLock lock(shard.mutex);
    Object* object = shard.table.FindGeneration(member.hash, member.generation);
    if (object == nullptr) continue;
    object->lease_until = std::max(object->lease_until, lease_until);
    object->stamp = next_stamp_.fetch_add(1, std::memory_order_relaxed);
    shard.policy->Touch(object);
  }
}

}  // namespace mmc::meta
