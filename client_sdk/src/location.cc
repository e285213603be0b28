#include "client_sdk/src/location.h"

#include "common/base/limits.h"

namespace mmc::client {

Status ReplicaReader::Next(uint64_t size, Location* out) {
  out->replicas.clear();
  out->extents.clear();
  out->tickets.clear();
  if (key_ >= columns_.replica_counts_size()) {
    return Status(Code::kMalformed, "reply of the meta service: fewer replica counts than keys");
  }
  const uint32_t count = columns_.replica_counts(key_++);
  if (count > kMaxReplicas) {
    return Status(Code::kMalformed,
                  "reply of the meta service: " + std::to_string(count) + " replicas of one key");
  }
  out->replicas.reserve(count);
  for (uint32_t i = 0; i < count; ++i) MMC_RETURN_IF_ERROR(NextReplica(size, out));
  return Status::Ok();
}

Status ReplicaReader::NextReplica(uint64_t size, Location* out) {
  const int r = replica_++;
  if (r >= columns_.node_size() || r >= columns_.segment_size() || r >= columns_.epoch_size() ||
      r >= columns_.extent_counts_size()) {
    return Status(Code::kMalformed,
                  "reply of the meta service: replica columns of different lengths");
  }
  const uint32_t extents = columns_.extent_counts(r);
  const int extents_left =
      std::min(columns_.extent_offset_size(), columns_.extent_length_size()) - extent_;
  if (extents_left < 0 || extents > static_cast<uint32_t>(extents_left)) {
    return Status(Code::kMalformed, "reply of the meta service: fewer extents than announced");
  }
  uint64_t sum = 0;
  const auto first = static_cast<uint32_t>(out->extents.size());
  for (uint32_t i = 0; i < extents; ++i, ++extent_) {
    const Extent extent{columns_.extent_offset(extent_), columns_.extent_length(extent_)};
    if (extent.length > size - sum || extent.offset > kMaxSegmentBytes) {
      return Status(Code::kMalformed,
                    "reply of the meta service: extents of a replica are not its value's size");
    }
    sum += extent.length;
    out->extents.push_back(extent);
    if (2 * extent_ + 1 < columns_.seal_size()) {
      out->tickets.push_back({.offset = extent.offset,
                              .length = extent.length,
                              .end_ms = columns_.ticket_end_ms(),
                              .seal = {columns_.seal(2 * extent_), columns_.seal(2 * extent_ + 1)}});
    }
  }
  if (sum != size) {
    return Status(Code::kMalformed,
                  "reply of the meta service: extents of a replica are not its value's size");
  }
  out->replicas.push_back(
      {columns_.node(r), {columns_.segment(r), columns_.epoch(r)}, first, extents});
  return Status::Ok();
}

}  // namespace mmc::client
