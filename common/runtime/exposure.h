// What a daemon says when its address can be reached from outside and nothing guards it.
//
// Thread safety: pure functions.
#pragma once

#include <string>

#include "common/config/schema.h"

namespace mmc::runtime {

// One line for the log; empty: the address in `url_key` is empty or a loopback one, or `tls_key` is true.
std::string ExposureWarning(const config::Values& values, const std::string& url_key, const std::string& tls_key,
                            const std::string& what);

}  // namespace mmc::runtime
