#include "client_sdk/cli/histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace mmc::cli {

Histogram::Histogram() : buckets_(static_cast<size_t>(kTopBits - kStepBits + 1) << kStepBits) {}

// Below 2^7 ns one bucket per nanosecond; above, the seven bits after the leading one choose the
// step.
size_t Histogram::BucketOf(uint64_t nanos) {
  nanos = std::min(nanos, (uint64_t{1} << kTopBits) - 1);
  if (nanos < (uint64_t{1} << kStepBits)) return nanos;
  const int shift = static_cast<int>(std::bit_width(nanos)) - 1 - kStepBits;
  return (static_cast<size_t>(shift + 1) << kStepBits) +
         ((nanos >> shift) & ((1u << kStepBits) - 1));
}

uint64_t Histogram::UpperBound(size_t bucket) {
  if (bucket < (size_t{1} << kStepBits)) return bucket;
  const int shift = static_cast<int>(bucket >> kStepBits) - 1;
  const uint64_t step = (bucket & ((1u << kStepBits) - 1)) | (1u << kStepBits);
  return ((step + 1) << shift) - 1;
}

void Histogram::Record(std::chrono::nanoseconds latency) {
  const uint64_t nanos = latency.count() > 0 ? static_cast<uint64_t>(latency.count()) : 0;
  ++buckets_[BucketOf(nanos)];
  ++count_;
  max_ = std::max(max_, nanos);
  sum_ += static_cast<double>(nanos);
}

void Histogram::Merge(const Histogram& other) {
  for (size_t i = 0; i < buckets_.size(); ++i) buckets_[i] += other.buckets_[i];
  count_ += other.count_;
  max_ = std::max(max_, other.max_);
  sum_ += other.sum_;
}

std::chrono::nanoseconds Histogram::mean() const {
  if (count_ == 0) return {};
  return std::chrono::nanoseconds(std::llround(sum_ / static_cast<double>(count_)));
}

std::chrono::nanoseconds Histogram::Quantile(double q) const {
  if (count_ == 0) return {};
  const double wanted = std::ceil(std::clamp(q, 0.0, 1.0) * static_cast<double>(count_));
  const uint64_t rank = std::max<uint64_t>(1, static_cast<uint64_t>(wanted));
  uint64_t seen = 0;
  for (size_t i = 0; i < buckets_.size(); ++i) {
    seen += buckets_[i];
    if (seen >= rank) return std::chrono::nanoseconds(std::min(UpperBound(i), max_));
  }
  return max();
}

}  // namespace mmc::cli
