#include "client_sdk/cli/commands.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "client_sdk/cli/exit_codes.h"
#include "common/config/nearest.h"

namespace mmc::cli {
namespace {

constexpr char kVersion[] = MMC_VERSION;

std::string ExitCodesText() {
  std::string text;
  for (const ExitCodeInfo& info : kExitCodes) {
    std::string left = std::to_string(info.code);
    left.resize(5, ' ');
    text += left + info.meaning + "\n";
  }
  return text;
}

boost::json::object ExitCodesJson() {
  boost::json::array list;
  for (const ExitCodeInfo& info : kExitCodes) {
    list.emplace_back(
        boost::json::object{{"code", static_cast<int>(info.code)}, {"meaning", info.meaning}});
  }
  return {{"exit_codes", std::move(list)}};
}

const Command* FindCommand(std::string_view name) {
  for (const Command& command : Commands()) {
    if (command.name == name) return &command;
  }
  return nullptr;
}

Status UnknownCommand(const std::string& name) {
  std::vector<std::string> names;
  for (const Command& command : Commands()) names.emplace_back(command.name);
  const std::string near = config::NearestName(name, names);
  return Status(Code::kInvalidArgument,
                "unknown command '" + name.substr(0, 64) + "'; " +
                    (near.empty() ? "see mmc help" : "did you mean '" + near + "'?"));
}

int RunHelp(Context& context) {
  if (context.args.operands().empty()) {
    context.out.Write(OverviewHelp(Commands(), GlobalFlags()));
    return kExitOk;
  }
  const std::string& topic = context.args.operands()[0];
  if (topic == "exit-codes") {
    if (context.json()) {
      context.PrintJson(ExitCodesJson());
    } else {
      context.out.Write(ExitCodesText());
    }
    return kExitOk;
  }
  const Command* command = FindCommand(topic);
  if (command == nullptr) return context.Fail(UnknownCommand(topic));
  context.out.Write(CommandHelp(*command, GlobalFlags()));
  return kExitOk;
}

int RunVersion(Context& context) {
  if (context.json()) {
    context.PrintJson({{"version", kVersion}});
  } else {
    context.out.Write(std::string("mmc ") + kVersion + "\n");
  }
  return kExitOk;
}

std::vector<Command> AllCommands() {
  std::vector<Command> all = DataCommands();
  for (Command& command : ClusterCommands()) all.push_back(std::move(command));
  for (Command& command : UpkeepCommands()) all.push_back(std::move(command));
  for (Command& command : LoadCommands()) all.push_back(std::move(command));
  all.push_back(DoctorCommand());
  all.push_back({.name = "help",
                 .operands = "[COMMAND|exit-codes]",
                 .summary = "tell about a command, or what the exit codes mean",
                 .max_operands = 1,
                 .run = RunHelp});
  all.push_back(
      {.name = "version", .summary = "print the version", .max_operands = 0, .run = RunVersion});
  return all;
}

int OutputExitCode(const Output& out, Output& err, int code) {
  if (out.error() == 0) return code;
  if (out.error() == EPIPE) return kExitBrokenPipe;
  err.Write(std::string("mmc: cannot write the output: ") + std::strerror(out.error()) + "\n");
  return kExitFailed;
}

}  // namespace

std::span<const Command> Commands() {
  static const std::vector<Command> commands = AllCommands();
  return commands;
}

int RunCli(std::vector<std::string> words, Output& out, Output& err, const Connector& connect) {
  std::string name = TakeCommand(GlobalFlags(), words);
  if (name.empty() && std::find(words.begin(), words.end(), "--version") != words.end()) {
    std::erase(words, "--version");
    name = "version";
  }
  if (name.empty()) {
    const bool asked = std::any_of(words.begin(), words.end(),
                                   [](const auto& w) { return w == "--help" || w == "-h"; });
    (asked ? out : err).Write(OverviewHelp(Commands(), GlobalFlags()));
    return asked ? OutputExitCode(out, err, kExitOk) : static_cast<int>(kExitUsage);
  }
  const Command* command = FindCommand(name);
  if (command == nullptr) {
    err.Write("mmc: " + UnknownCommand(name).message() + "\n");
    return kExitUsage;
  }
  const Result<Arguments> args = Arguments::Parse(*command, GlobalFlags(), words);
  if (!args.ok()) {
    err.Write("mmc " + name + ": " + args.status().message() + "\n");
    return kExitUsage;
  }
  if (args->Has("help")) {
    out.Write(CommandHelp(*command, GlobalFlags()));
    return OutputExitCode(out, err, kExitOk);
  }
  Context context{*command, *args, out, err, connect};
  return OutputExitCode(out, err, command->run(context));
}

}  // namespace mmc::cli
