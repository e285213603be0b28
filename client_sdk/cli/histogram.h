// Latencies at 0.8 % precision from 1 ns to 4.8 days, for percentiles out to p99.9 and beyond.
// The services' obs::Histogram has four steps per doubling, which is right for a scrape and too
// coarse for a report.
//
// Thread safety: none; each worker has its own and the report merges them. Ownership:
// self-contained, about 42 KiB.
#pragma once

#include <chrono>
#include <cstdint>
#include <vector>

namespace mmc::cli {

class Histogram {
 public:
  Histogram();

  void Record(std::chrono::nanoseconds latency);
  void Merge(const Histogram& other);

  uint64_t count() const { return count_; }
  std::chrono::nanoseconds max() const { return std::chrono::nanoseconds(max_); }
  std::chrono::nanoseconds mean() const;
  // The highest latency of the bucket that holds the quantile (0..1), never more than max(); zero
  // when empty.
  std::chrono::nanoseconds Quantile(double q) const;

 private:
  static constexpr int kStepBits = 7;  // 128 steps per doubling
  static constexpr int kTopBits = 49;  // longer ones count as the longest

  static size_t BucketOf(uint64_t nanos);
  static uint64_t UpperBound(size_t bucket);

  std::vector<uint64_t> buckets_;
  uint64_t count_ = 0;
  uint64_t max_ = 0;
  double sum_ = 0;
};

}  // namespace mmc::cli
