// The trace parser: any line is a request within its limits or kMalformed.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "client_sdk/cli/trace.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto request = mmc::cli::ParseTraceLine({reinterpret_cast<const char*>(data), size});
  if (!request.ok()) {
    if (request.code() != mmc::Code::kMalformed || request.status().message().empty()) std::abort();
    return 0;
  }
  if (request->hash_ids.size() > mmc::cli::kMaxTraceBlocks) std::abort();
  if (request->timestamp_ms > mmc::cli::kMaxTraceNumber ||
      request->input_length > mmc::cli::kMaxTraceNumber)
    std::abort();
  return 0;
}
