// Settings as data: one table per program is parser, validator, default file (--dump-conf) and
// manual (--dump-doc).
//
// Thread safety: a Schema is built once and then const; Load is a pure function of its arguments.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/status.h"

namespace mmc::config {

enum class Type : uint8_t { kBool, kInt, kBytes, kUrl, kEnum, kString };

// One key. `names[0]` is today's name; the others are aliases of older generations.
struct Setting {
  std::vector<std::string> names;
  Type type = Type::kString;
  std::string default_text;
  std::string doc;                   // one line: what it does, units
  int64_t min = 0, max = 0;          // kInt, kBytes; a kUrl's port range
  std::vector<std::string> choices;  // kEnum: the values, compared without case; kUrl: the schemes
  size_t max_length = 1023;          // kString, kUrl
  std::string
      note;  // why it has no effect: a warning when it is set to another value than its default
  std::string deprecated_names_note;  // shown in the manual
  bool may_be_empty = false;          // kUrl: an empty value turns it off
  bool free_port = false;             // kUrl: port 0 takes a free one
  std::map<std::string, std::string> old_values =
      {};  // kEnum: older spelling, lower case -> today's
  std::string section =
      {};  // headline of this and the following settings in --dump-conf and --dump-doc
};

struct Warning {
  std::string
      text;  // "mmc-meta.conf:12: unknown key 'ock.mmc.evict_treshold_high'; did you mean '...'?"
};

// The values of one program: text by canonical name, already validated, typed on read.
class Values {
 public:
  bool GetBool(std::string_view name) const;
  int64_t GetInt(std::string_view name) const;
  uint64_t GetBytes(std::string_view name) const;
  const std::string& GetString(std::string_view name) const;  // kUrl, kEnum (lower case), kString
  bool IsSet(std::string_view name) const;                    // by file or override, not by default
  bool Has(std::string_view name) const { return values_.find(name) != values_.end(); }  // the schema knows it
  const std::vector<Warning>& warnings() const { return warnings_; }

 private:
  friend class Schema;
  std::map<std::string, std::string, std::less<>> values_;
  std::map<std::string, bool, std::less<>> set_;
  std::vector<Warning> warnings_;
};

class Schema {
 public:
  // Says what is wrong with the values as a whole, or OK. The message names keys and values.
  using Rule = std::function<Status(const Values&)>;

  Schema(std::string program, std::vector<Setting> settings, std::vector<Rule> rules);

  // The grammar: lines `key = value`; '#' starts a comment at the start of a line or after white
  // space; blank lines are skipped, lines without '=' too, with a warning; at most 10 MB, 10000
  // lines, 4096 bytes a line; a symbolic link is refused; a key twice, also under two of its names,
  // is an error. An unknown key is a warning with the nearest known name. `overrides` are
  // "key=value" of --set and win, the last one of a key over those before it; an unknown key is an
  // error there. Errors: kConfig, one line naming file, line, key, value, range. An empty path
  // means defaults and overrides only.
  Result<Values> Load(const std::string& path, const std::vector<std::string>& overrides) const;
  // The same for text that is at hand; `origin` stands in messages where the file's name would.
  Result<Values> Parse(std::string_view text, std::string_view origin,
                       const std::vector<std::string>& overrides) const;

  std::string DumpConf() const;  // a complete .conf file with every default and its explanation
  std::string DumpDoc() const;   // a markdown table
  const std::vector<Setting>& settings() const { return settings_; }

 private:
  std::string program_;
  std::vector<Setting> settings_;
  std::vector<Rule> rules_;
};

}  // namespace mmc::config
