// DaemonMain as its users see it: flags, exit codes, the one line on stderr, signals, readiness,
// log files.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <string>

#include "common/runtime/flags.h"
#include "tests/unit/child.h"
#include "tests/unit/temp_dir.h"

namespace mmc::runtime {
namespace {

using test::Child;
using testing::HasSubstr;

constexpr char kProgram[] = MMC_TEST_DAEMON;

long Lines(const std::string& text) { return std::count(text.begin(), text.end(), '\n'); }

// What systemd would listen on.
class NotifySocket {
 public:
  explicit NotifySocket(const std::string& name)
      : fd_(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, name.data(), name.size());
    if (name[0] == '@') address.sun_path[0] = '\0';
    const auto bytes = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());
    // A daemon that never gets ready must fail the test, not hang it.
    const timeval patience{60, 0};
    setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    bound_ = bind(fd_, reinterpret_cast<const sockaddr*>(&address), bytes) == 0;
  }
  ~NotifySocket() { close(fd_); }
  bool bound() const { return bound_; }
  std::string Receive() const {
    char buffer[256];
    const ssize_t n = recv(fd_, buffer, sizeof(buffer), 0);
    return n < 0 ? "" : std::string(buffer, static_cast<size_t>(n));
  }

 private:
  int fd_;
  bool bound_ = false;
};

TEST(Daemon, StopsWithZeroOnSigtermAndSigint) {
  for (const int number : {SIGTERM, SIGINT}) {
    Child child({kProgram});
    ASSERT_TRUE(child.WaitForErr("is ready")) << child.err_text;
    child.Signal(number);
    EXPECT_EQ(child.Wait(), 0);
    EXPECT_THAT(child.out_text, HasSubstr("stopped"));
    EXPECT_THAT(child.err_text, HasSubstr("no configuration file"));
  }
}

TEST(Daemon, SignalWhileItStartsEndsItWithZero) {
  Child child({kProgram, "--set", "test.start=hang"});
  ASSERT_TRUE(child.WaitForOut("hanging"));
  child.Signal(SIGTERM);
  EXPECT_EQ(child.Wait(), 0);
}

TEST(Daemon, FailedStartIsOneLineAndExitOne) {
  const test::TempDir dir;
  Child child({kProgram, "--config", dir.Write("a.conf", "test.start = fail\n")});
  EXPECT_EQ(child.Wait(), 1);
  EXPECT_EQ(child.err_text, "mmc_test_daemon: address 127.0.0.1:5000 is in use\n");
}

TEST(Daemon, WrongConfigurationIsOneLineAndExitTwo) {
  const test::TempDir dir;
  const std::string path = dir.Write("a.conf", "\ntest.start = perhaps\n");
  Child child({kProgram, "--config=" + path});
  EXPECT_EQ(child.Wait(), 2);
  EXPECT_EQ(child.err_text, "mmc_test_daemon: " + path +
                                ":2: test.start = perhaps: must be one of ok, fail, wrong, hang\n");
}

TEST(Daemon, WrongConfigurationFoundAtStartIsExitTwoToo) {
  const test::TempDir dir;
  Child child({kProgram, "--config", dir.Write("a.conf", "test.start = wrong\n")});
  EXPECT_EQ(child.Wait(), 2);
  EXPECT_EQ(Lines(child.err_text), 1) << child.err_text;
}

TEST(Daemon, MissingFileIsOneLineAndExitTwo) {
  Child child({kProgram, "--config", "/nowhere/a.conf"});
  EXPECT_EQ(child.Wait(), 2);
  EXPECT_EQ(Lines(child.err_text), 1) << child.err_text;
  EXPECT_THAT(child.err_text, HasSubstr("/nowhere/a.conf"));
}

TEST(Daemon, TakesTheFileOfTheEnvironmentAndTheFlagBeforeIt) {
  const test::TempDir dir;
  const std::string failing = dir.Write("fail.conf", "test.start = fail\n");
  const std::string wrong = dir.Write("wrong.conf", "test.start = wrong\n");
  Child from_env({kProgram}, {{"MMC_TEST_CONFIG_PATH", failing}});
  EXPECT_EQ(from_env.Wait(), 1);
  Child from_flag({kProgram, "--config", wrong}, {{"MMC_TEST_CONFIG_PATH", failing}});
  EXPECT_EQ(from_flag.Wait(), 2);
}

TEST(Daemon, WrongFlagsAreExitTwo) {
  for (const std::vector<std::string>& args :
       std::vector<std::vector<std::string>>{{kProgram, "--confg", "x"},
                                             {kProgram, "--set"},
                                             {kProgram, "stray"},
                                             {kProgram, "--set", "a.b=1"}}) {
    Child child(args);
    EXPECT_EQ(child.Wait(), 2) << args[1];
    EXPECT_EQ(Lines(child.err_text), 1) << child.err_text;
  }
}

TEST(Daemon, HelpShowsOnlyItsOwnFlags) {
  Child child({kProgram, "--help"});
  EXPECT_EQ(child.Wait(), 0);
  EXPECT_EQ(child.err_text, "");
  EXPECT_THAT(child.out_text, HasSubstr("--dump-conf"));
  EXPECT_THAT(child.out_text, HasSubstr("MMC_TEST_CONFIG_PATH"));
  EXPECT_LE(Lines(child.out_text), 14);
}

TEST(Daemon, DumpsAndVersionGoToStdout) {
  for (const auto& [flag, text] :
       {std::pair("--dump-conf", "test.start = ok"), std::pair("--dump-doc", "| `test.start` |"),
        std::pair("--version", "mmc_test_daemon ")}) {
    Child child({kProgram, flag});
    EXPECT_EQ(child.Wait(), 0) << flag;
    EXPECT_THAT(child.out_text, HasSubstr(text));
    EXPECT_EQ(child.err_text, "");
  }
}

TEST(Daemon, LogsWarningsIntoTheFileAndNothingToStderr) {
  const test::TempDir dir;
  const NotifySocket ready(dir.File("notify"));
  Child child({kProgram, "--config", dir.Write("a.conf", "test.strat = ok\n"), "--set",
               "ock.mmc.log_path=" + dir.path()},
              {{"NOTIFY_SOCKET", dir.File("notify")}});
  ASSERT_EQ(ready.Receive(), "READY=1");
  child.Signal(SIGTERM);
  EXPECT_EQ(child.Wait(), 0);
  EXPECT_EQ(child.err_text, "");
  const std::string log = test::ReadFile(dir.File("logs/mmc-test.log"));
  EXPECT_THAT(log, HasSubstr("unknown key 'test.strat'; did you mean 'test.start'?"));
  EXPECT_THAT(log, HasSubstr("has stopped"));
}

TEST(Daemon, LogLevelDropsWhatIsLessSevere) {
  const test::TempDir dir;
  const NotifySocket ready(dir.File("notify"));
  Child child({kProgram, "--config", dir.Write("a.conf", "test.strat = ok\n"), "--set",
               "ock.mmc.log_path=" + dir.path(), "--set", "ock.mmc.log_level=WARN"},
              {{"NOTIFY_SOCKET", dir.File("notify")}});
  ASSERT_EQ(ready.Receive(), "READY=1");
  child.Signal(SIGTERM);
  EXPECT_EQ(child.Wait(), 0);
  const std::string log = test::ReadFile(dir.File("logs/mmc-test.log"));
  EXPECT_THAT(log, HasSubstr("unknown key"));
  EXPECT_THAT(log, testing::Not(HasSubstr("is ready")));
}

TEST(Daemon, LogFolderThatCannotBeMadeIsAConfigurationError) {
  Child child({kProgram, "--set", "ock.mmc.log_path=/proc/nowhere"});
  EXPECT_EQ(child.Wait(), 2);
  EXPECT_EQ(Lines(child.err_text), 1) << child.err_text;
  EXPECT_THAT(child.err_text, HasSubstr("ock.mmc.log_path"));
}

TEST(Daemon, TellsSystemdWhenItIsReadyAndWhenItStops) {
  const test::TempDir dir;
  for (const std::string& name : {dir.File("notify"), "@mmc-notify-" + std::to_string(getpid())}) {
    const NotifySocket socket(name);
    ASSERT_TRUE(socket.bound()) << name;
    Child child({kProgram}, {{"NOTIFY_SOCKET", name}});
    EXPECT_EQ(socket.Receive(), "READY=1");
    child.Signal(SIGTERM);
    EXPECT_EQ(socket.Receive(), "STOPPING=1");
    EXPECT_EQ(child.Wait(), 0);
  }
}

TEST(DaemonFlags, BothSpellingsAndOrder) {
  const Result<DaemonFlags> flags =
      ParseDaemonFlags({"--set", "a=1", "--set=a=2", "--config=x.conf"});
  ASSERT_TRUE(flags.ok());
  EXPECT_EQ(flags->config, "x.conf");
  EXPECT_THAT(flags->overrides, testing::ElementsAre("a=1", "a=2"));
}

}  // namespace
}  // namespace mmc::runtime
