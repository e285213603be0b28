// The one thread that runs the periodic jobs, each in its period, and ends waits whose time is
// over.
//
// Thread safety: Start and Stop from one thread; RunAll from any. Ownership: owns the jobs and the
// thread.
#pragma once

#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "common/base/clock.h"
#include "common/base/mutex.h"
#include "meta_service/background/job.h"

namespace mmc::meta {

class Runner {
 public:
  // `each_turn` runs every few milliseconds; `resumed` before a turn that comes far too late, because
  // the whole process was stopped for a while.
  Runner(std::vector<std::unique_ptr<Job>> jobs, Clock& clock,
         std::function<void(TimePoint)> each_turn, std::function<void(TimePoint)> resumed);
  ~Runner() { Stop(); }

  void Start();
  void Stop();
  // Every job once, due or not.
  void RunAll();

 private:
  struct Entry {
    std::unique_ptr<Job> job;
    TimePoint due;
  };
  void Loop();
  void Turn(bool all);

  Clock& clock_;
  const std::function<void(TimePoint)> each_turn_;
  const std::function<void(TimePoint)> resumed_;
  Mutex jobs_mutex_;
  std::vector<Entry> entries_ MMC_GUARDED_BY(jobs_mutex_);
  Mutex mutex_;
  CondVar wake_;
  bool stop_ MMC_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace mmc::meta
