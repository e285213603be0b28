// Reads a conf file whole, refusing what a conf file cannot be.
//
// Thread safety: pure function of the file system.
#pragma once

#include <string>

#include "common/base/status.h"

namespace mmc::config {

// Errors: kConfig naming the path: not there, a symbolic link, not a regular file, over 10 MB, not
// readable.
Result<std::string> ReadConfFile(const std::string& path);

}  // namespace mmc::config
