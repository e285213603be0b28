// What one node reports that it holds, on its way into the tables of a meta service that does not know it.
//
//   Take()    a batch of records: checked, kept
//   Seal()    all are there: sorted by place; of records that overlap the highest generation stays
//   Reserve() their space is taken, in rising order of offsets (each O(1)), a bounded number per call
//   Next()    the records that hold their space, one after the other
//
// Nothing of it can be looked up before the node has reported all: only then is it known who wins where two records
// claim the same bytes.
//
// Thread safety: an Adoption has none, its NodeReport has the lock. Ownership: keeps copies of the records and shares
// the segments; the space reserved belongs to whoever takes it with Next().
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/base/mutex.h"
#include "common/base/status.h"
#include "meta_service/state/segment.h"
#include "meta_service/state/types.h"

namespace mmc::meta {

// As it came over the wire.
struct ReportedRecord {
  std::string_view key;
  uint32_t segment = 0;  // id on the node
  uint64_t generation = 0;
  uint64_t size = 0;
  uint64_t checksum = 0;
  uint32_t replicas = 0;  // that the object should have; 0: not known
  std::span<const uint64_t> offsets, lengths;  // bytes, one each per extent
  bool hard_pinned = false;
};

class Adoption {
 public:
  using Segments = std::vector<std::shared_ptr<Segment>>;
  Adoption(Segments segments, std::shared_ptr<CatalogFeed> feed);

  // Of a record that will not be adopted; its owner has to forget it.
  struct Refused {
    CatalogEntry forget;
    ConflictKind kind = ConflictKind::kBadRecord;
  };

  // Errors: kTooLarge (more records than the node's segments have units).
  Status Take(std::span<const ReportedRecord> records);
  void Seal();

  // Returns false when all is reserved.
  bool Reserve(size_t max_extents);

  struct Ready {
    std::string_view key;
    uint64_t generation = 0, checksum = 0;
    uint32_t size = 0;
    uint8_t asked = 1;
    bool hard_pinned = false;
    Segment* segment = nullptr;
    Placed placed;  // the caller's now
  };
  // REQUIRES: Reserve() has returned false.
  bool Next(Ready* out);

  std::vector<Refused> TakeRefused() { return std::exchange(refused_, {}); }
  uint64_t highest_generation() const { return highest_generation_; }
  size_t records() const { return records_.size(); }
  CatalogFeed& feed() const { return *feed_; }

 private:
  struct Record {
    uint64_t generation, checksum;
    uint64_t key_at;  // in keys_
    uint32_t first_extent;
    uint32_t extents;
    uint32_t size;
    uint16_t key_bytes;
    uint8_t segment;  // index in segments_
    uint8_t asked : 6;
    bool hard_pinned : 1;
    bool refused : 1;
  };
  struct Piece {
    Extent extent;
    uint32_t record;
  };

  std::string_view KeyOf(const Record& record) const { return {keys_.data() + record.key_at, record.key_bytes}; }
  int SegmentIndex(uint32_t id) const;
  bool TakeOne(const ReportedRecord& record);
  void Refuse(const Record& record, ConflictKind kind);
  // Of records that overlap, the one to give up is refused.
  void ResolveOverlaps();
  void ResolveAmong(std::vector<uint32_t> records);
  void GiveBack(const Record& record);

  const Segments segments_;
  const std::shared_ptr<CatalogFeed> feed_;  // of the node
  uint64_t max_records_ = 0;
  std::string keys_;
  std::vector<Record> records_;
  std::vector<Piece> pieces_;
  std::vector<uint32_t> order_;  // of pieces_, by segment and offset
  std::vector<Refused> refused_;
  uint64_t highest_generation_ = 0;
  size_t reserved_ = 0;  // of order_
  size_t next_ = 0;      // of records_
};

// A node's report and what became of it. Open until the node has said "last", or has joined again and starts anew.
struct NodeReport {
  enum class Phase : uint8_t { kOpen, kSealed, kReplaced };

  NodeReport(Adoption::Segments segments, std::shared_ptr<CatalogFeed> feed)
      : adoption(std::move(segments), std::move(feed)) {}
  bool Enter(Phase next) {
    Phase open = Phase::kOpen;
    return phase.compare_exchange_strong(open, next);
  }

  std::atomic<Phase> phase{Phase::kOpen};
  Mutex mutex;
  Adoption adoption MMC_GUARDED_BY(mutex);
  ReportProgress progress MMC_GUARDED_BY(mutex);
};

}  // namespace mmc::meta
