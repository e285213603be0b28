// What all connections of one server share: options, methods, counters, the state of stopping.
//
// Thread safety: all members from any thread (options and methods are fixed once the server runs).
#pragma once

#include <atomic>
#include <memory>
#include <string_view>

#include "common/base/mutex.h"
#include "common/obs/metrics.h"
#include "common/rpc/method_table.h"
#include "common/rpc/server.h"

namespace mmc::rpc {

// Counts what is under way, and lets one thread wait until it is nothing.
class Gate {
 public:
  void Enter() { count_.fetch_add(1); }
  void Leave();
  bool empty() const { return count_.load() == 0; }
  // False when the deadline came first.
  bool WaitEmpty(TimePoint deadline);

 private:
  std::atomic<int64_t> count_{0};
  std::atomic<bool> waited_for_{false};
  Mutex mutex_;
  CondVar emptied_;
};

// At most one log line a second; says how many were left out.
class LogLimit {
 public:
  // True when this line may go out; then *left_out is the number of lines swallowed since the last one.
  bool Allow(TimePoint now, uint64_t* left_out);

 private:
  std::atomic<int64_t> next_nanos_{0};
  std::atomic<uint64_t> left_out_{0};
};

// What one owner holds of a server's memory for requests and answers.
class HeldBytes {
 public:
  explicit HeldBytes(std::atomic<uint64_t>& total) : total_(total) {}
  ~HeldBytes() { Set(0); }
  HeldBytes(const HeldBytes&) = delete;
  HeldBytes& operator=(const HeldBytes&) = delete;
  void Set(uint64_t bytes) {
    if (bytes == bytes_) return;
    total_.fetch_add(bytes - bytes_, std::memory_order_relaxed);  // wraps around when it is less
    bytes_ = bytes;
  }
  uint64_t bytes() const { return bytes_; }

 private:
  std::atomic<uint64_t>& total_;
  uint64_t bytes_ = 0;
};

class ServerCore {
 public:
  explicit ServerCore(const ServerOptions& options);

  // Counts a frame that was refused and logs it, not too often. `reason` is a label: one of a handful of literals.
  void BadFrame(std::string_view peer, const char* reason, const Status& status);
  // More is held than may be.
  bool Overfull() const { return buffer_bytes.load(std::memory_order_relaxed) > options.max_buffer_bytes; }
  Status OverfullStatus() const;

  const ServerOptions options;

 private:
  std::unique_ptr<obs::Registry> own_registry_;  // where the caller gave none

 public:
  obs::Registry& registry;
  MethodTable methods;
  std::atomic<bool> stopping{false};
  Gate calls;        // handlers that wait, and calls inside the process
  Gate connections;  // open ones
  std::shared_ptr<std::atomic<int64_t>> connection_count = std::make_shared<std::atomic<int64_t>>(0);
  std::atomic<uint64_t> next_connection{1};
  std::atomic<uint64_t> buffer_bytes{0};  // the sum of all HeldBytes
  LogLimit refused_log;

 private:
  LogLimit bad_frame_log_;
};

}  // namespace mmc::rpc
