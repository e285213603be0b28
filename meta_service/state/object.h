// An object in one piece of memory: header, its replicas, its key.
//
//   | Object 48 | Replica 32 x capacity | key bytes |
//
// A committed replica is linked into the eviction order of its (shard, segment). Its extents are
// kept in place when there is one, in a list otherwise.
//
// Thread safety: guarded by the lock of the shard that the key belongs to; a detached object
// (removed, still pinned) by the same lock. Ownership: made by Object::Make, given back by
// Object::Destroy; the extents belong to whoever holds the Placed.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <span>
#include <string_view>
#include <vector>

#include "common/base/clock.h"
#include "common/base/limits.h"
#include "meta_service/state/allocator.h"
#include "meta_service/state/retention.h"

namespace mmc::meta {

// Extents of one replica, all in one segment; 16 bytes, moved by copying, freed by the segment they
// came from.
struct Placed {
  static constexpr uint32_t kMany = 0xFFFFFFFF;
  union {
    struct {
      uint32_t offset, units;
    } one;
    std::vector<Extent>* many;
  };
  uint32_t block = 0;         // kMany: `many` is set
  uint32_t segment : 24 = 0;  // slot in the SegmentTable
  uint32_t index : 8 = 0;     // of the replica in its object

  Placed() : one{0, 0} {}
  uint32_t count() const { return block == kMany ? static_cast<uint32_t>(many->size()) : 1; }
  template <typename F>
  void ForEach(F visit) const {
    if (block != kMany) {
      visit(Extent{one.offset, one.units, block});
    } else {
      for (const Extent& extent : *many) visit(extent);
    }
  }
  // Forgets the list, without giving the units back to the segment.
  void DropList() {
    if (block == kMany) delete many;
    block = 0;
  }
  uint64_t units() const {
    uint64_t sum = 0;
    ForEach([&](const Extent& extent) { sum += extent.units; });
    return sum;
  }
};
static_assert(sizeof(Placed) == 16);

struct Replica {
  union {
    Replica* older;       // towards the next victim
    uint64_t forget_seq;  // detached while pinned: when the catalog has this acknowledged, the
                          // space may go
  };
  Replica* newer;
  Placed placed;
};
static_assert(sizeof(Replica) == 32);

struct Object {
  uint64_t generation;
  uint64_t checksum;
  int64_t lease_until;  // nanoseconds of the caller's clock
  uint64_t stamp;       // of the last use
  uint32_t pins;        // while being written: the grant's slot
  uint32_t size;        // bytes of the value, at most 1 GiB
  uint16_t key_bytes;
  uint16_t tenant;  // slot in Tenants
  uint8_t replica_count;
  uint8_t replica_capacity;
  uint8_t asked;      // replicas it should have
  bool writing : 1;   // has a grant, not visible
  bool detached : 1;  // out of the table, kept for its pins
  bool grouped : 1;   // is in Groups
  uint8_t kept : 2;   // Retention; of a committed one only by MetaState::SetRetention

  static Object* Make(std::string_view key, uint32_t size, uint16_t tenant, std::span<const Placed> placed) {
    void* memory = std::malloc(sizeof(Object) + placed.size() * sizeof(Replica) + key.size());
    if (memory == nullptr) throw std::bad_alloc();
    auto* object = new (memory) Object{};
    object->size = size;
    object->key_bytes = static_cast<uint16_t>(key.size());
    object->tenant = tenant;
    object->replica_count = object->replica_capacity = object->asked =
        static_cast<uint8_t>(placed.size());
    for (size_t i = 0; i < placed.size(); ++i) {
      auto* replica = new (object->replicas() + i) Replica{};
      replica->placed = placed[i];
      replica->placed.index = static_cast<uint32_t>(i);
    }
    std::memcpy(object->key_data(), key.data(), key.size());
    return object;
  }
  static void Destroy(Object* object) { std::free(object); }

  Replica* replicas() { return reinterpret_cast<Replica*>(this + 1); }
  const Replica* replicas() const { return reinterpret_cast<const Replica*>(this + 1); }
  std::string_view key() const {
    return {reinterpret_cast<const char*>(replicas() + replica_capacity), key_bytes};
  }
  static Object* Of(Replica* replica) {
    return reinterpret_cast<Object*>(replica - replica->placed.index) - 1;
  }
  Retention retention() const { return static_cast<Retention>(kept); }
  bool Leased(TimePoint now) const { return lease_until > now.time_since_epoch().count(); }

 private:
  char* key_data() { return reinterpret_cast<char*>(replicas() + replica_capacity); }
};
static_assert(sizeof(Object) == 48);
static_assert(kMaxValueBytes <= UINT32_MAX);

}  // namespace mmc::meta
