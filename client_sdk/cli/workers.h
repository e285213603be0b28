// Threads of one measurement, and what they have in common: counts, latencies, errors, a progress
// bar.
//
// Thread safety: as each class says. Ownership: RunWorkers joins every thread it starts before it
// returns.
#pragma once

#include <atomic>
#include <boost/json.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "client_sdk/cli/histogram.h"
#include "client_sdk/cli/output.h"
#include "common/base/clock.h"
#include "common/base/status.h"

namespace mmc::cli {

// Runs work(0) .. work(n - 1) on n threads and, until all have returned, tick() on this thread ten
// times a second.
void RunWorkers(int n, const std::function<void(int)>& work, const std::function<void()>& tick);

// One kind of call as one worker saw it. Thread safety: none; merged when the workers are done.
struct CallStats {
  Histogram latency;  // per call
  uint64_t calls = 0;
  uint64_t items = 0;  // keys or blocks that came out well
  uint64_t bytes = 0;
  double seconds = 0;  // spent inside the calls

  void Record(std::chrono::nanoseconds took);
  void Merge(const CallStats& other);
  // Bytes per nanosecond is GB/s. Of one calling thread.
  double GbPerSecond() const {
    return seconds > 0 ? static_cast<double>(bytes) / seconds / 1e9 : 0;
  }
};

using ErrorCounts = std::map<Code, uint64_t>;
void MergeErrors(ErrorCounts& into, const ErrorCounts& from);
uint64_t TotalErrors(const ErrorCounts& errors);
boost::json::object ErrorsJson(const ErrorCounts& errors);
std::string ErrorsText(const ErrorCounts& errors);  // "NO_SPACE 3, DEADLINE 1", "none"

// {"p50": ..., "p90": ..., "p99": ..., "p99_9": ..., "max": ..., "mean": ...} in microseconds.
boost::json::object LatencyJson(const Histogram& latency);
// "p50 12.3 us  p90 ...".
std::string LatencyText(const Histogram& latency);

// User and system time of this process so far.
double CpuSeconds();

// A bar with percentage, detail and ETA on stderr when that is a terminal; else silent.
// Thread safety: none; the thread that ticks draws it.
class Progress {
 public:
  Progress(Output& err, bool wanted, std::string label);
  ~Progress() { Clear(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // `fraction` of the work that is done, 0..1; negative: not known.
  void Update(double fraction, const std::string& detail);
  void Clear();

 private:
  Output& err_;
  bool wanted_;
  std::string label_;
  TimePoint start_;
  bool drawn_ = false;
};

// The text that Progress draws, without control characters.
std::string ProgressLine(const std::string& label, double fraction, double elapsed_seconds,
                         const std::string& detail);

}  // namespace mmc::cli
