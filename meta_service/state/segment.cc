#include "meta_service/state/segment.h"

#include <memory>
#include <utility>

#include "proto/names.h"

namespace mmc::meta {

// The numbers are those of the protocol, and so are the words.
const char* MediumName(Medium medium) { return proto::MediumName(static_cast<int>(medium)); }
const char* NodeHealthName(NodeHealth health) { return proto::NodeStateName(static_cast<int>(health)); }

const char* ConflictName(ConflictKind kind) {
  switch (kind) {
    case ConflictKind::kBadRecord:
      return "bad_record";
    case ConflictKind::kOverlap:
      return "overlap";
    case ConflictKind::kGeneration:
      return "generation";
    case ConflictKind::kRemoved:
      return "removed";
    case ConflictKind::kDuplicate:
      return "duplicate";
  }
  return "unknown";
}

Segment::Segment(const SegmentInfo& info, uint32_t node, std::shared_ptr<CatalogFeed> feed)
    : info_(info),
      node_(node),
      feed_(std::move(feed)),
      total_units_(static_cast<uint32_t>(info.size / kUnitBytes)),
      free_units_(total_units_),
      allocator_(total_units_) {}

bool Segment::Allocate(uint32_t units, Placed* out) {
  if (free_units() < units) return false;
  MutexLock lock(mutex_);
  if (dead()) return false;
  Extent extent;
  if (allocator_.AllocateOne(units, &extent)) {
    out->one = {extent.offset, extent.units};
    out->block = extent.block;
  } else {
    auto many = std::make_unique<std::vector<Extent>>();
    if (!allocator_.Allocate(units, many.get())) return false;
    out->many = many.release();
    out->block = Placed::kMany;
  }
  out->segment = slot_;
  free_units_.fetch_sub(units, std::memory_order_relaxed);
  return true;
}

bool Segment::Reserve(uint32_t offset, uint32_t units, Extent* out) {
  MutexLock lock(mutex_);
  if (dead() || !allocator_.Reserve(offset, units, out)) return false;
  free_units_.fetch_sub(units, std::memory_order_relaxed);
  return true;
}

void Segment::Free(Placed placed) {
  uint64_t units = 0;
  {
    MutexLock lock(mutex_);
    placed.ForEach([&](const Extent& extent) MMC_NO_THREAD_SAFETY_ANALYSIS {
      allocator_.Free(extent.block);
      units += extent.units;
    });
    free_units_.fetch_add(units, std::memory_order_relaxed);
  }
  placed.DropList();
}

FreeItem Segment::Detach(const Placed& placed, int64_t lease_until, bool soon, uint16_t tenant) {
  const uint64_t units = placed.units();
  waiting_units_.fetch_add(units, std::memory_order_relaxed);
  if (soon) soon_units_.fetch_add(units, std::memory_order_relaxed);
  return FreeItem(placed, lease_until, soon, tenant);
}

void Segment::Free(FreeItem item) {
  const uint64_t units = item.placed().units();
  waiting_units_.fetch_sub(units, std::memory_order_relaxed);
  if (item.soon()) soon_units_.fetch_sub(units, std::memory_order_relaxed);
  Free(item.Take());
}

void Segment::Kill() {
  MutexLock lock(mutex_);
  dead_.store(true, std::memory_order_release);
}

bool Segment::drained() const {
  MutexLock lock(mutex_);
  return allocator_.used_blocks() == 0;
}

uint64_t Segment::MetadataBytes() const {
  MutexLock lock(mutex_);
  return allocator_.MetadataBytes();
}

Status SegmentTable::Add(const std::shared_ptr<Segment>& segment) {
  MutexLock lock(mutex_);
  uint32_t slot = 0;
  while (slot < owned_.size() && owned_[slot] != nullptr) ++slot;
  if (slot == kMaxSegments) {
    return Status(Code::kQueueFull,
                  "there are " + std::to_string(kMaxSegments) + " segments, no more can join");
  }
  if (slot == owned_.size()) owned_.push_back(nullptr);
  owned_[slot] = segment;
  segment->set_slot(slot);
  slots_[slot].store(segment.get(), std::memory_order_release);
  return Status::Ok();
}

std::shared_ptr<Segment> SegmentTable::Find(uint32_t slot) const {
  MutexLock lock(mutex_);
  return slot < owned_.size() ? owned_[slot] : nullptr;
}

std::vector<std::shared_ptr<Segment>> SegmentTable::All() const {
  MutexLock lock(mutex_);
  std::vector<std::shared_ptr<Segment>> all;
  for (const auto& segment : owned_) {
    if (segment != nullptr) all.push_back(segment);
  }
  return all;
}

void SegmentTable::Sweep() {
  MutexLock lock(mutex_);
  for (uint32_t slot = 0; slot < owned_.size(); ++slot) {
    if (owned_[slot] == nullptr || !owned_[slot]->dead() || !owned_[slot]->drained()) continue;
    slots_[slot].store(nullptr, std::memory_order_release);
    owned_[slot] = nullptr;
  }
}

}  // namespace mmc::meta
