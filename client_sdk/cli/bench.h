// Measures puts, gets and existence checks against a pool, and checks what it reads.
//
// With verify, a value is a function of its key and version (value.h) and starts with the version:
// a get is right when the version is one that may be seen at that moment and every byte behind it
// follows from key and version. Each key has one writer, so that it is known which versions may be
// seen.
//
// Thread safety: RunBench is called once per Bench; it starts and joins its own threads. Ownership:
// borrows the client.
#pragma once

#include <boost/json.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <string>

#include "client_sdk/cli/layout.h"
#include "client_sdk/cli/workers.h"
#include "client_sdk/include/mmc/client.h"

namespace mmc::cli {

enum class BenchOp : uint8_t { kPut, kGet, kExists, kMixed };

struct BenchOptions {
  BenchOp op = BenchOp::kPut;
  Layout layout;
  uint32_t batch = 1;  // keys per call
  int threads = 1;
  std::chrono::milliseconds duration{10'000};
  uint64_t count = 0;     // keys in all instead of a duration; 0: the duration counts
  uint64_t keys = 1000;   // at least threads * batch
  int read_percent = 80;  // of mixed
  bool verify = false;
  bool check_stale =
      true;  // off with a location cache, which may show a value that was just replaced
  bool prefill = true;
  bool clean_before = false;  // keys of an earlier run with the same prefix may be there
  bool clean_after = true;
  PutOptions put;
  std::string key_prefix = "bench/";
  uint64_t seed = 1;
};

struct BenchReport {
  CallStats put, get, exists, remove;
  uint64_t misses = 0;  // gets of keys that were not there (any more)
  uint64_t absent = 0;  // the same of existence checks
  uint64_t verified_values = 0;
  uint64_t wrong_values = 0;
  uint64_t wrong_bytes = 0;
  uint64_t stale_values = 0;  // removed before the read began
  ErrorCounts errors;
  double seconds = 0;      // the measured phase, by the wall
  double cpu_seconds = 0;  // of this process in that phase
  bool interrupted = false;
  Status stopped;  // the failure that ended the run early, if one did

  // Keys that were answered, misses included.
  uint64_t Operations() const { return put.items + get.items + misses + exists.items; }
  uint64_t Bytes() const { return put.bytes + get.bytes; }
  bool Right() const { return wrong_values == 0 && stale_values == 0; }
};

struct BenchTick {
  const char* phase = "";
  double fraction = 0;
  uint64_t bytes = 0;  // moved in this phase
  double seconds = 0;  // since it began
};

// Errors: kInvalidArgument (options that do not fit together), kIo (no memory for the buffers).
// What goes wrong later is in the report.
Result<BenchReport> RunBench(Client& client, const BenchOptions& options,
                             const std::function<void(const BenchTick&)>& tick);

boost::json::object BenchJson(const BenchOptions& options, const BenchReport& report);
std::string BenchText(const BenchOptions& options, const BenchReport& report);
std::string_view BenchOpName(BenchOp op);

}  // namespace mmc::cli
