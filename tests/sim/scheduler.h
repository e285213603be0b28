// Scheduler: the one thread of a simulated run. Every thread that the product starts is a fiber here, time stands
// still while one runs, and which of those that can run goes next is the seed's decision. So the whole of a run (meta
// service, nodes, clients, their threads, locks and waits) is one deterministic sequence of steps.
//
// interpose.cc gives the product's calls of pthread_*, clock_gettime and the like to this class; the product does not
// know. A fiber gives up the processor where a thread would wait: on a condition, a taken mutex, a join, a sleep; and
// now and then before it takes a lock while it holds none.
//
// A process groups fibers: it can be frozen (SIGSTOP: its fibers do not run, its timers fire late) and killed (its
// fibers never run again, nothing of them is unwound).
//
// Thread safety: none, there is only one. Ownership: owns fibers and their stacks until it ends.
#pragma once

#include <ucontext.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <queue>
#include <string>
#include <unordered_map>
#include <vector>

#include "tests/sim/dice.h"

namespace mmc::sim {

using Nanos = int64_t;
inline constexpr Nanos kMicro = 1000;
inline constexpr Nanos kMilli = 1000 * kMicro;
inline constexpr Nanos kSecond = 1000 * kMilli;

// What the clocks of the C library show at the beginning of a run.
inline constexpr Nanos kMonotonicBase = 1'000 * kSecond;
inline constexpr Nanos kRealtimeBase = 1'700'000'000 * kSecond;
constexpr Nanos FromSteady(Nanos steady) { return steady - kMonotonicBase; }

struct Fiber;

struct Process {
  std::string name;
  bool frozen = false;
  bool dead = false;
  bool offline = false;  // nothing that it says gets out any more
  std::vector<Fiber*> held;                       // could run, but it is frozen
  std::vector<std::function<void()>> when_thawed;  // runs once, not on a fiber
};
using ProcessPtr = std::shared_ptr<Process>;

struct Fiber {
  enum class State : uint8_t { kReady, kWaiting, kDone, kKilled };
  uint64_t id = 0;
  State state = State::kReady;
  ProcessPtr process;
  std::function<void()> body;
  ucontext_t context;
  std::unique_ptr<char[]> stack;
  uint32_t locks = 0;      // mutexes that it holds
  uint64_t wait = 0;       // number of the wait that it is in
  bool timed_out = false;  // how the last one ended
  const void* on = nullptr;
  std::vector<Fiber*> joiners;
};

class Scheduler {
 public:
  explicit Scheduler(uint64_t seed, Nanos tick);
  ~Scheduler();

  // The one that runs now; null outside of a run.
  static Scheduler* Current() { return current_; }

  Dice& dice() { return dice_; }
  Nanos now() const { return now_; }
  // A look at the clock takes a moment: a loop that only looks at it ends.
  Nanos ReadClock() { return now_ += 20; }
  uint64_t steps() const { return steps_; }

  Fiber* Spawn(ProcessPtr process, std::function<void()> body);
  // Runs `event` then, not on a fiber: it must not wait.
  void At(Nanos when, std::function<void()> event);
  void After(Nanos delay, std::function<void()> event) { At(now_ + delay, std::move(event)); }

  // Of the fiber that runs; null in an event.
  Fiber* running() const { return running_; }
  ProcessPtr process() const { return running_ == nullptr ? nullptr : running_->process; }
  // Gives up the processor until Wake, or until the time has come (false). `on`: what Wake is told.
  bool Wait(const void* on, Nanos until = kNever);
  void Wake(Fiber* fiber);
  void WakeAll(const void* on);
  void WakeOne(const void* on);
  // Lets others go first, now and then: where a thread takes a first lock. Never while one is held, so that events
  // and handlers of the meta service meet no taken lock.
  void MayPreempt();
  void SetPreemption(double chance) { preemption_ = chance; }
  void Sleep(Nanos time) { Wait(nullptr, now_ + time); }

  void Freeze(const ProcessPtr& process) { process->frozen = true; }
  void Thaw(const ProcessPtr& process);
  void Kill(const ProcessPtr& process);
  // Runs `action` at once, or when the process is no longer frozen; never once it is dead.
  void WhenRunning(const ProcessPtr& process, std::function<void()> action);

  // After every step and event.
  void SetAfterStep(std::function<void()> after) { after_step_ = std::move(after); }
  // Until Stop(), or nothing is left that could happen. False: more than `max_steps`.
  bool Run(uint64_t max_steps);
  void Stop() { stop_ = true; }

  static constexpr Nanos kNever = INT64_MAX;

 private:
  struct Timer {
    Nanos when;
    uint64_t seq;
    Fiber* fiber;  // null: an event
    uint64_t wait;
    std::function<void()> event;
  };
  struct Later {
    bool operator()(const Timer& a, const Timer& b) const {
      return a.when != b.when ? a.when > b.when : a.seq > b.seq;
    }
  };

  static void Enter(unsigned high, unsigned low);
  void SwitchTo(Fiber* fiber);
  void MakeReady(Fiber* fiber);
  Fiber* Pick();
  bool FireTimer();

  static inline Scheduler* current_ = nullptr;
  Dice dice_;
  const Nanos tick_;  // timed waits end on multiples of it
  Nanos now_ = 0;
  uint64_t steps_ = 0;
  uint64_t next_id_ = 1;
  uint64_t next_seq_ = 1;
  bool stop_ = false;
  double preemption_ = 0;
  Fiber* running_ = nullptr;
  ucontext_t main_;
  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<Fiber*> ready_;
  std::vector<std::unique_ptr<char[]>> spare_stacks_;
  std::unordered_map<const void*, std::deque<std::pair<Fiber*, uint64_t>>> waiting_;
  std::vector<Timer> timers_;
  std::function<void()> after_step_;
};

// The run cannot go on: a fault of the simulation or of what it drives. Says why and ends the process.
[[noreturn]] void Abort(const std::string& why);

}  // namespace mmc::sim
