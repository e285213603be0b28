// Goal: doctor judges machines rightly and says what to do. Method: a made-up /proc and /sys, a
// pool in a map.
#include "client_sdk/cli/doctor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

#include "common/base/bytes.h"
#include "common/config/local_conf.h"
#include "tests/unit/cli_fake_client.h"

namespace mmc::cli {
namespace {

using testing::HasSubstr;

class CliDoctor : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/mmc-doctor-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    root_ = std::string(name) + "/";
    machine_.root = root_;
    machine_.shm_total_bytes = 1_GiB;
    machine_.shm_free_bytes = 1_GiB;
    machine_.limits = {UINT64_MAX, 65536};
    Write("proc/meminfo", "MemTotal:       16777216 kB\nMemAvailable:    8388608 kB\n");
    Write("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "0\n");
    Write("sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "0\n");
    Write("sys/kernel/mm/transparent_hugepage/shmem_enabled",
          "always within_size [advise] never deny force\n");
  }
  void TearDown() override { std::filesystem::remove_all(root_); }

  void Write(const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(root_ + path).parent_path());
    std::ofstream(root_ + path) << text;
  }
  Check Find(const std::string& name, uint64_t dram = 1_GiB) {
    for (const Check& check : CheckMachine(machine_, dram)) {
      if (check.name == name) return check;
    }
    ADD_FAILURE() << "no check named " << name;
    return {};
  }

  std::string root_;
  Machine machine_;
};

TEST_F(CliDoctor, AGoodMachineHasNothingToMend) {
  for (const Check& check : CheckMachine(machine_, 1_GiB)) {
    EXPECT_EQ(check.verdict, Verdict::kOk) << check.name << ": " << check.saw;
  }
}

TEST_F(CliDoctor, HugePages) {
  Write("sys/kernel/mm/transparent_hugepage/shmem_enabled",
        "always within_size advise [never] deny force\n");
  const Check none = Find("huge pages");
  EXPECT_EQ(none.verdict, Verdict::kWarn);
  EXPECT_THAT(none.remedy, HasSubstr("vm.nr_hugepages=512"));
  Write("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "512\n");
  EXPECT_EQ(Find("huge pages").verdict, Verdict::kOk) << "a local service may be holding them";
}

TEST_F(CliDoctor, MemoryAndControlGroup) {
  EXPECT_EQ(Find("memory", 20_GiB).verdict, Verdict::kFail);
  Write("sys/fs/cgroup/memory.max", "max\n");
  EXPECT_EQ(Find("memory").verdict, Verdict::kOk);
  Write("sys/fs/cgroup/memory.max", "536870912\n");
  const Check small = Find("memory");
  EXPECT_EQ(small.verdict, Verdict::kFail);
  EXPECT_THAT(small.saw, HasSubstr("control group limit 512.00 MiB"));
}

TEST_F(CliDoctor, LimitsAndSharedMemory) {
  machine_.limits = {64 << 10, 256};
  EXPECT_EQ(Find("open files limit").verdict, Verdict::kWarn);
  EXPECT_EQ(Find("locked memory limit").verdict, Verdict::kOk) << "nothing is pinned without RDMA";
  std::filesystem::create_directories(root_ + "sys/class/infiniband/mlx5_0");
  EXPECT_EQ(Find("locked memory limit").verdict, Verdict::kWarn);
  EXPECT_EQ(Find("RDMA devices").saw, "mlx5_0");
  machine_.shm_free_bytes = 1_MiB;
  EXPECT_EQ(Find("/dev/shm").verdict, Verdict::kWarn);
  machine_.shm_total_bytes = 0;
  EXPECT_EQ(Find("/dev/shm").verdict, Verdict::kFail);
}

TEST_F(CliDoctor, ConfFile) {
  std::optional<config::Values> values;
  EXPECT_FALSE(AnyFailed(CheckConf("", &values)));
  EXPECT_TRUE(values.has_value());
  values.reset();
  Write("good.conf",
        "ock.mmc.meta_service_url = tcp://127.0.0.1:5000\nock.mmc.meta_servce_url = x\n");
  const std::vector<Check> good = CheckConf(root_ + "good.conf", &values);
  EXPECT_FALSE(AnyFailed(good));
  ASSERT_GE(good.size(), 2u) << "the unknown key is a warning";
  EXPECT_THAT(good[1].saw, HasSubstr("ock.mmc.meta_servce_url"));
  values.reset();
  Write("bad.conf", "ock.mmc.client.timeout.seconds = soon\n");
  EXPECT_TRUE(AnyFailed(CheckConf(root_ + "bad.conf", &values)));
  EXPECT_FALSE(values.has_value());
}

// A socket that listens on a free port of this host.
class Listener {
 public:
  Listener() : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(bind(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    EXPECT_EQ(listen(fd_, 4), 0);
    socklen_t size = sizeof(address);
    getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
  }
  ~Listener() { close(fd_); }
  int fd() const { return fd_; }
  std::string Port() const { return std::to_string(port_); }

 private:
  int fd_;
  uint16_t port_ = 0;
};

std::vector<Check> LocalChecks(const std::vector<std::string>& settings) {
  return CheckLocalService(config::LocalConf().Load("", settings).value());
}

TEST_F(CliDoctor, PortsAndFolders) {
  const Listener listener;
  const std::string key = "ock.mmc.local_service.hcom_url=tcp://";
  EXPECT_THAT(LocalChecks({key + "127.0.0.1:" + listener.Port()}).at(0).saw, HasSubstr("in use"));
  EXPECT_FALSE(AnyFailed(LocalChecks({key + "127.0.0.1:" + listener.Port()})));
  // An address of the block that is kept for documentation: no machine has it.
  EXPECT_TRUE(AnyFailed(LocalChecks({key + "192.0.2.1:7000"})));
  const std::string folder = "ock.mmc.local_service.shm.directory=";
  EXPECT_THAT(LocalChecks({folder + root_}).back().saw, HasSubstr("read and written"));
  EXPECT_THAT(LocalChecks({folder + root_ + "none"}).back().saw, HasSubstr("not there yet"));
}

TEST_F(CliDoctor, Pool) {
  const auto pool = std::make_shared<FakePool>();
  Status failure(Code::kUnavailable, "refused");
  const PoolConnector connect = [&](const ClientOptions&) {
    if (!failure.ok()) return Result<std::unique_ptr<Client>>(failure);
    return Result<std::unique_ptr<Client>>(std::make_unique<FakeClient>(pool));
  };
  const std::vector<Check> down = CheckPool({}, connect);
  EXPECT_TRUE(AnyFailed(down));
  EXPECT_THAT(down.at(0).remedy, HasSubstr("mmc_meta_service"));
  failure = Status::Ok();
  EXPECT_TRUE(AnyFailed(CheckPool({}, connect))) << "a pool without nodes cannot store";
  pool->status.nodes = {{.name = "a", .state = "serving", .endpoints = {"shm /nonexistent/a.sock"}},
                        {.name = "b", .state = "dead"}};
  const std::vector<Check> half = CheckPool({}, connect);
  EXPECT_FALSE(AnyFailed(half));
  EXPECT_EQ(half.at(1).verdict, Verdict::kWarn);
  EXPECT_EQ(half.at(1).saw, "1 of 2 serving");
  EXPECT_EQ(half.size(), 2u) << "the socket is another host's";
}

TEST_F(CliDoctor, HttpReady) {
  const Listener listener;
  const auto answer_once = [&](const std::string& text) {
    return std::thread([&listener, text] {
      const int peer = accept(listener.fd(), nullptr, nullptr);
      char request[512];
      EXPECT_GT(recv(peer, request, sizeof(request), 0), 0);
      EXPECT_EQ(send(peer, text.data(), text.size(), 0), static_cast<ssize_t>(text.size()));
      close(peer);
    });
  };
  const std::string url = "http://127.0.0.1:" + listener.Port();
  std::thread ready = answer_once("HTTP/1.1 200 OK\r\n\r\n");
  EXPECT_EQ(CheckReady(url, std::chrono::seconds(20)).verdict, Verdict::kOk);
  ready.join();
  std::thread not_ready = answer_once("HTTP/1.1 503 Service Unavailable\r\n\r\n");
  const Check check = CheckReady(url, std::chrono::seconds(20));
  EXPECT_EQ(check.verdict, Verdict::kFail);
  EXPECT_THAT(check.saw, HasSubstr("503"));
  not_ready.join();
  EXPECT_EQ(CheckReady("nonsense", std::chrono::seconds(1)).verdict, Verdict::kFail);
}

TEST_F(CliDoctor, Shapes) {
  const std::vector<Check> checks = {
      {.name = "a", .saw = "x"},
      {.name = "b", .verdict = Verdict::kFail, .saw = "y", .remedy = "mend it"}};
  EXPECT_EQ(boost::json::serialize(DoctorJson(checks)),
            R"({"ok":false,"checks":[{"name":"a","verdict":"ok","saw":"x"},)"
            R"({"name":"b","verdict":"fail","saw":"y","remedy":"mend it"}]})");
  EXPECT_EQ(DoctorText(checks), "ok    a: x\nfail  b: y\n      -> mend it\n");
  EXPECT_EQ(CheckClock().verdict, Verdict::kOk);
}

}  // namespace
}  // namespace mmc::cli
