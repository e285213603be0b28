// Tickets for the nodes that want them (fabric/ticket.h): their keys, and the seals of what a reply tells a client.
//
// A ticket for reading ends with the lease, one for writing some time after the grant (write_ticket_milliseconds),
// whatever becomes of it: until then the space is not given to anybody else, removed, aborted or not. Both end a
// little earlier than that, for what a node still moves when they end.
//
// Thread safety: all methods from any thread. Ownership: values.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>

#include "common/base/clock.h"
#include "common/base/mutex.h"
#include "common/security/identity.h"
#include "fabric/ticket.h"
#include "proto/types.pb.h"

namespace mmc::meta {

class Tickets {
 public:
  // From here on what lies on that node is sealed, or not any more. Answers the node's key, which is the same as long
  // as this service and that incarnation last.
  fabric::TicketKey Enlist(uint32_t node, const std::string& name, uint64_t incarnation, bool wants)
      MMC_EXCLUDES(mutex_);

  // Seals all extents of a reply that lie on nodes that want it. False: there are none.
  bool Seal(const fabric::TicketScope& scope, uint64_t end_ms, proto::ReplicaColumns* columns) const
      MMC_EXCLUDES(mutex_);
  // The holder need not be worked out while nobody wants tickets.
  bool needed() const { return needed_.load(std::memory_order_relaxed); }

  static Duration Margin(Duration life) { return std::min<Duration>(std::chrono::milliseconds(250), life / 8); }
  // When a ticket for something that is kept for `life` ends.
  static uint64_t EndMs(TimePoint from, Duration life) { return Millis(from + life - Margin(life)); }
  // What nodes are told that it is: not less than it is.
  static uint64_t ClockMs(TimePoint now) { return Millis(now) + 1; }

 private:
  using Keys = std::unordered_map<uint32_t, fabric::TicketKey>;
  static uint64_t Millis(TimePoint at) {
    const auto since = std::chrono::duration_cast<std::chrono::milliseconds>(at.time_since_epoch()).count();
    return static_cast<uint64_t>(std::max<int64_t>(since, 0));
  }

  const fabric::TicketKey secret_ = fabric::NewTicketKey();
  std::atomic<bool> needed_{false};
  mutable Mutex mutex_;
  std::shared_ptr<const Keys> keys_ MMC_GUARDED_BY(mutex_) = std::make_shared<Keys>();
};

}  // namespace mmc::meta
