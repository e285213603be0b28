#include "common/base/bytes.h"

#include <cctype>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <iterator>

namespace mmc {
namespace {

Status BadSize(std::string_view text) {
  return Status(Code::kInvalidArgument,
                "'" + std::string(text) + "' is not a size; write bytes or a number with KB, MB, GB or TB");
}

int UnitShift(std::string_view unit) {
  std::string lower;
  for (char c : unit) lower.push_back(static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c));
  if (lower.empty() || lower == "b") return 0;
  if (lower == "k" || lower == "kb" || lower == "kib") return 10;
  if (lower == "m" || lower == "mb" || lower == "mib") return 20;
  if (lower == "g" || lower == "gb" || lower == "gib") return 30;
  if (lower == "t" || lower == "tb" || lower == "tib") return 40;
  return -1;
}

}  // namespace

Result<uint64_t> ParseBytes(std::string_view text) {
  size_t digits = 0;
  while (digits < text.size() && (std::isdigit(static_cast<unsigned char>(text[digits])) || text[digits] == '.')) {
    ++digits;
  }
  size_t unit_at = digits;
  while (unit_at < text.size() && (text[unit_at] == ' ' || text[unit_at] == '\t')) ++unit_at;
  const int shift = UnitShift(text.substr(unit_at));
  if (digits == 0 || shift < 0) return BadSize(text);
  const std::string_view number = text.substr(0, digits);
  if (number.find('.') == std::string_view::npos) {
    uint64_t n = 0;
    const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), n);
    if (error != std::errc() || end != number.data() + number.size() || n > (uint64_t{1} << 63) >> shift) {
      return BadSize(text);
    }
    return n << shift;
  }
  double n = 0;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), n);
  if (error != std::errc() || end != number.data() + number.size()) return BadSize(text);
  const double bytes = std::ceil(n * static_cast<double>(uint64_t{1} << shift));
  if (!(bytes >= 0) || bytes > 9.2e18) return BadSize(text);
  return static_cast<uint64_t>(bytes);
}

std::string FormatBytes(uint64_t bytes) {
  static constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  double n = static_cast<double>(bytes);
  size_t unit = 0;
  while (n >= 1024 && unit + 1 < std::size(kUnits)) {
    n /= 1024;
    ++unit;
  }
  char buffer[32];
  std::snprintf(buffer, sizeof(buffer), unit == 0 ? "%.0f %s" : "%.2f %s", n, kUnits[unit]);
  return buffer;
}

}  // namespace mmc
