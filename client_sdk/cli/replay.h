// Replays a request trace as an inference engine would use the pool: per request one prefix lookup
// over the keys of its blocks, a get of the prefix that is there, a put of the rest. A block's
// bytes follow from its key (value.h), and every byte read is checked.
//
// A block that the lookup promised and the get did not find was evicted in between: a miss, not an
// error.
//
// Thread safety: RunReplay starts and joins its own threads. Ownership: borrows the client and the
// trace.
#pragma once

#include <boost/json.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <string>

#include "client_sdk/cli/layout.h"
#include "client_sdk/cli/trace.h"
#include "client_sdk/cli/workers.h"
#include "client_sdk/include/mmc/client.h"

namespace mmc::cli {

struct ReplayOptions {
  Layout layout;                          // of one block
  double speed_up = 0;                    // of the trace's clock; 0: as fast as it goes
  int concurrency = 1;                    // requests at once
  uint32_t batch = 16;                    // blocks per get or put
  uint64_t limit = 0;                     // requests; 0: all
  std::chrono::milliseconds max_time{0};  // 0: no limit
  std::string key_prefix = "replay/";
  PutOptions put;
};

struct ReplayReport {
  uint64_t requests = 0;
  uint64_t blocks = 0;      // of all requests
  uint64_t hit_blocks = 0;  // read as part of an unbroken prefix
  uint64_t blocks_put = 0;
  uint64_t blocks_existed = 0;   // behind the hit prefix, and there already
  uint64_t blocks_vanished = 0;  // promised by the lookup, gone at the get
  uint64_t blocks_verified = 0;
  uint64_t wrong_blocks = 0;
  uint64_t wrong_bytes = 0;
  std::string first_wrong_key;
  CallStats lookup, get, put;
  ErrorCounts errors;
  uint64_t evicted_objects = 0;
  uint64_t evicted_bytes = 0;
  double seconds = 0;
  bool interrupted = false;
  bool timed_out = false;  // max_time ended it
  Status stopped;          // the failure that ended it early, if one did

  double HitRatio() const {
    return blocks == 0 ? 0 : static_cast<double>(hit_blocks) / static_cast<double>(blocks);
  }
};

struct ReplayTick {
  double fraction = 0;  // negative: not known
  uint64_t requests = 0;
  uint64_t blocks = 0;
  uint64_t hit_blocks = 0;
  uint64_t bytes = 0;  // got and put
  double seconds = 0;
};

// Errors: kInvalidArgument, kIo (no memory for the buffers), or what asking for the pool's counters
// answered.
Result<ReplayReport> RunReplay(Client& client, TraceReader& trace, const ReplayOptions& options,
                               const std::function<void(const ReplayTick&)>& tick);

boost::json::object ReplayJson(const ReplayOptions& options, const ReplayReport& report);
std::string ReplayText(const ReplayOptions& options, const ReplayReport& report);

}  // namespace mmc::cli
