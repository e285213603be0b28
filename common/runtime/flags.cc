#include "common/runtime/flags.h"

#include <algorithm>
#include <map>

namespace mmc::runtime {

Result<DaemonFlags> ParseDaemonFlags(const std::vector<std::string>& args,
                                     const std::vector<ShortFlag>& short_flags) {
  using Action = DaemonFlags::Action;
  static const std::map<std::string, Action> kActions = {{"--dump-conf", Action::kDumpConf},
                                                         {"--dump-doc", Action::kDumpDoc},
                                                         {"--version", Action::kVersion},
                                                         {"--help", Action::kHelp},
                                                         {"-h", Action::kHelp}};
  DaemonFlags flags;
  for (size_t i = 0; i < args.size(); ++i) {
    if (const auto action = kActions.find(args[i]); action != kActions.end()) {
      flags.action = action->second;
      continue;
    }
    const auto named = std::find_if(short_flags.begin(), short_flags.end(),
                                    [&](const ShortFlag& flag) { return flag.name == args[i]; });
    if (named != short_flags.end()) {
      flags.overrides.push_back(named->override);
      continue;
    }
    const size_t equals = args[i].find('=');
    const std::string flag = args[i].substr(0, equals);
    if (flag != "--config" && flag != "--set") {
      return Status(Code::kInvalidArgument,
                    "unknown argument '" + args[i] + "'; --help lists what there is");
    }
    std::string value;
    if (equals != std::string::npos) {
      value = args[i].substr(equals + 1);
    } else if (i + 1 < args.size()) {
      value = args[++i];
    }
    if (value.empty()) {
      return Status(Code::kInvalidArgument,
                    flag + (flag == "--set" ? " needs key=value" : " needs the path of a file"));
    }
    if (flag == "--set") {
      flags.overrides.push_back(value);
    } else {
      flags.config = value;
    }
  }
  return flags;
}

std::string DaemonUsage(const std::string& name, const std::string& description,
                        const std::string& config_env,
                        const std::vector<ShortFlag>& short_flags) {
  constexpr size_t kColumn = 17;
  std::string more;
  for (const ShortFlag& flag : short_flags) {
    more += "  " + flag.name + std::string(kColumn - std::min(kColumn, flag.name.size()), ' ') +
            flag.help + "\n";
  }
  return name + ": " + description + "\n\n" + "usage: " + name +
         " [--config FILE] [--set key=value]...\n\n" +
         "  --config FILE    the configuration file; else the one that " + config_env +
         " names; else defaults\n" + "  --set key=value  overrides the file; may be repeated\n" + more +
         "  --dump-conf      print a complete configuration file of defaults\n" +
         "  --dump-doc       print the manual of all keys\n" +
         "  --version        print the version\n" + "  --help           print this\n\n" +
         "Exit codes: 0 stopped by SIGTERM or SIGINT; 1 could not start; 2 wrong flags or "
         "configuration.\n";
}

}  // namespace mmc::runtime
