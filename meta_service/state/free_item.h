// Space of one replica on its way back to the allocator.
//
// Thread safety: none; moved from queue to queue by whoever holds it. Ownership: owns the extents'
// list; the units go back through Segment::Free only.
#pragma once

#include <cstdint>
#include <utility>

#include "meta_service/state/object.h"

namespace mmc::meta {

class FreeItem {
 public:
  FreeItem() = default;
  // `soon`: nothing but the catalog's acknowledgement is in the way.
  FreeItem(Placed placed, int64_t lease_until, bool soon)
      : placed_(placed), lease_until_(lease_until), soon_(soon), held_(true) {}
  FreeItem(FreeItem&& other) noexcept { *this = std::move(other); }
  FreeItem& operator=(FreeItem&& other) noexcept {
    if (this == &other) return *this;
    Drop();
    placed_ = other.placed_;
    lease_until_ = other.lease_until_;
    soon_ = other.soon_;
    held_ = std::exchange(other.held_, false);
    return *this;
  }
  ~FreeItem() { Drop(); }

  bool held() const { return held_; }
  const Placed& placed() const { return placed_; }
  int64_t lease_until() const { return lease_until_; }
  bool soon() const { return soon_; }
  // The caller takes the extents.
  Placed Take() {
    held_ = false;
    return placed_;
  }

 private:
  void Drop() {
    if (std::exchange(held_, false)) placed_.DropList();
  }

  Placed placed_;
  int64_t lease_until_ = 0;
  bool soon_ = false;
  bool held_ = false;
};

}  // namespace mmc::meta
