// Where a value lies: replicas and their extents, read from the packed columns of the meta
// service's replies, and turned into the fabric's ops for a caller's scattered buffers.
//
// Thread safety: values and pure functions; a ReplicaReader belongs to one thread. Ownership: a
// Location is self-contained; a ReplicaReader points into the message it reads.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "common/base/status.h"
#include "fabric/ticket.h"
#include "fabric/types.h"
#include "proto/types.pb.h"

namespace mmc::client {

struct Extent {
  uint64_t offset = 0;
  uint64_t length = 0;
};

struct Replica {
  uint32_t node = 0;
  fabric::RegionRef region;
  uint32_t first_extent = 0;  // in Location::extents
  uint32_t extent_count = 0;
};

struct Location {
  uint64_t size = 0;
  uint64_t generation = 0;
  uint64_t checksum = 0;  // 0: none
  // Of the meta service that gave it: node ids and leases mean nothing in another term.
  uint64_t term = 0;
  uint64_t session = 0;  // that asked for it: tickets are its own
  std::vector<Replica> replicas;
  std::vector<Extent> extents;
  std::vector<fabric::Ticket> tickets;  // of the extents, where a node wants any; else empty

  // It can be used with the links of that session.
  bool GoodFor(uint64_t its_term, uint64_t its_session) const {
    return term == its_term && (tickets.empty() || session == its_session);
  }
  // Null: its node wants none. The location must outlive it.
  const fabric::Ticket* ticket_of(size_t extent) const {
    const bool sealed = extent < tickets.size() && tickets[extent].seal != std::array<uint64_t, 2>{};
    return sealed ? &tickets[extent] : nullptr;
  }
  std::span<const Extent> extents_of(const Replica& replica) const {
    return std::span(extents).subspan(replica.first_extent, replica.extent_count);
  }
};

// Reads the replicas of a reply, key by key, in the order of the keys.
class ReplicaReader {
 public:
  explicit ReplicaReader(const proto::ReplicaColumns& columns) : columns_(columns) {}

  // The replicas of the next key, whose value has `size` bytes, into out->replicas and
  // out->extents. Errors: kMalformed (the columns run out, or the extents do not sum up to the
  // size).
  Status Next(uint64_t size, Location* out);

 private:
  Status NextReplica(uint64_t size, Location* out);

  const proto::ReplicaColumns& columns_;
  int key_ = 0;
  int replica_ = 0;
  int extent_ = 0;
};

// Appends the ops that move bytes [offset, offset + length) of the value between a replica and
// `buffers`, in order. REQUIRES: the range lies in the value; the buffers hold at least `length`
// bytes. `BufferT` has data and size.
template <typename BufferT>
void AppendOps(const Location& location, const Replica& replica, uint64_t offset, uint64_t length,
               std::span<const BufferT> buffers, std::vector<fabric::Op>* ops) {
  size_t piece = 0;
  uint64_t piece_at = 0;
  for (size_t index = replica.first_extent; index < replica.first_extent + replica.extent_count; ++index) {
    const Extent& extent = location.extents[index];
    if (length == 0) return;
    if (offset >= extent.length) {
      offset -= extent.length;
      continue;
    }
    uint64_t at = extent.offset + offset;
    uint64_t left = std::min(extent.length - offset, length);
    offset = 0;
    length -= left;
    while (left > 0) {
      const BufferT& buffer = buffers[piece];
      const uint64_t n = std::min<uint64_t>(left, buffer.size - piece_at);
      fabric::Op& op = ops->emplace_back();
      // Writes only read from `local`; the fabric has one type of op for both directions.
      op.local = static_cast<std::byte*>(const_cast<void*>(buffer.data)) + piece_at;
      op.remote = replica.region;
      op.remote_offset = at;
      op.ticket = location.ticket_of(index);
      op.length = n;
      at += n;
      left -= n;
      piece_at += n;
      if (piece_at == buffer.size) {
        ++piece;
        piece_at = 0;
      }
    }
  }
}

}  // namespace mmc::client
