// The transport within one process: a listener is found by name, bytes are copied through its RegionTable. It keeps
// every promise of fabric/transport.h, and its faults are planned: what tests and the embedded mode run on.
//
// Thread safety: all functions from any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "common/base/clock.h"
#include "common/base/mutex.h"
#include "fabric/transport.h"

namespace mmc::fabric::loopback {

// A point where transfers stop until the test lets them go.
class Hold {
 public:
  // Returns when a transfer has come here, or false at the deadline.
  bool WaitReached(TimePoint deadline);
  void Release();  // for good
  // For the link: false when the deadline came first.
  bool Pass(TimePoint deadline);

 private:
  Mutex mutex_;
  CondVar changed_;
  bool reached_ MMC_GUARDED_BY(mutex_) = false;
  bool released_ MMC_GUARDED_BY(mutex_) = false;
};

struct FaultPlan {
  bool fail_connect = false;          // Connect answers kPeerUnreachable
  uint64_t cut_after = UINT64_MAX;    // bytes from now on, over all links; then every link there breaks
  bool drop = false;                  // nothing moves; transfers end with their deadline, writes as kUnconfirmed
  std::shared_ptr<Hold> hold;         // each transfer stops here ...
  uint64_t hold_at = 0;               // ... after this many of its bytes
};

// Faults of the listener at `address` (with or without its nonce), until the next plan. False when nobody listens.
bool SetFaultPlan(std::string_view address, FaultPlan plan);

Transport& Instance();

}  // namespace mmc::fabric::loopback
