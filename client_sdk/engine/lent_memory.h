// The memory that a transfer engine lends: what its user registered, and what it allocated for him.
//
// Memory is named by its address in this process; to the fabric each registration is a region of its own, whose number
// is never used again. What is taken back is refused to others from then on; what is running then goes on, and
// `in_use` of the answer tells when it is over.
// Thread safety: all methods from any thread. Ownership: owns what it allocated; registered memory is the user's, who
// keeps it until it is taken back and out of use.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "common/base/mutex.h"
#include "common/base/status.h"
#include "fabric/memory.h"

namespace mmc::engine {

class LentMemory {
 public:
  static constexpr size_t kMaxRegions = 65536;
  // Allocated buffers that other processes of the host can map; each keeps a file open. Further ones are not mapped.
  static constexpr size_t kMaxShared = 256;

  LentMemory();
  LentMemory(const LentMemory&) = delete;
  LentMemory& operator=(const LentMemory&) = delete;

  // What was lent, and is not any more.
  struct Taken {
    std::weak_ptr<const fabric::Region> in_use;  // expires when no access to it runs
    std::shared_ptr<void> memory;                // what goes with it, when it was allocated here
    std::shared_ptr<fabric::SegmentMemory> shared;  // the same, when others may have it mapped
  };

  // An address that is registered already keeps the larger size. Errors: kInvalidArgument (null, empty, beyond the end
  // of memory), kTooLarge (kMaxRegions are registered).
  Status Register(uint64_t address, uint64_t bytes, fabric::Access access);
  // Errors: kNotFound.
  Result<Taken> Unregister(uint64_t address);
  // Registered memory of zeros, aligned to pages. Errors: kInvalidArgument (empty), kTooLarge, kIo.
  Result<uint64_t> Allocate(uint64_t bytes);
  // Errors: kNotFound (not of Allocate()).
  Result<Taken> Free(uint64_t address);

  // Whether all these bytes are registered.
  bool Holds(uint64_t address, uint64_t bytes) const;

  struct Lent {
    uint64_t address = 0;
    uint64_t bytes = 0;
    uint32_t segment = 0;
    uint32_t order = 0;  // of coming here: the least was the first
    bool shared = false;
  };
  // All registrations, by address.
  std::vector<Lent> List() const;
  uint32_t epoch() const { return epoch_; }
  fabric::RegionTable& regions() { return regions_; }

 private:
  struct Allocated {
    std::shared_ptr<fabric::SegmentMemory> shared;  // one of these two
    std::shared_ptr<void> pages;
  };

  // `order` 0: it is new.
  Status Add(uint64_t address, uint64_t bytes, fabric::Access access, std::shared_ptr<fabric::SegmentMemory> segment,
             uint32_t order) MMC_REQUIRES(mutex_);
  std::weak_ptr<const fabric::Region> Remove(uint32_t segment) MMC_REQUIRES(mutex_);

  const uint32_t epoch_;
  fabric::RegionTable regions_;

  mutable Mutex mutex_;
  uint32_t last_segment_ MMC_GUARDED_BY(mutex_) = 0;
  std::map<uint64_t, Lent> entries_ MMC_GUARDED_BY(mutex_);  // by address
  std::map<uint64_t, Allocated> allocated_ MMC_GUARDED_BY(mutex_);
  size_t shared_ MMC_GUARDED_BY(mutex_) = 0;  // of allocated_
  // The registered bytes as runs (begin, end) that do not touch; made when asked for.
  mutable std::vector<std::pair<uint64_t, uint64_t>> runs_ MMC_GUARDED_BY(mutex_);
  mutable bool runs_fresh_ MMC_GUARDED_BY(mutex_) = true;
};

// Gives the pages back to the system, though others may still have them mapped.
void Discard(const fabric::SegmentMemory& memory);

}  // namespace mmc::engine
