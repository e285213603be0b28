// Answers of the pool as JSON and as text. The JSON shapes are an interface: fields are added,
// never renamed.
//
// Thread safety: pure functions.
#pragma once

#include <boost/json.hpp>
#include <span>
#include <string>
#include <string_view>

#include "client_sdk/include/mmc/client.h"

namespace mmc::cli {

// {"key": ...}; a key that is not UTF-8 has its bad bytes written as \xNN there, and all of it in
// "key_hex".
boost::json::object KeyJson(std::string_view key);

// {"nodes": [{"name", "state", "host", "endpoints", "capacity_bytes", "used_bytes", "objects",
// "silent_ms"}]}
boost::json::object NodesJson(std::span<const NodeInfo> nodes);
std::string NodesText(std::span<const NodeInfo> nodes);

boost::json::object StatusJson(const ClusterStatus& status);
std::string StatusText(const ClusterStatus& status);

boost::json::object ObjectJson(std::string_view key, const ObjectInfo& info);
std::string ObjectText(std::string_view key, const ObjectInfo& info);

// One frame of `mmc top`: rates over the `seconds` between two statuses, then the nodes.
std::string TopText(const ClusterStatus& before, const ClusterStatus& now, double seconds);
boost::json::object TopJson(const ClusterStatus& before, const ClusterStatus& now, double seconds);

}  // namespace mmc::cli
