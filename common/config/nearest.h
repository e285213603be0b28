// The known name that a misspelled one most likely means.
//
// Thread safety: pure function.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace mmc::config {

// Empty when nothing is near: more than a third of the letters differ, or `name` is over 128 bytes
// long.
std::string NearestName(std::string_view name, const std::vector<std::string>& known);

}  // namespace mmc::config
