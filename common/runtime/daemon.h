// What every daemon's main() does: flags, configuration, logging, signals, readiness, exit codes.
//
//   --config FILE   the .conf file (else the environment variable, else defaults with a warning)
//   --set key=value overrides, may be repeated
//   --dump-conf | --dump-doc | --version | --help
//
// SIGHUP reloads what can be reloaded. Exit codes: 0 stopped by SIGTERM or SIGINT after draining; 1 could not start or
// failed; 2 wrong flags or configuration. Thread safety: DaemonMain is called once, from main().
#pragma once

#include <functional>
#include <memory>

#include "common/base/status.h"
#include "common/config/schema.h"
#include "common/runtime/flags.h"

namespace mmc::runtime {

class Daemon {
 public:
  virtual ~Daemon() = default;
  // Starts serving; returns when ready. The message of a failure is printed as the one line on
  // stderr.
  virtual Status Start() = 0;
  // Drains and stops, within a bounded time.
  virtual void Stop() = 0;
  // Between Start and Stop, on the thread that waits for signals. SIGHUP: reads certificates again.
  virtual void Reload() {}
  // About every two seconds: what is small and needs no thread of its own.
  virtual void Tick() {}
};

struct DaemonSpec {
  const char* name;         // "mmc_meta_service"
  const char* description;  // one line for --help
  const char* config_env;   // "MMC_META_CONFIG_PATH"
  const char* log_name;     // "mmc-meta"
  const config::Schema& schema;
  std::function<Result<std::unique_ptr<Daemon>>(const config::Values&)> make;
  std::vector<ShortFlag> short_flags = {};
};

// Tells systemd READY=1 / STOPPING=1 when NOTIFY_SOCKET is set.
int DaemonMain(int argc, char** argv, const DaemonSpec& spec);

}  // namespace mmc::runtime
