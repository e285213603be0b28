#include "meta_service/background/runner.h"

#include <utility>

#include "common/base/thread.h"

namespace mmc::meta {

namespace {
constexpr auto kTurn = std::chrono::milliseconds(5);
}  // namespace

Runner::Runner(std::vector<std::unique_ptr<Job>> jobs, Clock& clock,
               std::function<void(TimePoint)> each_turn)
    : clock_(clock), each_turn_(std::move(each_turn)) {
  MutexLock lock(jobs_mutex_);
  for (auto& job : jobs) entries_.push_back({std::move(job), clock_.Now()});
}

void Runner::Start() {
  thread_ = StartThread([this] { Loop(); });
}

void Runner::Stop() {
  {
    MutexLock lock(mutex_);
    stop_ = true;
    wake_.NotifyAll();
  }
  if (thread_.joinable()) thread_.join();
}

void Runner::RunAll() { Turn(true); }

void Runner::Turn(bool all) {
  MutexLock lock(jobs_mutex_);
  const TimePoint now = clock_.Now();
  for (Entry& entry : entries_) {
    if (!all && entry.due > now) continue;
    entry.job->Tick(now);
    entry.due = now + entry.job->period();
  }
  each_turn_(now);
}

void Runner::Loop() {
  MutexLock lock(mutex_);
  while (!stop_) {
    mutex_.unlock();
    Turn(false);
    mutex_.lock();
    if (!stop_) wake_.WaitUntil(mutex_, std::chrono::steady_clock::now() + kTurn);
  }
}

}  // namespace mmc::meta
