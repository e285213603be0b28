// The conf file of a machine that takes part in the pool: read by the local service and by every
// client there. Its table is here, below both, because neither may include the other.
//
// Thread safety: LocalConf() may be called from any thread; ClientSettings is a value.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "common/config/schema.h"

namespace mmc::config {

// What a client takes from the file.
struct ClientSettings {
  std::string meta_url = "tcp://127.0.0.1:5000";
  std::chrono::milliseconds timeout{60'000};
  std::chrono::milliseconds connect_retry{0};
  bool location_cache = false;
  uint64_t location_cache_keys = 1u << 20;
  bool same_host = true;
  int tcp_connections = 4;
  std::string tcp_congestion_control;
  int copy_threads = 0;
  std::string tenant;
  std::string integrity = "put";  // "off", "put" or "verify"
  int async_threads = 4;          // the larger of the two thread pool sizes that the file has
};

const Schema& LocalConf();

// REQUIRES: `values` come from LocalConf().
ClientSettings ClientSettingsFrom(const Values& values);

}  // namespace mmc::config
