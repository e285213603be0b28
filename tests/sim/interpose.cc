// The threads, locks, waits and clocks of the C library, as this program and all that is linked into it see them: while
// a run is on they are the scheduler's fibers and time; before and after it there is one real thread.
//
// A program's own definition of a symbol takes the place of a shared library's, for the library's callers too. That is
// how the product runs here unchanged: std::thread, std::mutex, std::condition_variable and std::chrono end up below.
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "tests/sim/scheduler.h"

namespace {

using mmc::sim::Abort;
using mmc::sim::Fiber;
using mmc::sim::Nanos;
using mmc::sim::Scheduler;

using mmc::sim::kMonotonicBase;
using mmc::sim::kRealtimeBase;

Nanos FromTimespec(const timespec* time) { return Nanos{time->tv_sec} * mmc::sim::kSecond + time->tv_nsec; }

Fiber* Running() {
  Scheduler* const scheduler = Scheduler::Current();
  return scheduler == nullptr ? nullptr : scheduler->running();
}

void CountLocks(int by) {
  if (Fiber* const fiber = Running()) fiber->locks += static_cast<uint32_t>(by);
}

bool TryLock(pthread_mutex_t* mutex) {
  auto& data = mutex->__data;
  const Fiber* const fiber = Running();
  const int me = fiber == nullptr ? 1 : static_cast<int>(fiber->id) + 1;
  if (data.__lock == 0) {
    data.__lock = 1;
    data.__owner = me;
    data.__count = 1;
    CountLocks(1);
    return true;
  }
  if ((data.__kind & 3) != PTHREAD_MUTEX_RECURSIVE_NP || data.__owner != me) return false;
  ++data.__count;
  return true;
}

int WaitOn(pthread_cond_t* cond, pthread_mutex_t* mutex, Nanos until) {
  Scheduler* const scheduler = Scheduler::Current();
  if (scheduler == nullptr) Abort("a wait outside of a run");
  pthread_mutex_unlock(mutex);
  const bool woken = scheduler->Wait(cond, until);
  pthread_mutex_lock(mutex);
  return woken ? 0 : ETIMEDOUT;
}

}  // namespace

// The C library declares these with attributes that a definition cannot repeat.
extern "C" {

int pthread_mutex_lock(pthread_mutex_t* mutex) noexcept {
  Scheduler* const scheduler = Scheduler::Current();
  if (scheduler != nullptr) scheduler->MayPreempt();
  while (!TryLock(mutex)) {
    if (scheduler == nullptr || scheduler->running() == nullptr) Abort("an event meets a taken mutex");
    scheduler->Wait(mutex);
  }
  return 0;
}

int pthread_mutex_trylock(pthread_mutex_t* mutex) noexcept { return TryLock(mutex) ? 0 : EBUSY; }

int pthread_mutex_unlock(pthread_mutex_t* mutex) noexcept {
  auto& data = mutex->__data;
  if (--data.__count > 0) return 0;
  data.__lock = 0;
  data.__owner = 0;
  CountLocks(-1);
  if (Scheduler* const scheduler = Scheduler::Current()) scheduler->WakeAll(mutex);
  return 0;
}

int pthread_cond_wait(pthread_cond_t* cond, pthread_mutex_t* mutex) {
  return WaitOn(cond, mutex, Scheduler::kNever);
}

int pthread_cond_clockwait(pthread_cond_t* cond, pthread_mutex_t* mutex, clockid_t clock, const timespec* until) {
  return WaitOn(cond, mutex,
                FromTimespec(until) - (clock == CLOCK_REALTIME ? kRealtimeBase : kMonotonicBase));
}

int pthread_cond_timedwait(pthread_cond_t* cond, pthread_mutex_t* mutex, const timespec* until) {
  return WaitOn(cond, mutex, FromTimespec(until) - kRealtimeBase);
}

int pthread_cond_signal(pthread_cond_t* cond) noexcept {
  if (Scheduler* const scheduler = Scheduler::Current()) scheduler->WakeOne(cond);
  return 0;
}

int pthread_cond_broadcast(pthread_cond_t* cond) noexcept {
  if (Scheduler* const scheduler = Scheduler::Current()) scheduler->WakeAll(cond);
  return 0;
}

int pthread_cond_destroy(pthread_cond_t*) noexcept { return 0; }

int pthread_create(pthread_t* thread, const pthread_attr_t*, void* (*body)(void*), void* argument) noexcept {
  Scheduler* const scheduler = Scheduler::Current();
  if (scheduler == nullptr || scheduler->running() == nullptr) Abort("a thread is started outside of a run");
  *thread = reinterpret_cast<pthread_t>(scheduler->Spawn(scheduler->process(), [body, argument] { body(argument); }));
  return 0;
}

int pthread_join(pthread_t thread, void**) {
  auto* const fiber = reinterpret_cast<Fiber*>(thread);
  while (fiber->state != Fiber::State::kDone) {
    Scheduler* const scheduler = Scheduler::Current();
    fiber->joiners.push_back(scheduler->running());
    scheduler->Wait(nullptr);
  }
  return 0;
}

int pthread_detach(pthread_t) noexcept { return 0; }

int clock_gettime(clockid_t clock, timespec* out) noexcept {
  Scheduler* const scheduler = Scheduler::Current();
  const bool wall = clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE;
  const bool steady = clock == CLOCK_MONOTONIC || clock == CLOCK_MONOTONIC_COARSE || clock == CLOCK_BOOTTIME;
  if (scheduler == nullptr || !(wall || steady)) return static_cast<int>(syscall(SYS_clock_gettime, clock, out));
  const Nanos now = scheduler->ReadClock() + (wall ? kRealtimeBase : kMonotonicBase);
  out->tv_sec = now / mmc::sim::kSecond;
  out->tv_nsec = now % mmc::sim::kSecond;
  return 0;
}

int nanosleep(const timespec* time, timespec*) {
  Scheduler* const scheduler = Scheduler::Current();
  if (scheduler == nullptr) Abort("a sleep outside of a run");
  scheduler->Sleep(FromTimespec(time));
  return 0;
}

int clock_nanosleep(clockid_t, int flags, const timespec* time, timespec* left) {
  if (flags != 0) Abort("a sleep until a point in time");
  return nanosleep(time, left);
}

int sched_yield() noexcept {
  if (Scheduler* const scheduler = Scheduler::Current()) scheduler->Sleep(1);
  return 0;
}

// std::random_device: another source that a replay must not depend on.
unsigned SimRandomDevice(void*) asm("_ZNSt13random_device9_M_getvalEv");
unsigned SimRandomDevice(void*) {
  Scheduler* const scheduler = Scheduler::Current();
  if (scheduler == nullptr) return 4;
  return static_cast<unsigned>(scheduler->dice().Next());
}

}  // extern "C"
