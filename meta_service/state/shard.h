// One of the 64 parts of all keys (by hash): their table, their eviction order and their grants,
// under one lock.
//
// A grant's number is | tag 32 | slot 24 | shard 8 |: found without a search, and a used one is
// never mistaken for a later one of the same slot.
//
// Thread safety: lock `mutex`, then use. Ownership: owns the objects in its table.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <unordered_map>
#include <vector>

#include "common/base/mutex.h"
#include "meta_service/state/eviction_policy.h"
#include "meta_service/state/object_table.h"
#include "meta_service/state/soft_pins.h"

namespace mmc::meta {

inline constexpr uint32_t kShards = 64;

struct Grant {
  uint64_t session = 0;
  uint64_t call = 0;  // of the PutStart that made it
  uint64_t hash = 0;
  Object* object = nullptr;  // null: a spare slot
  int64_t expiry = 0;
  uint32_t tag = 0;
  uint32_t next_spare = 0;
};

class GrantSlab {
 public:
  static constexpr uint32_t kMaxSlots = 1u << 24;

  // 0: all slots are taken.
  uint64_t Add(uint32_t shard, Grant grant) {
    uint32_t slot = spare_;
    if (slot != kNone) {
      spare_ = slots_[slot].next_spare;
    } else {
      if (slots_.size() == kMaxSlots) return 0;
      slot = static_cast<uint32_t>(slots_.size());
      slots_.push_back({});
    }
    const uint32_t tag = slots_[slot].tag + 1 == 0 ? 1 : slots_[slot].tag + 1;
    grant.tag = tag;
    slots_[slot] = grant;
    grant.object->pins = slot;
    return (uint64_t{tag} << 32) | (uint64_t{slot} << 8) | shard;
  }
  Grant* Find(uint64_t id) {
    const uint32_t slot = SlotOf(id);
    if (slot >= slots_.size() || slots_[slot].object == nullptr || slots_[slot].tag != id >> 32)
      return nullptr;
    return &slots_[slot];
  }
  // Of an object that is being written.
  Grant& Of(const Object& object) { return slots_[object.pins]; }
  void Erase(Grant* grant) {
    grant->object = nullptr;
    grant->next_spare = spare_;
    spare_ = static_cast<uint32_t>(grant - slots_.data());
  }
  std::vector<Grant>& slots() { return slots_; }

  static uint32_t ShardOf(uint64_t id) { return id & 0xFF; }
  static uint32_t SlotOf(uint64_t id) { return (id >> 8) & 0xFFFFFF; }

 private:
  static constexpr uint32_t kNone = 0xFFFFFFFF;
  std::vector<Grant> slots_;
  uint32_t spare_ = kNone;
};

struct alignas(64) Shard {
  mutable Mutex mutex;
  ObjectTable table MMC_GUARDED_BY(mutex);
  std::unique_ptr<EvictionPolicy> policy MMC_GUARDED_BY(mutex);
  GrantSlab grants MMC_GUARDED_BY(mutex);
  // Objects with pins, by generation: those out of the table too.
  std::unordered_map<uint64_t, Object*> pinned MMC_GUARDED_BY(mutex);
  // Objects with fewer replicas than asked for: hash of the key, by generation.
  std::map<uint64_t, uint64_t> thin MMC_GUARDED_BY(mutex);
  SoftPins soft_pins MMC_GUARDED_BY(mutex);
  // While nodes report what they hold: by hash of a key, the generation up to which it must not
  // come back.
  std::unordered_map<uint64_t, uint64_t> buried MMC_GUARDED_BY(mutex);

  // Without the lock: a hint only.
  void PrefetchSlot(uint64_t hash) const MMC_NO_THREAD_SAFETY_ANALYSIS { table.PrefetchSlot(hash); }
};

}  // namespace mmc::meta
