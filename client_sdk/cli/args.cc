#include "client_sdk/cli/args.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "common/base/bytes.h"
#include "common/config/nearest.h"

namespace mmc::cli {
namespace {

Status Usage(std::string message) { return Status(Code::kInvalidArgument, std::move(message)); }

const Flag* FindFlag(std::span<const Flag> flags, std::string_view name) {
  for (const Flag& flag : flags) {
    if (flag.name == name) return &flag;
  }
  return nullptr;
}

const Flag* FindLetter(std::span<const Flag> flags, char letter) {
  for (const Flag& flag : flags) {
    if (flag.letter == letter) return &flag;
  }
  return nullptr;
}

bool IsFlagWord(std::string_view word) { return word.size() > 1 && word[0] == '-'; }

// The flag that a word names in either table; `inline_value` points behind its '=' or stays null.
const Flag* Resolve(std::span<const Flag> own, std::span<const Flag> globals, std::string_view word,
                    const char** inline_value) {
  *inline_value = nullptr;
  if (word.size() == 2 && word[1] != '-') {
    const Flag* flag = FindLetter(own, word[1]);
    return flag ? flag : FindLetter(globals, word[1]);
  }
  if (word.substr(0, 2) != "--") return nullptr;
  std::string_view name = word.substr(2);
  if (const size_t equals = name.find('='); equals != std::string_view::npos) {
    *inline_value = name.data() + equals + 1;
    name = name.substr(0, equals);
  }
  const Flag* flag = FindFlag(own, name);
  return flag ? flag : FindFlag(globals, name);
}

Status UnknownFlag(const Command& command, std::span<const Flag> globals, std::string_view word) {
  std::vector<std::string> names;
  for (const Flag& flag : command.flags) names.emplace_back(flag.name);
  for (const Flag& flag : globals) names.emplace_back(flag.name);
  std::string_view bare = word.substr(0, word.find('='));
  while (!bare.empty() && bare[0] == '-') bare.remove_prefix(1);
  const std::string near = config::NearestName(bare, names);
  const std::string hint = near.empty() ? "; see mmc " + std::string(command.name) + " --help"
                                        : "; did you mean --" + near + "?";
  return Usage("unknown flag '" + std::string(word.substr(0, 64)) + "'" + hint);
}

Status OperandCount(const Command& command, size_t given) {
  const std::string usage =
      "; usage: mmc " + std::string(command.name) + " " + std::string(command.operands);
  if (given < command.min_operands) {
    return Usage("an operand is missing (" + std::to_string(given) + " given)" + usage);
  }
  if (given > command.max_operands) {
    return Usage("too many operands (" + std::to_string(given) + " given)" + usage);
  }
  return Status::Ok();
}

std::string FlagLine(const Flag& flag) {
  std::string left = "  ";
  if (flag.letter != 0) left += std::string("-") + flag.letter + ", ";
  left += "--" + std::string(flag.name);
  if (!flag.value.empty()) left += " " + std::string(flag.value);
  if (left.size() < 26) left.resize(26, ' ');
  left += "  " + std::string(flag.help);
  if (!flag.fallback.empty()) left += " (default " + std::string(flag.fallback) + ")";
  return left + "\n";
}

template <typename T>
bool ParseNumber(std::string_view text, T* out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *out);
  return error == std::errc() && end == text.data() + text.size();
}

}  // namespace

Result<Arguments> Arguments::Parse(const Command& command, std::span<const Flag> globals,
                                   std::span<const std::string> words) {
  Arguments out;
  for (std::span<const Flag> table : {std::span<const Flag>(command.flags), globals}) {
    for (const Flag& flag : table) out.fallbacks_.emplace(flag.name, flag.fallback);
  }
  bool flags_ended = false;
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (flags_ended || !IsFlagWord(word)) {
      out.operands_.push_back(word);
      continue;
    }
    if (word == "--") {
      flags_ended = true;
      continue;
    }
    const char* inline_value = nullptr;
    const Flag* flag = Resolve(command.flags, globals, word, &inline_value);
    if (flag == nullptr) return UnknownFlag(command, globals, word);
    const std::string name(flag->name);
    if (flag->value.empty()) {
      if (inline_value != nullptr) return Usage("--" + name + " takes no value");
      out.given_[name] = "";
      continue;
    }
    if (inline_value == nullptr && i + 1 >= words.size()) {
      return Usage("--" + name + " needs a value: --" + name + " " + std::string(flag->value));
    }
    out.given_[name] = inline_value != nullptr ? std::string(inline_value) : words[++i];
  }
  if (!out.Has("help")) MMC_RETURN_IF_ERROR(OperandCount(command, out.operands_.size()));
  return out;
}

std::string Arguments::Text(std::string_view name) const {
  if (const auto it = given_.find(name); it != given_.end()) return it->second;
  const auto it = fallbacks_.find(name);
  return it == fallbacks_.end() ? std::string() : it->second;
}

Result<int64_t> Arguments::Int(std::string_view name, int64_t min, int64_t max) const {
  const std::string text = Text(name);
  int64_t value = 0;
  if (!ParseNumber(text, &value) || value < min || value > max) {
    return Usage("--" + std::string(name) + " '" + text + "' is not a whole number from " +
                 std::to_string(min) + " to " + std::to_string(max));
  }
  return value;
}

Result<double> Arguments::Real(std::string_view name, double min, double max) const {
  const std::string text = Text(name);
  double value = 0;
  if (!ParseNumber(text, &value) || !std::isfinite(value) || value < min || value > max) {
    return Usage("--" + std::string(name) + " '" + text + "' is not a number from " +
                 std::to_string(min) + " to " + std::to_string(max));
  }
  return value;
}

Result<uint64_t> Arguments::Bytes(std::string_view name, uint64_t min, uint64_t max) const {
  const std::string text = Text(name);
  const Result<uint64_t> value = ParseBytes(text);
  if (!value.ok() || *value < min || *value > max) {
    return Usage("--" + std::string(name) + " '" + text + "' is not a size from " +
                 FormatBytes(min) + " to " + FormatBytes(max) + " (as 4096, 128KB, 8.5MB)");
  }
  return *value;
}

Result<std::chrono::milliseconds> Arguments::Time(std::string_view name,
                                                  std::chrono::milliseconds min,
                                                  std::chrono::milliseconds max) const {
  const std::string text = Text(name);
  const Result<std::chrono::milliseconds> value = ParseTime(text);
  if (!value.ok() || *value < min || *value > max) {
    return Usage("--" + std::string(name) + " '" + text + "' is not a time from " +
                 std::to_string(min.count()) + "ms to " + std::to_string(max.count()) +
                 "ms (as 250ms, 10s, 2m; a bare number is seconds)");
  }
  return *value;
}

Result<std::chrono::milliseconds> ParseTime(std::string_view text) {
  const size_t digits = std::min(text.find_first_not_of("0123456789."), text.size());
  const std::string_view unit = text.substr(digits);
  double value = 0;
  double scale = 0;
  if (unit.empty() || unit == "s") scale = 1000;
  if (unit == "ms") scale = 1;
  if (unit == "m") scale = 60'000;
  if (unit == "h") scale = 3'600'000;
  if (scale == 0 || !ParseNumber(text.substr(0, digits), &value) || value * scale > 1e15) {
    return Usage("'" + std::string(text) + "' is not a time");
  }
  return std::chrono::milliseconds(static_cast<int64_t>(std::llround(value * scale)));
}

std::string TakeCommand(std::span<const Flag> globals, std::vector<std::string>& words) {
  for (size_t i = 0; i < words.size(); ++i) {
    if (!IsFlagWord(words[i])) {
      std::string command = words[i];
      words.erase(words.begin() + static_cast<std::ptrdiff_t>(i));
      return command;
    }
    const char* inline_value = nullptr;
    const Flag* flag = Resolve({}, globals, words[i], &inline_value);
    if (flag != nullptr && !flag->value.empty() && inline_value == nullptr) ++i;
  }
  return std::string();
}

std::string CommandHelp(const Command& command, std::span<const Flag> globals) {
  std::string text = "usage: mmc " + std::string(command.name);
  if (!command.operands.empty()) text += " " + std::string(command.operands);
  text += " [flags]\n\n" + std::string(command.summary) + "\n";
  if (!command.details.empty()) text += "\n" + std::string(command.details) + "\n";
  if (!command.flags.empty()) text += "\nflags:\n";
  for (const Flag& flag : command.flags) text += FlagLine(flag);
  text += "\nglobal flags:\n";
  for (const Flag& flag : globals) text += FlagLine(flag);
  return text;
}

std::string OverviewHelp(std::span<const Command> commands, std::span<const Flag> globals) {
  std::string text =
      "usage: mmc [global flags] COMMAND [flags] [operands]\n\n"
      "Talks to a pool of KV cache blocks: stores, reads, inspects, measures.\n\ncommands:\n";
  for (const Command& command : commands) {
    std::string left = "  " + std::string(command.name) + " " + std::string(command.operands);
    if (left.size() < 30) left.resize(30, ' ');
    text += left + "  " + std::string(command.summary) + "\n";
  }
  text += "\nglobal flags:\n";
  for (const Flag& flag : globals) text += FlagLine(flag);
  return text + "\nmmc COMMAND --help tells more; mmc help exit-codes lists the exit codes.\n";
}

}  // namespace mmc::cli
