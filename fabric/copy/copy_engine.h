// Copying between mapped host memory: the fastest way per size, and a bounded set of helper threads for big lists.
//
// Thread safety: CopyBytes and CopyEngine::Copy from any thread, at once. Ownership: an engine owns its threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <thread>
#include <vector>

#include "common/base/mutex.h"
#include "fabric/types.h"

namespace mmc::fabric {

enum class CopyMethod : uint8_t { kMemcpy, kStream, kRepMovsb };

// From this size on non-temporal stores are used (perf/copy_bench). Into memory that is not in the cache they win by
// 30..50 % at every size: memcpy reads each destination line before it writes it, and pushes other data out. Below,
// the destination is often a small buffer that is still cached and read again at once, where memcpy wins.
inline constexpr uint64_t kStreamThreshold = 32 << 10;

// Copies `n` bytes of memory that does not overlap, by the method that wins for `n`. All stores are globally visible
// when it returns. An aligned copy of 8 bytes is one store: a flag written after its data is never seen before it.
void CopyBytes(void* to, const void* from, uint64_t n);
// The same by a given method (benchmarks, tests). A method this CPU lacks becomes the next best.
void CopyBytesWith(CopyMethod method, void* to, const void* from, uint64_t n);

struct CopyPiece {
  std::byte* to = nullptr;
  const std::byte* from = nullptr;
  uint64_t length = 0;
};

// Copies a piece and shows one side of it, `shown`, to `observer`, in order and block by block: the source right before
// a block is copied, the destination right after.
// REQUIRES: `shown` is piece.to or piece.from.
void CopyShown(const CopyPiece& piece, const std::byte* shown, ByteObserver& observer);

class CopyEngine {
 public:
  // `helpers` threads besides the caller; they start with the first list worth splitting.
  explicit CopyEngine(int helpers);
  ~CopyEngine();
  CopyEngine(const CopyEngine&) = delete;
  CopyEngine& operator=(const CopyEngine&) = delete;

  // Copies every piece, in order when there are no helpers. All done, and visible, when it returns.
  void Copy(std::span<const CopyPiece> pieces, uint64_t total);

 private:
  struct Job;
  void HelperMain();
  void StartHelpers() MMC_REQUIRES(mutex_);

  const int helpers_;
  Mutex mutex_;
  CondVar wake_;
  CondVar left_;
  bool stop_ MMC_GUARDED_BY(mutex_) = false;
  std::deque<Job*> jobs_ MMC_GUARDED_BY(mutex_);
  std::vector<std::thread> threads_ MMC_GUARDED_BY(mutex_);
};

}  // namespace mmc::fabric
