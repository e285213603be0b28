#include "client_sdk/src/async_pool.h"

#include "common/base/thread.h"

namespace mmc::client {

Status AsyncPool::Submit(std::function<void()> job) {
  MutexLock lock(mutex_);
  if (closed_) return Status(Code::kClosed, "the client is closed");
  if (queue_.size() >= max_queue_) {
    return Status(Code::kQueueFull,
                  std::to_string(max_queue_) + " asynchronous calls wait already; wait for some");
  }
  queue_.push_back(std::move(job));
  if (queue_.size() > static_cast<size_t>(idle_) &&
      threads_.size() < static_cast<size_t>(max_threads_)) {
    threads_.push_back(StartThread([this] { Run(); }));
  }
  wake_.NotifyOne();
  return Status::Ok();
}

void AsyncPool::Run() {
  while (true) {
    std::function<void()> job;
    {
      MutexLock lock(mutex_);
      ++idle_;
      while (queue_.empty() && !closed_) wake_.Wait(mutex_);
      --idle_;
      if (queue_.empty()) return;
      job = std::move(queue_.front());
      queue_.pop_front();
    }
    job();
  }
}

void AsyncPool::Close() {
  std::vector<std::thread> threads;
  {
    MutexLock lock(mutex_);
    closed_ = true;
    threads.swap(threads_);
    wake_.NotifyAll();
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace mmc::client
