#include "common/config/value.h"

#include <algorithm>
#include <cctype>
#include <charconv>

#include "common/base/bytes.h"
#include "common/rpc/url.h"

namespace mmc::config {
namespace {

std::string Lower(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return out;
}

std::string Join(const std::vector<std::string>& parts, std::string_view between) {
  std::string out;
  for (const std::string& part : parts) {
    if (!out.empty()) out += between;
    out += part;
  }
  return out;
}

// "64GB" rather than 68719476736 where that says the same.
std::string SizeText(uint64_t bytes) {
  static constexpr const char* kUnits[] = {"", "KB", "MB", "GB", "TB"};
  size_t unit = 0;
  while (bytes != 0 && bytes % 1024 == 0 && unit + 1 < std::size(kUnits)) {
    bytes /= 1024;
    ++unit;
  }
  return std::to_string(bytes) + kUnits[unit];
}

Status Wrong(const Setting& setting) {
  return Status(Code::kConfig, "must be " + TypeText(setting) + " " + RangeText(setting));
}

Result<std::string> NormalizeBool(const Setting& setting, std::string_view text) {
  const std::string lower = Lower(text);
  if (lower == "1" || lower == "true") return std::string("true");
  if (lower == "0" || lower == "false") return std::string("false");
  return Wrong(setting);
}

Result<std::string> NormalizeInt(const Setting& setting, std::string_view text) {
  if (!text.empty() && text.front() == '+') text.remove_prefix(1);
  int64_t n = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (text.empty() || error != std::errc() || end != text.data() + text.size())
    return Wrong(setting);
  if (n < setting.min || n > setting.max) return Wrong(setting);
  return std::to_string(n);
}

Result<std::string> NormalizeBytes(const Setting& setting, std::string_view text) {
  const Result<uint64_t> bytes = ParseBytes(text);
  if (!bytes.ok() || *bytes < static_cast<uint64_t>(setting.min) ||
      *bytes > static_cast<uint64_t>(setting.max)) {
    return Wrong(setting);
  }
  return std::to_string(*bytes);
}

Result<std::string> NormalizeUrl(const Setting& setting, std::string_view text) {
  if (text.empty() && setting.may_be_empty) return std::string();
  if (text.size() > setting.max_length) return Wrong(setting);
  const Result<rpc::Url> url = rpc::ParseUrl(text);
  if (!url.ok()) return Wrong(setting);
  if (std::find(setting.choices.begin(), setting.choices.end(), url->scheme) ==
      setting.choices.end()) {
    return Wrong(setting);
  }
  const bool free_port = setting.free_port && url->port == 0;
  if (!free_port && (url->port < setting.min || url->port > setting.max)) return Wrong(setting);
  return std::string(text);
}

Result<std::string> NormalizeEnum(const Setting& setting, std::string_view text) {
  std::string lower = Lower(text);
  if (const auto old = setting.old_values.find(lower); old != setting.old_values.end())
    lower = old->second;
  for (const std::string& choice : setting.choices) {
    if (Lower(choice) == lower) return lower;
  }
  return Wrong(setting);
}

}  // namespace

Result<std::string> Normalize(const Setting& setting, std::string_view text) {
  const auto control = [](unsigned char c) { return c < 0x20 && c != '\t'; };
  if (std::any_of(text.begin(), text.end(), control))
    return Status(Code::kConfig, "must not have control characters");
  switch (setting.type) {
    case Type::kBool:
      return NormalizeBool(setting, text);
    case Type::kInt:
      return NormalizeInt(setting, text);
    case Type::kBytes:
      return NormalizeBytes(setting, text);
    case Type::kUrl:
      return NormalizeUrl(setting, text);
    case Type::kEnum:
      return NormalizeEnum(setting, text);
    case Type::kString:
      break;
  }
  if (text.size() > setting.max_length) return Wrong(setting);
  return std::string(text);
}

std::string TypeText(const Setting& setting) {
  switch (setting.type) {
    case Type::kBool:
      return "one of";
    case Type::kInt:
      return "a whole number from";
    case Type::kBytes:
      return "a size from";
    case Type::kUrl:
      return "a URL";
    case Type::kEnum:
      return "one of";
    case Type::kString:
      return "text of";
  }
  return "";
}

std::string RangeText(const Setting& setting) {
  switch (setting.type) {
    case Type::kBool:
      return "true, false, 1, 0";
    case Type::kInt:
      return std::to_string(setting.min) + " to " + std::to_string(setting.max);
    case Type::kBytes:
      return SizeText(static_cast<uint64_t>(setting.min)) + " to " +
             SizeText(static_cast<uint64_t>(setting.max)) +
             " (bytes, or a number with KB, MB, GB or TB)";
    case Type::kUrl: {
      std::string out = Join(setting.choices, " or ") + "://host:port, port " +
                        std::to_string(setting.min) + " to " + std::to_string(setting.max);
      if (setting.free_port) out += ", or 0 for a free one";
      if (setting.may_be_empty) out += "; or empty for none";
      return out;
    }
    case Type::kEnum: {
      std::string out = Join(setting.choices, ", ");
      for (const auto& [old, now] : setting.old_values) out += ", " + old;
      return out;
    }
    case Type::kString:
      return "at most " + std::to_string(setting.max_length) + " bytes";
  }
  return "";
}

std::string Printable(std::string_view text) {
  constexpr size_t kLongest = 120;
  std::string out(text.substr(0, kLongest));
  for (char& c : out) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  if (text.size() > kLongest) out += "...";
  return out;
}

std::string_view Trim(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const size_t first = text.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

}  // namespace mmc::config
