// One value of one setting: from text to its normal form, and how its type and range are told to
// people.
//
// Thread safety: pure functions.
#pragma once

#include <string>
#include <string_view>

#include "common/base/status.h"
#include "common/config/schema.h"

namespace mmc::config {

// The normal form: "true"/"false", a decimal number, bytes as a decimal number, the enum's choice
// in lower case, text as it is. Errors: kConfig with what is allowed ("a whole number from 1 to
// 99").
Result<std::string> Normalize(const Setting& setting, std::string_view text);

// "whole number", "size", "one of".
std::string TypeText(const Setting& setting);
// "1 to 99", "debug, info, warn, error".
std::string RangeText(const Setting& setting);
// For messages and manuals: one line, at most 120 bytes, control characters as '?'.
std::string Printable(std::string_view text);
std::string_view Trim(std::string_view text);

}  // namespace mmc::config
