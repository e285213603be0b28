// One pool of one node: its allocator and figures. SegmentTable finds it by the small number that
// replicas carry.
//
// Thread safety: all methods from any thread. Ownership: shared by the table and the node; a slot
// of the table is used again once its segment is dead and nothing is allocated in it, so a
// replica's slot number stays good as long as the replica holds space.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <vector>

#include "common/base/mutex.h"
#include "common/base/status.h"
#include "meta_service/state/allocator.h"
#include "meta_service/state/catalog_feed.h"
#include "meta_service/state/free_item.h"
#include "meta_service/state/types.h"

namespace mmc::meta {

class Segment {
 public:
  Segment(const SegmentInfo& info, uint32_t node, std::shared_ptr<CatalogFeed> feed);

  const SegmentInfo& info() const { return info_; }
  uint32_t node() const { return node_; }
  CatalogFeed& feed() const { return *feed_; }
  const std::shared_ptr<CatalogFeed>& shared_feed() const { return feed_; }
  uint32_t slot() const { return slot_; }
  void set_slot(uint32_t slot) { slot_ = slot; }

  // Its node takes requests under tickets only.
  bool ticketed() const { return ticketed_.load(std::memory_order_relaxed); }
  void set_ticketed(bool on) { ticketed_.store(on, std::memory_order_relaxed); }

  // False: not that many units are free, or the segment is dead.
  bool Allocate(uint32_t units, Placed* out);
  // Takes exactly these units. False: some are taken, or the segment is dead. Cheap in rising order
  // of offsets.
  bool Reserve(uint32_t offset, uint32_t units, Extent* out);
  // Never given to anyone, or of a writer that is done: free at once.
  void Free(Placed placed);
  // The replica is given up; its units count as waiting until Free(item).
  FreeItem Detach(const Placed& placed, int64_t lease_until, bool soon, uint16_t tenant = FreeItem::kNoTenant);
  void Free(FreeItem item);

  // No more allocations; what is left drains.
  void Kill();
  bool dead() const { return dead_.load(std::memory_order_acquire); }
  bool drained() const;

  uint32_t total_units() const { return total_units_; }
  uint64_t free_units() const { return free_units_.load(std::memory_order_relaxed); }
  uint64_t used_units() const { return total_units_ - free_units(); }
  uint64_t waiting_units() const { return waiting_units_.load(std::memory_order_relaxed); }
  uint64_t soon_units() const { return soon_units_.load(std::memory_order_relaxed); }
  // In use by objects and grants: what the eviction thresholds compare.
  uint64_t live_units() const {
    const uint64_t used = used_units(), waiting = waiting_units();
    return used > waiting ? used - waiting : 0;
  }
  std::atomic<uint64_t>& replicas() { return replicas_; }
  uint64_t MetadataBytes() const;

 private:
  const SegmentInfo info_;
  const uint32_t node_;
  const std::shared_ptr<CatalogFeed> feed_;
  const uint32_t total_units_;
  uint32_t slot_ = 0;
  std::atomic<uint64_t> free_units_, waiting_units_{0}, soon_units_{0}, replicas_{0};
  std::atomic<bool> dead_{false};
  std::atomic<bool> ticketed_{false};
  mutable Mutex mutex_;
  Allocator allocator_ MMC_GUARDED_BY(mutex_);
};

class SegmentTable {
 public:
  static constexpr uint32_t kMaxSegments = 1u << 14;

  // Errors: kQueueFull (kMaxSegments are there).
  Status Add(const std::shared_ptr<Segment>& segment);
  // REQUIRES: something is allocated in the segment, or the caller knows it to be there.
  Segment& Get(uint32_t slot) const { return *slots_[slot].load(std::memory_order_acquire); }
  std::shared_ptr<Segment> Find(uint32_t slot) const;
  std::vector<std::shared_ptr<Segment>> All() const;
  // Forgets dead segments in which nothing is allocated any more.
  void Sweep();

 private:
  std::array<std::atomic<Segment*>, kMaxSegments> slots_{};
  mutable Mutex mutex_;
  std::vector<std::shared_ptr<Segment>> owned_ MMC_GUARDED_BY(mutex_);
};

}  // namespace mmc::meta
