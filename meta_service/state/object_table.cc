#include "meta_service/state/object_table.h"

#include <xxhash.h>

#include <algorithm>
#include <cstdlib>
#include <new>

namespace mmc::meta {

namespace {

constexpr int kFirstBits = 6;

template <typename T>
T* ZeroedArray(size_t n) {
  void* memory = std::calloc(n, sizeof(T));
  if (memory == nullptr) throw std::bad_alloc();
  return static_cast<T*>(memory);
}

}  // namespace

uint64_t HashKey(std::string_view key) { return XXH3_64bits(key.data(), key.size()); }

ObjectTable::ObjectTable()
    : slots_(ZeroedArray<Slot>(size_t{1} << kFirstBits)),
      mask_((size_t{1} << kFirstBits) - 1),
      shift_(64 - kFirstBits) {
  Publish();
}

ObjectTable::~ObjectTable() {
  for (size_t i = 0; i <= mask_; ++i) {
    Object* object = slots_[i].object;
    if (object == nullptr) continue;
    for (int r = 0; r < object->replica_count; ++r) object->replicas()[r].placed.DropList();
    Object::Destroy(object);
  }
  std::free(slots_);
}

void ObjectTable::Publish() {
  hint_.store(slots_, std::memory_order_relaxed);
  hint_shift_.store(shift_, std::memory_order_relaxed);
}

void ObjectTable::Insert(uint64_t hash, Object* object) {
  if ((size_ + 1) * 8 > (mask_ + 1) * 7) Grow();  // 18..37 bytes of slots per object
  size_t i = Home(hash);
  while (slots_[i].object != nullptr) i = (i + 1) & mask_;
  slots_[i] = {hash, object};
  ++size_;
}

void ObjectTable::Grow() {
  Slot* old = slots_;
  const size_t old_size = mask_ + 1;
  slots_ = ZeroedArray<Slot>(old_size * 2);
  mask_ = old_size * 2 - 1;
  --shift_;
  for (size_t i = 0; i < old_size; ++i) {
    if (old[i].object == nullptr) continue;
    size_t to = Home(old[i].hash);
    while (slots_[to].object != nullptr) to = (to + 1) & mask_;
    slots_[to] = old[i];
  }
  Publish();
  std::free(old);
}

void ObjectTable::Replace(uint64_t hash, const Object* object, Object* by) {
  size_t i = Home(hash);
  while (slots_[i].object != object) i = (i + 1) & mask_;
  slots_[i].object = by;
}

void ObjectTable::Erase(uint64_t hash, const Object* object) {
  size_t hole = Home(hash);
  while (slots_[hole].object != object) hole = (hole + 1) & mask_;
  for (size_t i = (hole + 1) & mask_; slots_[i].object != nullptr; i = (i + 1) & mask_) {
    // An entry may move back into the hole when its home is not behind the hole.
    const size_t from_home = (i - Home(slots_[i].hash)) & mask_;
    const size_t from_hole = (i - hole) & mask_;
    if (from_home >= from_hole) {
      slots_[hole] = slots_[i];
      hole = i;
    }
  }
  slots_[hole] = {};
  --size_;
}

uint64_t ObjectTable::Walk(uint64_t from, size_t slots,
                           std::vector<std::pair<uint64_t, Object*>>* out) const {
  const size_t first = Home(from);
  const size_t end = std::min(first + slots, mask_ + 1);
  const size_t begin = out->size();
  // Entries whose home is in [first, end) sit there or in the run of full slots that follows, maybe
  // around the end.
  for (size_t n = first; n - first <= mask_; ++n) {
    const Slot& slot = slots_[n & mask_];
    if (slot.object == nullptr) {
      if (n >= end) break;
      continue;
    }
    const size_t home = Home(slot.hash);
    if (home >= first && home < end && slot.hash >= from) out->push_back({slot.hash, slot.object});
  }
  std::sort(out->begin() + begin, out->end(),
            [](const auto& a, const auto& b) { return a.first < b.first; });
  return end == mask_ + 1 ? 0 : static_cast<uint64_t>(end) << shift_;
}

}  // namespace mmc::meta
