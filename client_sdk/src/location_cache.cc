#include "client_sdk/src/location_cache.h"

#include <algorithm>

namespace mmc::client {

LocationCache::LocationCache(size_t max_keys)
    : max_per_shard_(std::max<size_t>(1, max_keys / kShards)) {}

std::optional<LocationCache::Hit> LocationCache::Find(std::string_view key, TimePoint now,
                                                      Duration margin) {
  Shard& s = shard(key);
  MutexLock lock(s.mutex);
  const auto it = s.by_key.find(key);
  if (it == s.by_key.end()) return std::nullopt;
  const auto entry = it->second;
  if (entry->lease_end - margin <= now) {
    s.by_key.erase(it);
    s.order.erase(entry);
    return std::nullopt;
  }
  s.order.splice(s.order.begin(), s.order, entry);
  return Hit{entry->location, entry->lease_end};
}

void LocationCache::Store(std::string_view key, std::shared_ptr<const Location> location,
                          TimePoint lease_end) {
  Shard& s = shard(key);
  MutexLock lock(s.mutex);
  if (const auto it = s.by_key.find(key); it != s.by_key.end()) {
    it->second->location = std::move(location);
    it->second->lease_end = lease_end;
    s.order.splice(s.order.begin(), s.order, it->second);
    return;
  }
  if (s.by_key.size() >= max_per_shard_) {
    s.by_key.erase(s.order.back().key);
    s.order.pop_back();
  }
  s.order.push_front({std::string(key), std::move(location), lease_end});
  s.by_key.emplace(s.order.front().key, s.order.begin());
}

void LocationCache::Drop(std::string_view key) {
  Shard& s = shard(key);
  MutexLock lock(s.mutex);
  const auto it = s.by_key.find(key);
  if (it == s.by_key.end()) return;
  const auto entry = it->second;
  s.by_key.erase(it);
  s.order.erase(entry);
}

void LocationCache::Clear() {
  for (Shard& s : shards_) {
    MutexLock lock(s.mutex);
    s.by_key.clear();
    s.order.clear();
  }
}

size_t LocationCache::size() const {
  size_t sum = 0;
  for (const Shard& s : shards_) {
    MutexLock lock(s.mutex);
    sum += s.by_key.size();
  }
  return sum;
}

}  // namespace mmc::client
