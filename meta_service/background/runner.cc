#include "meta_service/background/runner.h"

#include <utility>

#include "common/base/thread.h"
#include "common/obs/log.h"

namespace mmc::meta {

namespace {
constexpr auto kTurn = std::chrono::milliseconds(5);
// A turn that comes so late is one after a stop. Shorter ones cost nobody more than this.
constexpr auto kStopped = std::chrono::milliseconds(500);
}  // namespace

Runner::Runner(std::vector<std::unique_ptr<Job>> jobs, Clock& clock,
               std::function<void(TimePoint)> each_turn, std::function<void(TimePoint)> resumed)
    : clock_(clock), each_turn_(std::move(each_turn)), resumed_(std::move(resumed)) {
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
  auto turn_before = std::chrono::steady_clock::now();
  MutexLock lock(mutex_);
  while (!stop_) {
    mutex_.unlock();
    const auto turn = std::chrono::steady_clock::now();
    if (turn - turn_before > kStopped) {
      MMC_LOG(WARNING) << "this process was stopped or starved for "
                       << std::chrono::duration_cast<std::chrono::milliseconds>(turn - turn_before).count()
                       << " ms: what it did not hear meanwhile is held against nobody";
      resumed_(clock_.Now());
    }
    turn_before = turn;
    Turn(false);
    mutex_.lock();
    if (!stop_) wake_.WaitUntil(mutex_, std::chrono::steady_clock::now() + kTurn);
  }
}

}  // namespace mmc::meta
