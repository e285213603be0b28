// A daemon that does nothing, for daemon_test: DaemonMain around a Start that works, fails or
// hangs, as test.start says.
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <mutex>

#include "common/config/common_settings.h"
#include "common/runtime/daemon.h"

namespace {

using mmc::Code;
using mmc::Status;

class TestDaemon final : public mmc::runtime::Daemon {
 public:
  explicit TestDaemon(std::string start) : start_(std::move(start)) {}

  Status Start() override {
    if (start_ == "fail") return Status(Code::kIo, "address 127.0.0.1:5000 is in use");
    if (start_ == "wrong")
      return Status(Code::kConfig, "test.start = wrong: must be something else");
    if (start_ == "hang") {
      std::puts("hanging");
      std::fflush(stdout);
      std::unique_lock<std::mutex> lock(mutex_);
      never_.wait(lock, [] { return false; });
    }
    std::puts("started");
    std::fflush(stdout);
    return Status::Ok();
  }
  void Stop() override {
    std::puts("stopped");
    std::fflush(stdout);
  }

 private:
  const std::string start_;
  std::mutex mutex_;
  std::condition_variable never_;
};

}  // namespace

int main(int argc, char** argv) {
  std::vector<mmc::config::Setting> settings = mmc::config::LogSettings();
  settings.push_back(
      mmc::config::Enum("test.start", "ok", {"ok", "fail", "wrong", "hang"}, "What Start does."));
  const mmc::config::Schema schema("mmc_test_daemon", settings, {});
  const mmc::runtime::DaemonSpec spec{
      "mmc_test_daemon",
      "a daemon for tests",
      "MMC_TEST_CONFIG_PATH",
      "mmc-test",
      schema,
      [](const mmc::config::Values& values) -> mmc::Result<std::unique_ptr<mmc::runtime::Daemon>> {
        return std::unique_ptr<mmc::runtime::Daemon>(
            new TestDaemon(values.GetString("test.start")));
      }};
  return mmc::runtime::DaemonMain(argc, argv, spec);
}
