// Who the pool's memory belongs to: the counters, limits and fair shares of all tenants.
//
// A tenant has a slot from its first session, or its first object after a start, for as long as the service runs.
// Slot 0 is the default tenant.
//
// What a tenant holds is counted from the grant until the space is free again: an object that was removed and waits
// for a lease that its reader keeps counts as well, or a quota could be passed by removing what is leased.
//
// A tenant's share of the pool is what it may hold before others may push it out: its quota, or, without one, an equal
// part of what the quotas of the tenants that are here leave (at least 1 % of the pool). Shares that would add up to
// more than the pool are all cut by the same factor.
//
// Thread safety: all methods from any thread; counters are atomics, its lock is taken inside all others.
// Ownership: owns the tenants, which live as long as it.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "common/base/mutex.h"
#include "common/base/status.h"
#include "meta_service/state/free_item.h"
#include "meta_service/state/types.h"

namespace mmc::meta {

struct alignas(64) Tenant {
  static constexpr uint64_t kNoLimit = UINT64_MAX;

  explicit Tenant(std::string_view n) : name(n) {}

  // False, and nothing counted: the quota does not allow it.
  bool TryCharge(uint64_t units) {
    const uint64_t limit = limit_units.load(std::memory_order_relaxed);
    if (held_units.fetch_add(units, std::memory_order_relaxed) + units <= limit) return true;
    held_units.fetch_sub(units, std::memory_order_relaxed);
    return false;
  }
  // For what is there already.
  void Charge(uint64_t units) { held_units.fetch_add(units, std::memory_order_relaxed); }
  void Uncharge(uint64_t units) { held_units.fetch_sub(units, std::memory_order_relaxed); }
  // Given up, on its way to be free. `soon` as in FreeItem.
  void Detached(uint64_t units, bool soon) {
    waiting_units.fetch_add(units, std::memory_order_relaxed);
    if (soon) soon_units.fetch_add(units, std::memory_order_relaxed);
  }
  void Freed(uint64_t units, bool soon) {
    waiting_units.fetch_sub(units, std::memory_order_relaxed);
    if (soon) soon_units.fetch_sub(units, std::memory_order_relaxed);
    Uncharge(units);
  }
  // In use by objects and grants.
  uint64_t live_units() const {
    const uint64_t waiting = waiting_units.load(std::memory_order_relaxed);
    const uint64_t held = held_units.load(std::memory_order_relaxed);
    return held > waiting ? held - waiting : 0;
  }

  const std::string name;  // empty: the default tenant
  std::atomic<uint64_t> limit_units{kNoLimit};
  std::atomic<uint64_t> held_units{0}, objects{0}, value_bytes{0}, grants{0}, pins{0};
  std::atomic<uint64_t> waiting_units{0}, soon_units{0}, sessions{0};
  std::atomic<uint64_t> evicted_objects{0}, evicted_bytes{0};
  std::atomic<uint32_t> waiting_puts{0};  // calls
};

class Tenants {
 public:
  static constexpr uint32_t kMaxTenants = 1024;

  explicit Tenants(std::vector<TenantQuota> quotas);
  Tenants(const Tenants&) = delete;
  Tenants& operator=(const Tenants&) = delete;

  // Makes it when it is not there. Errors: kQueueFull (kMaxTenants are there).
  Result<uint16_t> SlotOf(std::string_view name);
  // REQUIRES: the slot was given by SlotOf, or is 0.
  Tenant& At(uint16_t slot) const { return *slots_[slot].load(std::memory_order_acquire); }
  uint16_t count() const { return count_.load(std::memory_order_acquire); }

  // Quotas that are percentages follow the size of the pool.
  void SetPool(uint64_t units);

  // Space on its way: counts for whoever the item names.
  void Freed(const FreeItem& item) const {
    if (item.tenant() != FreeItem::kNoTenant) At(item.tenant()).Freed(item.placed().units(), item.soon());
  }

  // How much of its share a tenant holds; who is at the front gives up first.
  struct Turn {
    uint16_t tenant = 0;
    double used = 0, share = 1;  // units
    double ratio() const { return used / share; }
  };
  // Of all that hold something, and of `asker` (count(): nobody), which holds `asks` units more.
  std::vector<Turn> Turns(uint16_t asker, uint64_t asks) const;

  std::vector<TenantFigures> figures() const;

 private:
  uint16_t Add(std::string_view name) MMC_REQUIRES(mutex_);
  const TenantQuota* QuotaOf(std::string_view name) const;
  void SetLimit(Tenant& tenant) const;

  const std::vector<TenantQuota> quotas_;
  std::atomic<uint64_t> pool_units_{0};
  std::atomic<uint16_t> count_{0};
  std::array<std::atomic<Tenant*>, kMaxTenants> slots_{};
  mutable Mutex mutex_;
  std::vector<std::unique_ptr<Tenant>> owned_ MMC_GUARDED_BY(mutex_);
  std::unordered_map<std::string, uint16_t> by_name_ MMC_GUARDED_BY(mutex_);
};

}  // namespace mmc::meta
