#include "fabric/transfer_pool.h"
#include "common/base/thread.h"

#include <string>
#include <thread>
#include <utility>

namespace mmc::fabric {

TransferPool& TransferPool::Shared() {
  // Never destroyed: a link in a static of the application may outlive any static of ours.
  static TransferPool* const pool = new TransferPool();
  return *pool;
}

Status TransferPool::Push(Task task) {
  MutexLock lock(mutex_);
  if (waiting_.size() >= kMaxWaiting) {
    return Status(Code::kQueueFull, std::to_string(kMaxWaiting) + " transfers wait already; try again later");
  }
  waiting_.push_back(std::move(task));
  if (idle_ >= waiting_.size() || threads_ == kThreads) {
    wake_.NotifyOne();
  } else {
    ++threads_;
    StartThread([this] { WorkerMain(); }).detach();
  }
  return Status::Ok();
}

void TransferPool::Cancel(const void* owner) {
  std::vector<Task> taken;
  {
    MutexLock lock(mutex_);
    std::deque<Task> kept;
    for (Task& task : waiting_) {
      if (task.owner.get() == owner) {
        taken.push_back(std::move(task));
      } else {
        kept.push_back(std::move(task));
      }
    }
    waiting_.swap(kept);
  }
  for (Task& task : taken) task.run(true);
}

void TransferPool::WorkerMain() {
  for (;;) {
    Task task;
    {
      MutexLock lock(mutex_);
      ++idle_;
      while (waiting_.empty()) wake_.Wait(mutex_);
      --idle_;
      task = std::move(waiting_.front());
      waiting_.pop_front();
    }
    task.run(false);
  }
}

}  // namespace mmc::fabric
