// Memory that a caller named once: pieces inside it need no look in each call.
//
// Thread safety: any thread. Ownership: none of the memory; the caller keeps it as it was until it is taken back.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>

#include "client_sdk/python/src/probe.h"
#include "common/base/mutex.h"
#include "common/base/status.h"

namespace mmc::python {

class RegisteredMemory {
 public:
  static constexpr size_t kMaxRanges = 65536;

  // Looks at the memory. An address that is registered already gets this size. Errors: kInvalidArgument (not all of it
  // is host memory that this process can read; what was registered there is not any more), kTooLarge (kMaxRanges are
  // registered).
  Status Add(const MemoryRange& range);
  // Errors: kNotFound.
  Status Remove(uint64_t address);
  // All of it, as of now; null when there is none.
  std::shared_ptr<const KnownMemory> known();

 private:
  struct Entry {
    uint64_t bytes = 0;
    bool writable = false;
  };

  Mutex mutex_;
  std::map<uint64_t, Entry> entries_ MMC_GUARDED_BY(mutex_);          // by address
  std::shared_ptr<const KnownMemory> known_ MMC_GUARDED_BY(mutex_);  // of entries_; made when asked for
};

}  // namespace mmc::python
