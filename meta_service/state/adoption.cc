#include "meta_service/state/adoption.h"

#include <algorithm>
#include <map>
#include <utility>

#include "common/base/limits.h"
#include "meta_service/state/stored_key.h"

namespace mmc::meta {

namespace {
// Generations count microseconds since 1970: anything near this is no generation that was ever given.
constexpr uint64_t kMaxGeneration = uint64_t{1} << 62;
// Batches that came twice, because an answer was lost, are found out when all are there.
constexpr uint64_t kSpareRecords = 1u << 16;
}  // namespace

Adoption::Adoption(Segments segments, std::shared_ptr<CatalogFeed> feed)
    : segments_(std::move(segments)), feed_(std::move(feed)) {
  for (const auto& segment : segments_) max_records_ += segment->total_units();
  max_records_ = 2 * max_records_ + kSpareRecords;
}

int Adoption::SegmentIndex(uint32_t id) const {
  for (size_t i = 0; i < segments_.size(); ++i) {
    if (segments_[i]->info().id == id) return static_cast<int>(i);
  }
  return -1;
}

// Every extent but the last fills its units, none is empty, none leaves the segment, and they make up the value.
bool Adoption::TakeOne(const ReportedRecord& in) {
  const int index = SegmentIndex(in.segment);
  if (index < 0 || in.key.size() > kMaxStoredKeyBytes || !SplitStoredKey(in.key) || in.generation == 0 ||
      in.generation > kMaxGeneration || in.size == 0 || in.size > kMaxValueBytes || in.offsets.empty() ||
      in.offsets.size() != in.lengths.size() || in.offsets.size() > UnitsOf(in.size)) {
    return false;
  }
  const uint64_t segment_bytes = segments_[index]->info().size;
  uint64_t sum = 0;
  for (size_t i = 0; i < in.offsets.size(); ++i) {
    const uint64_t offset = in.offsets[i], length = in.lengths[i];
    const bool whole = length % kUnitBytes == 0 || i + 1 == in.offsets.size();
    if (length == 0 || !whole || offset % kUnitBytes != 0 || offset >= segment_bytes ||
        length > segment_bytes - offset || length > in.size - sum) {
      return false;
    }
    sum += length;
  }
  if (sum != in.size) return false;
  const auto record = static_cast<uint32_t>(records_.size());
  records_.push_back({.generation = in.generation,
                      .checksum = in.checksum,
                      .key_at = keys_.size(),
                      .first_extent = static_cast<uint32_t>(pieces_.size()),
                      .extents = static_cast<uint32_t>(in.offsets.size()),
                      .size = static_cast<uint32_t>(in.size),
                      .key_bytes = static_cast<uint16_t>(in.key.size()),
                      .segment = static_cast<uint8_t>(index),
                      .asked = static_cast<uint8_t>(std::clamp<uint32_t>(in.replicas, 1, kMaxReplicas)),
                      .hard_pinned = in.hard_pinned,
                      .refused = false});
  keys_.append(in.key);
  for (size_t i = 0; i < in.offsets.size(); ++i) {
    pieces_.push_back({{static_cast<uint32_t>(in.offsets[i] / kUnitBytes), UnitsOf(in.lengths[i]), 0}, record});
  }
  highest_generation_ = std::max(highest_generation_, in.generation);
  return true;
}

Status Adoption::Take(std::span<const ReportedRecord> records) {
  if (records_.size() + refused_.size() + records.size() > max_records_) {
    return Status(Code::kTooLarge, "more than " + std::to_string(max_records_) +
                                       " records reported: more than the node's segments could hold");
  }
  for (const ReportedRecord& record : records) {
    if (TakeOne(record)) continue;
    Refused refused;
    refused.forget.forget = true;
    refused.forget.segment = record.segment;
    refused.forget.generation = record.generation;
    refused.forget.key = record.key.substr(0, kMaxStoredKeyBytes);
    refused_.push_back(std::move(refused));
  }
  return Status::Ok();
}

void Adoption::Refuse(const Record& record, ConflictKind kind) {
  Refused refused;
  refused.forget.forget = true;
  refused.forget.segment = segments_[record.segment]->info().id;
  refused.forget.generation = record.generation;
  refused.forget.key = KeyOf(record);
  refused.kind = kind;
  refused_.push_back(std::move(refused));
}

void Adoption::Seal() {
  std::vector<std::pair<uint64_t, uint32_t>> places(pieces_.size());  // by segment and offset; index in pieces_
  for (uint32_t i = 0; i < places.size(); ++i) {
    places[i] = {(uint64_t{records_[pieces_[i].record].segment} << 32) | pieces_[i].extent.offset, i};
  }
  if (!std::is_sorted(places.begin(), places.end())) std::sort(places.begin(), places.end());
  order_.resize(places.size());
  for (size_t i = 0; i < places.size(); ++i) order_[i] = places[i].second;
  ResolveOverlaps();
}

// Only the records that overlap another one are looked at twice; in a sound catalog there are none.
void Adoption::ResolveOverlaps() {
  std::vector<uint32_t> involved;
  uint64_t end = 0;
  uint32_t owner = 0;
  for (uint32_t i : order_) {
    const Piece& piece = pieces_[i];
    const uint64_t begin = (uint64_t{records_[piece.record].segment} << 32) | piece.extent.offset;
    if (begin < end) {
      involved.push_back(owner);
      involved.push_back(piece.record);
    }
    if (begin + piece.extent.units > end) {
      end = begin + piece.extent.units;
      owner = piece.record;
    }
  }
  if (!involved.empty()) ResolveAmong(std::move(involved));
}

void Adoption::ResolveAmong(std::vector<uint32_t> involved) {
  std::sort(involved.begin(), involved.end());
  involved.erase(std::unique(involved.begin(), involved.end()), involved.end());
  std::stable_sort(involved.begin(), involved.end(),
                   [this](uint32_t a, uint32_t b) { return records_[a].generation > records_[b].generation; });
  struct Claim {
    uint64_t end;
    uint32_t record;
  };
  std::map<uint64_t, Claim> claims;  // by begin; disjoint, but for those of one record
  for (uint32_t r : involved) {
    Record& record = records_[r];
    const std::span<const Piece> pieces(&pieces_[record.first_extent], record.extents);
    const uint64_t base = uint64_t{record.segment} << 32;
    const Record* other = nullptr;
    std::vector<std::pair<uint64_t, uint64_t>> own;
    for (const Piece& piece : pieces) {
      const uint64_t begin = base + piece.extent.offset, end = begin + piece.extent.units;
      auto next = claims.lower_bound(end);
      if (next != claims.begin() && std::prev(next)->second.end > begin) {
        other = &records_[std::prev(next)->second.record];
      }
      for (const auto& [b, e] : own) {
        if (b < end && begin < e) other = &record;
      }
      own.push_back({begin, end});
    }
    if (other == nullptr) {
      for (const auto& [begin, end] : own) claims[begin] = {end, r};
      continue;
    }
    record.refused = true;
    // The same record twice: a batch came again. Forgetting it would take the first one away as well.
    const bool twin = other != &record && other->generation == record.generation && KeyOf(*other) == KeyOf(record);
    if (!twin) Refuse(record, ConflictKind::kOverlap);
  }
}

bool Adoption::Reserve(size_t max_extents) {
  for (size_t n = 0; n < max_extents && reserved_ < order_.size(); ++n, ++reserved_) {
    Piece& piece = pieces_[order_[reserved_]];
    const Record& record = records_[piece.record];
    if (record.refused) continue;
    // A segment that has died in between takes nothing more.
    if (!segments_[record.segment]->Reserve(piece.extent.offset, piece.extent.units, &piece.extent)) {
      piece.extent.units = 0;
    }
  }
  return reserved_ < order_.size();
}

void Adoption::GiveBack(const Record& record) {
  for (uint32_t i = record.first_extent; i < record.first_extent + record.extents; ++i) {
    if (pieces_[i].extent.units == 0) continue;
    Placed placed;
    placed.one = {pieces_[i].extent.offset, pieces_[i].extent.units};
    placed.block = pieces_[i].extent.block;
    segments_[record.segment]->Free(placed);
  }
}

bool Adoption::Next(Ready* out) {
  for (; next_ < records_.size(); ++next_) {
    const Record& record = records_[next_];
    if (record.refused) continue;
    const std::span<const Piece> pieces(&pieces_[record.first_extent], record.extents);
    if (std::any_of(pieces.begin(), pieces.end(), [](const Piece& piece) { return piece.extent.units == 0; })) {
      GiveBack(record);
      continue;
    }
    out->key = KeyOf(record);
    out->generation = record.generation;
    out->checksum = record.checksum;
    out->size = record.size;
    out->asked = record.asked;
    out->hard_pinned = record.hard_pinned;
    out->segment = segments_[record.segment].get();
    out->placed = Placed();
    if (pieces.size() == 1) {
      out->placed.one = {pieces[0].extent.offset, pieces[0].extent.units};
      out->placed.block = pieces[0].extent.block;
    } else {
      auto many = std::make_unique<std::vector<Extent>>();
      for (const Piece& piece : pieces) many->push_back(piece.extent);
      out->placed.many = many.release();
      out->placed.block = Placed::kMany;
    }
    out->placed.segment = out->segment->slot();
    ++next_;
    return true;
  }
  return false;
}

}  // namespace mmc::meta
