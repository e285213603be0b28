// Mutex and condition variable that clang's thread-safety analysis understands (-Wthread-safety).
// Write what guards what: `int n_ MMC_GUARDED_BY(mutex_);`, `void F() MMC_REQUIRES(mutex_);`.
//
// Thread safety: that is what they are for. Not recursive.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>

#if defined(__clang__)
#define MMC_TSA(x) __attribute__((x))
#else
#define MMC_TSA(x)
#endif

#define MMC_GUARDED_BY(x) MMC_TSA(guarded_by(x))
#define MMC_PT_GUARDED_BY(x) MMC_TSA(pt_guarded_by(x))
#define MMC_REQUIRES(...) MMC_TSA(requires_capability(__VA_ARGS__))
#define MMC_EXCLUDES(...) MMC_TSA(locks_excluded(__VA_ARGS__))
#define MMC_ACQUIRE(...) MMC_TSA(acquire_capability(__VA_ARGS__))
#define MMC_RELEASE(...) MMC_TSA(release_capability(__VA_ARGS__))
#define MMC_TRY_ACQUIRE(...) MMC_TSA(try_acquire_capability(__VA_ARGS__))
#define MMC_NO_THREAD_SAFETY_ANALYSIS MMC_TSA(no_thread_safety_analysis)

namespace mmc {

class MMC_TSA(capability("mutex")) Mutex {
 public:
  void lock() MMC_ACQUIRE() { mutex_.lock(); }
  void unlock() MMC_RELEASE() { mutex_.unlock(); }
  bool try_lock() MMC_TRY_ACQUIRE(true) { return mutex_.try_lock(); }

 private:
  friend class CondVar;
  std::mutex mutex_;
};

class MMC_TSA(scoped_lockable) MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) MMC_ACQUIRE(mutex) : mutex_(mutex) { mutex_.lock(); }
  ~MutexLock() MMC_RELEASE() { mutex_.unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex& mutex_;
};

class CondVar {
 public:
  // May wake spuriously: call in a loop over the condition, or use the deadline's result only as a hint.
  void Wait(Mutex& mutex) MMC_REQUIRES(mutex) {
    std::unique_lock<std::mutex> lock(mutex.mutex_, std::adopt_lock);
    cv_.wait(lock);
    lock.release();
  }
  // False when the deadline has passed.
  bool WaitUntil(Mutex& mutex, std::chrono::steady_clock::time_point deadline) MMC_REQUIRES(mutex) {
    std::unique_lock<std::mutex> lock(mutex.mutex_, std::adopt_lock);
    const bool in_time = cv_.wait_until(lock, deadline) == std::cv_status::no_timeout;
    lock.release();
    return in_time;
  }
  void NotifyOne() { cv_.notify_one(); }
  void NotifyAll() { cv_.notify_all(); }

 private:
  std::condition_variable cv_;
};

}  // namespace mmc
