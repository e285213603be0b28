// Locations whose lease has time left, by key: a get that finds one here needs no call to the meta
// service.
//
// Bounded: each shard drops its least recently used entry when full. A location is as good as its
// lease: until that ends the bytes stay put even if the key was removed or evicted meanwhile, so a
// cached get may still answer the old value for that long.
//
// Thread safety: all methods from any thread. Ownership: locations are shared, immutable values.
#pragma once

#include <array>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "client_sdk/src/location.h"
#include "common/base/clock.h"
#include "common/base/mutex.h"

namespace mmc::client {

class LocationCache {
 public:
  struct Hit {
    std::shared_ptr<const Location> location;
    TimePoint lease_end;
  };

  explicit LocationCache(size_t max_keys);

  // Nothing when the key is unknown or less than `margin` is left of its lease (the entry is
  // dropped then).
  std::optional<Hit> Find(std::string_view key, TimePoint now, Duration margin);
  void Store(std::string_view key, std::shared_ptr<const Location> location, TimePoint lease_end);
  void Drop(std::string_view key);
  void Clear();
  size_t size() const;

 private:
  static constexpr size_t kShards = 16;
  struct Entry {
    std::string key;
    std::shared_ptr<const Location> location;
    TimePoint lease_end;
  };
  struct Shard {
    mutable Mutex mutex;
    std::list<Entry> order MMC_GUARDED_BY(mutex);  // most recently used first
    std::unordered_map<std::string_view, std::list<Entry>::iterator> by_key MMC_GUARDED_BY(mutex);
  };
  Shard& shard(std::string_view key) {
    return shards_[std::hash<std::string_view>()(key) % kShards];
  }

  const size_t max_per_shard_;
  std::array<Shard, kShards> shards_;
};

}  // namespace mmc::client
