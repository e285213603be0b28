// Open-addressing hash table of one shard: 16 bytes a slot, {hash, object}, linear probing.
//
// The home slot is the top bits of the hash, so that slot order is (nearly) hash order and a walk
// can go on by hash even after the table has grown. The full hash is in the slot: an object is only
// touched when its key almost surely matches. Deletion shifts back: no tombstones.
//
// Thread safety: none, the shard locks; Prefetch alone may be called without the lock. Ownership:
// of the slots only.
#pragma once

#include <atomic>
#include <bit>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "meta_service/state/object.h"

namespace mmc::meta {

uint64_t HashKey(std::string_view key);

class ObjectTable {
 public:
  ObjectTable();
  ~ObjectTable();
  ObjectTable(const ObjectTable&) = delete;
  ObjectTable& operator=(const ObjectTable&) = delete;

  Object* Find(uint64_t hash, std::string_view key) const {
    for (size_t i = Home(hash);; i = (i + 1) & mask_) {
      const Slot& slot = slots_[i];
      if (slot.object == nullptr) return nullptr;
      if (slot.hash == hash && slot.object->key() == key) return slot.object;
    }
  }
  // The object of this hash and generation; null when there is none.
  Object* FindGeneration(uint64_t hash, uint64_t generation) const {
    for (size_t i = Home(hash);; i = (i + 1) & mask_) {
      const Slot& slot = slots_[i];
      if (slot.object == nullptr) return nullptr;
      if (slot.hash == hash && slot.object->generation == generation && !slot.object->writing) return slot.object;
    }
  }
  // REQUIRES: the key is not there.
  void Insert(uint64_t hash, Object* object);
  // `by` takes the place of `object` (it has moved). REQUIRES: the object is there.
  void Replace(uint64_t hash, const Object* object, Object* by);
  // REQUIRES: the object is there.
  void Erase(uint64_t hash, const Object* object);

  // Hints only; both tolerate a table that changes under them.
  void PrefetchSlot(uint64_t hash) const {
    const Slot* slots = hint_.load(std::memory_order_relaxed);
    const int shift = hint_shift_.load(std::memory_order_relaxed);
    const uintptr_t address = reinterpret_cast<uintptr_t>(slots) + (hash >> shift) * sizeof(Slot);
    __builtin_prefetch(reinterpret_cast<const void*>(address));
  }
  // The object the hash most likely belongs to; null when there is none.
  const Object* Candidate(uint64_t hash) const {
    for (size_t i = Home(hash);; i = (i + 1) & mask_) {
      const Slot& slot = slots_[i];
      if (slot.object == nullptr || slot.hash == hash) return slot.object;
    }
  }

  size_t size() const { return size_; }
  size_t MetadataBytes() const { return (mask_ + 1) * sizeof(Slot); }

  // Appends the objects with hash >= from, in hash order, of about `slots` home slots. Returns the
  // hash to go on from, or 0 when that was the end.
  uint64_t Walk(uint64_t from, size_t slots, std::vector<std::pair<uint64_t, Object*>>* out) const;

 private:
  struct Slot {
    uint64_t hash;
    Object* object;
  };
  size_t Home(uint64_t hash) const { return hash >> shift_; }
  void Grow();
  void Publish();

  Slot* slots_;
  size_t mask_;
  int shift_;
  size_t size_ = 0;
  std::atomic<Slot*> hint_;
  std::atomic<int> hint_shift_;
};

}  // namespace mmc::meta
