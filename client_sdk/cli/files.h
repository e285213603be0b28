// Whole files in and out, bounded by the largest value.
//
// Thread safety: pure functions.
#pragma once

#include <string>
#include <string_view>

#include "common/base/status.h"

namespace mmc::cli {

// "-" is stdin. Errors: kIo, kTooLarge (over `limit` bytes; nothing more than that is taken into
// memory).
Result<std::string> ReadWholeFile(const std::string& path, size_t limit);
// Replaces the file only once all bytes are there: a failed write leaves the old one.
Status WriteWholeFile(const std::string& path, std::string_view bytes);

}  // namespace mmc::cli
