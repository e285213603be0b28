// The op list of a transfer: checking it, and walking it piece by piece with adjacent runs merged. Linear in the
// number of pieces, no memory of its own.
//
// Thread safety: values. Ownership: a PieceReader borrows the op list; it is copied freely to remember a position.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "common/base/status.h"
#include "fabric/types.h"

namespace mmc::fabric {

// Most bytes of one transfer; keeps every sum below 2^63.
inline constexpr uint64_t kMaxTransferBytes = uint64_t{1} << 46;

// One contiguous move: `length` bytes between `local` and (remote, remote_offset).
struct Piece {
  std::byte* local = nullptr;
  RegionRef remote;
  uint64_t remote_offset = 0;
  uint64_t length = 0;
  const Ticket* ticket = nullptr;
};

// Checks every op and adds up the bytes. Errors: kInvalidArgument (empty list, null local, zero length or count,
// overflow, a destination stride shorter than the piece, a ticket for some ops only), with the index of the op.
Result<uint64_t> CheckOps(Direction direction, std::span<const Op> ops);

// Yields the pieces in order. Pieces that touch on both sides come as one.
class PieceReader {
 public:
  explicit PieceReader(std::span<const Op> ops) : ops_(ops) {}

  // At most `limit` bytes of the next piece; the rest of it comes next. False at the end.
  // REQUIRES: limit > 0; the ops passed CheckOps.
  bool Next(uint64_t limit, Piece* piece);
  // Moves forward by `bytes`, as if they had been read.
  void Skip(uint64_t bytes);
  // Raw pieces looked at so far: what the walk has cost.
  uint64_t steps() const { return steps_; }

 private:
  // The rest of the raw piece at the position, without moving. False at the end.
  bool Peek(Piece* piece) const;
  void Advance(uint64_t bytes, uint64_t piece_length);

  std::span<const Op> ops_;
  size_t op_ = 0;
  uint32_t index_ = 0;   // piece within the op
  uint64_t offset_ = 0;  // bytes of that piece already given out
  uint64_t steps_ = 0;
};

}  // namespace mmc::fabric
