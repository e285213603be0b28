// Whether memory at addresses that callers gave as numbers is there, and can be written: an error instead of a crash.
//
// All of it is a look, not a promise: who unmaps or protects memory while it is used is not found out.
// Thread safety: any thread. Ownership: keeps one memory file, and a list of mappings, for the process.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace mmc::python {

// Those of `bytes` (as positions) that this process cannot read: not mapped, without the right to,
// of a device. Empty as well where the system does not say.
std::vector<size_t> Unreadable(const std::vector<const void*>& bytes);

struct MemoryRange {
  uint64_t address = 0;
  uint64_t bytes = 0;
};

// Those of `ranges` (as positions) of which some byte is in no mapping that this process may write. Mappings are
// remembered from call to call: one that was made read-only since may be taken for what it was. Empty as well where the
// system does not say.
std::vector<size_t> Unwritable(const std::vector<MemoryRange>& ranges);

enum class MemoryRights { kNone, kRead, kWrite };
// What this process may do with every byte of a range, as of now. kWrite where the system does not say.
MemoryRights RightsOf(const MemoryRange& range);

}  // namespace mmc::python
