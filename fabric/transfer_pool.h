// The threads that carry submitted transfers: one small bounded pool for all links of the process.
//
// Thread safety: all methods from any thread. Ownership: a waiting task keeps its owner alive.
#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "common/base/mutex.h"
#include "common/base/status.h"

namespace mmc::fabric {

class TransferPool {
 public:
  static constexpr size_t kThreads = 4;
  static constexpr size_t kMaxWaiting = 4096;

  struct Task {
    std::shared_ptr<void> owner;
    std::function<void(bool cancelled)> run;
  };

  // Lives as long as the process; its threads start with the first task.
  static TransferPool& Shared();

  // Errors: kQueueFull (kMaxWaiting tasks wait); the task is not kept.
  Status Push(Task task);
  // Takes the waiting tasks of `owner` out and runs them, cancelled, on this thread.
  void Cancel(const void* owner);

 private:
  TransferPool() = default;
  void WorkerMain();

  Mutex mutex_;
  CondVar wake_;
  size_t threads_ MMC_GUARDED_BY(mutex_) = 0;
  size_t idle_ MMC_GUARDED_BY(mutex_) = 0;
  std::deque<Task> waiting_ MMC_GUARDED_BY(mutex_);
};

}  // namespace mmc::fabric
