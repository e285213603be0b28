#include "meta_service/state/tenants.h"

#include <algorithm>
#include <utility>

namespace mmc::meta {

namespace {
constexpr double kLeastShare = 0.01;  // of the pool
}  // namespace

Tenants::Tenants(std::vector<TenantQuota> quotas) : quotas_(std::move(quotas)) {
  MutexLock lock(mutex_);
  Add("");
}

const TenantQuota* Tenants::QuotaOf(std::string_view name) const {
  const TenantQuota* found = nullptr;
  for (const TenantQuota& quota : quotas_) {
    if (quota.tenant == name) return &quota;
    if (quota.tenant == "*") found = &quota;
  }
  return found;
}

void Tenants::SetLimit(Tenant& tenant) const {
  const TenantQuota* quota = QuotaOf(tenant.name);
  if (quota == nullptr) return;
  const uint64_t units = quota->percent != 0 ? pool_units_.load(std::memory_order_relaxed) * quota->percent / 100
                                             : quota->bytes / kUnitBytes;
  tenant.limit_units.store(units, std::memory_order_relaxed);
}

uint16_t Tenants::Add(std::string_view name) {
  const auto slot = static_cast<uint16_t>(owned_.size());
  owned_.push_back(std::make_unique<Tenant>(name));
  by_name_.emplace(name, slot);
  SetLimit(*owned_.back());
  slots_[slot].store(owned_.back().get(), std::memory_order_release);
  count_.store(static_cast<uint16_t>(owned_.size()), std::memory_order_release);
  return slot;
}

Result<uint16_t> Tenants::SlotOf(std::string_view name) {
  if (name.empty()) return uint16_t{0};
  MutexLock lock(mutex_);
  const auto it = by_name_.find(std::string(name));
  if (it != by_name_.end()) return it->second;
  if (owned_.size() >= kMaxTenants) {
    return Status(Code::kQueueFull, std::to_string(kMaxTenants) + " tenants are known, '" + std::string(name) +
                                        "' is one too many: restart the meta service to forget those that are gone");
  }
  return Add(name);
}

void Tenants::SetPool(uint64_t units) {
  if (quotas_.empty() && count() == 1) {
    pool_units_.store(units, std::memory_order_relaxed);
    return;
  }
  MutexLock lock(mutex_);
  if (pool_units_.exchange(units, std::memory_order_relaxed) == units) return;
  for (const auto& tenant : owned_) SetLimit(*tenant);
}

std::vector<Tenants::Turn> Tenants::Turns(uint16_t asker, uint64_t asks) const {
  const double pool = std::max<double>(1, static_cast<double>(pool_units_.load(std::memory_order_relaxed)));
  std::vector<Turn> turns;
  double quotas = 0;
  size_t without = 0;
  for (uint16_t slot = 0; slot < count(); ++slot) {
    const Tenant& tenant = At(slot);
    const uint64_t used = tenant.live_units() + (slot == asker ? asks : 0);
    if (used == 0) continue;
    const uint64_t limit = tenant.limit_units.load(std::memory_order_relaxed);
    Turn turn{.tenant = slot, .used = static_cast<double>(used), .share = 0};
    if (limit == Tenant::kNoLimit) {
      ++without;
    } else {
      turn.share = std::max(1.0, std::min(pool, static_cast<double>(limit)));
      quotas += turn.share;
    }
    turns.push_back(turn);
  }
  if (without > 0) {
    const double part = std::max(pool * kLeastShare, (pool - quotas) / static_cast<double>(without));
    for (Turn& turn : turns) turn.share = turn.share == 0 ? part : turn.share;
    quotas += part * static_cast<double>(without);
  }
  const double cut = quotas > pool ? pool / quotas : 1;
  for (Turn& turn : turns) turn.share *= cut;
  return turns;
}

std::vector<TenantFigures> Tenants::figures() const {
  const auto read = [](const std::atomic<uint64_t>& value) { return value.load(std::memory_order_relaxed); };
  std::vector<TenantFigures> all;
  for (uint16_t slot = 0; slot < count(); ++slot) {
    const Tenant& tenant = At(slot);
    const uint64_t limit = read(tenant.limit_units);
    all.push_back({.name = tenant.name,
                   .objects = read(tenant.objects),
                   .value_bytes = read(tenant.value_bytes),
                   .used_bytes = read(tenant.held_units) * kUnitBytes,
                   .waiting_bytes = read(tenant.waiting_units) * kUnitBytes,
                   .quota_bytes = limit == Tenant::kNoLimit ? 0 : limit * kUnitBytes,
                   .sessions = read(tenant.sessions),
                   .grants = read(tenant.grants),
                   .pins = read(tenant.pins),
                   .evicted_objects = read(tenant.evicted_objects),
                   .evicted_bytes = read(tenant.evicted_bytes)});
  }
  return all;
}

}  // namespace mmc::meta
