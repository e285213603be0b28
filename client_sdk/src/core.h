// What the parts of one client share, and the checks that every call makes first.
//
// Thread safety: all members are themselves safe from any thread. Ownership: shared by the client
// and its running calls.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "client_sdk/include/mmc/client.h"
#include "client_sdk/src/location_cache.h"
#include "client_sdk/src/session.h"
#include "common/base/limits.h"

namespace mmc::client {

// Longer times make no difference, and would overflow as nanoseconds.
inline constexpr std::chrono::milliseconds kLongestTime = std::chrono::hours(24 * 365);

struct Counters {
  std::atomic<uint64_t> put_bytes{0}, get_bytes{0}, shm_bytes{0}, tcp_bytes{0};
  std::atomic<uint64_t> failovers{0}, location_cache_hits{0}, expired_reads{0}, corrupt_reads{0};
};

struct Core {
  ClientOptions options;
  std::shared_ptr<Session> session;
  std::unique_ptr<LocationCache> cache;  // null: off
  Counters counters;

  TimePoint DeadlineFor(std::chrono::milliseconds timeout) const {
    return Clock::Real().Now() +
           std::min(timeout.count() > 0 ? timeout : options.timeout, kLongestTime);
  }
};

// A pause that doubles, for rounds that failed and may be tried again.
class Backoff {
 public:
  Duration Next() {
    const Duration now = pause_;
    pause_ = std::min<Duration>(pause_ * 2, std::chrono::milliseconds(200));
    return now;
  }

 private:
  Duration pause_ = std::chrono::milliseconds(2);
};

// Errors: kInvalidArgument (empty), kTooLarge (over kMaxKeyBytes).
Status CheckKey(std::string_view key);
// Errors: kTooLarge (over kMaxBatch).
Status CheckBatch(size_t items);

// The sum of the pieces. Errors: kInvalidArgument (none at all, one of size 0, a null one),
// kTooLarge (over kMaxValueBytes). `BufferT` has data and size.
template <typename BufferT>
Result<uint64_t> CheckBuffers(std::span<const BufferT> buffers) {
  if (buffers.empty())
    return Status(Code::kInvalidArgument, "no buffers: a value has at least 1 byte");
  uint64_t sum = 0;
  for (size_t i = 0; i < buffers.size(); ++i) {
    if (buffers[i].data == nullptr || buffers[i].size == 0) {
      return Status(Code::kInvalidArgument,
                    "buffer " + std::to_string(i) + " is null or of 0 bytes");
    }
    if (buffers[i].size > kMaxValueBytes - sum) {
      return Status(Code::kTooLarge,
                    "the buffers hold more than a value's " + FormatBytes(kMaxValueBytes));
    }
    sum += buffers[i].size;
  }
  return sum;
}

}  // namespace mmc::client
