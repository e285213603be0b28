// The target of a request ("/query_key?key=a%2Fb") in its parts, and keys as text.
//
// Thread safety: pure functions.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/base/status.h"

namespace mmc::meta::http {

struct Target {
  std::string path;                                         // decoded
  std::vector<std::pair<std::string, std::string>> params;  // names decoded, values as they came
  const std::string* Find(std::string_view name) const;     // null: not there
};

inline constexpr size_t kMaxParams = 64;

// Errors: kInvalidArgument (does not start with '/', wrong %-escape, more than kMaxParams
// parameters).
Result<Target> ParseTarget(std::string_view text);

// "%2F" -> "/". '+' stays as it is: keys are often base64. Errors: kInvalidArgument.
Result<std::string> PercentDecode(std::string_view text);

// Splits at ',' and decodes each part, so that a comma within a key is written %2C.
Result<std::vector<std::string>> DecodeList(std::string_view text);

// A key as one line of plain ASCII: '%' and whatever is not a visible ASCII character become %XX.
std::string PrintableKey(std::string_view key);

}  // namespace mmc::meta::http
