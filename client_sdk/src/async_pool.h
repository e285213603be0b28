// A few threads that run the asynchronous calls, with a bounded queue.
//
// Thread safety: all methods from any thread, but Close() not from a job. Ownership: owns its
// threads; they are started by the first job.
#pragma once

#include <deque>
#include <functional>
#include <thread>
#include <vector>

#include "common/base/mutex.h"
#include "common/base/status.h"

namespace mmc::client {

class AsyncPool {
 public:
  AsyncPool(int threads, size_t queue) : max_threads_(threads), max_queue_(queue) {}
  ~AsyncPool() { Close(); }

  // Errors: kQueueFull (too many jobs wait), kClosed; the job is not kept then.
  Status Submit(std::function<void()> job);
  // Runs what waits, then ends the threads. Idempotent.
  void Close();

 private:
  void Run();

  const int max_threads_;
  const size_t max_queue_;
  Mutex mutex_;
  CondVar wake_;
  bool closed_ MMC_GUARDED_BY(mutex_) = false;
  int idle_ MMC_GUARDED_BY(mutex_) = 0;
  std::deque<std::function<void()>> queue_ MMC_GUARDED_BY(mutex_);
  std::vector<std::thread> threads_ MMC_GUARDED_BY(mutex_);
};

}  // namespace mmc::client
