#include "client_sdk/python/src/registered.h"

#include <string>
#include <utility>

namespace mmc::python {

Status RegisteredMemory::Add(const MemoryRange& range) {
  const MemoryRights rights = RightsOf(range);
  MutexLock lock(mutex_);
  known_ = nullptr;
  entries_.erase(range.address);
  if (rights == MemoryRights::kNone) {
    return Status(Code::kInvalidArgument, std::to_string(range.bytes) + " bytes at address " +
                                              std::to_string(range.address) +
                                              " are no memory of the host that this process can read");
  }
  if (entries_.size() >= kMaxRanges) {
    return Status(Code::kTooLarge, std::to_string(kMaxRanges) + " ranges of memory are registered already; unregister "
                                   "some, or register larger ones");
  }
  entries_[range.address] = {range.bytes, rights == MemoryRights::kWrite};
  return Status::Ok();
}

Status RegisteredMemory::Remove(uint64_t address) {
  MutexLock lock(mutex_);
  if (entries_.erase(address) == 0) {
    return Status(Code::kNotFound, "no memory is registered at address " + std::to_string(address));
  }
  known_ = nullptr;
  return Status::Ok();
}

std::shared_ptr<const KnownMemory> RegisteredMemory::known() {
  MutexLock lock(mutex_);
  if (known_ == nullptr && !entries_.empty()) {
    auto made = std::make_shared<KnownMemory>();
    for (const auto& [address, entry] : entries_) {
      made->readable.Add(address, address + entry.bytes);
      if (entry.writable) made->writable.Add(address, address + entry.bytes);
    }
    known_ = std::move(made);
  }
  return known_;
}

}  // namespace mmc::python
