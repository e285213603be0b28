// Numbers, times, keys and tables as people read them.
//
// Thread safety: pure functions; Table is a value.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace mmc::cli {

std::string FormatTime(std::chrono::nanoseconds time);  // "850 ns", "12.3 us", "4.56 ms", "1.20 s"
std::string FormatSeconds(double seconds);              // "45s", "2m03s", "3h04m", "5d02h"
std::string FormatNumber(double value, int decimals);
std::string FormatPercent(uint64_t part, uint64_t whole);  // "42.0%", "-" of nothing

// A key as text that a terminal takes: control characters and bytes that are not UTF-8 as \xNN, a
// backslash as \\.
std::string PrintableKey(std::string_view key);
bool IsUtf8(std::string_view text);
std::string Hex(std::string_view bytes);

// Columns as wide as their widest cell, two spaces apart; the first row is the heading. Cells that
// start with a digit are set to the right.
class Table {
 public:
  explicit Table(std::vector<std::string> heading) { rows_.push_back(std::move(heading)); }
  void Add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
  std::string Text() const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace mmc::cli
