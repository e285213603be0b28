#include "client_sdk/src/hashed_transfer.h"

#include <algorithm>

#include "client_sdk/src/checksum.h"
#include "fabric/ops.h"

namespace mmc::client {
namespace {

using fabric::Direction;

std::span<const fabric::Op> OpsOf(const Leg& leg, const Leg::Part& part) {
  return std::span(leg.ops).subspan(part.op_begin, part.op_end - part.op_begin);
}

uint64_t BytesOf(std::span<const fabric::Op> ops) {
  uint64_t bytes = 0;
  for (const fabric::Op& op : ops) bytes += op.length * op.count;
  return bytes;
}

// Takes the checksums of a leg's parts while their bytes pass by, one after the other.
class PassingParts final : public fabric::ByteObserver {
 public:
  explicit PassingParts(Leg& leg) : leg_(leg) { Begin(); }

  void See(const std::byte* bytes, uint64_t length) override {
    while (length > 0) {
      const uint64_t share = std::min(length, left_);
      if (leg_.parts[part_].hash) sum_.Add(bytes, share);
      bytes += share;
      length -= share;
      left_ -= share;
      if (left_ == 0) End();
    }
  }

 private:
  void Begin() {
    left_ = BytesOf(OpsOf(leg_, leg_.parts[part_]));
    if (leg_.parts[part_].hash) sum_.Begin();
  }
  void End() {
    if (leg_.parts[part_].hash) leg_.parts[part_].checksum = sum_.End();
    if (++part_ < leg_.parts.size()) Begin();
  }

  Leg& leg_;
  size_t part_ = 0;
  uint64_t left_ = 0;  // of the part
  Checksummer sum_;
};

}  // namespace

bool LacksChecksum(const Leg& leg) {
  return std::any_of(leg.parts.begin(), leg.parts.end(),
                     [](const Leg::Part& part) { return part.hash && part.checksum == 0; });
}

Status ExecuteHashed(fabric::Link& link, Direction direction, Leg& leg, TimePoint deadline) {
  PassingParts parts(leg);
  Status status = link.ExecuteShown(direction, leg.ops, parts, deadline);
  if (!status.ok()) {
    for (Leg::Part& part : leg.parts) part.checksum = 0;
  }
  return status;
}

void TakeChecksums(Leg& leg, bool moved_only) {
  if (!LacksChecksum(leg)) return;
  Checksummer sum;
  for (Leg::Part& part : leg.parts) {
    if (!part.hash || part.checksum != 0 || (moved_only && !part.status.ok())) continue;
    sum.Begin();
    fabric::PieceReader reader(OpsOf(leg, part));
    fabric::Piece piece;
    while (reader.Next(UINT64_MAX, &piece)) sum.Add(piece.local, piece.length);
    part.checksum = sum.End();
  }
}

}  // namespace mmc::client
