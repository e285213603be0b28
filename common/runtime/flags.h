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

// A flag of one daemon that says shortly what --set could say.
struct ShortFlag {
  std::string name;      // "--cold"
  std::string override;  // "key=value"
  std::string help;
};

// `args` without the program's name. Both "--flag value" and "--flag=value". Errors:
// kInvalidArgument naming the flag.
Result<DaemonFlags> ParseDaemonFlags(const std::vector<std::string>& args,
                                     const std::vector<ShortFlag>& short_flags = {});

std::string DaemonUsage(const std::string& name, const std::string& description,
                        const std::string& config_env,
                        const std::vector<ShortFlag>& short_flags = {});

}  // namespace mmc::runtime
