// Where async handlers wait for something to change in the state.
//
// An event count: take ticket(), try, and when that was in vain Wait(ticket): a Wake() in between
// is not missed. Deadlines are those of the service's clock and are noticed by Expire(), which the
// background thread calls.
//
// Thread safety: all methods from any thread; a waiting coroutine resumes on its own executor,
// never inside Wake(). Ownership: holds the handlers of those that wait; Close() before the
// executor goes.
#pragma once

#include <array>
#include <atomic>
#include <boost/asio/awaitable.hpp>
#include <functional>
#include <memory>
#include <vector>

#include "common/base/clock.h"
#include "common/base/mutex.h"
#include "meta_service/state/meta_state.h"

namespace mmc::meta {

class WaitQueue {
 public:
  uint64_t ticket() const { return wakes_.load(); }
  // Returns at the next Wake() after `ticket` was taken, at the deadline, or when closed.
  boost::asio::awaitable<void> Wait(uint64_t ticket, TimePoint deadline);
  void Wake();
  void Expire(TimePoint now);
  void Close();  // nobody waits any more, now or later
  size_t waiting() const { return waiting_.load(); }

 private:
  struct Waiter {
    TimePoint deadline;
    std::function<void()> resume;
  };
  void Park(uint64_t ticket, TimePoint deadline, std::function<void()> resume);
  std::vector<Waiter> TakeAll();

  std::atomic<uint64_t> wakes_{0};
  std::atomic<size_t> waiting_{0};
  Mutex mutex_;
  bool closed_ MMC_GUARDED_BY(mutex_) = false;
  std::vector<Waiter> waiters_ MMC_GUARDED_BY(mutex_);
};

// The queues of one service, woken by its state.
class Waiters final : public StateListener {
 public:
  void OnSpace() override { space_.Wake(); }
  void OnKeys() override { keys_.Wake(); }
  void OnFeed(uint32_t node) override { feed(node).Wake(); }
  void OnAcked(uint32_t node) override { acked(node).Wake(); }

  WaitQueue& space() { return space_; }
  WaitQueue& keys() { return keys_; }
  // Shared by some nodes (their ids come from outside, so there is no queue per id): a wait may end
  // for nothing.
  WaitQueue& feed(uint32_t node) { return feeds_[node % kFeedQueues]; }
  WaitQueue& acked(uint32_t node) { return acked_[node % kFeedQueues]; }
  void Expire(TimePoint now);
  void Close();
  bool closed() const { return closed_.load(); }

 private:
  static constexpr uint32_t kFeedQueues = 64;
  WaitQueue space_, keys_;
  std::array<WaitQueue, kFeedQueues> feeds_, acked_;
  std::atomic<bool> closed_{false};
};

}  // namespace mmc::meta
