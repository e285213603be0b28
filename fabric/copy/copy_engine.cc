#include "fabric/copy/copy_engine.h"
#include "common/base/thread.h"

#include <algorithm>
#include <atomic>

namespace mmc::fabric {
namespace {

constexpr uint64_t kShareBytes = 256 << 10;   // what a helper takes at a time
constexpr uint64_t kWorthSplitting = 1 << 20;  // below, waking a thread costs more than it saves

}  // namespace

// A list being copied by several threads: shares are numbered over the pieces, each thread takes the next one.
struct CopyEngine::Job {
  std::span<const CopyPiece> pieces;
  std::atomic<uint64_t> next{0};  // share = piece index << 32 | share within the piece
  int active = 0;                 // helpers inside; guarded by the engine's mutex

  void Work() {
    uint64_t at = next.load(std::memory_order_relaxed);
    for (;;) {
      const uint64_t piece = at >> 32;
      if (piece >= pieces.size()) return;
      const uint64_t offset = (at & 0xffffffffu) * kShareBytes;
      const CopyPiece& p = pieces[piece];
      const bool last = p.length - offset <= kShareBytes;
      const uint64_t following = last ? (piece + 1) << 32 : at + 1;
      if (!next.compare_exchange_weak(at, following, std::memory_order_relaxed)) continue;
      CopyBytes(p.to + offset, p.from + offset, last ? p.length - offset : kShareBytes);
      at = next.load(std::memory_order_relaxed);
    }
  }
};

CopyEngine::CopyEngine(int helpers) : helpers_(std::clamp(helpers, 0, 64)) {}

CopyEngine::~CopyEngine() {
  std::vector<std::thread> threads;
  {
    MutexLock lock(mutex_);
    stop_ = true;
    threads.swap(threads_);
    wake_.NotifyAll();
  }
  for (auto& thread : threads) thread.join();
}

void CopyEngine::StartHelpers() {
  while (static_cast<int>(threads_.size()) < helpers_) {
    threads_.push_back(StartThread([this] { HelperMain(); }));
  }
}

void CopyEngine::Copy(std::span<const CopyPiece> pieces, uint64_t total) {
  if (helpers_ == 0 || total < kWorthSplitting) {
    for (const CopyPiece& piece : pieces) CopyBytes(piece.to, piece.from, piece.length);
    return;
  }
  Job job;
  job.pieces = pieces;
  {
    MutexLock lock(mutex_);
    StartHelpers();
    jobs_.push_back(&job);
    wake_.NotifyAll();
  }
  job.Work();
  MutexLock lock(mutex_);
  std::erase(jobs_, &job);
  while (job.active > 0) left_.Wait(mutex_);
}

void CopyEngine::HelperMain() {
  MutexLock lock(mutex_);
  for (;;) {
    while (!stop_ && jobs_.empty()) wake_.Wait(mutex_);
    if (stop_) return;
    Job* job = jobs_.front();
    ++job->active;
    mutex_.unlock();
    job->Work();
    mutex_.lock();
    // Nothing is left to take: off the list, or this thread would spin on it until its owner returns.
    std::erase(jobs_, job);
    if (--job->active == 0) left_.NotifyAll();
  }
}

}  // namespace mmc::fabric
