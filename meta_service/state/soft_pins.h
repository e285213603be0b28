// When the soft pins of one shard end.
//
// Thread safety: none; guarded by the shard's lock. Ownership: knows objects by number only.
#pragma once

#include <cstdint>
#include <set>
#include <unordered_map>
#include <utility>

namespace mmc::meta {

class SoftPins {
 public:
  // REQUIRES: there is none of this generation. `until`: nanoseconds of the caller's clock.
  void Add(uint64_t generation, uint64_t hash, int64_t until) {
    pins_.emplace(generation, Pin{hash, until});
    ends_.emplace(until, generation);
  }
  void Erase(uint64_t generation) {
    const auto found = pins_.find(generation);
    if (found == pins_.end()) return;
    ends_.erase({found->second.until, generation});
    pins_.erase(found);
  }
  // Takes one that is over; false: there is none.
  bool TakeDue(int64_t now, uint64_t* generation, uint64_t* hash) {
    if (ends_.empty() || ends_.begin()->first > now) return false;
    *generation = ends_.begin()->second;
    *hash = pins_.at(*generation).hash;
    Erase(*generation);
    return true;
  }

 private:
  struct Pin {
    uint64_t hash;
    int64_t until;
  };
  std::unordered_map<uint64_t, Pin> pins_;         // by generation
  std::set<std::pair<int64_t, uint64_t>> ends_;  // (until, generation)
};

}  // namespace mmc::meta
