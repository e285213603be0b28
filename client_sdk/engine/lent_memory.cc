#include "client_sdk/engine/lent_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <string>

#include "common/base/bytes.h"
#include "common/base/limits.h"
#include "fabric/address.h"

namespace mmc::engine {
namespace {

constexpr uint64_t kPage = 4096;

std::byte* Pointer(uint64_t address) {
  return reinterpret_cast<std::byte*>(static_cast<uintptr_t>(address));  // NOLINT: the user's address
}

// Anonymous memory that only this process sees.
Result<std::shared_ptr<void>> MapPages(uint64_t bytes) {
  void* const area = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (area == MAP_FAILED) return ErrnoStatus("allocate " + FormatBytes(bytes), errno);
  return std::shared_ptr<void>(area, [bytes](void* pages) { munmap(pages, bytes); });
}

}  // namespace

void Discard(const fabric::SegmentMemory& memory) {
  // Advice: where the kernel does not take it, the pages go with the last mapping.
  madvise(memory.data(), memory.size(), MADV_REMOVE);
}

// Random, so that names of an earlier engine at the same address are refused; never 0.
LentMemory::LentMemory() : epoch_(static_cast<uint32_t>(fabric::NewNonce() >> 32) | 1) {}

Status LentMemory::Add(uint64_t address, uint64_t bytes, fabric::Access access,
                       std::shared_ptr<fabric::SegmentMemory> segment, uint32_t order) {
  Lent entry;
  entry.address = address;
  entry.bytes = bytes;
  entry.segment = last_segment_ + 1;
  entry.order = order == 0 ? entry.segment : order;
  entry.shared = segment != nullptr;
  fabric::Region region;
  region.ref = {entry.segment, epoch_};
  region.memory = {Pointer(address), bytes};
  region.access = access;
  region.segment = std::move(segment);
  MMC_RETURN_IF_ERROR(regions_.Add(std::move(region)));
  ++last_segment_;
  entries_[address] = entry;
  runs_fresh_ = false;
  return Status::Ok();
}

std::weak_ptr<const fabric::Region> LentMemory::Remove(uint32_t segment) {
  const fabric::RegionRef ref{segment, epoch_};
  std::weak_ptr<const fabric::Region> in_use;
  if (auto found = regions_.Resolve(ref, 0, 0, fabric::Direction::kRead); found.ok()) in_use = *found;
  regions_.Remove(ref);
  return in_use;
}

Status LentMemory::Register(uint64_t address, uint64_t bytes, fabric::Access access) {
  if (address == 0 || bytes == 0 || bytes > ~uint64_t{0} - address) {
    return Status(Code::kInvalidArgument, "there is no memory of " + std::to_string(bytes) + " bytes at address " +
                                              std::to_string(address));
  }
  MutexLock lock(mutex_);
  const auto known = entries_.find(address);
  if (known != entries_.end() && known->second.bytes >= bytes) return Status::Ok();
  if (entries_.size() >= kMaxRegions) {
    return Status(Code::kTooLarge, std::to_string(kMaxRegions) +
                                       " pieces of memory are registered; register larger ones, or unregister some");
  }
  const Lent smaller = known == entries_.end() ? Lent() : known->second;
  MMC_RETURN_IF_ERROR(Add(address, bytes, access, nullptr, smaller.order));
  if (smaller.segment != 0) Remove(smaller.segment);
  return Status::Ok();
}

Result<LentMemory::Taken> LentMemory::Unregister(uint64_t address) {
  MutexLock lock(mutex_);
  const auto found = entries_.find(address);
  if (found == entries_.end()) {
    return Status(Code::kNotFound, "no memory is registered at address " + std::to_string(address));
  }
  Taken taken;
  taken.in_use = Remove(found->second.segment);
  entries_.erase(found);
  runs_fresh_ = false;
  return taken;
}

Result<uint64_t> LentMemory::Allocate(uint64_t bytes) {
  if (bytes == 0) return Status(Code::kInvalidArgument, "a buffer has at least 1 byte");
  if (bytes > kMaxSegmentBytes) {
    return Status(Code::kTooLarge, "a buffer of " + FormatBytes(bytes) + "; at most " + FormatBytes(kMaxSegmentBytes));
  }
  MutexLock lock(mutex_);
  if (entries_.size() >= kMaxRegions) {
    return Status(Code::kTooLarge, std::to_string(kMaxRegions) + " pieces of memory are registered; free some");
  }
  Allocated made;
  uint64_t address = 0;
  if (shared_ < kMaxShared) {
    fabric::SegmentOptions options;
    options.name = "mmc-engine";
    options.size = AlignUp(bytes, kSegmentAlignment);
    options.hugetlb = false;
    options.prefault = false;
    // Without it (no more files, say) memory that is not shared does.
    if (auto segment = fabric::SegmentMemory::Create(options); segment.ok()) made.shared = std::move(*segment);
  }
  if (made.shared == nullptr) {
    MMC_ASSIGN_OR_RETURN(made.pages, MapPages(AlignUp(bytes, kPage)));
    address = reinterpret_cast<uint64_t>(made.pages.get());
  } else {
    address = reinterpret_cast<uint64_t>(made.shared->data());
  }
  MMC_RETURN_IF_ERROR(Add(address, bytes, fabric::Access::kReadWrite, made.shared, 0));
  shared_ += made.shared != nullptr ? 1 : 0;
  allocated_[address] = std::move(made);
  return address;
}

Result<LentMemory::Taken> LentMemory::Free(uint64_t address) {
  MutexLock lock(mutex_);
  const auto found = allocated_.find(address);
  if (found == allocated_.end()) {
    return Status(Code::kNotFound, "no buffer was allocated at address " + std::to_string(address));
  }
  Taken taken;
  taken.memory = std::move(found->second.pages);
  taken.shared = std::move(found->second.shared);
  shared_ -= taken.shared != nullptr ? 1 : 0;
  allocated_.erase(found);
  // It may have been unregistered before.
  if (const auto entry = entries_.find(address); entry != entries_.end()) {
    taken.in_use = Remove(entry->second.segment);
    entries_.erase(entry);
    runs_fresh_ = false;
  }
  return taken;
}

bool LentMemory::Holds(uint64_t address, uint64_t bytes) const {
  if (bytes > ~uint64_t{0} - address) return false;
  MutexLock lock(mutex_);
  if (!runs_fresh_) {
    runs_.clear();
    for (const auto& [begin, entry] : entries_) {
      const uint64_t end = begin + entry.bytes;
      if (!runs_.empty() && begin <= runs_.back().second) {
        runs_.back().second = std::max(runs_.back().second, end);
      } else {
        runs_.emplace_back(begin, end);
      }
    }
    runs_fresh_ = true;
  }
  const auto behind = std::upper_bound(runs_.begin(), runs_.end(), address,
                                       [](uint64_t at, const auto& run) { return at < run.first; });
  return behind != runs_.begin() && address + bytes <= std::prev(behind)->second;
}

std::vector<LentMemory::Lent> LentMemory::List() const {
  std::vector<Lent> out;
  MutexLock lock(mutex_);
  out.reserve(entries_.size());
  for (const auto& [address, entry] : entries_) out.push_back(entry);
  return out;
}

}  // namespace mmc::engine
