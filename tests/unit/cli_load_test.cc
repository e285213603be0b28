// Goal: bench and replay count right, and every way in which a pool can hand out wrong bytes is
// caught. Method: run them over a pool in a map whose faults are known.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "client_sdk/cli/bench.h"
#include "client_sdk/cli/interrupt.h"
#include "client_sdk/cli/replay.h"
#include "tests/unit/cli_fake_client.h"

namespace mmc::cli {
namespace {

using testing::HasSubstr;

class CliLoad : public testing::Test {
 protected:
  void SetUp() override {
    SetInterrupted(false);
    char name[] = "/tmp/mmc-replay-XXXXXX";
    const int fd = mkstemp(name);
    ASSERT_GE(fd, 0);
    close(fd);
    path_ = name;
  }
  void TearDown() override {
    SetInterrupted(false);
    std::filesystem::remove(path_);
  }

  static BenchOptions SmallBench(BenchOp op) {
    BenchOptions options;
    options.op = op;
    options.layout = Layout::Even(1000, 3).value();
    options.batch = 4;
    options.threads = 3;
    options.keys = 50;
    options.count = 600;
    options.verify = true;
    return options;
  }
  BenchReport Bench(const BenchOptions& options) {
    return RunBench(client_, options, [](const BenchTick&) {}).value();
  }

  // One line per list of ids, one millisecond apart.
  ReplayReport Replay(const std::vector<std::vector<int>>& requests, const ReplayOptions& options) {
    std::ofstream file(path_);
    for (size_t i = 0; i < requests.size(); ++i) {
      file << "{\"timestamp\": " << i
           << ", \"input_length\": 1, \"output_length\": 1, \"hash_ids\": [";
      for (size_t k = 0; k < requests[i].size(); ++k) file << (k ? ", " : "") << requests[i][k];
      file << "]}\n";
    }
    file.close();
    return ReplayFile(options);
  }
  ReplayReport ReplayFile(const ReplayOptions& options) {
    TraceReader trace = TraceReader::Open(path_).value();
    return RunReplay(client_, trace, options, [](const ReplayTick&) {}).value();
  }
  static ReplayOptions SmallReplay() {
    ReplayOptions options;
    options.layout = Layout::Even(500, 2).value();
    options.batch = 2;
    return options;
  }
  size_t KeysLeft() {
    MutexLock lock(pool_->mutex);
    return pool_->values.size();
  }

  std::shared_ptr<FakePool> pool_ = std::make_shared<FakePool>();
  FakeClient client_{pool_};
  std::string path_;
};

TEST_F(CliLoad, BenchPutStoresVerifiesAndCleansUp) {
  const BenchReport report = Bench(SmallBench(BenchOp::kPut));
  EXPECT_EQ(report.put.items, 600u);
  EXPECT_EQ(report.put.bytes, 600'000u);
  EXPECT_GT(report.remove.items, 0u) << "keys came round again";
  EXPECT_EQ(report.verified_values, 48u)
      << "three workers with 16 keys each are read back at the end";
  EXPECT_TRUE(report.Right());
  EXPECT_TRUE(report.errors.empty());
  EXPECT_EQ(KeysLeft(), 0u);
}

TEST_F(CliLoad, BenchGetReadsWhatThePrefillStored) {
  const BenchReport report = Bench(SmallBench(BenchOp::kGet));
  EXPECT_EQ(report.get.items, 600u);
  EXPECT_EQ(report.put.items, 0u) << "the prefill is not measured";
  EXPECT_EQ(report.verified_values, 600u);
  EXPECT_EQ(report.misses, 0u);
  EXPECT_TRUE(report.Right());
}

TEST_F(CliLoad, BenchExistsAndMixed) {
  EXPECT_EQ(Bench(SmallBench(BenchOp::kExists)).exists.items, 600u);
  const BenchReport mixed = Bench(SmallBench(BenchOp::kMixed));
  EXPECT_GT(mixed.put.items, 0u);
  EXPECT_GT(mixed.get.items, mixed.put.items);
  EXPECT_TRUE(mixed.Right());
  EXPECT_TRUE(mixed.errors.empty());
}

TEST_F(CliLoad, BenchCountsWrongBytes) {
  pool_->corrupt_keys = {"bench/0", "bench/5"};
  const BenchReport report = Bench(SmallBench(BenchOp::kPut));
  EXPECT_EQ(report.wrong_values, 2u);
  EXPECT_EQ(report.wrong_bytes, 2u);
  EXPECT_FALSE(report.Right());
}

TEST_F(CliLoad, BenchSeesValuesThatOutliveTheirRemoval) {
  pool_->ignore_removes = true;
  BenchOptions options = SmallBench(BenchOp::kPut);
  options.clean_after = false;
  const BenchReport report = Bench(options);
  EXPECT_GT(report.stale_values, 0u);
  EXPECT_GT(report.errors.at(Code::kExists), 0u);
  options.check_stale = false;
  EXPECT_EQ(Bench(options).stale_values, 0u);
}

TEST_F(CliLoad, BenchCountsErrorsByCodeAndStopsWhenThePoolIsGone) {
  pool_->put_failure = Status(Code::kNoSpace);
  EXPECT_EQ(Bench(SmallBench(BenchOp::kPut)).errors.at(Code::kNoSpace), 600u);
  pool_->put_failure = Status(Code::kUnavailable, "gone");
  const BenchReport gone = Bench(SmallBench(BenchOp::kPut));
  EXPECT_EQ(gone.stopped.code(), Code::kUnavailable);
  EXPECT_LT(gone.errors.at(Code::kUnavailable), 600u);
}

TEST_F(CliLoad, BenchEndsWithASummaryWhenInterrupted) {
  BenchOptions options = SmallBench(BenchOp::kPut);
  options.count = 0;
  options.duration = std::chrono::hours(1);
  pool_->on_put = [this] {
    if (pool_->puts > 20) SetInterrupted(true);
  };
  const BenchReport report = Bench(options);
  EXPECT_TRUE(report.interrupted);
  EXPECT_GT(report.put.items, 0u);
}

TEST_F(CliLoad, BenchRefusesOptionsThatDoNotFit) {
  BenchOptions options = SmallBench(BenchOp::kPut);
  options.keys = 11;
  const auto result = RunBench(client_, options, [](const BenchTick&) {});
  EXPECT_THAT(result.status().message(), HasSubstr("threads x batch = 12"));
}

TEST_F(CliLoad, BenchJsonHasTheFieldsOfAReport) {
  const BenchOptions options = SmallBench(BenchOp::kMixed);
  const BenchReport report = Bench(options);
  const boost::json::object json = BenchJson(options, report);
  EXPECT_EQ(json.at("op").as_string(), "mixed");
  EXPECT_EQ(json.at("value_bytes").to_number<int>(), 1000);
  EXPECT_EQ(json.at("ops").to_number<int>(), 600);
  for (const char* field : {"p50", "p90", "p99", "p99_9"}) {
    EXPECT_GT(json.at("get").at("latency_us").at(field).as_double(), 0) << field;
  }
  EXPECT_THAT(BenchText(options, report), HasSubstr("p99.9"));
}

TEST_F(CliLoad, ReplayCountsPrefixHits) {
  const ReplayReport report = Replay({{1, 2, 3}, {1, 2, 3, 4, 5}, {1, 9}, {7}, {}}, SmallReplay());
  EXPECT_EQ(report.requests, 5u);
  EXPECT_EQ(report.blocks, 11u);
  EXPECT_EQ(report.hit_blocks, 3u + 1u);
  EXPECT_EQ(report.blocks_put, 7u);
  EXPECT_EQ(report.blocks_verified, 4u);
  EXPECT_EQ(report.wrong_bytes, 0u);
  EXPECT_EQ(report.lookup.calls, 4u) << "a request without blocks asks nothing";
  EXPECT_TRUE(report.errors.empty());
  EXPECT_EQ(KeysLeft(), 7u);
}

TEST_F(CliLoad, ReplayFindsWrongBytes) {
  pool_->corrupt_keys = {"replay/2"};
  const ReplayReport report = Replay({{1, 2, 3}, {1, 2, 3}, {1, 2}}, SmallReplay());
  EXPECT_EQ(report.wrong_blocks, 2u);
  EXPECT_EQ(report.wrong_bytes, 2u);
  EXPECT_EQ(report.first_wrong_key, "replay/2");
}

TEST_F(CliLoad, ReplayTakesABlockThatVanishedAsAMiss) {
  Replay({{1, 2, 3, 4}}, SmallReplay());
  pool_->vanishing_keys = {"replay/3"};
  const ReplayReport report = Replay({{1, 2, 3, 4}}, SmallReplay());
  EXPECT_EQ(report.hit_blocks, 2u);
  EXPECT_EQ(report.blocks_vanished, 1u);
  EXPECT_EQ(report.blocks_verified, 3u) << "block 4 was read too, though it is of no use";
  EXPECT_EQ(report.blocks_existed, 2u) << "the rest is put again";
  EXPECT_TRUE(report.errors.empty());
}

TEST_F(CliLoad, ReplayPutsABlockThatARequestNamesTwiceOnce) {
  const ReplayReport report = Replay({{5, 5, 6, 5}}, SmallReplay());
  EXPECT_EQ(report.blocks_put, 2u);
  EXPECT_EQ(report.blocks_existed, 0u);
}

TEST_F(CliLoad, ReplayWithSeveralAtOnceDoesAllRequests) {
  std::vector<std::vector<int>> requests;
  for (int i = 0; i < 200; ++i) requests.push_back({0, 1, i % 10 + 2, i + 100});
  ReplayOptions options = SmallReplay();
  options.concurrency = 4;
  const ReplayReport report = Replay(requests, options);
  EXPECT_EQ(report.requests, 200u);
  EXPECT_EQ(report.blocks, 800u);
  EXPECT_EQ(report.blocks_put, 12u + 200u);
  EXPECT_EQ(report.wrong_bytes, 0u);
}

TEST_F(CliLoad, ReplayHonoursLimitsAndTheTracesPace) {
  ReplayOptions options = SmallReplay();
  options.limit = 2;
  EXPECT_EQ(Replay({{1}, {2}, {3}}, options).requests, 2u);
  options.limit = 0;
  options.speed_up = 0.00001;  // the second request is due in minutes
  options.max_time = std::chrono::milliseconds(50);
  const ReplayReport report = Replay({{1}, {2}}, options);
  EXPECT_EQ(report.requests, 1u);
  EXPECT_TRUE(report.timed_out);
}

TEST_F(CliLoad, ReplayStopsAtAWrongLineAndSaysWhere) {
  std::ofstream(path_)
      << R"({"timestamp": 0, "input_length": 1, "output_length": 1, "hash_ids": [1]})"
      << "\nnonsense\n";
  const ReplayReport report = ReplayFile(SmallReplay());
  EXPECT_EQ(report.requests, 1u);
  EXPECT_EQ(report.stopped.code(), Code::kMalformed);
  EXPECT_THAT(report.stopped.message(), HasSubstr(path_ + ":2"));
}

TEST_F(CliLoad, ReplayCountsErrorsAndStopsWhenThePoolIsGone) {
  pool_->put_failure = Status(Code::kNoSpace);
  const ReplayReport full = Replay({{1, 2, 3}}, SmallReplay());
  EXPECT_EQ(full.errors.at(Code::kNoSpace), 3u);
  EXPECT_TRUE(full.stopped.ok());
  pool_->put_failure = Status(Code::kUnavailable, "gone");
  const ReplayReport gone = Replay({{4}, {5}, {6}}, SmallReplay());
  EXPECT_EQ(gone.requests, 1u);
  EXPECT_EQ(gone.stopped.code(), Code::kUnavailable);
}

TEST_F(CliLoad, ReplayEndsWithASummaryWhenInterrupted) {
  pool_->on_put = [this] { SetInterrupted(pool_->puts == 2); };
  const ReplayReport report = Replay({{1}, {2}, {3}, {4}}, SmallReplay());
  EXPECT_TRUE(report.interrupted);
  EXPECT_EQ(report.requests, 2u);
}

TEST_F(CliLoad, ReplayJsonHasTheFieldsOfAReport) {
  const ReplayOptions options = SmallReplay();
  const boost::json::object json = ReplayJson(options, Replay({{1, 2}, {1, 2}}, options));
  EXPECT_DOUBLE_EQ(json.at("prefix_hit_ratio").as_double(), 0.5);
  for (const char* field : {"requests", "blocks", "hit_blocks", "blocks_got", "blocks_put",
                            "blocks_existed", "blocks_vanished", "blocks_verified", "wrong_bytes",
                            "seconds", "evicted_objects", "errors"}) {
    EXPECT_TRUE(json.contains(field)) << field;
  }
  for (const char* call : {"lookup", "get", "put"})
    EXPECT_GT(json.at(call).at("latency_us").at("p50").as_double(), 0);
  EXPECT_GT(json.at("get").at("gb_per_s").as_double(), 0);
  EXPECT_GT(json.at("put").at("gb_per_s_wall").as_double(), 0);
}

}  // namespace
}  // namespace mmc::cli
