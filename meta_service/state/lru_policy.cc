// Least recently used: one doubly linked list per segment through the replicas themselves.
#include <vector>

#include "meta_service/state/eviction_policy.h"

namespace mmc::meta {

namespace {

class LruPolicy final : public EvictionPolicy {
 public:
  void Insert(Replica* replica) override {
    if (replica->placed.segment >= lists_.size()) lists_.resize(replica->placed.segment + 1);
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
    List& list = lists_[replica->placed.segment];
    (replica->newer != nullptr ? replica->newer->older : list.newest) = replica->older;
    (replica->older != nullptr ? replica->older->newer : list.oldest) = replica->newer;
  }

  Replica* Victim(uint32_t segment) override {
    return segment < lists_.size() ? lists_[segment].oldest : nullptr;
  }

  void Move(Replica* from, Replica* to) override {
    List& list = lists_[from->placed.segment];
    (from->newer != nullptr ? from->newer->older : list.newest) = to;
    (from->older != nullptr ? from->older->newer : list.oldest) = to;
  }

  uint64_t MetadataBytes() const override { return lists_.capacity() * sizeof(List); }

 private:
  struct List {
    Replica* oldest = nullptr;
    Replica* newest = nullptr;
  };

  void PushNewest(Replica* replica) {
    List& list = lists_[replica->placed.segment];
    replica->newer = nullptr;
    replica->older = list.newest;
    (list.newest != nullptr ? list.newest->newer : list.oldest) = replica;
    list.newest = replica;
  }

  std::vector<List> lists_;  // by segment slot
};

}  // namespace

bool KnownEvictionPolicy(std::string_view name) { return name == "lru"; }

std::unique_ptr<EvictionPolicy> MakeEvictionPolicy(std::string_view) {
  return std::make_unique<LruPolicy>();
}

}  // namespace mmc::meta
