// Space whose catalog record is forgotten and which waits only for its last lease: one bucket per
// 16 ms or so of deadline, O(1) per item beside the (few) buckets.
//
// Thread safety: all methods from any thread. Ownership: owns what waits.
#pragma once

#include <map>
#include <vector>

#include "common/base/clock.h"
#include "common/base/mutex.h"
#include "meta_service/state/free_item.h"

namespace mmc::meta {

class DeferredFree {
 public:
  void Add(FreeItem item) {
    MutexLock lock(mutex_);
    buckets_[(item.lease_until() >> kBucketBits) + 1].push_back(std::move(item));
  }
  // Those whose lease is over (and up to a bucket longer).
  std::vector<FreeItem> TakeDue(TimePoint now) {
    MutexLock lock(mutex_);
    std::vector<FreeItem> due;
    const int64_t bucket = now.time_since_epoch().count() >> kBucketBits;
    for (auto it = buckets_.begin(); it != buckets_.end() && it->first <= bucket;
         it = buckets_.erase(it)) {
      for (FreeItem& item : it->second) due.push_back(std::move(item));
    }
    return due;
  }

 private:
  static constexpr int kBucketBits = 24;  // nanoseconds: 16.8 ms
  Mutex mutex_;
  std::map<int64_t, std::vector<FreeItem>> buckets_ MMC_GUARDED_BY(mutex_);
};

}  // namespace mmc::meta
