// The bytes of one replica in this node's own memory.
//
// Thread safety: pure functions. Ownership: HeldBytes keeps the memory alive.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "common/base/status.h"
#include "fabric/memory.h"
#include "local_service/catalog_format.h"

namespace mmc::local {

struct HeldBytes {
  std::shared_ptr<const fabric::Region> region;
  std::vector<std::span<std::byte>> pieces;
};

// The first `size` bytes of these extents. Errors: kStaleRegion (no such segment), kOutOfRange, kInvalidArgument (they
// are smaller than that), kUnsupported (device memory).
Result<HeldBytes> Locate(const fabric::RegionTable& regions, uint32_t segment,
                         std::span<const CatalogExtent> extents, uint64_t size);

// XXH3-64 of all pieces as one value; as a writer's client takes it: 0, which says "none", becomes 1.
uint64_t ChecksumOf(const HeldBytes& bytes);

}  // namespace mmc::local
