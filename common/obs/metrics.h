// Counters, gauges and latency histograms that cost a few nanoseconds, and their Prometheus text.
//
// Thread safety: all methods from any thread; recording is lock-free. Ownership: a Registry owns its metrics; the
// references it hands out live as long as it does. A metric is declared once, by name, with its help text, so that
// docs/reference/metrics.md can be printed from the same table.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/base/mutex.h"

namespace mmc::obs {

using Labels = std::vector<std::pair<std::string, std::string>>;

class Counter {
 public:
  void Add(uint64_t n = 1) { value_.fetch_add(n, std::memory_order_relaxed); }
  uint64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_{0};
};

// Latencies in log-linear buckets: 1 us .. 67 s, 4 steps per doubling.
class Histogram {
 public:
  static constexpr int kSteps = 4;
  static constexpr int kBuckets = 27 * kSteps;

  void Record(std::chrono::nanoseconds latency);
  uint64_t count() const;
  double sum_seconds() const;
  // Upper bound of the bucket that holds the quantile (0..1), in seconds; 0 when empty.
  double Quantile(double q) const;
  // Upper bounds (seconds) and cumulative counts, one step per doubling; the last bound is infinity.
  std::vector<std::pair<double, uint64_t>> Cumulative() const;

 private:
  std::array<std::atomic<uint64_t>, kBuckets + 1> buckets_{};
  std::atomic<uint64_t> sum_nanos_{0};
};

class Registry {
 public:
  // The same name and labels answer the same metric. Names are Prometheus names ("mmc_meta_requests_total").
  Counter& AddCounter(const std::string& name, const std::string& help, const Labels& labels = {});
  Histogram& AddHistogram(const std::string& name, const std::string& help, const Labels& labels = {});
  // Read at exposition time, outside the registry's lock. One callback may give many rows of one name (one per node,
  // say); a second callback of the same name adds its rows. Callbacks live as long as the registry.
  using Row = std::pair<Labels, double>;
  void AddGauge(const std::string& name, const std::string& help, std::function<std::vector<Row>()> read);
  // A counter that is kept elsewhere.
  void AddCounterFn(const std::string& name, const std::string& help, std::function<std::vector<Row>()> read);

  // Prometheus text format 0.0.4.
  std::string Expose() const;

  enum class Kind : uint8_t { kCounter, kGauge, kHistogram };
  struct Description {
    std::string name, help;
    Kind kind;
    std::vector<std::string> labels;  // names of the labels, as far as there are rows with some
  };
  // What is declared, by name: the reference page is printed from this.
  std::vector<Description> Describe() const;

 private:
  struct Family {
    std::string name, help;
    Kind kind;
    std::deque<std::pair<Labels, std::unique_ptr<Counter>>> counters;
    std::deque<std::pair<Labels, std::unique_ptr<Histogram>>> histograms;
    std::vector<std::function<std::vector<Row>()>> reads;
  };
  Family& GetFamily(const std::string& name, const std::string& help, Kind kind) MMC_REQUIRES(mutex_);

  mutable Mutex mutex_;
  std::deque<Family> families_ MMC_GUARDED_BY(mutex_);
};

}  // namespace mmc::obs
