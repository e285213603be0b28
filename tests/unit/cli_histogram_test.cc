// Goal: quantiles are right to one per cent. Method: compare with sorted samples of known
// distributions.
#include "client_sdk/cli/histogram.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

namespace mmc::cli {
namespace {

using std::chrono::nanoseconds;

TEST(CliHistogram, EmptyAnswersZero) {
  const Histogram histogram;
  EXPECT_EQ(histogram.count(), 0u);
  EXPECT_EQ(histogram.Quantile(0.5).count(), 0);
  EXPECT_EQ(histogram.mean().count(), 0);
}

TEST(CliHistogram, SmallValuesAreExact) {
  Histogram histogram;
  for (int i = 1; i <= 100; ++i) histogram.Record(nanoseconds(i));
  EXPECT_EQ(histogram.Quantile(0.5).count(), 50);
  EXPECT_EQ(histogram.Quantile(0.99).count(), 99);
  EXPECT_EQ(histogram.Quantile(0).count(), 1);
  EXPECT_EQ(histogram.Quantile(1).count(), 100);
  EXPECT_EQ(histogram.mean().count(), 51);
}

TEST(CliHistogram, QuantilesOfALongTailAreWithinOnePerCent) {
  std::mt19937_64 random(7);
  std::lognormal_distribution<double> shape(11, 2.5);
  Histogram histogram;
  std::vector<int64_t> sorted;
  for (int i = 0; i < 100'000; ++i) {
    const auto nanos = static_cast<int64_t>(shape(random));
    sorted.push_back(nanos);
    histogram.Record(nanoseconds(nanos));
  }
  std::sort(sorted.begin(), sorted.end());
  for (const double q : {0.01, 0.5, 0.9, 0.99, 0.999, 0.9999}) {
    const auto rank = static_cast<size_t>(std::ceil(q * 100'000)) - 1;
    const auto exact = static_cast<double>(sorted[rank]);
    const auto got = static_cast<double>(histogram.Quantile(q).count());
    EXPECT_GE(got, exact);
    EXPECT_LE(got, exact * 1.01 + 1) << q;
  }
  EXPECT_EQ(histogram.max().count(), sorted.back());
}

TEST(CliHistogram, MergeIsTheSameAsRecordingAll) {
  Histogram all;
  Histogram left;
  Histogram right;
  for (int i = 0; i < 1000; ++i) {
    const nanoseconds value(static_cast<int64_t>(i) * i * 1000);
    all.Record(value);
    (i % 3 == 0 ? left : right).Record(value);
  }
  left.Merge(right);
  EXPECT_EQ(left.count(), all.count());
  EXPECT_EQ(left.mean(), all.mean());
  for (const double q : {0.1, 0.5, 0.99, 1.0}) EXPECT_EQ(left.Quantile(q), all.Quantile(q));
}

TEST(CliHistogram, ExtremesAreKept) {
  Histogram histogram;
  histogram.Record(nanoseconds(-5));
  histogram.Record(nanoseconds(INT64_MAX));
  EXPECT_EQ(histogram.count(), 2u);
  EXPECT_EQ(histogram.Quantile(0).count(), 0);
  EXPECT_GT(histogram.Quantile(1), std::chrono::hours(24));
}

}  // namespace
}  // namespace mmc::cli
