// Lookup, LookupPrefix, Exists, Stat, Unpin.
#include <algorithm>

#include "meta_service/state/meta_state.h"

namespace mmc::meta {

namespace {

std::vector<uint64_t>& HashesOf(std::span<const std::string_view> keys) {
  thread_local std::vector<uint64_t> hashes;
  hashes.resize(keys.size());
  for (size_t i = 0; i < keys.size(); ++i) hashes[i] = HashKey(keys[i]);
  return hashes;
}

// Keys of this many are fetched into the cache before the first of them is looked at.
constexpr size_t kGroup = 32;

}  // namespace

void MetaState::AppendReplicas(const Object& object, uint32_t* first, uint32_t* count,
                               Views* views) const {
  *first = static_cast<uint32_t>(views->replicas.size());
  *count = object.replica_count;
  for (uint32_t i = 0; i < object.replica_count; ++i) {
    const Placed& placed = object.replicas()[i].placed;
    const Segment& segment = segments_.Get(placed.segment);
    views->replicas.push_back({segment.node(), segment.info().id, segment.info().epoch,
                               static_cast<uint32_t>(views->extents.size()), placed.count()});
    uint64_t left = object.size;
    placed.ForEach([&](const Extent& extent) {
      const uint64_t length = std::min<uint64_t>(left, extent.units * kUnitBytes);
      views->extents.push_back({extent.offset * kUnitBytes, length});
      left -= length;
    });
  }
}

// First the slots of all keys, then (one short lock each) the objects that they most likely name.
void MetaState::Prefetch(std::span<const uint64_t> hashes) {
  for (uint64_t hash : hashes) ShardOf(hash).PrefetchSlot(hash);
  for (uint64_t hash : hashes) {
    Shard& shard = ShardOf(hash);
    MutexLock lock(shard.mutex);
    if (const Object* object = shard.table.Candidate(hash)) {
      __builtin_prefetch(object);
      __builtin_prefetch(reinterpret_cast<const char*>(object) + 64);
    }
  }
}

Duration MetaState::LeaseFor(Duration asked) const {
  return asked.count() <= 0 ? options_.lease : std::min(asked, options_.max_lease);
}

Status MetaState::Lookup(uint64_t session_id, std::span<const std::string_view> keys,
                         Duration lease, bool pin, std::span<ReadRow> rows, Views* views,
                         TimePoint now) {
  std::shared_ptr<Session> session;
  if (session_id != 0) {
    MMC_ASSIGN_OR_RETURN(session, sessions_.Find(session_id));
    session->Heard(now);
  } else if (pin) {
    return Status(Code::kInvalidArgument,
                  "a pin needs a session, this lookup is anonymous (session 0)");
  }
  const std::vector<uint64_t>& hashes = HashesOf(keys);
  const uint64_t stamp = next_stamp_.fetch_add(keys.size(), std::memory_order_relaxed);
  const int64_t until = (now + LeaseFor(lease)).time_since_epoch().count();
  const Code missing =
      recovering() ? Code::kRecovering : Code::kNotFound;  // before the look at the tables
  uint64_t hits = 0;
  std::vector<uint64_t> grouped;
  // From the last to the first, so that the first keys of the batch end up as the youngest.
  for (size_t end = keys.size(); end > 0; end -= std::min(end, kGroup)) {
    const size_t begin = end - std::min(end, kGroup);
    Prefetch(std::span(hashes).subspan(begin, end - begin));
    for (size_t i = end; i-- > begin;) {
      ReadRow& row = rows[i];
      row = {.hash = hashes[i], .code = missing};
      Shard& shard = ShardOf(row.hash);
      MutexLock lock(shard.mutex);
      Object* object = shard.table.Find(row.hash, keys[i]);
      if (object == nullptr || object->writing) continue;
      if (pin) {
        Tenant& tenant = tenants_.At(object->tenant);
        if (tenant.pins.load(std::memory_order_relaxed) >= options_.max_pins_per_tenant ||
            counters_.pins.load(std::memory_order_relaxed) >= options_.max_pins) {
          row.code = Code::kQueueFull;
          continue;
        }
        const auto pinned = shard.pinned.try_emplace(object->generation, object).first;
        if (pinned->second != object ||
            !session->AddPin(object->generation, row.hash, options_.max_pins_per_session)) {
          if (object->pins == 0 && pinned->second == object) shard.pinned.erase(pinned);
          row.code = Code::kQueueFull;
          continue;
        }
        ++object->pins;
        tenant.pins.fetch_add(1, std::memory_order_relaxed);
        counters_.pins.fetch_add(1, std::memory_order_relaxed);
      }
      object->lease_until = std::max(object->lease_until, until);
      object->stamp = stamp + (keys.size() - 1 - i);
      shard.policy->Touch(object);
      if (object->grouped) grouped.push_back(object->generation);
      row.code = Code::kOk;
      row.size = object->size;
      row.generation = object->generation;
      row.checksum = object->checksum;
      AppendReplicas(*object, &row.first_replica, &row.replicas, views);
      ++hits;
    }
  }
  if (!grouped.empty()) UseGroups(grouped, until);
  counters_.hits.fetch_add(hits, std::memory_order_relaxed);
  if (missing == Code::kNotFound)
    counters_.misses.fetch_add(keys.size() - hits, std::memory_order_relaxed);
  counters_.gets.fetch_add(keys.size(), std::memory_order_relaxed);
  return Status::Ok();
}

uint32_t MetaState::LookupPrefix(std::span<const std::string_view> keys) {
  const std::vector<uint64_t>& hashes = HashesOf(keys);
  size_t present = 0;
  bool missed = false;
  while (present < keys.size() && !missed) {
    const size_t end = std::min(keys.size(), present + kGroup);
    Prefetch(std::span(hashes).subspan(present, end - present));
    while (present < end && !missed) {
      Shard& shard = ShardOf(hashes[present]);
      MutexLock lock(shard.mutex);
      const Object* object = shard.table.Find(hashes[present], keys[present]);
      missed = object == nullptr || object->writing;
      present += !missed;
    }
  }
  // Who asks for a prefix is about to read it: it counts as use, the first key as the last one
  // used.
  const uint64_t stamp = next_stamp_.fetch_add(present, std::memory_order_relaxed);
  for (size_t i = present; i-- > 0;) {
    Shard& shard = ShardOf(hashes[i]);
    MutexLock lock(shard.mutex);
    Object* object = shard.table.Find(hashes[i], keys[i]);
    if (object == nullptr || object->writing) continue;
    object->stamp = stamp + (present - 1 - i);
    shard.policy->Touch(object);
  }
  counters_.hits.fetch_add(present, std::memory_order_relaxed);
  counters_.misses.fetch_add(keys.size() - present, std::memory_order_relaxed);
  return static_cast<uint32_t>(present);
}

void MetaState::Exists(std::span<const std::string_view> keys, uint8_t* present) {
  LookForKeys(keys, options_.exists_counts_as_use, 0, present);
}

void MetaState::ExistsLeased(std::span<const std::string_view> keys, Duration lease,
                             uint8_t* present, TimePoint now) {
  LookForKeys(keys, true, (now + LeaseFor(lease)).time_since_epoch().count(), present);
}

void MetaState::LookForKeys(std::span<const std::string_view> keys, bool use, int64_t lease_until,
                            uint8_t* present) {
  const std::vector<uint64_t>& hashes = HashesOf(keys);
  const uint64_t stamp = use ? next_stamp_.fetch_add(keys.size(), std::memory_order_relaxed) : 0;
  std::vector<uint64_t> grouped;
  for (size_t end = keys.size(); end > 0; end -= std::min(end, kGroup)) {
    const size_t begin = end - std::min(end, kGroup);
    Prefetch(std::span(hashes).subspan(begin, end - begin));
    for (size_t i = end; i-- > begin;) {
      Shard& shard = ShardOf(hashes[i]);
      MutexLock lock(shard.mutex);
      Object* object = shard.table.Find(hashes[i], keys[i]);
      present[i] = object != nullptr && !object->writing;
      if (!use || present[i] == 0) continue;
      object->lease_until = std::max(object->lease_until, lease_until);
      object->stamp = stamp + (keys.size() - 1 - i);
      shard.policy->Touch(object);
      if (object->grouped && lease_until != 0) grouped.push_back(object->generation);
    }
  }
  if (!grouped.empty()) UseGroups(grouped, lease_until);
}

void MetaState::Stat(std::span<const std::string_view> keys, std::span<ReadRow> rows, Views* views,
                     TimePoint now) {
  const std::vector<uint64_t>& hashes = HashesOf(keys);
  const Code missing = recovering() ? Code::kRecovering : Code::kNotFound;
  for (size_t i = 0; i < keys.size(); ++i) {
    ReadRow& row = rows[i];
    row = {.hash = hashes[i], .code = missing};
    Shard& shard = ShardOf(row.hash);
    MutexLock lock(shard.mutex);
    const Object* object = shard.table.Find(row.hash, keys[i]);
    if (object == nullptr || object->writing) continue;
    row.code = Code::kOk;
    row.size = object->size;
    row.generation = object->generation;
    row.checksum = object->checksum;
    row.pins = object->pins;
    row.lease_left =
        Duration(std::max<int64_t>(0, object->lease_until - now.time_since_epoch().count()));
    AppendReplicas(*object, &row.first_replica, &row.replicas, views);
  }
}

Status MetaState::Unpin(uint64_t session_id, std::span<const uint64_t> generations,
                        std::span<Code> codes, TimePoint now) {
  MMC_ASSIGN_OR_RETURN(auto session, sessions_.Find(session_id));
  session->Heard(now);
  Effects effects;
  for (size_t i = 0; i < generations.size(); ++i) {
    Pin pin;
    const bool held = session->TakePin(generations[i], &pin);
    if (held) DropPin(generations[i], pin, 1, now, &effects);
    codes[i] = held ? Code::kOk : Code::kNotFound;
  }
  Tell(effects);
  return Status::Ok();
}

}  // namespace mmc::meta
