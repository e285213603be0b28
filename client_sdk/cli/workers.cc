#include "client_sdk/cli/workers.h"

#include <sys/resource.h>

#include <algorithm>
#include <cstdio>
#include <thread>
#include <vector>

#include "client_sdk/cli/text.h"
#include "common/base/mutex.h"

namespace mmc::cli {

void RunWorkers(int n, const std::function<void(int)>& work, const std::function<void()>& tick) {
  Mutex mutex;
  CondVar ended;
  int running = n;
  std::vector<std::thread> threads;
  threads.reserve(static_cast<size_t>(n));
  for (int i = 0; i < n; ++i) {
    threads.emplace_back([&, i] {
      work(i);
      MutexLock lock(mutex);
      --running;
      ended.NotifyAll();
    });
  }
  while (true) {
    {
      MutexLock lock(mutex);
      if (running > 0)
        ended.WaitUntil(mutex, std::chrono::steady_clock::now() + std::chrono::milliseconds(100));
      if (running == 0) break;
    }
    tick();
  }
  for (std::thread& thread : threads) thread.join();
}

void CallStats::Record(std::chrono::nanoseconds took) {
  latency.Record(took);
  ++calls;
  seconds += std::chrono::duration<double>(took).count();
}

void CallStats::Merge(const CallStats& other) {
  latency.Merge(other.latency);
  calls += other.calls;
  items += other.items;
  bytes += other.bytes;
  seconds += other.seconds;
}

void MergeErrors(ErrorCounts& into, const ErrorCounts& from) {
  for (const auto& [code, count] : from) into[code] += count;
}

uint64_t TotalErrors(const ErrorCounts& errors) {
  uint64_t total = 0;
  for (const auto& [code, count] : errors) total += count;
  return total;
}

boost::json::object ErrorsJson(const ErrorCounts& errors) {
  boost::json::object object;
  for (const auto& [code, count] : errors) object[CodeName(code)] = count;
  return object;
}

std::string ErrorsText(const ErrorCounts& errors) {
  std::string text;
  for (const auto& [code, count] : errors) {
    if (!text.empty()) text += ", ";
    text += std::string(CodeName(code)) + " " + std::to_string(count);
  }
  return text.empty() ? "none" : text;
}

boost::json::object LatencyJson(const Histogram& latency) {
  const auto us = [](std::chrono::nanoseconds t) { return static_cast<double>(t.count()) / 1000; };
  return {{"count", latency.count()},          {"mean", us(latency.mean())},
          {"p50", us(latency.Quantile(0.5))},  {"p90", us(latency.Quantile(0.9))},
          {"p99", us(latency.Quantile(0.99))}, {"p99_9", us(latency.Quantile(0.999))},
          {"max", us(latency.max())}};
}

std::string LatencyText(const Histogram& latency) {
  if (latency.count() == 0) return "no calls";
  return "p50 " + FormatTime(latency.Quantile(0.5)) + "  p90 " + FormatTime(latency.Quantile(0.9)) +
         "  p99 " + FormatTime(latency.Quantile(0.99)) + "  p99.9 " +
         FormatTime(latency.Quantile(0.999)) + "  max " + FormatTime(latency.max());
}

double CpuSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

Progress::Progress(Output& err, bool wanted, std::string label)
    : err_(err),
      wanted_(wanted && err.IsTerminal()),
      label_(std::move(label)),
      start_(Clock::Real().Now()) {}

void Progress::Update(double fraction, const std::string& detail) {
  if (!wanted_) return;
  const double elapsed = std::chrono::duration<double>(Clock::Real().Now() - start_).count();
  err_.Write("\r\x1b[K" + ProgressLine(label_, fraction, elapsed, detail));
  drawn_ = true;
}

void Progress::Clear() {
  if (drawn_) err_.Write("\r\x1b[K");
  drawn_ = false;
}

std::string ProgressLine(const std::string& label, double fraction, double elapsed_seconds,
                         const std::string& detail) {
  if (fraction < 0) return label + "  " + detail + "  " + FormatSeconds(elapsed_seconds);
  constexpr int kWidth = 24;
  fraction = std::min(fraction, 1.0);
  const int filled = static_cast<int>(fraction * kWidth);
  char percent[16];
  std::snprintf(percent, sizeof(percent), "%3.0f%%", fraction * 100);
  std::string line = label + " [" + std::string(static_cast<size_t>(filled), '#') +
                     std::string(static_cast<size_t>(kWidth - filled), '.') + "] " + percent +
                     "  " + detail;
  if (fraction > 0.005)
    line += "  ETA " + FormatSeconds(elapsed_seconds / fraction * (1 - fraction));
  return line;
}

}  // namespace mmc::cli
