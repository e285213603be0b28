// Whether memory at addresses that callers gave as numbers is there, and can be written: an error instead of a crash.
//
// All of it is a look, not a promise: who unmaps or protects memory while it is used is not found out.
// Thread safety: any thread, but UnwritableBytes(). Ownership: keeps two memory files, and a list of mappings, for the
// process.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace mmc::python {

struct MemoryRange {
  uint64_t address = 0;
  uint64_t bytes = 0;
};

// Addresses of which something is known. Not thread-safe while it is added to.
class MemoryRanges {
 public:
  // In the order of the beginnings. Overlapping and touching ones become one.
  void Add(uint64_t begin, uint64_t end);
  // Whether all bytes of `range` are in them.
  bool Contain(const MemoryRange& range) const;
  bool empty() const { return runs_.empty(); }

 private:
  std::vector<std::pair<uint64_t, uint64_t>> runs_;  // (begin, end), in order; they do not touch
};

struct KnownMemory {
  MemoryRanges readable;
  MemoryRanges writable;  // part of `readable`
};

// Those of `bytes` (as positions) that this process cannot read: not mapped, without the right to,
// of a device. Empty as well where the system does not say.
std::vector<size_t> Unreadable(const std::vector<const void*>& bytes);

// Those of `bytes` (as positions) that this process cannot read and write, as of now: each gets the value that it has.
// Only for memory that is to be written, and that no other thread writes meanwhile. With the GIL. Empty as well where
// the system does not say.
std::vector<size_t> UnwritableBytes(const std::vector<const void*>& bytes);

// Those of `ranges` (as positions) of which some byte is in no mapping that this process may write. Mappings are
// remembered from call to call: one that was made read-only since may be taken for what it was. Empty as well where the
// system does not say.
std::vector<size_t> Unwritable(const std::vector<MemoryRange>& ranges);

enum class MemoryRights { kNone, kRead, kWrite };
// What this process may do with every byte of a range, as of now; kNone for an empty one and for memory of a device.
// kWrite where the system does not say.
MemoryRights RightsOf(const MemoryRange& range);

}  // namespace mmc::python
