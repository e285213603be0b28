// Whether bytes at addresses that callers gave as numbers are there: an error instead of a crash.
//
// Thread safety: any thread. Ownership: keeps one memory file for the process.
#pragma once

#include <cstddef>
#include <vector>

namespace mmc::python {

// Those of `bytes` (as positions) that this process cannot read: not mapped, without the right to,
// of a device. Empty as well where the system does not say. It is a look, not a promise: who unmaps
// memory while it is used is not found out.
std::vector<size_t> Unreadable(const std::vector<const void*>& bytes);

}  // namespace mmc::python
