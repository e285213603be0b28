// Least recently used: one doubly linked list per tenant and segment through the replicas themselves.
#include <vector>

#include "meta_service/state/eviction_policy.h"

namespace mmc::meta {

namespace {

class LruPolicy final : public EvictionPolicy {
 public:
  void Insert(Replica* replica) override {
    const uint16_t tenant = Object::Of(replica)->tenant;
    if (tenant >= lists_.size()) lists_.resize(tenant + size_t{1});
    std::vector<List>& lists = lists_[tenant];
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

  Replica* Victim(uint16_t tenant, uint32_t segment) override {
    if (tenant >= lists_.size() || segment >= lists_[tenant].size()) return nullptr;
    return lists_[tenant][segment].oldest;
  }

  Replica* VictimOf(uint16_t tenant) override {
    if (tenant >= lists_.size()) return nullptr;
    Replica* oldest = nullptr;
    for (const List& list : lists_[tenant]) {
      if (list.oldest == nullptr) continue;
      if (oldest == nullptr || Object::Of(list.oldest)->stamp < Object::Of(oldest)->stamp) oldest = list.oldest;
    }
    return oldest;
  }

  Replica* AnyIn(uint32_t segment) override {
    for (const std::vector<List>& lists : lists_) {
      if (segment < lists.size() && lists[segment].oldest != nullptr) return lists[segment].oldest;
    }
    return nullptr;
  }

  void Move(Replica* from, Replica* to) override {
    List& list = ListOf(from);
    (from->newer != nullptr ? from->newer->older : list.newest) = to;
    (from->older != nullptr ? from->older->newer : list.oldest) = to;
  }

  uint64_t MetadataBytes() const override {
    uint64_t bytes = lists_.capacity() * sizeof(lists_[0]);
    for (const std::vector<List>& lists : lists_) bytes += lists.capacity() * sizeof(List);
    return bytes;
  }

 private:
  struct List {
    Replica* oldest = nullptr;
    Replica* newest = nullptr;
  };

  List& ListOf(Replica* replica) { return lists_[Object::Of(replica)->tenant][replica->placed.segment]; }

  void PushNewest(Replica* replica) {
    List& list = ListOf(replica);
    replica->newer = nullptr;
    replica->older = list.newest;
    (list.newest != nullptr ? list.newest->newer : list.oldest) = replica;
    list.newest = replica;
  }

  std::vector<std::vector<List>> lists_;  // by tenant, by segment slot
};

}  // namespace

bool KnownEvictionPolicy(std::string_view name) { return name == "lru"; }

std::unique_ptr<EvictionPolicy> MakeEvictionPolicy(std::string_view) {
  return std::make_unique<LruPolicy>();
}

}  // namespace mmc::meta
