#include "common/obs/metrics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <thread>

namespace mmc::obs {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;

TEST(Metrics, SameNameAndLabelsAreTheSameMetric) {
  Registry registry;
  Counter& a = registry.AddCounter("mmc_x_total", "help", {{"k", "1"}});
  EXPECT_EQ(&a, &registry.AddCounter("mmc_x_total", "help", {{"k", "1"}}));
  EXPECT_NE(&a, &registry.AddCounter("mmc_x_total", "help", {{"k", "2"}}));
  EXPECT_EQ(&registry.AddHistogram("mmc_y_seconds", "help"), &registry.AddHistogram("mmc_y_seconds", "help"));
}

TEST(MetricsDeathTest, OneNameIsOneKind) {
  Registry registry;
  registry.AddCounter("mmc_x_total", "help");
  EXPECT_DEATH(registry.AddHistogram("mmc_x_total", "help"), "declared twice");
}

TEST(Metrics, ThreadsLoseNothing) {
  Registry registry;
  Counter& counter = registry.AddCounter("mmc_x_total", "help");
  Histogram& histogram = registry.AddHistogram("mmc_y_seconds", "help");
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 10000; ++i) {
        counter.Add();
        histogram.Record(microseconds(i));
        if (i % 1000 == 0) (void)registry.Expose();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(counter.value(), 80000u);
  EXPECT_EQ(histogram.count(), 80000u);
}

// Every latency lies in a bucket whose bound is at most a quarter above it.
TEST(Metrics, BucketsAreTight) {
  for (int64_t nanos = 1; nanos < 60'000'000'000; nanos += nanos / 7 + 1) {
    Histogram histogram;
    histogram.Record(nanoseconds(nanos));
    const double seconds_of = static_cast<double>(nanos) * 1e-9;
    const double bound = histogram.Quantile(0.5);
    ASSERT_GE(bound, seconds_of * (1 - 1e-12)) << nanos;
    ASSERT_LE(bound, std::max(seconds_of * 1.25, seconds_of + 250e-9) * (1 + 1e-12)) << nanos;
  }
}

TEST(Metrics, BoundsBelongToTheirBucket) {
  Histogram histogram;
  histogram.Record(microseconds(1));
  histogram.Record(microseconds(2));
  histogram.Record(nanoseconds(2001));
  const auto rows = histogram.Cumulative();
  EXPECT_DOUBLE_EQ(rows[0].first, 1e-6);
  EXPECT_EQ(rows[0].second, 1u);
  EXPECT_DOUBLE_EQ(rows[1].first, 2e-6);
  EXPECT_EQ(rows[1].second, 2u);
  EXPECT_EQ(rows[2].second, 3u);
}

TEST(Metrics, Quantiles) {
  Histogram histogram;
  EXPECT_EQ(histogram.Quantile(0.99), 0);
  for (int i = 0; i < 99; ++i) histogram.Record(microseconds(100));
  histogram.Record(milliseconds(50));
  EXPECT_NEAR(histogram.Quantile(0.5), 100e-6, 25e-6);
  EXPECT_NEAR(histogram.Quantile(0.99), 100e-6, 25e-6);
  EXPECT_NEAR(histogram.Quantile(1), 50e-3, 12.5e-3);
  EXPECT_NEAR(histogram.sum_seconds(), 99 * 100e-6 + 50e-3, 1e-9);
}

TEST(Metrics, EdgesOfTheRange) {
  Histogram histogram;
  histogram.Record(nanoseconds(-5));
  histogram.Record(nanoseconds(0));
  histogram.Record(seconds(1000000));
  EXPECT_EQ(histogram.count(), 3u);
  const auto rows = histogram.Cumulative();
  EXPECT_EQ(rows.front().second, 2u);
  EXPECT_EQ(rows[rows.size() - 2].second, 2u);
  EXPECT_EQ(rows.back().second, 3u);
  EXPECT_TRUE(std::isinf(rows.back().first));
  EXPECT_TRUE(std::isinf(histogram.Quantile(1)));
}

TEST(Metrics, Text) {
  Registry registry;
  registry.AddCounter("mmc_x_total", "Things.", {{"k", "a\"b"}}).Add(3);
  registry.AddGauge("mmc_g", "Level.", [] { return std::vector<Registry::Row>{{{{"node", "n1"}}, 1.5}}; });
  registry.AddGauge("mmc_g", "Level.", [] { return std::vector<Registry::Row>{{{{"node", "n2"}}, 2}}; });
  registry.AddCounterFn("mmc_f_total", "Kept elsewhere.", [] { return std::vector<Registry::Row>{{{}, 7}}; });
  registry.AddHistogram("mmc_h_seconds", "Time.").Record(microseconds(3));
  const std::string text = registry.Expose();
  for (const char* line :
       {"# HELP mmc_x_total Things.\n", "# TYPE mmc_x_total counter\n", "mmc_x_total{k=\"a\\\"b\"} 3\n",
        "# TYPE mmc_g gauge\n", "mmc_g{node=\"n1\"} 1.5\n", "mmc_g{node=\"n2\"} 2\n", "mmc_f_total 7\n",
        "# TYPE mmc_h_seconds histogram\n", "mmc_h_seconds_count 1\n", "mmc_h_seconds_bucket{le=\"+Inf\"} 1\n",
        "mmc_h_seconds_sum 3e-06\n"}) {
    EXPECT_NE(text.find(line), std::string::npos) << line << "in\n" << text;
  }
}

// A callback may take a lock under which others declare metrics.
TEST(Metrics, CallbacksRunOutsideTheRegistrysLock) {
  Registry registry;
  registry.AddGauge("mmc_g", "Level.", [&registry] {
    registry.AddCounter("mmc_made_while_read_total", "Late.").Add();
    return std::vector<Registry::Row>{};
  });
  (void)registry.Expose();
  EXPECT_NE(registry.Expose().find("mmc_made_while_read_total 1\n"), std::string::npos);
}

TEST(Metrics, Describe) {
  Registry registry;
  registry.AddHistogram("mmc_b_seconds", "Time.");
  registry.AddCounter("mmc_a_total", "Things.", {{"k", "1"}, {"l", "2"}});
  const auto rows = registry.Describe();
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0].name, "mmc_a_total");
  EXPECT_EQ(rows[0].help, "Things.");
  EXPECT_EQ(rows[0].labels, (std::vector<std::string>{"k", "l"}));
  EXPECT_EQ(rows[1].kind, Registry::Kind::kHistogram);
}

}  // namespace
}  // namespace mmc::obs
