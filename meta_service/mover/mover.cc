#include "meta_service/mover/mover.h"

#include <algorithm>
#include <utility>

#include "common/base/bytes.h"
#include "common/base/limits.h"
#include "common/obs/log.h"
#include "fabric/address.h"

namespace mmc::meta {

namespace {

constexpr uint32_t kStepsPerTick = 16'384;  // objects looked at
constexpr uint32_t kStepsPerAnswer = 512;
constexpr uint32_t kStepsPerLock = 128;
constexpr size_t kSlotsPerLock = 512;
constexpr size_t kMaxBad = 4096;       // corrupt replicas that wait for their pins
constexpr size_t kMaxSuspects = 4096;  // objects of which one copy came out corrupt
constexpr size_t kMaxResting = 65'536;
constexpr size_t kMaxUnrecorded = 1 << 20;
constexpr auto kRest = std::chrono::seconds(1);  // after a copy that failed
constexpr auto kBadPause = std::chrono::seconds(1);

void AddExtents(const Placed& placed, uint64_t bytes, google::protobuf::RepeatedField<uint64_t>* offsets,
                google::protobuf::RepeatedField<uint64_t>* lengths) {
  placed.ForEach([&](const Extent& extent) {
    const uint64_t length = std::min<uint64_t>(bytes, extent.units * kUnitBytes);
    offsets->Add(extent.offset * kUnitBytes);
    lengths->Add(length);
    bytes -= length;
  });
}

}  // namespace

Mover::Mover(MetaState& state, MoverOptions options)
    : state_(state), options_(options), next_id_(state.options().id_base) {}

Mover::~Mover() {
  MutexLock lock(mutex_);
  Effects effects;
  for (const auto& [id, copy] : copies_) End(copy, false, TimePoint(), &effects);
}

void Mover::Tick(TimePoint now) {
  Effects effects;
  {
    MutexLock lock(mutex_);
    EndOrphans(now, &effects);
    std::erase_if(resting_, [now](const auto& entry) { return entry.second <= now; });
    Pump(kStepsPerTick, now, &effects);
    if (!bad_.empty() && now >= next_bad_) {
      next_bad_ = now + kBadPause;
      std::erase_if(bad_, [&](const Bad& bad) MMC_NO_THREAD_SAFETY_ANALYSIS { return DropNow(bad, now, &effects); });
    }
  }
  state_.Tell(effects);
}

bool Mover::Collect(uint32_t node, google::protobuf::RepeatedPtrField<proto::CopyCommand>* out) {
  MutexLock lock(mutex_);
  const auto load = loads_.find(node);
  if (load == loads_.end() || load->second.copies == 0) return false;
  bool fresh = false;
  for (auto& [id, copy] : copies_) {
    if (copy.destination != node || state_.segments_.Get(copy.placed.segment).dead()) continue;
    *out->Add() = copy.command;
    fresh |= !std::exchange(copy.sent, true);
  }
  return fresh;
}

void Mover::Finish(uint32_t node, uint64_t id, Code code, TimePoint now) {
  Effects effects;
  {
    MutexLock lock(mutex_);
    const auto it = copies_.find(id);
    if (it == copies_.end() || it->second.destination != node) return;
    const Copy copy = std::move(it->second);
    copies_.erase(it);
    const bool admitted = code == Code::kOk && Admit(copy, &effects);
    End(copy, admitted, now, &effects);
    if (admitted) {
      ++figures_.copied_objects;
      figures_.copied_bytes += copy.command.size();
    } else {
      ++figures_.failed;
      if (resting_.size() < kMaxResting) resting_[copy.command.generation()] = now + kRest;
    }
    if (code == Code::kCorrupt) Corrupt(copy, now, &effects);
    Pump(kStepsPerAnswer, now, &effects);
  }
  state_.Tell(effects);
}

Status Mover::Drain(const std::string& node, bool cancel, TimePoint now) {
  MMC_RETURN_IF_ERROR(state_.membership_.Drain(node, !cancel));
  MMC_LOG(INFO) << (cancel ? "the drain is over of node " : "draining node ") << node;
  Effects effects;
  {
    MutexLock lock(mutex_);
    empty_ = {};
    Pump(kStepsPerAnswer, now, &effects);
  }
  state_.Tell(effects);
  return Status::Ok();
}

void Mover::DropBad(uint32_t node, std::string_view key, uint64_t generation, TimePoint now) {
  Effects effects;
  {
    MutexLock lock(mutex_);
    Bad bad{node, std::string(key), generation};
    if (!DropNow(bad, now, &effects)) DropLater(std::move(bad));
  }
  state_.Tell(effects);
}

MoverFigures Mover::figures() const {
  MutexLock lock(mutex_);
  MoverFigures figures = figures_;
  figures.in_flight = copies_.size();
  figures.under_replicated = state_.counters_.thin.load(std::memory_order_relaxed);
  return figures;
}

// ---- choosing -----------------------------------------------------------------------------------------------------

void Mover::Earn(TimePoint now) {
  const int64_t rate = static_cast<int64_t>(options_.bytes_per_second);
  if (earned_ != TimePoint() && now > earned_) {
    const double seconds = std::min(std::chrono::duration<double>(now - earned_).count(), 1.0);
    credit_ += static_cast<int64_t>(seconds * static_cast<double>(rate));
  }
  if (earned_ == TimePoint()) credit_ = 1;
  earned_ = std::max(earned_, now);
  // What was not used is not saved up for long.
  credit_ = std::min(credit_, std::max<int64_t>(rate / 10, 1));
}

bool Mover::MayStart() const { return credit_ > 0; }

bool Mover::HasRoom(uint32_t node, uint64_t bytes) const {
  const auto it = loads_.find(node);
  if (it == loads_.end() || it->second.copies == 0) return true;
  return it->second.copies < options_.max_copies_per_node && it->second.bytes + bytes <= options_.max_bytes_per_node;
}

void Mover::SeeNodes(TimePoint now) {
  const uint64_t version = state_.directory_version();
  if (view_ != nullptr && version == seen_version_) return;
  nodes_.clear();
  for (NodeInfo& node : state_.membership_.Directory(now, &seen_version_)) nodes_[node.id] = std::move(node);
  seen_version_ = version;  // of before: what has changed in between is seen next time
  view_ = state_.membership_.View();
  leaving_.clear();
  for (const auto& segment : state_.membership_.Draining()) leaving_.insert(segment->slot());
  // There may be room now.
  mend_.pause_until = empty_.pause_until = TimePoint();
}

void Mover::Pump(uint32_t steps, TimePoint now, Effects* effects) {
  Earn(now);
  SeeNodes(now);
  if (state_.recovering()) return;  // what seems to lack may just not be reported yet
  if (state_.counters_.thin.load(std::memory_order_relaxed) > 0) Mend(&steps, now, effects);
  if (!leaving_.empty()) Empty(&steps, now, effects);
}

// Objects with too few replicas.
void Mover::Mend(uint32_t* steps, TimePoint now, Effects* effects) {
  while (*steps > 0 && now >= mend_.pause_until && MayStart()) {
    Shard& shard = state_.shards_[mend_.at.shard];
    bool over = false;
    {
      MutexLock lock(shard.mutex);
      auto it = shard.thin.lower_bound(mend_.at.from_hash);
      for (uint32_t n = 0; n < kStepsPerLock && *steps > 0 && it != shard.thin.end(); ++n, ++it, --*steps) {
        mend_.at.from_hash = it->first;
        if (!MayStart()) return;
        Object* object = shard.table.FindGeneration(it->second, it->first);
        if (object == nullptr) continue;
        const Outcome outcome = Begin(shard, object, it->second, SegmentTable::kMaxSegments, effects);
        if (outcome == Outcome::kBusy) return;
        mend_.moved |= outcome == Outcome::kStarted;
      }
      over = it == shard.thin.end();
      if (!over) mend_.at.from_hash = it->first;
    }
    if (!over) continue;
    if (*steps > 0) --*steps;
    mend_.at.from_hash = 0;
    if (++mend_.at.shard < kShards) continue;
    mend_.Over(now);
    return;
  }
}

// Objects on draining nodes.
void Mover::Empty(uint32_t* steps, TimePoint now, Effects* effects) {
  std::vector<std::pair<uint64_t, Object*>> found;
  while (*steps > 0 && now >= empty_.pause_until && MayStart()) {
    Shard& shard = state_.shards_[empty_.at.shard];
    uint64_t next = 0;
    {
      MutexLock lock(shard.mutex);
      found.clear();
      next = shard.table.Walk(empty_.at.from_hash, kSlotsPerLock, &found);
      for (const auto& [hash, object] : found) {
        empty_.at.from_hash = hash;
        if (!MayStart() || !EmptyOne(shard, object, hash, now, effects)) return;
      }
    }
    *steps -= std::min<uint32_t>(*steps, static_cast<uint32_t>(found.size()) + 1);
    empty_.at.from_hash = next;
    if (next != 0) continue;
    if (++empty_.at.shard < kShards) continue;
    empty_.Over(now);
    return;
  }
}

bool Mover::EmptyOne(Shard& shard, Object* object, uint64_t hash, TimePoint now, Effects* effects) {
  if (object->writing) return true;
  uint32_t leaving = object->replica_count;
  uint32_t staying = 0;
  for (uint32_t i = 0; i < object->replica_count; ++i) {
    const uint32_t slot = object->replicas()[i].placed.segment;
    if (Leaving(slot)) {
      leaving = i;
    } else {
      // Of a node that is silent nobody knows whether it comes back: this replica may be the last one.
      const Segment& segment = state_.segments_.Get(slot);
      const auto node = nodes_.find(segment.node());
      staying += !segment.dead() && node != nodes_.end() && node->second.health == NodeHealth::kServing;
    }
  }
  if (leaving == object->replica_count) return true;
  bool drop = staying >= object->asked;
  if (!drop) {
    const Outcome outcome = Begin(shard, object, hash, object->replicas()[leaving].placed.segment, effects);
    if (outcome == Outcome::kBusy) return false;
    empty_.moved |= outcome == Outcome::kStarted;
    // Where there is no room for another, one replica less is no loss.
    drop = outcome == Outcome::kNoRoom && staying > 0;
  }
  if (drop && object->pins == 0) {
    if (Recorded(*object)) state_.DropReplica(shard, object, leaving, now, effects);
    empty_.moved = true;
  }
  return true;
}

bool Mover::Recorded(const Object& object) {
  if (unrecorded_.size() >= kMaxUnrecorded) unrecorded_.clear();  // of some that were removed; the others wait anew
  auto& waits = unrecorded_[object.generation];
  bool all = true;
  for (uint32_t i = 0; i < object.replica_count; ++i) {
    const uint32_t slot = object.replicas()[i].placed.segment;
    Segment& segment = state_.segments_.Get(slot);
    if (Leaving(slot) || segment.dead()) continue;
    auto wait = std::find_if(waits.begin(), waits.end(), [slot](const auto& entry) { return entry.first == slot; });
    if (wait == waits.end()) wait = waits.emplace(wait, slot, segment.feed().last_seq());
    all &= segment.feed().Settled(wait->second);
  }
  if (all) unrecorded_.erase(object.generation);
  return all;
}

const Replica* Mover::PickSource(const Object& object, uint32_t wanted_slot) const {
  const Replica* best = nullptr;
  int best_rank = 0;
  for (uint32_t i = 0; i < object.replica_count; ++i) {
    const Replica& replica = object.replicas()[i];
    const Segment& segment = state_.segments_.Get(replica.placed.segment);
    const auto node = nodes_.find(segment.node());
    if (segment.dead() || node == nodes_.end()) continue;
    const bool readable =
        node->second.health == NodeHealth::kServing || node->second.health == NodeHealth::kDraining;
    const int rank = 1 + 4 * readable + 2 * HasRoom(segment.node(), object.size) +
                     (replica.placed.segment == wanted_slot);
    if (rank > best_rank) best = &replica;
    best_rank = std::max(best_rank, rank);
  }
  return best;
}

std::shared_ptr<Segment> Mover::PickDestination(const Object& object, Medium medium, bool* busy) const {
  const uint64_t units = UnitsOf(object.size);
  std::shared_ptr<Segment> best;
  for (const PlacementNode& node : view_->nodes) {
    bool holds = false;
    for (uint32_t i = 0; i < object.replica_count; ++i) {
      holds |= state_.segments_.Get(object.replicas()[i].placed.segment).node() == node.id;
    }
    if (holds) continue;
    for (const auto& segment : node.segments) {
      const uint64_t after = segment->live_units() + units;
      if (segment->info().medium != medium || segment->dead() || segment->free_units() < units ||
          after * 100 > uint64_t{segment->total_units()} * state_.options_.evict_high || !segment->feed().HasRoom()) {
        continue;
      }
      if (!HasRoom(node.id, object.size)) {
        *busy = true;
      } else if (best == nullptr || segment->free_units() > best->free_units()) {
        best = segment;
      }
    }
  }
  return best;
}

void Mover::Describe(const Object& object, const Replica& source, const Placed& placed,
                     proto::CopyCommand* out) const {
  const Segment& from = state_.segments_.Get(source.placed.segment);
  const NodeInfo& node = nodes_.at(from.node());
  out->set_key(std::string(object.key()));
  out->set_generation(object.generation);
  out->set_size(object.size);
  out->set_checksum(object.checksum);
  out->set_source_name(node.name);
  out->set_source_incarnation(node.incarnation);
  out->set_source_host_id(node.host_id);
  for (const EndpointInfo& endpoint : node.endpoints) {
    auto* to = out->add_source_endpoints();
    to->set_transport(endpoint.transport);
    // A node reads from another one, and is told no more than that takes.
    to->set_address(endpoint.transport == "shm" ? fabric::ReaderAddress(endpoint.address) : endpoint.address);
  }
  out->set_source_segment(from.info().id);
  out->set_source_epoch(from.info().epoch);
  AddExtents(source.placed, object.size, out->mutable_source_offset(), out->mutable_source_length());
  out->set_segment(state_.segments_.Get(placed.segment).info().id);
  AddExtents(placed, object.size, out->mutable_offset(), out->mutable_length());
}

Mover::Outcome Mover::Begin(Shard& shard, Object* object, uint64_t hash, uint32_t wanted_slot, Effects* effects) {
  const bool rests = resting_.count(object->generation) != 0;
  if (rests || under_way_.count(object->generation) != 0) return Outcome::kUnderWay;
  if (object->replica_count >= kMaxReplicas) return Outcome::kNoRoom;
  const Replica* source = PickSource(*object, wanted_slot);
  if (source == nullptr) return Outcome::kNoSource;
  const Segment& from = state_.segments_.Get(source->placed.segment);
  if (!HasRoom(from.node(), object->size)) return Outcome::kBusy;

  const int asked = static_cast<int>(from.info().medium);
  bool busy = false;
  std::shared_ptr<Segment> to;
  for (int n = 0; n < kMediums && to == nullptr && !busy; ++n) {
    const int medium = n == 0 ? asked : (n - 1 < asked ? n - 1 : n);
    to = PickDestination(*object, static_cast<Medium>(medium), &busy);
  }
  if (to == nullptr) return busy ? Outcome::kBusy : Outcome::kNoRoom;
  const auto pinned = shard.pinned.try_emplace(object->generation, object).first;
  if (pinned->second != object) return Outcome::kUnderWay;  // generations are unique, unless a catalog lied
  Placed placed;
  Tenant& tenant = state_.tenants_.At(object->tenant);
  const bool may = tenant.TryCharge(UnitsOf(object->size));
  if (!may || !to->Allocate(UnitsOf(object->size), &placed)) {
    if (may) tenant.Uncharge(UnitsOf(object->size));
    if (object->pins == 0) shard.pinned.erase(pinned);
    return Outcome::kNoRoom;
  }
  ++object->pins;
  tenant.pins.fetch_add(1, std::memory_order_relaxed);
  state_.counters_.pins.fetch_add(1, std::memory_order_relaxed);

  const uint64_t id = next_id_++;
  Copy& copy = copies_[id];
  Describe(*object, *source, placed, &copy.command);
  copy.command.set_id(id);
  copy.hash = hash;
  copy.source = from.node();
  copy.source_slot = source->placed.segment;
  copy.destination = to->node();
  copy.placed = placed;
  copy.tenant = object->tenant;
  under_way_.insert(object->generation);
  for (const uint32_t node : {copy.source, copy.destination}) {
    ++loads_[node].copies;
    loads_[node].bytes += object->size;
  }
  credit_ -= object->size;
  effects->feeds.push_back(copy.destination);
  return Outcome::kStarted;
}

// ---- ending -------------------------------------------------------------------------------------------------------

bool Mover::Admit(const Copy& copy, Effects* effects) {
  Segment& to = state_.segments_.Get(copy.placed.segment);
  Shard& shard = state_.ShardOf(copy.hash);
  MutexLock lock(shard.mutex);
  const auto pinned = shard.pinned.find(copy.command.generation());
  if (pinned == shard.pinned.end() || to.dead() || !to.feed().HasRoom()) return false;
  Object* object = pinned->second;
  if (object->detached || object->replica_count >= kMaxReplicas) return false;
  bool has_source = false;
  for (uint32_t i = 0; i < object->replica_count; ++i) {
    const uint32_t slot = object->replicas()[i].placed.segment;
    if (state_.segments_.Get(slot).node() == to.node()) return false;
    has_source |= slot == copy.source_slot;
  }
  // A source that went away while it was read says nothing about what was read.
  if (!has_source || state_.segments_.Get(copy.source_slot).dead()) return false;
  const uint8_t asked = object->asked;
  object = state_.AddReplica(shard, object, copy.hash, copy.placed);
  object->asked = asked;
  state_.NoteReplicas(shard, object, copy.hash);
  state_.QueueAdd(*object, object->replicas()[object->replica_count - 1].placed, effects, nullptr);
  return true;
}

// Pin, load and (unless a replica took it) space go back.
void Mover::End(const Copy& copy, bool keep_space, TimePoint now, Effects* effects) {
  const uint64_t generation = copy.command.generation();
  under_way_.erase(generation);
  for (const uint32_t node : {copy.source, copy.destination}) {
    const auto load = loads_.find(node);
    load->second.bytes -= copy.command.size();
    if (--load->second.copies == 0) loads_.erase(load);
  }
  if (!keep_space) state_.FreeUnwritten(copy.placed, copy.tenant, effects);
  state_.DropPin(generation, Pin{copy.hash, 1}, 1, now, effects);
}

// Copies to nodes that are gone: nobody will answer. One that nobody was told of ends with its source too.
void Mover::EndOrphans(TimePoint now, Effects* effects) {
  for (auto it = copies_.begin(); it != copies_.end();) {
    const Copy& copy = it->second;
    const bool no_destination = state_.segments_.Get(copy.placed.segment).dead();
    const auto source = nodes_.find(copy.source);
    const bool no_source = !copy.sent && (source == nodes_.end() || source->second.health == NodeHealth::kDead ||
                                          source->second.incarnation != copy.command.source_incarnation());
    if (!no_destination && !no_source) {
      ++it;
      continue;
    }
    ++figures_.failed;
    End(copy, false, now, effects);
    it = copies_.erase(it);
  }
}

// Once may be the fault of the way; of the second time the source is to blame.
void Mover::Corrupt(const Copy& copy, TimePoint now, Effects* effects) {
  const uint64_t generation = copy.command.generation();
  if (suspects_.size() < kMaxSuspects && suspects_.insert(generation).second) return;
  suspects_.erase(generation);
  Bad bad{copy.source, copy.command.key(), generation};
  if (!DropNow(bad, now, effects)) DropLater(std::move(bad));
}

bool Mover::DropNow(const Bad& bad, TimePoint now, Effects* effects) {
  const uint64_t hash = HashKey(bad.key);
  Shard& shard = state_.ShardOf(hash);
  MutexLock lock(shard.mutex);
  Object* object = shard.table.Find(hash, bad.key);
  if (object == nullptr || object->writing || object->generation != bad.generation) return true;
  for (uint32_t i = 0; i < object->replica_count; ++i) {
    const Segment& segment = state_.segments_.Get(object->replicas()[i].placed.segment);
    if (segment.node() != bad.node) continue;
    if (object->replica_count > 1 && object->pins > 0) return false;  // pinned bytes stay where they are
    ++figures_.bad_replicas;
    MMC_LOG(ERROR) << "a replica on node " << bad.node << " of generation " << bad.generation
                   << " does not match its checksum and is dropped; " << object->replica_count - 1
                   << " others are left";
    if (object->replica_count > 1) {
      state_.DropReplica(shard, object, i, now, effects);
    } else {
      state_.RemoveObject(shard, object, hash, now, effects);
    }
    return true;
  }
  return true;
}

void Mover::DropLater(Bad bad) {
  if (bad_.size() < kMaxBad) bad_.push_back(std::move(bad));
}

}  // namespace mmc::meta
