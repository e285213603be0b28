// What every link does alike: checking ops, submitting, counting, closing only when no transfer runs.
//
// Thread safety: all methods from any thread. Ownership: made by std::make_shared; waiting transfers keep it alive.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "common/base/mutex.h"
#include "fabric/transport.h"

namespace mmc::fabric {

class LinkBase : public Link, public std::enable_shared_from_this<LinkBase> {
 public:
  Status Execute(Direction direction, std::span<const Op> ops, TimePoint deadline) final;
  Status ExecuteShown(Direction direction, std::span<const Op> ops, ByteObserver& observer, TimePoint deadline) final;
  Status Submit(Direction direction, std::vector<Op> ops, TimePoint deadline, Completion done) final;
  const std::byte* View(RegionRef, uint64_t, uint64_t) override { return nullptr; }
  bool alive() const override { return !broken_.load(std::memory_order_acquire); }
  void Close() final;
  LinkCounters counters() const final;

 protected:
  // One call.
  struct Work {
    Direction direction;
    std::span<const Op> ops;
    uint64_t total;  // bytes
    TimePoint deadline;
    ByteObserver* observer = nullptr;  // of links that observe
  };
  // Moves checked ops. Never runs after OnClosed.
  virtual Status Transfer(const Work& work) = 0;
  // Runs once, after the last transfer: lets go of sockets and threads. Derived destructors call Close().
  virtual void OnClosed() = 0;

  // No transfer begins any more; running ones look at broken().
  void Break() { broken_.store(true, std::memory_order_release); }
  bool broken() const { return broken_.load(std::memory_order_acquire); }
  // Waits until no transfer runs. Called after Break().
  void WaitIdle() MMC_EXCLUDES(mutex_);
  void Count(uint64_t steps, uint64_t pieces, uint64_t requests, uint64_t bytes);

 private:
  Status Run(Work work);
  Status Enter(TimePoint deadline) MMC_EXCLUDES(mutex_);
  void Leave() MMC_EXCLUDES(mutex_);

  std::atomic<bool> broken_{false};
  Mutex mutex_;
  CondVar idle_;
  bool closed_ MMC_GUARDED_BY(mutex_) = false;
  bool released_ MMC_GUARDED_BY(mutex_) = false;
  uint64_t running_ MMC_GUARDED_BY(mutex_) = 0;

  std::atomic<uint64_t> transfers_{0};
  std::atomic<uint64_t> steps_{0};
  std::atomic<uint64_t> pieces_{0};
  std::atomic<uint64_t> requests_{0};
  std::atomic<uint64_t> bytes_{0};
};

}  // namespace mmc::fabric
