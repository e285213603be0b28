#include <utility>

#include "fabric/memory.h"

namespace mmc::fabric {
namespace {

std::string Name(RegionRef ref) {
  return "segment " + std::to_string(ref.segment) + " epoch " + std::to_string(ref.epoch);
}

}  // namespace

Status CheckAccess(const Region& region, uint64_t offset, uint64_t length, Direction direction) {
  if (offset > region.memory.size() || length > region.memory.size() - offset) {
    return Status(Code::kOutOfRange, Name(region.ref) + ": " + std::to_string(length) + " bytes at " +
                                         std::to_string(offset) + " are outside its " +
                                         std::to_string(region.memory.size()) + " bytes");
  }
  if (direction == Direction::kWrite && region.access == Access::kReadOnly) {
    return Status(Code::kReadOnly, Name(region.ref) + " only allows reads");
  }
  return Status::Ok();
}

Status RegionTable::Add(Region region) {
  auto shared = std::make_shared<const Region>(std::move(region));
  MutexLock lock(mutex_);
  const auto [it, added] = regions_.emplace(shared->ref.segment, shared);
  if (!added) {
    return Status(Code::kExists, Name(it->second->ref) + " is registered; remove it first");
  }
  for (const auto& [id, watcher] : watchers_) watcher(shared, true);
  return Status::Ok();
}

void RegionTable::Remove(RegionRef ref) {
  std::shared_ptr<const Region> removed;  // dies after the lock: freeing a segment takes long
  MutexLock lock(mutex_);
  const auto it = regions_.find(ref.segment);
  if (it == regions_.end() || it->second->ref != ref) return;
  removed = std::move(it->second);
  regions_.erase(it);
  for (const auto& [id, watcher] : watchers_) watcher(removed, false);
}

Result<std::shared_ptr<const Region>> RegionTable::Resolve(RegionRef ref, uint64_t offset, uint64_t length,
                                                           Direction direction) const {
  std::shared_ptr<const Region> region;
  {
    MutexLock lock(mutex_);
    const auto it = regions_.find(ref.segment);
    if (it != regions_.end() && it->second->ref == ref) region = it->second;
  }
  if (region == nullptr) {
    return Status(Code::kStaleRegion, Name(ref) + " is not registered here; look the location up again");
  }
  MMC_RETURN_IF_ERROR(CheckAccess(*region, offset, length, direction));
  return region;
}

std::vector<std::shared_ptr<const Region>> RegionTable::List() const {
  std::vector<std::shared_ptr<const Region>> regions;
  MutexLock lock(mutex_);
  regions.reserve(regions_.size());
  for (const auto& [segment, region] : regions_) regions.push_back(region);
  return regions;
}

uint64_t RegionTable::Watch(Watcher watcher) {
  MutexLock lock(mutex_);
  for (const auto& [segment, region] : regions_) watcher(region, true);
  const uint64_t id = next_watcher_++;
  watchers_.emplace(id, std::move(watcher));
  return id;
}

void RegionTable::Unwatch(uint64_t id) {
  MutexLock lock(mutex_);
  watchers_.erase(id);
}

Result<std::byte*> RegionCache::At(RegionRef ref, uint64_t offset, uint64_t length, Direction direction) {
  for (size_t i = seen_.size(); i > 0; --i) {
    if (seen_[i - 1]->ref != ref) continue;
    if (i != seen_.size()) std::swap(seen_[i - 1], seen_.back());
    MMC_RETURN_IF_ERROR(CheckAccess(*seen_.back(), offset, length, direction));
    return seen_.back()->memory.data() + offset;
  }
  MMC_ASSIGN_OR_RETURN(auto region, table_.Resolve(ref, offset, length, direction));
  if (region->kind != MemoryKind::kHost) {
    return Status(Code::kUnsupported, Name(ref) + " is device memory; this transport moves host memory only");
  }
  std::byte* const at = region->memory.data() + offset;
  seen_.push_back(std::move(region));
  return at;
}

}  // namespace mmc::fabric
