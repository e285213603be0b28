// The segments a listener lends, as clients see them: one packet and one file each, and the control page.
//
// Thread safety: all methods from any thread. Ownership: keeps the published segments alive until they are removed.
#pragma once

#include <memory>
#include <vector>

#include "common/base/mutex.h"
#include "fabric/memory.h"
#include "fabric/shm/wire.h"

namespace mmc::fabric::shm {

class Published {
 public:
  static Result<std::unique_ptr<Published>> Create();
  ~Published();
  Published(const Published&) = delete;
  Published& operator=(const Published&) = delete;

  // One segment, ready to send. The file stays open while the entry lives.
  struct Entry {
    Packet packet;
    std::shared_ptr<const Region> region;
    std::shared_ptr<UniqueFd> read_only;  // null: could not be opened; not lent to readers
  };

  // A region that other processes cannot map is left out, and so is one beyond the slots: both answer kStaleRegion.
  void Add(const std::shared_ptr<const Region>& region);
  void Remove(const Region& region);
  // Everything is dead from now on.
  void RemoveAll();

  std::vector<Entry> List() const;
  int control_fd() const { return control_read_only_.get(); }

 private:
  Published() = default;
  UniqueFd control_;
  UniqueFd control_read_only_;
  ControlPage* page_ = nullptr;

  mutable Mutex mutex_;
  uint64_t next_generation_ MMC_GUARDED_BY(mutex_) = 1;
  std::vector<Entry> entries_ MMC_GUARDED_BY(mutex_);
};

// The fd to hand to a client of that right: a read-only client gets one that the kernel refuses to map for writing.
int FdFor(const Published::Entry& entry, Access access);

}  // namespace mmc::fabric::shm
