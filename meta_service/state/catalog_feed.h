// What one incarnation of a node has still to be told, and the space that waits for it to answer:
// catalog records in order of their sequence numbers, kept until acknowledged; sessions to fence,
// until fenced.
//
// ADD records are bounded (HasRoom); a FORGET is always taken, because each one stands for an
// object that was there.
//
// Thread safety: all methods from any thread. Ownership: owns records and waiting space.
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <span>
#include <string_view>
#include <vector>

#include "common/base/mutex.h"
#include "common/base/status.h"
#include "meta_service/state/free_item.h"
#include "meta_service/state/types.h"

namespace mmc::meta {

class CatalogFeed {
 public:
  CatalogFeed(uint32_t node, uint64_t acked_seq, uint32_t max_records)
      : node_(node), max_records_(max_records), next_seq_(acked_seq + 1), acked_seq_(acked_seq) {}

  uint32_t node() const { return node_; }
  // May be overrun by the few calls that look at the same time.
  bool HasRoom() const { return queued_.load(std::memory_order_relaxed) < max_records_; }
  uint64_t queued() const { return queued_.load(std::memory_order_relaxed); }
  uint64_t fences_waiting() const;

  // Records are kept back until Flow(): the node has still to say what it holds.
  void Hold();
  bool Flow();
  // True when the node's catalog has everything up to `seq`, or there is no such node any more.
  bool Settled(uint64_t seq) const;
  // The newest FORGET of such a key that is not acknowledged; 0: none. While records are kept back: all that come
  // before Flow(), for the node may hold what was removed. Settled() knows what to wait for.
  uint64_t Forgetting(const std::function<bool(std::string_view key)>& of) const;
  // The node has said what it holds, and has everything that it was told about that.
  bool SettledToFlow() const { return Settled(kAllBeforeFlow); }
  // Of the newest record; Settled(it) is true when the catalog has everything.
  uint64_t last_seq() const;

  // Each answers true when a waiting poll must be told.
  bool Add(CatalogEntry entry, uint64_t* seq);
  // `item`, when given, waits for the acknowledgement; it is left with the caller when the feed is
  // closed.
  bool Forget(CatalogEntry entry, FreeItem* item, uint64_t* seq);
  // `item` waits until everything of the session is closed on the node; left with the caller when
  // the feed is closed.
  bool AwaitFence(uint64_t session, FreeItem* item);
  // `item` goes when `seq` is acknowledged; left with the caller when that has been, or the feed is
  // closed.
  void AwaitAck(uint64_t seq, FreeItem* item);

  // What has become free by the acknowledgements goes to `freed`. Errors: kInvalidArgument (an
  // acknowledgement of something that was never sent).
  Status Poll(uint64_t acked_seq, std::span<const uint64_t> fenced, size_t max_entries,
              CatalogBatch* out, std::vector<FreeItem>* freed, bool* acked_more);
  // The node is gone: gives everything that waits to `freed`; the feed takes no more.
  void Close(std::vector<FreeItem>* freed);

 private:
  static constexpr uint64_t kAllBeforeFlow = UINT64_MAX;  // in the place of a sequence number
  struct Waiting {
    uint64_t seq;
    FreeItem item;
  };
  struct Fence {
    bool sent = false;
    std::vector<FreeItem> items;
  };
  bool Push(CatalogEntry entry) MMC_REQUIRES(mutex_);
  bool TakePoller() MMC_REQUIRES(mutex_) { return std::exchange(poller_waits_, false); }

  const uint32_t node_;
  const uint32_t max_records_;
  std::atomic<uint64_t> queued_{0};
  mutable Mutex mutex_;
  bool closed_ MMC_GUARDED_BY(mutex_) = false;
  bool held_ MMC_GUARDED_BY(mutex_) = false;
  uint64_t flow_seq_ MMC_GUARDED_BY(mutex_) = 0;  // the last one that came before Flow()
  bool poller_waits_ MMC_GUARDED_BY(mutex_) = false;
  uint64_t next_seq_ MMC_GUARDED_BY(mutex_);
  uint64_t acked_seq_ MMC_GUARDED_BY(mutex_);
  std::deque<CatalogEntry> entries_ MMC_GUARDED_BY(mutex_);
  std::deque<Waiting> waiting_ MMC_GUARDED_BY(mutex_);  // in order of seq
  std::multimap<uint64_t, FreeItem> late_
      MMC_GUARDED_BY(mutex_);  // came out of order: their pins ended late
  std::map<uint64_t, Fence> fences_ MMC_GUARDED_BY(mutex_);
};

}  // namespace mmc::meta
