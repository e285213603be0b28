#include "local_service/held_bytes.h"

#include <xxhash.h>

#include <algorithm>
#include <string>
#include <utility>

namespace mmc::local {

Result<HeldBytes> Locate(const fabric::RegionTable& regions, uint32_t segment,
                         std::span<const CatalogExtent> extents, uint64_t size) {
  HeldBytes out;
  for (auto& region : regions.List()) {
    if (region->ref.segment == segment) out.region = std::move(region);
  }
  const std::string name = "segment " + std::to_string(segment);
  if (out.region == nullptr) return Status(Code::kStaleRegion, name + " is not lent by this node");
  if (out.region->kind != fabric::MemoryKind::kHost) {
    return Status(Code::kUnsupported, name + " is not host memory");
  }
  uint64_t left = size;
  for (const CatalogExtent& extent : extents) {
    if (left == 0) break;
    const uint64_t all = out.region->memory.size();
    if (extent.length == 0 || extent.offset > all || extent.length > all - extent.offset) {
      return Status(Code::kOutOfRange, name + ": " + std::to_string(extent.length) + " bytes at " +
                                           std::to_string(extent.offset) + " of " +
                                           std::to_string(all));
    }
    const uint64_t length = std::min(left, extent.length);
    out.pieces.push_back(out.region->memory.subspan(extent.offset, length));
    left -= length;
  }
  if (left == 0) return out;
  return Status(Code::kInvalidArgument, name + ": the extents are " + std::to_string(left) +
                                            " bytes too small for a value of " +
                                            std::to_string(size));
}

uint64_t ChecksumOf(const HeldBytes& bytes) {
  const std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> state(XXH3_createState(),
                                                                             &XXH3_freeState);
  XXH3_64bits_reset(state.get());
  for (const auto& piece : bytes.pieces) {
    XXH3_64bits_update(state.get(), piece.data(), piece.size());
  }
  const uint64_t sum = XXH3_64bits_digest(state.get());
  return sum == 0 ? 1 : sum;
}

}  // namespace mmc::local
