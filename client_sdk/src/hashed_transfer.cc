#include "client_sdk/src/hashed_transfer.h"

#include <algorithm>

#include "client_sdk/src/checksum.h"
#include "fabric/ops.h"

namespace mmc::client {
namespace {

using fabric::Direction;

// What is hashed and copied at a time: small enough for the second cache level, big enough that the
// cost of a transfer does not count.
constexpr uint64_t kStepBytes = 256_KiB;
constexpr size_t kStepOps = 256;

std::span<const fabric::Op> OpsOf(const Leg& leg, const Leg::Part& part) {
  return std::span(leg.ops).subspan(part.op_begin, part.op_end - part.op_begin);
}

// Moves the pieces of one leg step by step. The parts come in order, so one running checksum does.
class Stepper {
 public:
  Stepper(fabric::Link& link, Direction direction, Leg& leg, TimePoint deadline)
      : link_(link), direction_(direction), leg_(leg), deadline_(deadline) {}

  Status Run() {
    for (size_t p = 0; p < leg_.parts.size(); ++p) {
      fabric::PieceReader reader(OpsOf(leg_, leg_.parts[p]));
      fabric::Piece piece;
      while (reader.Next(kStepBytes - bytes_, &piece)) {
        ops_.push_back({piece.local, piece.remote, piece.remote_offset, piece.length});
        part_of_.push_back(p);
        bytes_ += piece.length;
        if (bytes_ >= kStepBytes || ops_.size() >= kStepOps) MMC_RETURN_IF_ERROR(Step());
      }
    }
    if (!ops_.empty()) MMC_RETURN_IF_ERROR(Step());
    EndPart();
    return Status::Ok();
  }

 private:
  Status Step() {
    if (direction_ == Direction::kWrite) Hash();
    MMC_RETURN_IF_ERROR(link_.Execute(direction_, ops_, deadline_));
    if (direction_ == Direction::kRead) Hash();
    ops_.clear();
    part_of_.clear();
    bytes_ = 0;
    return Status::Ok();
  }
  void Hash() {
    for (size_t i = 0; i < ops_.size(); ++i) {
      Leg::Part& part = leg_.parts[part_of_[i]];
      if (!part.hash) continue;
      if (&part != hashed_) {
        EndPart();
        sum_.Begin();
        hashed_ = &part;
      }
      sum_.Add(ops_[i].local, ops_[i].length);
    }
  }
  void EndPart() {
    if (hashed_ != nullptr) hashed_->checksum = sum_.End();
  }

  fabric::Link& link_;
  const Direction direction_;
  Leg& leg_;
  const TimePoint deadline_;
  Checksummer sum_;
  Leg::Part* hashed_ = nullptr;  // whose checksum is running
  std::vector<fabric::Op> ops_;  // of the step
  std::vector<size_t> part_of_;  // one per op
  uint64_t bytes_ = 0;
};

}  // namespace

bool LacksChecksum(const Leg& leg) {
  return std::any_of(leg.parts.begin(), leg.parts.end(),
                     [](const Leg::Part& part) { return part.hash && part.checksum == 0; });
}

Status ExecuteHashed(fabric::Link& link, Direction direction, Leg& leg, TimePoint deadline) {
  Status status = Stepper(link, direction, leg, deadline).Run();
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
