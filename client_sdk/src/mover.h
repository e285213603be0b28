// Moves the bytes of one round of a call: all ops that go to one node are one transfer, the nodes
// run side by side.
//
// Thread safety: a pure function of its arguments; concurrent rounds share only the links.
#pragma once

#include <span>
#include <vector>

#include "client_sdk/src/core.h"

namespace mmc::client {

// The ops of one round for one node. A part is what stands or falls together: one item of the
// caller's batch (get), or one replica of one (put).
struct Leg {
  struct Part {
    uint32_t item = 0;     // the caller's number
    uint32_t replica = 0;  // of the item's location
    uint32_t op_begin = 0;
    uint32_t op_end = 0;
    uint64_t bytes = 0;
    bool hash = false;      // take the checksum of the caller's bytes
    uint64_t checksum = 0;  // 0: not taken (yet)
    Status status;          // the outcome
  };
  uint32_t node = 0;
  std::vector<fabric::Op> ops;
  std::vector<Part> parts;
};

// Collects legs by node.
class LegBuilder {
 public:
  // The leg of `node`; the reference holds until the next call.
  Leg& For(uint32_t node) {
    for (Leg& leg : legs_) {
      if (leg.node == node) return leg;
    }
    legs_.push_back({node, {}, {}});
    return legs_.back();
  }
  // Adds one part: all ops appended by `append(&ops)`.
  template <typename Append>
  void Add(uint32_t node, uint32_t item, uint32_t replica, uint64_t bytes, bool hash,
           Append append) {
    Leg& leg = For(node);
    const auto begin = static_cast<uint32_t>(leg.ops.size());
    append(&leg.ops);
    const auto end = static_cast<uint32_t>(leg.ops.size());
    leg.parts.push_back({item, replica, begin, end, bytes, hash, 0, {}});
  }
  std::vector<Leg>& legs() { return legs_; }

 private:
  std::vector<Leg> legs_;
};

// Runs every leg: the first on this thread, the others on the fabric's. A link found dead is
// connected again once; a transfer that the far side refused is repeated part by part, so that one
// bad part fails only itself. On return each part has its status, and no buffer is touched any more
// (but see kUnconfirmed). Parts of a write that ask for a checksum have it, whatever their status;
// those of a read only where it was to be had on the way (see TakeChecksums).
void Move(Core& core, const OpenedSession& opened, fabric::Direction direction, std::span<Leg> legs,
          TimePoint deadline);

}  // namespace mmc::client
