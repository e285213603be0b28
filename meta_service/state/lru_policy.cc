// Least recently used: one doubly linked list per retention, tenant and segment through the replicas themselves.
#include <array>
#include <vector>

#include "meta_service/state/eviction_policy.h"

namespace mmc::meta {

namespace {

class LruPolicy final : public EvictionPolicy {
 public:
  void Insert(Replica* replica) override {
    const Object* object = Object::Of(replica);
    Tenants& tenants = lists_[object->kept];
    if (object->tenant >= tenants.size()) tenants.resize(object->tenant + size_t{1});
    std::vector<List>& lists = tenants[object->tenant];
    if (replica->placed.segment >= lists.size()) lists.resize(replica->placed.segment + 1);
    PushNewest(replica);
  }

  void Touch(Object* object) override {
    for (uint32_t i = 0; i < object->replica_count; ++i) {
      Replica* replica = object->replicas() + i;
      if (replica->newer == nullptr) continue;  // the newest already
      Erase(replica);
      PushNewest(replica);
    }
  }

  void Erase(Replica* replica) override {
    List& list = ListOf(replica);
    (replica->newer != nullptr ? replica->newer->older : list.newest) = replica->older;
    (replica->older != nullptr ? replica->older->newer : list.oldest) = replica->newer;
  }

  Replica* Victim(uint16_t tenant, Retention retention, uint32_t segment) override {
    const Tenants& tenants = Of(retention);
    if (tenant >= tenants.size() || segment >= tenants[tenant].size()) return nullptr;
    return tenants[tenant][segment].oldest;
  }

  Replica* VictimOf(uint16_t tenant, Retention retention) override {
    const Tenants& tenants = Of(retention);
    if (tenant >= tenants.size()) return nullptr;
    Replica* oldest = nullptr;
    for (const List& list : tenants[tenant]) {
      if (list.oldest == nullptr) continue;
      if (oldest == nullptr || Object::Of(list.oldest)->stamp < Object::Of(oldest)->stamp) oldest = list.oldest;
    }
    return oldest;
  }

  Replica* AnyIn(uint32_t segment) override {
    for (const Tenants& tenants : lists_) {
      for (const std::vector<List>& lists : tenants) {
        if (segment < lists.size() && lists[segment].oldest != nullptr) return lists[segment].oldest;
      }
    }
    return nullptr;
  }

  void Move(Replica* from, Replica* to) override {
    List& list = ListOf(from);
    (from->newer != nullptr ? from->newer->older : list.newest) = to;
    (from->older != nullptr ? from->older->newer : list.oldest) = to;
  }

  uint64_t MetadataBytes() const override {
    uint64_t bytes = 0;
    for (const Tenants& tenants : lists_) {
      bytes += tenants.capacity() * sizeof(tenants[0]);
      for (const std::vector<List>& lists : tenants) bytes += lists.capacity() * sizeof(List);
    }
    return bytes;
  }

 private:
  struct List {
    Replica* oldest = nullptr;
    Replica* newest = nullptr;
  };

  using Tenants = std::vector<std::vector<List>>;  // by tenant, by segment slot

  const Tenants& Of(Retention retention) const { return lists_[static_cast<size_t>(retention)]; }
  List& ListOf(Replica* replica) {
    const Object* object = Object::Of(replica);
    return lists_[object->kept][object->tenant][replica->placed.segment];
  }

  void PushNewest(Replica* replica) {
    List& list = ListOf(replica);
    replica->newer = nullptr;
    replica->older = list.newest;
    (list.newest != nullptr ? list.newest->newer : list.oldest) = replica;
    list.newest = replica;
  }

  std::array<Tenants, kRetentions> lists_;
};

}  // namespace

bool KnownEvictionPolicy(std::string_view name) { return name == "lru"; }

std::unique_ptr<EvictionPolicy> MakeEvictionPolicy(std::string_view) {
  return std::make_unique<LruPolicy>();
}

}  // namespace mmc::meta
