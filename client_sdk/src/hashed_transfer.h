// Checksums of the parts of a leg, taken from the caller's memory: on the way, while the bytes are
// in the cache, or afterwards.
//
// Thread safety: pure functions of their arguments. Ownership: none.
#pragma once

#include "client_sdk/src/mover.h"

namespace mmc::client {

// Some part asks for a checksum and has none yet.
bool LacksChecksum(const Leg& leg);

// Moves a leg over a link that observes() and takes the checksums that are asked for on the way,
// while the bytes are in the cache. The outcome is the leg's, as of Link::Execute; when it is not OK
// no part has a checksum.
Status ExecuteHashed(fabric::Link& link, fabric::Direction direction, Leg& leg, TimePoint deadline);

// Takes the checksum of every part that asks for one and has none yet. `moved_only`: not of parts
// that failed.
void TakeChecksums(Leg& leg, bool moved_only);

}  // namespace mmc::client
