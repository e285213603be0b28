// The command line as data: one table of flags per command is parser, validator and `--help`.
//
//   mmc [global flags] COMMAND [flags and operands in any order]
//   --name VALUE, --name=VALUE, -x VALUE, switches without value; "--" ends the flags; "-" alone is
//   an operand.
//
// Thread safety: values; const methods from any thread. Ownership: tables hold views of string
// literals.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/status.h"

namespace mmc::cli {

struct Flag {
  std::string_view name;      // without dashes
  std::string_view value;     // what the help calls its value; empty: a switch
  std::string_view fallback;  // the text that stands when the flag is absent; empty: none
  std::string_view help;
  char letter = 0;  // the one-letter form, if any
};

struct Context;

struct Command {
  std::string_view name;
  std::string_view operands;  // "KEY FILE|-", as the help shows it
  std::string_view summary;   // one line
  std::string_view details;   // further lines of the help
  size_t min_operands = 0;
  size_t max_operands = SIZE_MAX;
  std::vector<Flag> flags;
  int (*run)(Context&) = nullptr;
};

// The words of one call, checked against the tables. The typed readers name flag, value and range
// in their errors (kInvalidArgument); they read the fallback when the flag was not given. REQUIRES
// of the readers: the name is in the table; a fallback, or Has(name), where a number is read.
class Arguments {
 public:
  // Errors: kInvalidArgument for an unknown flag (with the nearest one), a missing value, a wrong
  // number of operands.
  static Result<Arguments> Parse(const Command& command, std::span<const Flag> globals,
                                 std::span<const std::string> words);

  const std::vector<std::string>& operands() const { return operands_; }
  bool Has(std::string_view name) const { return given_.count(name) != 0; }
  bool Switch(std::string_view name) const { return Has(name); }
  std::string Text(std::string_view name) const;
  Result<int64_t> Int(std::string_view name, int64_t min, int64_t max) const;
  Result<double> Real(std::string_view name, double min, double max) const;
  Result<uint64_t> Bytes(std::string_view name, uint64_t min, uint64_t max) const;
  // "250ms", "10s", "2m", "1h"; a bare number is seconds.
  Result<std::chrono::milliseconds> Time(std::string_view name, std::chrono::milliseconds min,
                                         std::chrono::milliseconds max) const;

 private:
  std::vector<std::string> operands_;
  std::map<std::string, std::string, std::less<>> given_;
  std::map<std::string, std::string, std::less<>> fallbacks_;
};

Result<std::chrono::milliseconds> ParseTime(std::string_view text);

// Takes the first word that is neither a global flag nor its value out of `words`; empty when there
// is none.
std::string TakeCommand(std::span<const Flag> globals, std::vector<std::string>& words);

// The help of one command, and the list of all.
std::string CommandHelp(const Command& command, std::span<const Flag> globals);
std::string OverviewHelp(std::span<const Command> commands, std::span<const Flag> globals);

}  // namespace mmc::cli
