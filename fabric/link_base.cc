#include "fabric/link_base.h"

#include <utility>

#include "fabric/ops.h"
#include "fabric/transfer_pool.h"

namespace mmc::fabric {

Status LinkBase::Enter(TimePoint deadline) {
  if (std::chrono::steady_clock::now() >= deadline) {
    return Status(Code::kDeadline, "the deadline had passed before the transfer began");
  }
  MutexLock lock(mutex_);
  if (closed_) return Status(Code::kClosed, "the link is closed");
  // Checked under the lock: whoever breaks the link and then waits for idle sees this transfer, or it sees the break.
  if (broken()) return Status(Code::kPeerUnreachable, "the link is broken; connect again");
  ++running_;
  return Status::Ok();
}

void LinkBase::Leave() {
  MutexLock lock(mutex_);
  if (--running_ == 0) idle_.NotifyAll();
}

void LinkBase::WaitIdle() {
  MutexLock lock(mutex_);
  while (running_ > 0) idle_.Wait(mutex_);
}

Status LinkBase::Run(Work work) {
  MMC_ASSIGN_OR_RETURN(work.total, CheckOps(work.direction, work.ops));
  MMC_RETURN_IF_ERROR(Enter(work.deadline));
  Status status = Transfer(work);
  Leave();
  return status;
}

Status LinkBase::Execute(Direction direction, std::span<const Op> ops, TimePoint deadline) {
  return Run({direction, ops, 0, deadline});
}

Status LinkBase::ExecuteShown(Direction direction, std::span<const Op> ops, ByteObserver& observer,
                              TimePoint deadline) {
  if (!observes()) return Link::ExecuteShown(direction, ops, observer, deadline);
  return Run({direction, ops, 0, deadline, &observer});
}

Status LinkBase::Submit(Direction direction, std::vector<Op> ops, TimePoint deadline, Completion done) {
  MMC_RETURN_IF_ERROR(CheckOps(direction, ops).status());
  {
    MutexLock lock(mutex_);
    if (closed_) return Status(Code::kClosed, "the link is closed");
  }
  auto self = shared_from_this();
  auto run = [link = self.get(), direction, list = std::move(ops), deadline,
              completion = std::move(done)](bool cancelled) {
    completion(cancelled ? Status(Code::kClosed, "the link was closed before the transfer began")
                         : link->Execute(direction, list, deadline));
  };
  return TransferPool::Shared().Push({std::static_pointer_cast<void>(std::move(self)), std::move(run)});
}

void LinkBase::Close() {
  {
    MutexLock lock(mutex_);
    closed_ = true;
  }
  Break();
  TransferPool::Shared().Cancel(static_cast<const void*>(this));
  {
    MutexLock lock(mutex_);
    while (running_ > 0) idle_.Wait(mutex_);
    if (std::exchange(released_, true)) return;
  }
  OnClosed();
}

LinkCounters LinkBase::counters() const {
  return {transfers_.load(), steps_.load(), pieces_.load(), requests_.load(), bytes_.load()};
}

void LinkBase::Count(uint64_t steps, uint64_t pieces, uint64_t requests, uint64_t bytes) {
  transfers_.fetch_add(1, std::memory_order_relaxed);
  steps_.fetch_add(steps, std::memory_order_relaxed);
  pieces_.fetch_add(pieces, std::memory_order_relaxed);
  requests_.fetch_add(requests, std::memory_order_relaxed);
  bytes_.fetch_add(bytes, std::memory_order_relaxed);
}

}  // namespace mmc::fabric
