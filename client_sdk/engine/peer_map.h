// What another engine lends, as it said last: turns addresses of its process into names of the fabric.
//
// Thread safety: immutable, but for the mark that shared memory does not work. Ownership: self-contained.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "client_sdk/engine/options.h"
#include "common/base/status.h"
#include "fabric/types.h"
#include "proto/engine.pb.h"

namespace mmc::engine {

class PeerMap {
 public:
  // `host`: where it was asked. `near`: it may be reached through shared memory if it is on `host_id`.
  // Errors: kMalformed (an answer that cannot be).
  static Result<std::shared_ptr<const PeerMap>> From(const proto::DescribeEngineReply& reply, const std::string& host,
                                                     bool near, const std::string& host_id);

  // Appends the ops of `pieces`: those in memory that can be mapped to `near`, the others to `far`. A piece may lie in
  // several regions that touch. Errors: kOutOfRange (some of it is in none).
  Status Map(std::span<const Piece> pieces, std::vector<fabric::Op>* near, std::vector<fabric::Op>* far) const;

  uint64_t incarnation() const { return incarnation_; }
  uint64_t first_address() const { return first_address_; }
  const std::vector<fabric::Endpoint>& network() const { return network_; }
  const std::vector<fabric::Endpoint>& host() const { return host_; }
  // It said that its memory can be mapped, and that did not work: nobody tries again.
  void GiveUpNear() const { near_.store(false, std::memory_order_relaxed); }

 private:
  struct Region {
    uint64_t begin = 0;
    uint64_t end = 0;
    fabric::RegionRef ref;
    bool shared = false;
    size_t furthest = 0;  // of this one and those before, the one that ends last
  };

  PeerMap() = default;
  // The region with the byte at `address` that goes on for longest; null: there is none.
  const Region* Find(uint64_t address) const;

  uint64_t incarnation_ = 0;
  uint64_t first_address_ = 0;
  mutable std::atomic<bool> near_{false};
  std::vector<fabric::Endpoint> network_;
  std::vector<fabric::Endpoint> host_;
  std::vector<Region> regions_;  // by begin
};

}  // namespace mmc::engine
