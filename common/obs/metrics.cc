#include "common/obs/metrics.h"

#include <glog/logging.h>
#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <bit>
#include <limits>

namespace mmc::obs {
namespace {

constexpr uint64_t kUnitNanos = 250;  // the first doubling, 0..1 us, has kSteps steps of this

int BucketOf(uint64_t nanos) {
  // An upper bound belongs to its bucket, as Prometheus' "le" says.
  const uint64_t units = nanos == 0 ? 0 : (nanos - 1) / kUnitNanos;
  if (units < Histogram::kSteps) return static_cast<int>(units);
  const int top = std::bit_width(units) - 1;
  const int bucket = (top - 1) * Histogram::kSteps + static_cast<int>((units >> (top - 2)) & 3);
  return std::min(bucket, Histogram::kBuckets);
}

double UpperBoundSeconds(int bucket) {
  if (bucket >= Histogram::kBuckets) return std::numeric_limits<double>::infinity();
  const int doubling = bucket / Histogram::kSteps;
  const auto step = static_cast<uint64_t>(bucket % Histogram::kSteps);
  const uint64_t units = doubling == 0 ? step + 1 : (5 + step) << (doubling - 1);
  return static_cast<double>(units * kUnitNanos) * 1e-9;
}

prometheus::ClientMetric WithLabels(const Labels& labels) {
  prometheus::ClientMetric metric;
  for (const auto& [name, value] : labels) metric.label.push_back({name, value});
  return metric;
}

prometheus::ClientMetric HistogramRow(const Labels& labels, const Histogram& histogram) {
  prometheus::ClientMetric metric = WithLabels(labels);
  for (const auto& [bound, count] : histogram.Cumulative()) metric.histogram.bucket.push_back({count, bound});
  // The count comes from the same snapshot as the buckets: a scraper checks that they agree.
  metric.histogram.sample_count = metric.histogram.bucket.back().cumulative_count;
  metric.histogram.sample_sum = histogram.sum_seconds();
  return metric;
}

}  // namespace

void Histogram::Record(std::chrono::nanoseconds latency) {
  const auto nanos = static_cast<uint64_t>(std::max<int64_t>(latency.count(), 0));
  buckets_[static_cast<size_t>(BucketOf(nanos))].fetch_add(1, std::memory_order_relaxed);
  sum_nanos_.fetch_add(nanos, std::memory_order_relaxed);
}

uint64_t Histogram::count() const {
  uint64_t total = 0;
  for (const auto& bucket : buckets_) total += bucket.load(std::memory_order_relaxed);
  return total;
}

double Histogram::sum_seconds() const {
  return static_cast<double>(sum_nanos_.load(std::memory_order_relaxed)) * 1e-9;
}

double Histogram::Quantile(double q) const {
  std::array<uint64_t, kBuckets + 1> counts;
  uint64_t total = 0;
  for (size_t i = 0; i < counts.size(); ++i) {
    counts[i] = buckets_[i].load(std::memory_order_relaxed);
    total += counts[i];
  }
  if (total == 0) return 0;
  const double rank = std::clamp(q, 0.0, 1.0) * static_cast<double>(total);
  uint64_t seen = 0;
  for (size_t i = 0; i < counts.size(); ++i) {
    seen += counts[i];
    if (counts[i] > 0 && static_cast<double>(seen) >= rank) return UpperBoundSeconds(static_cast<int>(i));
  }
  return UpperBoundSeconds(kBuckets);
}

std::vector<std::pair<double, uint64_t>> Histogram::Cumulative() const {
  std::vector<std::pair<double, uint64_t>> out;
  out.reserve(kBuckets / kSteps + 1);
  uint64_t total = 0;
  for (int i = 0; i < kBuckets; ++i) {
    total += buckets_[static_cast<size_t>(i)].load(std::memory_order_relaxed);
    if (i % kSteps == kSteps - 1) out.emplace_back(UpperBoundSeconds(i), total);
  }
  total += buckets_[kBuckets].load(std::memory_order_relaxed);
  out.emplace_back(std::numeric_limits<double>::infinity(), total);
  return out;
}

Registry::Family& Registry::GetFamily(const std::string& name, const std::string& help, Kind kind) {
  for (Family& family : families_) {
    if (family.name != name) continue;
    CHECK(family.kind == kind) << "metric " << name << " is declared twice, as two kinds";
    return family;
  }
  families_.push_back(Family{name, help, kind, {}, {}, {}});
  return families_.back();
}

Counter& Registry::AddCounter(const std::string& name, const std::string& help, const Labels& labels) {
  MutexLock lock(mutex_);
  Family& family = GetFamily(name, help, Kind::kCounter);
  for (auto& [have, counter] : family.counters) {
    if (have == labels) return *counter;
  }
  return *family.counters.emplace_back(labels, std::make_unique<Counter>()).second;
}

Histogram& Registry::AddHistogram(const std::string& name, const std::string& help, const Labels& labels) {
  MutexLock lock(mutex_);
  Family& family = GetFamily(name, help, Kind::kHistogram);
  for (auto& [have, histogram] : family.histograms) {
    if (have == labels) return *histogram;
  }
  return *family.histograms.emplace_back(labels, std::make_unique<Histogram>()).second;
}

void Registry::AddGauge(const std::string& name, const std::string& help, std::function<std::vector<Row>()> read) {
  MutexLock lock(mutex_);
  GetFamily(name, help, Kind::kGauge).reads.push_back(std::move(read));
}

void Registry::AddCounterFn(const std::string& name, const std::string& help,
                            std::function<std::vector<Row>()> read) {
  MutexLock lock(mutex_);
  GetFamily(name, help, Kind::kCounter).reads.push_back(std::move(read));
}

std::string Registry::Expose() const {
  std::vector<prometheus::MetricFamily> rows;
  std::vector<std::vector<std::function<std::vector<Row>()>>> reads;
  {
    MutexLock lock(mutex_);
    for (const Family& family : families_) {
      prometheus::MetricFamily out;
      out.name = family.name;
      out.help = family.help;
      out.type = family.kind == Kind::kCounter ? prometheus::MetricType::Counter
                 : family.kind == Kind::kGauge ? prometheus::MetricType::Gauge
                                               : prometheus::MetricType::Histogram;
      for (const auto& [labels, counter] : family.counters) {
        prometheus::ClientMetric metric = WithLabels(labels);
        metric.counter.value = static_cast<double>(counter->value());
        out.metric.push_back(std::move(metric));
      }
      for (const auto& [labels, histogram] : family.histograms) out.metric.push_back(HistogramRow(labels, *histogram));
      rows.push_back(std::move(out));
      reads.push_back(family.reads);
    }
  }
  // Callbacks take their owners' locks, under which others may declare metrics: not under ours.
  for (size_t i = 0; i < rows.size(); ++i) {
    for (const auto& read : reads[i]) {
      for (const auto& [labels, value] : read()) {
        prometheus::ClientMetric metric = WithLabels(labels);
        (rows[i].type == prometheus::MetricType::Counter ? metric.counter.value : metric.gauge.value) = value;
        rows[i].metric.push_back(std::move(metric));
      }
    }
  }
  return prometheus::TextSerializer().Serialize(rows);
}

std::vector<Registry::Description> Registry::Describe() const {
  std::vector<Description> out;
  MutexLock lock(mutex_);
  for (const Family& family : families_) {
    Description description{family.name, family.help, family.kind, {}};
    const Labels* labels = !family.counters.empty()     ? &family.counters.front().first
                           : !family.histograms.empty() ? &family.histograms.front().first
                                                        : nullptr;
    if (labels != nullptr) {
      for (const auto& [name, value] : *labels) description.labels.push_back(name);
    }
    out.push_back(std::move(description));
  }
  std::sort(out.begin(), out.end(), [](const Description& a, const Description& b) { return a.name < b.name; });
  return out;
}

}  // namespace mmc::obs
