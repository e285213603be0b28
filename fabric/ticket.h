// Tickets: what lets a client use one run of a node's bytes over TCP, where a certificate alone is not enough.
//
// A ticket is a run of bytes, an end, and a seal: a keyed digest (BLAKE2b) that also covers who may use it, in which
// session, for reading or for writing, and in which segment and epoch. The meta service seals one for each extent that
// it tells a client, with a key that only it and the node have; the client sends it along with the request; the node
// seals again and compares. Nobody can make one, use that of another, or use it for other bytes or longer.
//
// Ends are told on the clock of the meta service. A node learns it with each heartbeat, and counts from the moment at
// which it asked, so that its idea of that clock is never behind: a ticket may end early there by the time of one
// round trip, and never late.
//
// Thread safety: functions and TicketJudge from any thread. Ownership: values; a TicketJudge is shared.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "common/base/clock.h"
#include "common/base/mutex.h"
#include "common/security/identity.h"
#include "fabric/types.h"

namespace mmc::fabric {

using TicketKey = std::array<unsigned char, 32>;

// As it travels: little-endian, no padding.
struct Ticket {
  uint64_t offset = 0;  // from the start of the segment
  uint64_t length = 0;
  uint64_t end_ms = 0;  // on the clock of the meta service
  std::array<uint64_t, 2> seal{};
  friend bool operator==(const Ticket&, const Ticket&) = default;
};
static_assert(sizeof(Ticket) == 40);

// Role, tenant, name and subject of a certificate, in short.
using TicketHolder = std::array<uint64_t, 2>;
TicketHolder HolderOf(const security::Identity& identity);

struct TicketScope {
  TicketHolder holder{};
  uint64_t session = 0;
  RegionRef region;
  Direction direction = Direction::kRead;
};

TicketKey NewTicketKey();  // random
// The key of one node, made from the one that the meta service keeps for itself.
TicketKey NodeTicketKey(const TicketKey& secret, std::string_view node);

// Fills in the seal. False when OpenSSL cannot do that: the seal then fits nothing.
bool SealTicket(const TicketKey& key, const TicketScope& scope, Ticket* ticket);
bool TicketHolds(const TicketKey& key, const TicketScope& scope, const Ticket& ticket);
// The run of the ticket has all of these bytes.
bool TicketCovers(const Ticket& ticket, uint64_t offset, uint64_t length);

// What a node knows for judging tickets. Who judges keeps a copy of the key and looks at a number for whether it is
// still the one.
class TicketJudge {
 public:
  void LearnKey(const TicketKey& key);
  // `clock_ms` is from an answer to a question that was sent at `asked`.
  void LearnClock(uint64_t clock_ms, TimePoint asked);

  // Takes over the key when it is another one than that of `*version`. False: there is none yet.
  bool Refresh(uint64_t* version, TicketKey* key) const;
  // On this machine's clock. REQUIRES: the ticket holds.
  TimePoint EndOf(const Ticket& ticket) const;

 private:
  std::atomic<uint64_t> version_{0};
  std::atomic<int64_t> ahead_{0};  // nanoseconds that the clock of the meta service shows more than this machine's
  mutable Mutex mutex_;
  TicketKey key_ MMC_GUARDED_BY(mutex_){};
};

}  // namespace mmc::fabric
