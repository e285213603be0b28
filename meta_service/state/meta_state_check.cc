// The books of the state, added up anew: for tests, which call it between two steps.
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "meta_service/state/meta_state.h"

namespace mmc::meta {

namespace {

struct SegmentBooks {
  uint64_t live = 0;     // units of objects in the tables, those being written too
  uint64_t kept = 0;     // units of objects out of the tables that pins keep
  uint64_t replicas = 0;  // committed
  std::map<uint32_t, uint32_t> claims;  // offset -> units
};

std::string Differs(const std::string& what, uint64_t counted, uint64_t kept) {
  return what + ": " + std::to_string(counted) + " counted, the state says " + std::to_string(kept);
}

// Empty, or which bytes are claimed twice.
std::string Claim(const Placed& placed, std::string_view key, SegmentBooks* books) {
  std::string wrong;
  placed.ForEach([&](const Extent& extent) {
    auto next = books->claims.lower_bound(extent.offset);
    bool twice = next != books->claims.end() && next->first < extent.offset + extent.units;
    if (next != books->claims.begin()) {
      const auto before = std::prev(next);
      twice |= before->first + before->second > extent.offset;
    }
    if (twice && wrong.empty()) {
      wrong = "unit " + std::to_string(extent.offset) + " of segment slot " + std::to_string(placed.segment) +
              " is claimed twice, once by key '" + std::string(key.substr(0, 64)) + "'";
    }
    books->claims[extent.offset] = extent.units;
  });
  return wrong;
}

}  // namespace

std::string MetaState::CheckInvariants() {
  std::map<uint32_t, SegmentBooks> segments;  // by slot
  uint64_t objects = 0, bytes = 0, grants = 0, pins = 0, kept_longer[kRetentions] = {};
  std::string wrong;
  for (Shard& shard : shards_) {
    MutexLock lock(shard.mutex);
    std::vector<std::pair<uint64_t, Object*>> all;
    for (uint64_t from = 0;;) {
      from = shard.table.Walk(from, 1024, &all);
      if (from == 0) break;
    }
    for (const auto& [generation, object] : shard.pinned) {
      if (object->detached) all.push_back({0, object});
    }
    for (const auto& [hash, object] : all) {
      objects += !object->writing && !object->detached;
      bytes += object->writing || object->detached ? 0 : object->size;
      grants += object->writing;
      kept_longer[object->kept] += !object->writing && !object->detached;
      pins += object->writing ? 0 : object->pins;
      for (uint32_t i = 0; i < object->replica_count; ++i) {
        const Placed& placed = object->replicas()[i].placed;
        SegmentBooks& books = segments[placed.segment];
        (object->detached ? books.kept : books.live) += placed.units();
        books.replicas += !object->writing && !object->detached;
        if (wrong.empty()) wrong = Claim(placed, object->key(), &books);
      }
    }
  }
  const Figures kept = figures();
  if (wrong.empty() && objects != kept.objects) wrong = Differs("objects", objects, kept.objects);
  if (wrong.empty() && bytes != kept.value_bytes) wrong = Differs("value bytes", bytes, kept.value_bytes);
  if (wrong.empty() && grants != kept.grants) wrong = Differs("grants", grants, kept.grants);
  if (wrong.empty() && pins != kept.pins) wrong = Differs("pins", pins, kept.pins);
  const auto pinned = [&](Retention retention) { return kept_longer[static_cast<int>(retention)]; };
  if (wrong.empty() && pinned(Retention::kSoft) != kept.soft_pinned) {
    wrong = Differs("soft-pinned objects", pinned(Retention::kSoft), kept.soft_pinned);
  }
  if (wrong.empty() && pinned(Retention::kHard) != kept.hard_pinned) {
    wrong = Differs("hard-pinned objects", pinned(Retention::kHard), kept.hard_pinned);
  }
  for (const auto& segment : segments_.All()) {
    const SegmentBooks& books = segments[segment->slot()];
    const std::string name = "segment slot " + std::to_string(segment->slot());
    if (!wrong.empty() || segment->dead()) continue;
    // More is in use while copies and reports hold space of their own.
    if (books.live > segment->live_units()) wrong = Differs(name + ", live units", books.live, segment->live_units());
    if (books.kept > segment->waiting_units()) {
      wrong = Differs(name + ", units kept by pins", books.kept, segment->waiting_units());
    }
    if (books.replicas != segment->replicas()) {
      wrong = Differs(name + ", replicas", books.replicas, segment->replicas());
    }
  }
  return wrong;
}

}  // namespace mmc::meta
