#include "client_sdk/python/src/live.h"

#include <utility>
#include <vector>

#include "common/base/mutex.h"

namespace mmc::python {
namespace {

struct List {
  Mutex mutex;
  std::vector<std::pair<Rank, std::weak_ptr<Endable>>> entries MMC_GUARDED_BY(mutex);
};

// Never destroyed: clients may end after static objects.
List& list() {
  static List* const kept = new List();
  return *kept;
}

}  // namespace

void NoteLive(Rank rank, const std::shared_ptr<Endable>& what) {
  MutexLock lock(list().mutex);
  std::erase_if(list().entries, [](const auto& entry) { return entry.second.expired(); });
  list().entries.emplace_back(rank, what);
}

void EndAll() {
  for (const Rank rank : {Rank::kClient, Rank::kNode, Rank::kMeta}) {
    std::vector<std::shared_ptr<Endable>> live;
    {
      MutexLock lock(list().mutex);
      for (const auto& [its_rank, weak] : list().entries) {
        if (its_rank != rank) continue;
        if (auto held = weak.lock()) live.push_back(std::move(held));
      }
    }
    for (const auto& one : live) one->End();
  }
}

}  // namespace mmc::python
