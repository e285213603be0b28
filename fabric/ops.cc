#include "fabric/ops.h"

#include <algorithm>
#include <string>

namespace mmc::fabric {
namespace {

// A run whose pieces touch on both sides is one piece, whatever its count.
bool IsContiguous(const Op& op) {
  return op.count == 1 || (op.local_stride == op.length && op.remote_stride == op.length);
}

Status Wrong(size_t index, const char* what) {
  return Status(Code::kInvalidArgument, "op " + std::to_string(index) + ": " + what);
}

// Bytes from the start of the first piece to the end of the last. False on overflow.
bool Extent(const Op& op, uint64_t stride, uint64_t* extent) {
  uint64_t starts = 0;
  return !__builtin_mul_overflow(uint64_t{op.count} - 1, stride, &starts) &&
         !__builtin_add_overflow(starts, op.length, extent);
}

Status CheckOp(Direction direction, const Op& op, size_t index) {
  if (op.local == nullptr) return Wrong(index, "the local address is null");
  if (op.length == 0) return Wrong(index, "the length is zero");
  if (op.count == 0) return Wrong(index, "the count is zero");
  const uint64_t local_stride = op.count == 1 ? 0 : op.local_stride;
  const uint64_t remote_stride = op.count == 1 ? 0 : op.remote_stride;
  const uint64_t destination_stride =
      direction == Direction::kRead ? local_stride : remote_stride;
  if (op.count > 1 && destination_stride < op.length) {
    return Wrong(index, "the pieces overlap at the destination; use a stride of at least the length");
  }
  uint64_t local = 0;
  uint64_t remote = 0;
  uint64_t end = 0;
  if (!Extent(op, local_stride, &local) || !Extent(op, remote_stride, &remote) ||
      __builtin_add_overflow(reinterpret_cast<uint64_t>(op.local), local, &end) ||
      __builtin_add_overflow(op.remote_offset, remote, &end)) {
    return Wrong(index, "offset, length, count and strides overflow");
  }
  return Status::Ok();
}

}  // namespace

Result<uint64_t> CheckOps(Direction direction, std::span<const Op> ops) {
  if (ops.empty()) return Status(Code::kInvalidArgument, "a transfer needs at least one op");
  uint64_t total = 0;
  for (size_t i = 0; i < ops.size(); ++i) {
    MMC_RETURN_IF_ERROR(CheckOp(direction, ops[i], i));
    if ((ops[i].ticket == nullptr) != (ops[0].ticket == nullptr)) {
      return Wrong(i, "either all ops of a transfer have tickets, or none");
    }
    uint64_t bytes = 0;
    if (__builtin_mul_overflow(ops[i].length, uint64_t{ops[i].count}, &bytes) ||
        __builtin_add_overflow(total, bytes, &total) || total > kMaxTransferBytes) {
      return Wrong(i, "the transfer is over 64 TiB");
    }
  }
  return total;
}

bool PieceReader::Peek(Piece* piece) const {
  if (op_ == ops_.size()) return false;
  const Op& op = ops_[op_];
  const bool whole = IsContiguous(op);
  const uint64_t length = whole ? op.length * op.count : op.length;
  const uint64_t index = whole ? 0 : index_;
  piece->local = op.local + index * op.local_stride + offset_;
  piece->remote = op.remote;
  piece->remote_offset = op.remote_offset + index * op.remote_stride + offset_;
  piece->length = length - offset_;
  piece->ticket = op.ticket;
  return true;
}

void PieceReader::Advance(uint64_t bytes, uint64_t piece_length) {
  if (bytes < piece_length) {
    offset_ += bytes;
    return;
  }
  ++steps_;
  offset_ = 0;
  const Op& op = ops_[op_];
  if (IsContiguous(op) || ++index_ == op.count) {
    index_ = 0;
    ++op_;
  }
}

bool PieceReader::Next(uint64_t limit, Piece* piece) {
  Piece next;
  if (!Peek(&next)) return false;
  *piece = next;
  piece->length = std::min(next.length, limit);
  Advance(piece->length, next.length);
  while (piece->length < limit && Peek(&next) && next.remote == piece->remote &&
         next.ticket == piece->ticket &&
         next.local == piece->local + piece->length &&
         next.remote_offset == piece->remote_offset + piece->length) {
    const uint64_t take = std::min(next.length, limit - piece->length);
    Advance(take, next.length);
    piece->length += take;
  }
  return true;
}

void PieceReader::Skip(uint64_t bytes) {
  Piece piece;
  while (bytes > 0 && Peek(&piece)) {
    const uint64_t take = std::min(bytes, piece.length);
    Advance(take, piece.length);
    bytes -= take;
  }
}

}  // namespace mmc::fabric
