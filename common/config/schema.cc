#include "common/config/schema.h"

#include <cstdio>
#include <cstdlib>

#include "common/config/nearest.h"
#include "common/config/read_file.h"
#include "common/config/value.h"

namespace mmc::config {
namespace {

constexpr size_t kMaxLines = 10'000;
constexpr size_t kMaxLineBytes = 4096;
constexpr size_t kMaxWarnings = 100;

// A conf file's line without its comment: '#' counts at the start and after white space.
std::string_view StripComment(std::string_view line) {
  for (size_t i = 0; i < line.size(); ++i) {
    if (line[i] == '#' && (i == 0 || line[i - 1] == ' ' || line[i - 1] == '\t'))
      return line.substr(0, i);
  }
  return line;
}

// `otherwise` is what to say when no name is near.
std::string DidYouMean(std::string_view key, const std::vector<std::string>& names,
                       const char* otherwise) {
  const std::string nearest = NearestName(key, names);
  return nearest.empty() ? otherwise : "; did you mean '" + nearest + "'?";
}

// The work of one Parse: what was seen so far and where.
class Parser {
 public:
  // `texts` holds the defaults in normal form.
  Parser(const std::vector<Setting>& settings,
         std::map<std::string, std::string, std::less<>>& texts,
         std::map<std::string, bool, std::less<>>& set, std::vector<Warning>& warnings)
      : set_(set), texts_(texts), warnings_(warnings) {
    for (const Setting& setting : settings) {
      for (const std::string& name : setting.names) {
        by_name_[name] = &setting;
        names_.push_back(name);
      }
    }
  }

  Status ParseText(std::string_view text, std::string_view origin) {
    constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
    if (text.substr(0, kByteOrderMark.size()) == kByteOrderMark)
      text.remove_prefix(kByteOrderMark.size());
    for (size_t line = 1; !text.empty(); ++line) {
      if (line > kMaxLines) {
        return Status(Code::kConfig,
                      std::string(origin) + ": more than " + std::to_string(kMaxLines) + " lines");
      }
      const size_t end = text.find('\n');
      const std::string where = std::string(origin) + ":" + std::to_string(line);
      MMC_RETURN_IF_ERROR(ParseLine(text.substr(0, end), where));
      text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    }
    return Status::Ok();
  }

  Status ParseOverride(std::string_view override_text) {
    const size_t equals = override_text.find('=');
    const std::string_view key = Trim(override_text.substr(0, equals));
    if (equals == std::string_view::npos || key.empty()) {
      return Status(Code::kConfig, "--set " + Printable(override_text) + ": write it as key=value");
    }
    const auto found = by_name_.find(key);
    if (found == by_name_.end()) {
      return Status(Code::kConfig,
                    "--set: unknown key '" + Printable(key) + "'" +
                        DidYouMean(key, names_, "; --dump-conf prints all there are"));
    }
    return Store(*found->second, key, Trim(override_text.substr(equals + 1)), "--set");
  }

 private:
  Status ParseLine(std::string_view line, const std::string& where) {
    if (line.size() > kMaxLineBytes) {
      return Status(Code::kConfig, where + ": the line has " + std::to_string(line.size()) +
                                       " bytes, at most " + std::to_string(kMaxLineBytes) +
                                       " are allowed");
    }
    line = Trim(StripComment(line));
    if (line.empty()) return Status::Ok();
    const size_t equals = line.find('=');
    if (equals == std::string_view::npos) {
      Warn(where + ": '" + Printable(line) + "' has no '='; the line is ignored");
      return Status::Ok();
    }
    const std::string_view key = Trim(line.substr(0, equals));
    const std::string_view value = Trim(line.substr(equals + 1));
    if (key.empty())
      return Status(Code::kConfig, where + ": '" + Printable(line) + "' has no key before '='");
    const auto found = by_name_.find(key);
    const std::string name = found == by_name_.end() ? std::string(key) : found->second->names[0];
    const auto [first, is_first] = seen_.emplace(name, where);
    if (!is_first) {
      std::string message = where + ": " + Printable(key) + " = " + Printable(value) +
                            ": the key was set at " + first->second + " already";
      if (name != key) message += ", as " + name + " or another of its names";
      return Status(Code::kConfig, message + "; keep one of the two");
    }
    if (found == by_name_.end()) {
      // No search once the warnings are full: a file of ten thousand wrong keys must not take
      // minutes.
      if (warnings_.size() < kMaxWarnings) {
        Warn(where + ": unknown key '" + Printable(key) + "'" +
             DidYouMean(key, names_, "; it is ignored"));
      }
      return Status::Ok();
    }
    return Store(*found->second, key, value, where);
  }

  Status Store(const Setting& setting, std::string_view key, std::string_view value,
               const std::string& where) {
    const Result<std::string> normal = Normalize(setting, value);
    if (!normal.ok()) {
      return Status(Code::kConfig, where + ": " + std::string(key) + " = " + Printable(value) +
                                       ": " + normal.status().message());
    }
    const std::string& name = setting.names[0];
    if (!setting.note.empty() && *normal != texts_[name]) {
      Warn(where + ": " + std::string(key) + " = " + Printable(value) +
           " is accepted, without effect: " + setting.note);
    }
    texts_[name] = *normal;
    set_[name] = true;
    return Status::Ok();
  }

  void Warn(std::string text) {
    if (warnings_.size() < kMaxWarnings) warnings_.push_back({std::move(text)});
  }

  std::map<std::string, bool, std::less<>>& set_;
  std::map<std::string, std::string, std::less<>>& texts_;
  std::vector<Warning>& warnings_;
  std::map<std::string, const Setting*, std::less<>> by_name_;
  std::vector<std::string> names_;
  std::map<std::string, std::string> seen_;  // canonical name (or unknown key) -> where
};

// A name that the schema does not have is a fault of the program: the message is for its author.
[[noreturn]] void UnknownName(std::string_view name) {
  std::fprintf(stderr, "config: no setting is named '%.*s'\n", static_cast<int>(name.size()),
               name.data());
  std::abort();
}

}  // namespace

const std::string& Values::GetString(std::string_view name) const {
  const auto found = values_.find(name);
  if (found == values_.end()) UnknownName(name);
  return found->second;
}

bool Values::GetBool(std::string_view name) const { return GetString(name) == "true"; }

int64_t Values::GetInt(std::string_view name) const {
  return std::strtoll(GetString(name).c_str(), nullptr, 10);
}

uint64_t Values::GetBytes(std::string_view name) const {
  return std::strtoull(GetString(name).c_str(), nullptr, 10);
}

bool Values::IsSet(std::string_view name) const {
  const auto found = set_.find(name);
  return found != set_.end() && found->second;
}

Schema::Schema(std::string program, std::vector<Setting> settings, std::vector<Rule> rules)
    : program_(std::move(program)), settings_(std::move(settings)), rules_(std::move(rules)) {}

Result<Values> Schema::Load(const std::string& path,
                            const std::vector<std::string>& overrides) const {
  if (path.empty()) return Parse("", "", overrides);
  MMC_ASSIGN_OR_RETURN(const std::string text, ReadConfFile(path));
  return Parse(text, path, overrides);
}

Result<Values> Schema::Parse(std::string_view text, std::string_view origin,
                             const std::vector<std::string>& overrides) const {
  Values values;
  for (const Setting& setting : settings_) {
    MMC_ASSIGN_OR_RETURN(values.values_[setting.names[0]],
                         Normalize(setting, setting.default_text));
  }
  Parser parser(settings_, values.values_, values.set_, values.warnings_);
  MMC_RETURN_IF_ERROR(parser.ParseText(text, origin));
  for (const std::string& override_text : overrides)
    MMC_RETURN_IF_ERROR(parser.ParseOverride(override_text));
  for (const Rule& rule : rules_) {
    if (const Status status = rule(values); !status.ok()) {
      return origin.empty() ? status : status.Annotate(origin);
    }
  }
  return values;
}

}  // namespace mmc::config
