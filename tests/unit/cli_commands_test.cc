// Goal: commands print and exit as documented. Method: whole command lines over a pool in a map.
#include "client_sdk/cli/commands.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "tests/unit/cli_fake_client.h"

namespace mmc::cli {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

// A file that Output can write into and the test can read.
class Sink {
 public:
  Sink() : file_(std::tmpfile()) {}
  ~Sink() { std::fclose(file_); }
  Sink(const Sink&) = delete;
  Sink& operator=(const Sink&) = delete;
  int fd() const { return fileno(file_); }
  std::string Text() const {
    std::string text(static_cast<size_t>(lseek(fd(), 0, SEEK_END)), '\0');
    EXPECT_EQ(pread(fd(), text.data(), text.size(), 0), static_cast<ssize_t>(text.size()));
    return text;
  }

 private:
  std::FILE* file_;
};

struct Outcome {
  int code = -1;
  std::string out;
  std::string err;
  boost::json::value Json() const { return boost::json::parse(out); }
};

class CliCommands : public testing::Test {
 protected:
  void SetUp() override {
    unsetenv("MMC_META_URL");
    unsetenv("MMC_LOCAL_CONFIG_PATH");
    char name[] = "/tmp/mmc-cli-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    folder_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  Outcome Run(std::vector<std::string> words) {
    Sink out_sink;
    Sink err_sink;
    Output out(out_sink.fd());
    Output err(err_sink.fd());
    const int code = RunCli(std::move(words), out, err, [this](const ClientOptions& options) {
      asked_ = options;
      if (!connect_failure_.ok()) return Result<std::unique_ptr<Client>>(connect_failure_);
      return Result<std::unique_ptr<Client>>(std::make_unique<FakeClient>(pool_));
    });
    return {code, out_sink.Text(), err_sink.Text()};
  }
  std::string File(const std::string& name, const std::string& text) {
    const std::string path = folder_ + "/" + name;
    std::ofstream(path, std::ios::binary) << text;
    return path;
  }
  static std::string TextOf(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  void Store(const std::string& key, const std::string& value) {
    MutexLock lock(pool_->mutex);
    pool_->values[key] = value;
  }

  std::shared_ptr<FakePool> pool_ = std::make_shared<FakePool>();
  Status connect_failure_;
  ClientOptions asked_;
  std::string folder_;
};

TEST_F(CliCommands, PutThenGetGivesTheBytesBack) {
  const std::string bytes("\0binary\n\xff", 9);
  const Outcome put = Run({"put", "k", File("in", bytes)});
  EXPECT_EQ(put.code, kExitOk) << put.err;
  EXPECT_EQ(Run({"get", "k"}).out, bytes);
  const std::string out_path = File("out", "an older and longer text");
  EXPECT_EQ(Run({"get", "k", out_path}).code, kExitOk);
  EXPECT_EQ(TextOf(out_path), bytes);
  const Outcome json = Run({"--json", "get", "k", out_path});
  EXPECT_EQ(json.Json().at("size").to_number<int>(), 9);
}

TEST_F(CliCommands, PutOfAKeyThatIsThereKeepsTheValue) {
  Store("k", "old");
  const std::string path = File("in", "new");
  const Outcome put = Run({"put", "k", path});
  EXPECT_EQ(put.code, kExitFailed);
  EXPECT_THAT(put.err, HasSubstr("key 'k'"));
  EXPECT_EQ(Run({"put", "k", path, "--exist-ok"}).code, kExitOk);
  EXPECT_EQ(Run({"--json", "put", "k", path, "--exist-ok"}).Json().at("stored").as_bool(), false);
  EXPECT_EQ(Run({"get", "k"}).out, "old");
}

TEST_F(CliCommands, PutRefusesFilesItCannotStore) {
  EXPECT_EQ(Run({"put", "k", folder_ + "/none"}).code, kExitFailed);
  EXPECT_EQ(Run({"put", "k", folder_}).code, kExitFailed);
  const Outcome empty = Run({"put", "k", File("empty", "")});
  EXPECT_EQ(empty.code, kExitUsage);
  EXPECT_THAT(empty.err, HasSubstr("at least 1 byte"));
}

TEST_F(CliCommands, GetOfAnAbsentKeyLeavesTheFileAlone) {
  const std::string path = File("out", "as it was");
  const Outcome get = Run({"get", "none", path});
  EXPECT_EQ(get.code, kExitFailed);
  EXPECT_THAT(get.err, HasSubstr("mmc get: NOT_FOUND: key 'none'"));
  EXPECT_EQ(TextOf(path), "as it was");
  EXPECT_EQ(Run({"get", "none", "--json"}).code, kExitUsage);
}

TEST_F(CliCommands, ExistsSaysWhichAndExitsOneWhenOneIsAbsent) {
  Store("a", "1");
  EXPECT_EQ(Run({"exists", "a"}).code, kExitOk);
  const Outcome both = Run({"exists", "a", "b"});
  EXPECT_EQ(both.code, kExitFailed);
  EXPECT_EQ(both.out, "a: present\nb: absent\n");
  EXPECT_EQ(Run({"--quiet", "exists", "b"}).out, "");
  const Outcome json = Run({"exists", "a", "b", "--json"});
  EXPECT_EQ(json.out,
            R"({"keys":[{"key":"a","present":true},{"key":"b","present":false}],"absent":1})"
            "\n");
}

TEST_F(CliCommands, Stat) {
  Store("a", "12345");
  EXPECT_THAT(Run({"stat", "a"}).out, HasSubstr("on node-a in dram: 5 B in 1 extent"));
  const Outcome json = Run({"stat", "a", "b", "--json"});
  EXPECT_EQ(json.code, kExitFailed);
  EXPECT_EQ(json.Json().at("keys").at(0).at("size").to_number<int>(), 5);
  EXPECT_EQ(json.Json().at("keys").at(1).at("present").as_bool(), false);
}

TEST_F(CliCommands, RemoveInItsThreeWays) {
  for (const char* key : {"a/1", "a/2", "b/1", "b/2"}) Store(key, "x");
  EXPECT_EQ(Run({"rm", "a/1"}).code, kExitOk);
  const Outcome again = Run({"rm", "a/1", "a/2"});
  EXPECT_EQ(again.code, kExitFailed);
  EXPECT_THAT(again.err, HasSubstr("key 'a/1'"));
  EXPECT_EQ(Run({"rm", "--prefix", "b/", "--json"}).out, "{\"removed\":2}\n");
  Store("c", "x");
  EXPECT_EQ(Run({"rm", "--all"}).out, "1 removed\n");
}

TEST_F(CliCommands, RemoveNeedsExactlyOneWay) {
  Store("a", "x");
  for (const std::vector<std::string>& words :
       std::vector<std::vector<std::string>>{{"rm"},
                                             {"rm", "a", "--all"},
                                             {"rm", "--prefix", "a", "--all"},
                                             {"rm", "--prefix", ""}}) {
    EXPECT_EQ(Run(words).code, kExitUsage);
  }
  EXPECT_EQ(Run({"exists", "a"}).code, kExitOk) << "nothing was removed";
}

TEST_F(CliCommands, ListGoesThroughAllPages) {
  for (int i = 0; i < 8; ++i)
    Store("k" + std::to_string(i), std::string(static_cast<size_t>(i + 1), 'x'));
  Store("other", "x");
  EXPECT_EQ(Run({"ls", "k"}).out, "k0\nk1\nk2\nk3\nk4\nk5\nk6\nk7\n");
  const Outcome json = Run({"ls", "--json"});
  EXPECT_EQ(json.Json().at("count").to_number<int>(), 9);
  EXPECT_EQ(json.Json().at("keys").as_array().size(), 9u);
  EXPECT_EQ(json.Json().at("keys").at(7).at("size").to_number<int>(), 8);
  EXPECT_EQ(Run({"ls", "--limit", "5", "--json"}).Json().at("more").as_bool(), true);
  EXPECT_EQ(Run({"ls", "nothing", "--json"}).Json().at("count").to_number<int>(), 0);
  EXPECT_EQ(Run({"ls", "k7", "--long"}).out, "          8  k7\n");
}

TEST_F(CliCommands, ClusterCommands) {
  pool_->status.nodes = {{.name = "node-a", .state = "serving"}};
  EXPECT_EQ(Run({"nodes", "--json"}).Json().at("nodes").at(0).at("state").as_string(), "serving");
  EXPECT_THAT(Run({"nodes"}).out, HasSubstr("node-a"));
  EXPECT_THAT(Run({"status"}).out, HasSubstr("pool"));
  const Outcome top = Run({"top", "--json", "-n", "2", "--interval", "50ms"});
  EXPECT_EQ(top.code, kExitOk);
  EXPECT_EQ(std::count(top.out.begin(), top.out.end(), '\n'), 2);
}

TEST_F(CliCommands, DrainEmptiesANode) {
  pool_->status.nodes = {
      {.name = "node-a", .state = "serving", .used_bytes = 8192, .objects = 3}};
  Outcome outcome = Run({"drain", "node-a"});
  EXPECT_EQ(outcome.code, kExitOk) << outcome.err;
  EXPECT_EQ(pool_->status.nodes[0].state, "draining");
  EXPECT_THAT(Run({"nodes"}).out, HasSubstr("draining, 2 left"));
  EXPECT_EQ(Run({"drain", "node-a", "--cancel"}).code, kExitOk);
  EXPECT_EQ(pool_->status.nodes[0].state, "serving");
  outcome = Run({"drain", "node-a", "--wait"});
  EXPECT_EQ(outcome.code, kExitOk) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("node-a is drained"));
  outcome = Run({"drain", "nobody"});
  EXPECT_EQ(outcome.code, kExitFailed);
  EXPECT_EQ(Run({"drain"}).code, kExitUsage);
  // What cannot move is said, and the wait ends.
  Run({"drain", "node-a", "--cancel"});
  pool_->drain_stalls = true;
  outcome = Run({"drain", "node-a", "--wait", "--stall", "100ms"});
  EXPECT_EQ(outcome.code, kExitFailed);
  EXPECT_THAT(outcome.err, HasSubstr("3 objects"));
}

TEST_F(CliCommands, ScrubChecksWhatIsStored) {
  Outcome outcome = Run({"scrub", "--rate", "1MB", "--json"});
  EXPECT_EQ(outcome.code, kExitOk) << outcome.err;
  EXPECT_EQ(outcome.Json().at("id"), 7);
  EXPECT_EQ(pool_->scrub_rate, 1u << 20);
  pool_->scrub = {.nodes = 2, .nodes_done = 2, .checked_objects = 10, .bad_replicas = 0};
  EXPECT_EQ(Run({"scrub", "--wait"}).code, kExitOk);
  pool_->scrub.bad_replicas = 1;
  outcome = Run({"scrub", "node-a", "--wait"});
  EXPECT_EQ(outcome.code, kExitFailed) << "something bad was found";
  EXPECT_THAT(outcome.out, HasSubstr("1 bad"));
}

TEST_F(CliCommands, FailuresHaveTheirExitCodesAndOneLine) {
  connect_failure_ = Status(Code::kUnavailable, "tcp://127.0.0.1:1 refused");
  const Outcome down = Run({"nodes", "--json"});
  EXPECT_EQ(down.code, kExitUnreachable);
  EXPECT_EQ(down.err, "mmc nodes: UNAVAILABLE: tcp://127.0.0.1:1 refused\n");
  EXPECT_EQ(down.Json().at("error").at("code").as_string(), "UNAVAILABLE");
  connect_failure_ = Status::Ok();
  pool_->call_failure = Status(Code::kDeadline, "late");
  EXPECT_EQ(Run({"exists", "a"}).code, kExitDeadline);
  EXPECT_EQ(Run({"ls", "--json"}).code, kExitDeadline);
}

TEST_F(CliCommands, UsageErrors) {
  EXPECT_EQ(Run({}).code, kExitUsage);
  const Outcome unknown = Run({"nodse"});
  EXPECT_EQ(unknown.code, kExitUsage);
  EXPECT_THAT(unknown.err, HasSubstr("did you mean 'nodes'?"));
  EXPECT_EQ(Run({"get"}).code, kExitUsage);
  EXPECT_EQ(Run({"get", "k", "--timeout", "soon"}).code, kExitUsage);
  EXPECT_EQ(Run({"put", "k", "-", "--replicas", "9"}).code, kExitUsage);
  for (const std::vector<std::string>& words : std::vector<std::vector<std::string>>{
           {"bench", "--op", "dance"},
           {"bench", "--value-size", "0"},
           {"bench", "--layout", "deepseek", "--buffers", "3"},
           {"bench", "--count", "5", "--duration", "5s"},
           {"bench", "--pool", "1GB", "--meta", "tcp://a:1"},
           {"bench", "--keys", "3", "--batch", "4"},
           {"replay", "/dev/null", "--speed-up", "-1"},
           {"replay", "/dev/null", "--fresh", "--key-prefix", ""}}) {
    EXPECT_EQ(Run(words).code, kExitUsage) << words[1];
  }
}

TEST_F(CliCommands, HelpIsThereForEveryCommand) {
  const std::string overview = Run({"help"}).out;
  for (const Command& command : Commands()) {
    EXPECT_THAT(overview, HasSubstr("\n  " + std::string(command.name) + " "));
    const Outcome help = Run({std::string(command.name), "--help"});
    EXPECT_EQ(help.code, kExitOk);
    EXPECT_THAT(help.out, StartsWith("usage: mmc " + std::string(command.name)));
    EXPECT_EQ(Run({"help", std::string(command.name)}).out, help.out);
  }
  EXPECT_THAT(Run({"help", "exit-codes"}).out, HasSubstr("130"));
  EXPECT_EQ(Run({"--help"}).code, kExitOk);
  EXPECT_THAT(Run({"--version"}).out, StartsWith("mmc "));
  EXPECT_TRUE(Run({"version", "--json"}).Json().is_object());
}

TEST_F(CliCommands, ThePoolIsNamedByFlagConfOrEnvironment) {
  Run({"nodes"});
  EXPECT_EQ(asked_.meta_url, "tcp://127.0.0.1:5000");
  const std::string conf =
      File("local.conf",
           "ock.mmc.meta_service_url = tcp://10.0.0.1:5001\nock.mmc.client.timeout.seconds = 7\n");
  setenv("MMC_LOCAL_CONFIG_PATH", conf.c_str(), 1);
  Run({"nodes"});
  EXPECT_EQ(asked_.meta_url, "tcp://10.0.0.1:5001");
  EXPECT_EQ(asked_.timeout, std::chrono::seconds(7));
  setenv("MMC_META_URL", "tcp://10.0.0.2:5002", 1);
  Run({"nodes"});
  EXPECT_EQ(asked_.meta_url, "tcp://10.0.0.2:5002");
  Run({"nodes", "--config", conf, "--timeout", "9s"});
  EXPECT_EQ(asked_.meta_url, "tcp://10.0.0.1:5001");
  EXPECT_EQ(asked_.timeout, std::chrono::seconds(9));
  Run({"nodes", "--config", conf, "--meta", "tcp://10.0.0.3:5003"});
  EXPECT_EQ(asked_.meta_url, "tcp://10.0.0.3:5003");
  Run({"bench", "--count", "1", "--pool", "64MB"});
  EXPECT_EQ(asked_.meta_url, "local://?dram=67108864");
}

TEST_F(CliCommands, IntegrityIsFromFlagOrConf) {
  Run({"nodes"});
  EXPECT_EQ(asked_.integrity, Integrity::kPut);
  const std::string conf = File("local.conf", "ock.mmc.integrity = verify\n");
  Run({"nodes", "--config", conf});
  EXPECT_EQ(asked_.integrity, Integrity::kVerify);
  Run({"nodes", "--config", conf, "--integrity", "off"});
  EXPECT_EQ(asked_.integrity, Integrity::kOff);
  const Outcome wrong = Run({"nodes", "--integrity", "sometimes"});
  EXPECT_EQ(wrong.code, kExitUsage);
  EXPECT_THAT(wrong.err, HasSubstr("off, put or verify"));
}

TEST_F(CliCommands, AWrongConfFileIsAUsageErrorThatNamesTheLine) {
  const std::string conf =
      File("local.conf", "# a comment\nock.mmc.client.timeout.seconds = soon\n");
  const Outcome outcome = Run({"nodes", "--config", conf});
  EXPECT_EQ(outcome.code, kExitUsage);
  EXPECT_THAT(outcome.err, HasSubstr(":2"));
}

TEST_F(CliCommands, BenchAndReplayReportAndExit) {
  const Outcome bench =
      Run({"bench", "--count", "50", "--value-size", "1KB", "--keys", "10", "--verify", "--json"});
  EXPECT_EQ(bench.code, kExitOk) << bench.err;
  EXPECT_EQ(bench.Json().at("wrong_values").to_number<int>(), 0);
  const std::string trace =
      File("trace", R"({"timestamp": 0, "input_length": 1, "output_length": 1, "hash_ids": [1, 2]})"
                    "\n");
  EXPECT_THAT(Run({"replay", trace, "--block-bytes", "4KB"}).out,
              HasSubstr("prefix hit ratio 0.0000"));
  EXPECT_THAT(Run({"replay", trace, "--block-bytes", "4KB"}).out,
              HasSubstr("prefix hit ratio 1.0000"));
  EXPECT_THAT(Run({"replay", trace, "--block-bytes", "4KB", "--fresh"}).out,
              HasSubstr("prefix hit ratio 0.0000"));
  pool_->corrupt_keys = {"replay/4096/1"};
  const Outcome wrong = Run({"replay", trace, "--block-bytes", "4KB"});
  EXPECT_EQ(wrong.code, kExitFailed);
  EXPECT_THAT(wrong.err, HasSubstr("verification failed: 1 wrong bytes in 1 blocks"));
}

TEST_F(CliCommands, OutputThatCannotBeWrittenIsAnError) {
  const int full = open("/dev/full", O_WRONLY);
  ASSERT_GE(full, 0);
  Output out(full);
  Sink err_sink;
  Output err(err_sink.fd());
  EXPECT_EQ(RunCli({"help"}, out, err, {}), kExitFailed);
  EXPECT_THAT(err_sink.Text(), HasSubstr("cannot write the output"));
  close(full);
}

}  // namespace
}  // namespace mmc::cli
