#include "common/runtime/daemon.h"

#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "common/obs/log.h"
#include "common/runtime/flags.h"
#include "common/runtime/notify.h"

namespace mmc::runtime {
namespace {

constexpr int kExitStopped = 0;
constexpr int kExitFailed = 1;
constexpr int kExitConfig = 2;
constexpr int kTickMilliseconds = 2000;

int Fail(const DaemonSpec& spec, const Status& status) {
  std::fprintf(stderr, "%s: %s\n", spec.name, status.message().c_str());
  const bool wrong_input =
      status.code() == Code::kConfig || status.code() == Code::kInvalidArgument;
  return wrong_input ? kExitConfig : kExitFailed;
}

// SIGTERM, SIGINT and SIGHUP as a file descriptor. Made before any thread, so that all threads leave the
// signals to it.
class Signals {
 public:
  Signals() {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &set, nullptr);
    signal(SIGPIPE, SIG_IGN);
    fd_ = signalfd(-1, &set, SFD_CLOEXEC);
  }
  ~Signals() { close(fd_); }
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;

  // Waits for a signal, or until `other` can be read, or until so many milliseconds have passed (-1: no such end);
  // answers the signal's number, or 0.
  int Wait(int other, int milliseconds = -1) const {
    pollfd fds[2] = {{fd_, POLLIN, 0}, {other, POLLIN, 0}};
    for (;;) {
      const int n = poll(fds, other >= 0 ? 2 : 1, milliseconds);
      if (n < 0 && errno == EINTR) continue;
      if (n == 0) return 0;
      if (n > 0 && (fds[0].revents & POLLIN) == 0) return 0;
      signalfd_siginfo info{};
      if (read(fd_, &info, sizeof(info)) == static_cast<ssize_t>(sizeof(info)))
        return static_cast<int>(info.ssi_signo);
    }
  }

 private:
  int fd_;
};

// The usual soft limit is for programs that call select(); connections here are thousands.
void AllowManyFiles() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

// Start() may take as long as the services that it waits for, and a signal must end the process
// meanwhile: so it runs beside the thread that waits for signals. True when it ended; false when a
// signal came first.
bool StartUnlessStopped(Daemon* daemon, const Signals& signals, Status* status) {
  const int done = eventfd(0, EFD_CLOEXEC);
  std::thread starter([daemon, done, status] {
    *status = daemon->Start();
    const uint64_t one = 1;
    if (write(done, &one, sizeof(one)) < 0) std::abort();  // an event counter at 0 takes a 1
  });
  for (;;) {
    const int signal_number = signals.Wait(done);
    if (signal_number == 0) break;
    if (signal_number == SIGHUP) continue;  // everything is being read for the first time
    starter.detach();                       // the caller ends the process
    return false;
  }
  starter.join();
  close(done);
  return true;
}

obs::LogOptions LogOptionsFrom(const DaemonSpec& spec, const config::Values& values) {
  obs::LogOptions out;
  out.name = spec.log_name;
  out.level = values.GetString("ock.mmc.log_level");
  out.directory = obs::LogDirectory(values.GetString("ock.mmc.log_path"));
  out.file_bytes = static_cast<uint64_t>(values.GetInt("ock.mmc.log_rotation_file_size")) << 20;
  out.file_count = static_cast<int>(values.GetInt("ock.mmc.log_rotation_file_count"));
  return out;
}

// The one line on stderr, and the same in the log when that is a file.
int FailLogged(const DaemonSpec& spec, const Status& status) {
  if (!FLAGS_logtostderr) MMC_LOG(ERROR) << status.message();
  return Fail(spec, status);
}

int Serve(const DaemonSpec& spec, const std::string& config, const config::Values& values,
          const Signals& signals) {
  Result<std::unique_ptr<Daemon>> daemon = spec.make(values);
  if (!daemon.ok()) return FailLogged(spec, daemon.status());
  Status started;
  if (!StartUnlessStopped(daemon->get(), signals, &started)) {
    MMC_LOG(INFO) << spec.name << " stopped while it was starting";
    std::_Exit(kExitStopped);  // Start() still runs, on objects that a return would destroy
  }
  if (!started.ok()) return FailLogged(spec, started);
  MMC_LOG(INFO) << spec.name << " " << MMC_VERSION << " is ready, configuration "
                << (config.empty() ? "defaults" : config);
  NotifySystemd("READY=1");
  int signal_number = 0;
  while (signal_number == 0) {
    signal_number = signals.Wait(-1, kTickMilliseconds);
    if (signal_number == SIGHUP) {
      MMC_LOG(INFO) << spec.name << " reloads, signal " << signal_number;
      (*daemon)->Reload();
      signal_number = 0;
    } else if (signal_number == 0) {
      (*daemon)->Tick();
    }
  }
  MMC_LOG(INFO) << spec.name << " stops, signal " << signal_number;
  NotifySystemd("STOPPING=1");
  (*daemon)->Stop();
  daemon->reset();
  MMC_LOG(INFO) << spec.name << " has stopped";
  return kExitStopped;
}

int Print(const std::string& text) {
  const bool all =
      std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0;
  return all ? kExitStopped : kExitFailed;
}

}  // namespace

int DaemonMain(int argc, char** argv, const DaemonSpec& spec) {
  const Result<DaemonFlags> flags = ParseDaemonFlags({argv + std::min(argc, 1), argv + argc}, spec.short_flags);
  if (!flags.ok()) return Fail(spec, flags.status());
  switch (flags->action) {
    case DaemonFlags::Action::kDumpConf:
      return Print(spec.schema.DumpConf());
    case DaemonFlags::Action::kDumpDoc:
      return Print(spec.schema.DumpDoc());
    case DaemonFlags::Action::kVersion:
      return Print(std::string(spec.name) + " " + MMC_VERSION + "\n");
    case DaemonFlags::Action::kHelp:
      return Print(DaemonUsage(spec.name, spec.description, spec.config_env, spec.short_flags));
    case DaemonFlags::Action::kRun:
      break;
  }
  std::string config = flags->config;
  if (const char* from_env = std::getenv(spec.config_env); config.empty() && from_env != nullptr)
    config = from_env;
  const Result<config::Values> values = spec.schema.Load(config, flags->overrides);
  if (!values.ok()) return Fail(spec, values.status());

  const Signals signals;
  AllowManyFiles();
  if (const Status status = obs::InitLogging(LogOptionsFrom(spec, *values)); !status.ok())
    return Fail(spec, status);
  if (config.empty()) {
    MMC_LOG(WARNING) << "no configuration file (--config FILE or " << spec.config_env
                     << "): defaults are used";
  }
  for (const config::Warning& warning : values->warnings()) MMC_LOG(WARNING) << warning.text;
  return Serve(spec, config, *values, signals);
}

}  // namespace mmc::runtime
