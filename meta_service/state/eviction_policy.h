// Who is given up first. One policy object per shard; it orders the committed replicas of each
// tenant and retention in each segment.
//
// The caller numbers uses with stamps that grow over all shards; the evictor compares the oldest of
// every shard and so gets the order of the whole segment.
//
// Thread safety: none; guarded by the shard's lock. Ownership: links replicas, owns none.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "meta_service/state/object.h"

namespace mmc::meta {

class EvictionPolicy {
 public:
  virtual ~EvictionPolicy() = default;
  // A replica became visible, as the most recently used of its segment. Its object's stamp is set.
  virtual void Insert(Replica* replica) = 0;
  // The object of these replicas was used. Its stamp is set.
  virtual void Touch(Object* object) = 0;
  virtual void Erase(Replica* replica) = 0;
  // The next victim of this tenant and retention; null when it has none in the segment and this shard.
  virtual Replica* Victim(uint16_t tenant, Retention retention, uint32_t segment) = 0;
  // The next victim of this tenant and retention, wherever it lies.
  virtual Replica* VictimOf(uint16_t tenant, Retention retention) = 0;
  // One of the segment, whoever's.
  virtual Replica* AnyIn(uint32_t segment) = 0;
  // The replica's memory moves (its neighbours must follow).
  virtual void Move(Replica* from, Replica* to) = 0;
  virtual uint64_t MetadataBytes() const = 0;
};

bool KnownEvictionPolicy(std::string_view name);  // "lru"
// REQUIRES: KnownEvictionPolicy(name).
std::unique_ptr<EvictionPolicy> MakeEvictionPolicy(std::string_view name);

}  // namespace mmc::meta
