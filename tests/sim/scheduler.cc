#include "tests/sim/scheduler.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <utility>

namespace mmc::sim {
namespace {

constexpr size_t kStackBytes = 256 << 10;  // what is not touched costs nothing

}  // namespace

void Abort(const std::string& why) {
  std::fprintf(stderr, "sim: %s\n", why.c_str());
  std::fflush(stderr);
  std::abort();
}

Scheduler::Scheduler(uint64_t seed, Nanos tick) : dice_(seed), tick_(tick) { current_ = this; }

Scheduler::~Scheduler() { current_ = nullptr; }

void Scheduler::Enter(unsigned high, unsigned low) {
  auto* fiber = reinterpret_cast<Fiber*>((uint64_t{high} << 32) | low);
  fiber->body();
  fiber->body = nullptr;
  fiber->state = Fiber::State::kDone;
  Scheduler* const self = current_;
  for (Fiber* joiner : fiber->joiners) self->Wake(joiner);
  swapcontext(&fiber->context, &self->main_);
  Abort("a fiber that has ended runs again");
}

Fiber* Scheduler::Spawn(ProcessPtr process, std::function<void()> body) {
  auto fiber = std::make_unique<Fiber>();
  Fiber* const raw = fiber.get();
  raw->id = next_id_++;
  raw->process = std::move(process);
  raw->body = std::move(body);
  if (spare_stacks_.empty()) {
    raw->stack.reset(new char[kStackBytes]);
  } else {
    raw->stack = std::move(spare_stacks_.back());
    spare_stacks_.pop_back();
  }
  getcontext(&raw->context);
  raw->context.uc_stack.ss_sp = raw->stack.get();
  raw->context.uc_stack.ss_size = kStackBytes;
  raw->context.uc_link = nullptr;
  const auto address = reinterpret_cast<uint64_t>(raw);
  makecontext(&raw->context, reinterpret_cast<void (*)()>(&Enter), 2, static_cast<unsigned>(address >> 32),
              static_cast<unsigned>(address));
  fibers_.push_back(std::move(fiber));
  if (raw->process->dead) {
    raw->state = Fiber::State::kKilled;
  } else {
    MakeReady(raw);
  }
  return raw;
}

void Scheduler::At(Nanos when, std::function<void()> event) {
  timers_.push_back({std::max(when, now_), next_seq_++, nullptr, 0, std::move(event)});
  std::push_heap(timers_.begin(), timers_.end(), Later());
}

void Scheduler::MakeReady(Fiber* fiber) {
  fiber->state = Fiber::State::kReady;
  (fiber->process->frozen ? fiber->process->held : ready_).push_back(fiber);
}

bool Scheduler::Wait(const void* on, Nanos until) {
  Fiber* const fiber = running_;
  if (fiber == nullptr) Abort("an event waits; only fibers may");
  fiber->state = Fiber::State::kWaiting;
  fiber->timed_out = false;
  fiber->on = on;
  ++fiber->wait;
  if (on != nullptr) {
    auto& queue = waiting_[on];
    while (!queue.empty() && queue.front().first->wait != queue.front().second) queue.pop_front();
    queue.push_back({fiber, fiber->wait});
  }
  if (until != kNever) {
    const Nanos rounded = (std::max(until, now_) + tick_ - 1) / tick_ * tick_;
    timers_.push_back({rounded, next_seq_++, fiber, fiber->wait, nullptr});
    std::push_heap(timers_.begin(), timers_.end(), Later());
  }
  swapcontext(&fiber->context, &main_);
  return !fiber->timed_out;
}

void Scheduler::MayPreempt() {
  Fiber* const fiber = running_;
  if (preemption_ == 0 || fiber == nullptr || fiber->locks > 0 || !dice_.Chance(preemption_)) return;
  MakeReady(fiber);
  swapcontext(&fiber->context, &main_);
}

void Scheduler::Wake(Fiber* fiber) {
  if (fiber->state != Fiber::State::kWaiting) return;
  ++fiber->wait;
  MakeReady(fiber);
}

void Scheduler::WakeAll(const void* on) {
  const auto it = waiting_.find(on);
  if (it == waiting_.end()) return;
  const auto waiting = std::move(it->second);
  waiting_.erase(it);
  for (const auto& [fiber, wait] : waiting) {
    if (fiber->wait == wait) Wake(fiber);
  }
}

void Scheduler::WakeOne(const void* on) {
  const auto it = waiting_.find(on);
  if (it == waiting_.end()) return;
  while (!it->second.empty()) {
    const auto [fiber, wait] = it->second.front();
    it->second.pop_front();
    if (fiber->wait != wait || fiber->state != Fiber::State::kWaiting) continue;
    if (it->second.empty()) waiting_.erase(it);
    return Wake(fiber);
  }
  waiting_.erase(it);
}

void Scheduler::Thaw(const ProcessPtr& process) {
  if (!std::exchange(process->frozen, false)) return;
  for (Fiber* fiber : std::exchange(process->held, {})) ready_.push_back(fiber);
  // Not on the fiber that calls: handlers run as a whole.
  for (auto& action : std::exchange(process->when_thawed, {})) {
    After(0, [process, action = std::move(action)] {
      if (!process->dead) action();
    });
  }
}

void Scheduler::Kill(const ProcessPtr& process) {
  process->dead = true;
  process->when_thawed.clear();
  process->held.clear();
  for (const auto& fiber : fibers_) {
    if (fiber->process != process || fiber->state == Fiber::State::kDone) continue;
    fiber->state = Fiber::State::kKilled;
    ++fiber->wait;
  }
  std::erase_if(ready_, [](const Fiber* fiber) { return fiber->state == Fiber::State::kKilled; });
}

void Scheduler::WhenRunning(const ProcessPtr& process, std::function<void()> action) {
  if (process->dead) return;
  if (process->frozen) {
    process->when_thawed.push_back(std::move(action));
  } else {
    action();
  }
}

Fiber* Scheduler::Pick() {
  while (!ready_.empty()) {
    const size_t at = dice_.Below(ready_.size());
    Fiber* const fiber = ready_[at];
    ready_[at] = ready_.back();
    ready_.pop_back();
    if (!fiber->process->frozen) return fiber;
    fiber->process->held.push_back(fiber);
  }
  return nullptr;
}

void Scheduler::SwitchTo(Fiber* fiber) {
  running_ = fiber;
  swapcontext(&main_, &fiber->context);
  running_ = nullptr;
  if (fiber->state == Fiber::State::kDone) spare_stacks_.push_back(std::move(fiber->stack));
}

// Returns false when there is none.
bool Scheduler::FireTimer() {
  if (timers_.empty()) return false;
  std::pop_heap(timers_.begin(), timers_.end(), Later());
  Timer timer = std::move(timers_.back());
  timers_.pop_back();
  now_ = std::max(now_, timer.when);
  if (timer.fiber == nullptr) {
    timer.event();
  } else if (timer.fiber->wait == timer.wait && timer.fiber->state == Fiber::State::kWaiting) {
    timer.fiber->timed_out = true;
    Wake(timer.fiber);
  }
  return true;
}

bool Scheduler::Run(uint64_t max_steps) {
  const uint64_t last = steps_ + max_steps;
  while (!stop_) {
    if (++steps_ > last) return false;
    if (Fiber* const fiber = Pick()) {
      SwitchTo(fiber);
    } else if (!FireTimer()) {
      return true;
    }
    if (after_step_) after_step_();
  }
  return true;
}

}  // namespace mmc::sim
