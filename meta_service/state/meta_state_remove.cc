// Remove, and the walks over all objects: removal by prefix, listing.
#include <algorithm>
#include <utility>

#include "meta_service/state/meta_state.h"

namespace mmc::meta {

namespace {
constexpr size_t kStepSlots = 1024;  // home slots looked at under one lock
}  // namespace

void MetaState::Remove(std::span<const std::string_view> keys, std::span<Code> codes, TimePoint now,
                       uint64_t limit) {
  Effects effects;
  uint64_t removed = 0;
  for (size_t i = 0; i < keys.size(); ++i) {
    const uint64_t hash = HashKey(keys[i]);
    Shard& shard = ShardOf(hash);
    MutexLock lock(shard.mutex);
    Object* object = shard.table.Find(hash, keys[i]);
    const bool there = object != nullptr && !object->writing && object->generation < limit;
    codes[i] = there ? Code::kOk : Code::kNotFound;
    if (burying_.load(std::memory_order_relaxed)) {
      Bury(shard, hash, there ? object->generation : std::min(limit, next_generation_.load()) - 1);
    }
    if (!there) continue;
    RemoveObject(shard, object, hash, now, &effects);
    ++removed;
  }
  counters_.removes.fetch_add(removed, std::memory_order_relaxed);
  Tell(effects);
}

uint64_t MetaState::RemoveStep(const KeyMatch& match, WalkCursor* cursor, TimePoint now, uint64_t limit) {
  Effects effects;
  uint64_t removed = 0;
  std::vector<std::pair<uint64_t, Object*>> found;
  // Which keys of this prefix a node that is away holds nobody knows.
  const bool begins = cursor->shard == 0 && cursor->from_hash == 0;
  if (begins && burying_.load() && !recovering()) RefuseLate(limit);
  if (cursor->shard < kShards) {
    Shard& shard = shards_[cursor->shard];
    MutexLock lock(shard.mutex);
    cursor->from_hash = shard.table.Walk(cursor->from_hash, kStepSlots, &found);
    for (auto& [hash, object] : found) {
      if (object->writing || object->generation >= limit || !match(object->key())) continue;
      if (burying_.load(std::memory_order_relaxed)) Bury(shard, hash, object->generation);
      RemoveObject(shard, object, hash, now, &effects);
      ++removed;
    }
  }
  if (cursor->from_hash == 0) ++cursor->shard;
  cursor->done = cursor->shard >= kShards;
  counters_.removes.fetch_add(removed, std::memory_order_relaxed);
  Tell(effects);
  return removed;
}

void MetaState::AwaitForgotten(const std::function<bool(std::string_view key)>& of,
                               std::vector<AckWait>* waits) const {
  for (auto& feed : membership_.Feeds()) {
    const uint64_t seq = feed->Forgetting(of);
    if (seq != 0) waits->push_back({std::move(feed), seq});
  }
}

void MetaState::ListStep(const KeyMatch& match, size_t limit, WalkCursor* cursor, std::vector<ListedKey>* out) {
  std::vector<std::pair<uint64_t, Object*>> found;
  bool full = false;
  if (cursor->shard < kShards) {
    Shard& shard = shards_[cursor->shard];
    MutexLock lock(shard.mutex);
    const uint64_t next = shard.table.Walk(cursor->from_hash, kStepSlots, &found);
    cursor->from_hash = next;
    for (auto& [hash, object] : found) {
      if (object->writing || !match(object->key())) continue;
      if (out->size() >= limit) {
        cursor->from_hash = hash;  // the first one that did not fit opens the next page
        full = true;
        break;
      }
      out->push_back({std::string(SplitStoredKey(object->key())->key), object->size});
    }
  }
  if (!full && cursor->from_hash == 0) ++cursor->shard;
  cursor->done = cursor->shard >= kShards;
}

}  // namespace mmc::meta
