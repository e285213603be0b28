#include "client_sdk/cli/text.h"

#include <algorithm>
#include <cctype>
#include <cstdio>

namespace mmc::cli {
namespace {

// Length of the UTF-8 sequence at the start of `text`, 0 when it is none (overlong and surrogate
// forms included).
size_t SequenceLength(std::string_view text) {
  const auto at = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t lead = at(0);
  if (lead < 0x80) return 1;
  const size_t length = lead >= 0xc2 && lead < 0xe0   ? 2
                        : (lead & 0xf0) == 0xe0       ? 3
                        : lead >= 0xf0 && lead < 0xf5 ? 4
                                                      : 0;
  if (length == 0 || text.size() < length) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((at(i) & 0xc0) != 0x80) return 0;
  }
  if (lead == 0xe0 && at(1) < 0xa0) return 0;
  if (lead == 0xed && at(1) > 0x9f) return 0;
  if (lead == 0xf0 && at(1) < 0x90) return 0;
  if (lead == 0xf4 && at(1) > 0x8f) return 0;
  return length;
}

std::string Escape(uint8_t byte) {
  char text[8];
  std::snprintf(text, sizeof(text), "\\x%02x", byte);
  return text;
}

}  // namespace

std::string FormatNumber(double value, int decimals) {
  char text[64];
  std::snprintf(text, sizeof(text), "%.*f", decimals, value);
  return text;
}

std::string FormatTime(std::chrono::nanoseconds time) {
  const double nanos = static_cast<double>(time.count());
  if (nanos < 1e3) return FormatNumber(nanos, 0) + " ns";
  if (nanos < 1e6) return FormatNumber(nanos / 1e3, 1) + " us";
  if (nanos < 1e9) return FormatNumber(nanos / 1e6, 2) + " ms";
  return FormatNumber(nanos / 1e9, 2) + " s";
}

std::string FormatSeconds(double seconds) {
  const auto whole = static_cast<uint64_t>(std::clamp(seconds, 0.0, 1e9));
  char text[64];
  if (whole < 60) {
    std::snprintf(text, sizeof(text), "%us", static_cast<unsigned>(whole));
  } else if (whole < 3600) {
    std::snprintf(text, sizeof(text), "%um%02us", static_cast<unsigned>(whole / 60),
                  static_cast<unsigned>(whole % 60));
  } else if (whole < 86400) {
    std::snprintf(text, sizeof(text), "%uh%02um", static_cast<unsigned>(whole / 3600),
                  static_cast<unsigned>(whole / 60 % 60));
  } else {
    std::snprintf(text, sizeof(text), "%ud%02uh", static_cast<unsigned>(whole / 86400),
                  static_cast<unsigned>(whole / 3600 % 24));
  }
  return text;
}

std::string FormatPercent(uint64_t part, uint64_t whole) {
  if (whole == 0) return "-";
  return FormatNumber(100.0 * static_cast<double>(part) / static_cast<double>(whole), 1) + "%";
}

std::string PrintableKey(std::string_view key) {
  std::string text;
  while (!key.empty()) {
    const size_t length = SequenceLength(key);
    const auto byte = static_cast<uint8_t>(key[0]);
    if (length == 0 || (length == 1 && (byte < 0x20 || byte == 0x7f))) {
      text += Escape(byte);
      key.remove_prefix(1);
      continue;
    }
    if (byte == '\\') text += '\\';
    text += key.substr(0, length);
    key.remove_prefix(length);
  }
  return text;
}

bool IsUtf8(std::string_view text) {
  while (!text.empty()) {
    const size_t length = SequenceLength(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

std::string Hex(std::string_view bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const char c : bytes) {
    text += kDigits[static_cast<uint8_t>(c) >> 4];
    text += kDigits[static_cast<uint8_t>(c) & 15];
  }
  return text;
}

std::string Table::Text() const {
  std::vector<size_t> widths;
  for (const auto& row : rows_) {
    if (widths.size() < row.size()) widths.resize(row.size(), 0);
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (const auto& row : rows_) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string padding(widths[i] - row[i].size(), ' ');
      const bool number =
          !row[i].empty() && std::isdigit(static_cast<unsigned char>(row[i][0])) != 0;
      line += number && i > 0 ? padding + row[i] : row[i] + padding;
      if (i + 1 < row.size()) line += "  ";
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  return text;
}

}  // namespace mmc::cli
