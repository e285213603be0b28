// The few command-line flags of a daemon.
//
// Thread safety: pure functions.
#pragma once

#include <string>
#include <vector>

#include "common/base/status.h"

namespace mmc::runtime {

struct DaemonFlags {
  enum class Action { kRun, kDumpConf, kDumpDoc, kVersion, kHelp };
  Action action = Action::kRun;
  std::string config;                  // --config; empty: not given
  std::vector<std::string> overrides;  // --set, in order
};

// `args` without the program's name. Both "--flag value" and "--flag=value". Errors:
// kInvalidArgument naming the flag.
Result<DaemonFlags> ParseDaemonFlags(const std::vector<std::string>& args);

std::string DaemonUsage(const std::string& name, const std::string& description,
                        const std::string& config_env);

}  // namespace mmc::runtime
