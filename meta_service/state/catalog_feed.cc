#include "meta_service/state/catalog_feed.h"

#include <utility>

namespace mmc::meta {

namespace {
constexpr size_t kMaxPollBytes = 8u << 20;  // of one answer, about: far below the frame's limit
}  // namespace

uint64_t CatalogFeed::fences_waiting() const {
  MutexLock lock(mutex_);
  return fences_.size();
}

bool CatalogFeed::Push(CatalogEntry entry) {
  entry.seq = next_seq_++;
  entries_.push_back(std::move(entry));
  queued_.fetch_add(1, std::memory_order_relaxed);
  return TakePoller();
}

void CatalogFeed::Hold() {
  MutexLock lock(mutex_);
  held_ = true;
}

bool CatalogFeed::Flow() {
  MutexLock lock(mutex_);
  if (std::exchange(held_, false)) flow_seq_ = next_seq_ - 1;
  return TakePoller();
}

bool CatalogFeed::Settled(uint64_t seq) const {
  MutexLock lock(mutex_);
  if (seq == kAllBeforeFlow) return closed_ || (!held_ && acked_seq_ >= flow_seq_);
  return closed_ || acked_seq_ >= seq;
}

uint64_t CatalogFeed::Forgetting(const std::function<bool(std::string_view key)>& of) const {
  MutexLock lock(mutex_);
  if (closed_) return 0;
  if (held_) return kAllBeforeFlow;
  for (auto entry = entries_.rbegin(); entry != entries_.rend(); ++entry) {
    if (entry->forget && of(entry->key)) return entry->seq;
  }
  return 0;
}

uint64_t CatalogFeed::last_seq() const {
  MutexLock lock(mutex_);
  return next_seq_ - 1;
}

bool CatalogFeed::Add(CatalogEntry entry, uint64_t* seq) {
  MutexLock lock(mutex_);
  if (closed_) return false;
  const bool wake = Push(std::move(entry));
  *seq = next_seq_ - 1;
  return wake;
}

bool CatalogFeed::Forget(CatalogEntry entry, FreeItem* item, uint64_t* seq) {
  MutexLock lock(mutex_);
  if (closed_) return false;
  const bool wake = Push(std::move(entry));
  *seq = next_seq_ - 1;
  if (item != nullptr) waiting_.push_back({*seq, std::move(*item)});
  return wake;
}

bool CatalogFeed::AwaitFence(uint64_t session, FreeItem* item) {
  MutexLock lock(mutex_);
  if (closed_) return false;
  fences_[session].items.push_back(std::move(*item));
  return TakePoller();
}

void CatalogFeed::AwaitAck(uint64_t seq, FreeItem* item) {
  MutexLock lock(mutex_);
  if (closed_ || seq <= acked_seq_) return;
  late_.emplace(seq, std::move(*item));
}

Status CatalogFeed::Poll(uint64_t acked_seq, std::span<const uint64_t> fenced, size_t max_entries,
                         CatalogBatch* out, std::vector<FreeItem>* freed, bool* acked_more) {
  MutexLock lock(mutex_);
  if (acked_seq >= next_seq_) {
    return Status(Code::kInvalidArgument, "acked_seq " + std::to_string(acked_seq) +
                                              " was never sent, the last is " +
                                              std::to_string(next_seq_ - 1));
  }
  *acked_more = acked_seq > acked_seq_;
  if (*acked_more) acked_seq_ = acked_seq;
  while (!entries_.empty() && entries_.front().seq <= acked_seq_) {
    entries_.pop_front();
    queued_.fetch_sub(1, std::memory_order_relaxed);
  }
  for (; !waiting_.empty() && waiting_.front().seq <= acked_seq_; waiting_.pop_front()) {
    freed->push_back(std::move(waiting_.front().item));
  }
  for (auto it = late_.begin(); it != late_.end() && it->first <= acked_seq_;
       it = late_.erase(it)) {
    freed->push_back(std::move(it->second));
  }
  for (uint64_t session : fenced) {
    auto it = fences_.find(session);
    if (it == fences_.end() || !it->second.sent) continue;
    for (FreeItem& item : it->second.items) freed->push_back(std::move(item));
    fences_.erase(it);
  }
  out->fresh = !held_ && !entries_.empty();
  size_t bytes = 0;
  for (size_t i = 0; !held_ && i < entries_.size() && i < max_entries && bytes < kMaxPollBytes;
       ++i) {
    out->entries.push_back(entries_[i]);
    bytes += entries_[i].key.size() + 48 + entries_[i].others.size() * 16;
  }
  for (auto& [session, fence] : fences_) {
    out->fences.push_back(session);
    if (!std::exchange(fence.sent, true)) out->fresh = true;
  }
  poller_waits_ = !out->fresh;
  return Status::Ok();
}

void CatalogFeed::Close(std::vector<FreeItem>* freed) {
  MutexLock lock(mutex_);
  closed_ = true;
  for (Waiting& waiting : waiting_) freed->push_back(std::move(waiting.item));
  for (auto& [seq, item] : late_) freed->push_back(std::move(item));
  for (auto& [session, fence] : fences_) {
    for (FreeItem& item : fence.items) freed->push_back(std::move(item));
  }
  waiting_.clear();
  late_.clear();
  fences_.clear();
  entries_.clear();
  queued_.store(0, std::memory_order_relaxed);
}

}  // namespace mmc::meta
