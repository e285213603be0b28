// Time as the services see it: a monotonic clock that a test can turn by hand.
//
// Thread safety: all methods from any thread. Ownership: Clock::Real() lives for ever.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

namespace mmc {

using Duration = std::chrono::nanoseconds;
using TimePoint = std::chrono::steady_clock::time_point;

class Clock {
 public:
  virtual ~Clock() = default;
  virtual TimePoint Now() const = 0;

  static Clock& Real();
};

// Stands still until Advance().
class ManualClock final : public Clock {
 public:
  TimePoint Now() const override { return TimePoint(Duration(nanos_.load())); }
  void Advance(Duration by) { nanos_.fetch_add(by.count()); }

 private:
  std::atomic<int64_t> nanos_{1'000'000'000};
};

inline Clock& Clock::Real() {
  class RealClock final : public Clock {
    TimePoint Now() const override { return std::chrono::steady_clock::now(); }
  };
  static RealClock clock;
  return clock;
}

}  // namespace mmc
