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
  static constexpr uint16_t kNoTenant = 0xFFFF;

  FreeItem() = default;
  // `soon`: nothing but the catalog's acknowledgement is in the way. `tenant`: whose it counts as, until it is free.
  FreeItem(Placed placed, int64_t lease_until, bool soon, uint16_t tenant = kNoTenant)
      : placed_(placed), lease_until_(lease_until), tenant_(tenant), soon_(soon), held_(true) {}
  FreeItem(FreeItem&& other) noexcept { *this = std::move(other); }
  FreeItem& operator=(FreeItem&& other) noexcept {
    if (this == &other) return *this;
    Drop();
    placed_ = other.placed_;
    lease_until_ = other.lease_until_;
    tenant_ = other.tenant_;
    soon_ = other.soon_;
    held_ = std::exchange(other.held_, false);
    return *this;
  }
  ~FreeItem() { Drop(); }

  bool held() const { return held_; }
  const Placed& placed() const { return placed_; }
  int64_t lease_until() const { return lease_until_; }
  bool soon() const { return soon_; }
  uint16_t tenant() const { return tenant_; }
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
  uint16_t tenant_ = kNoTenant;
  bool soon_ = false;
  bool held_ = false;
};

}  // namespace mmc::meta
