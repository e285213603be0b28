// Recovery: nodes that outlived the meta service report what they hold, and it becomes what the meta service knows.
#include <algorithm>
#include <utility>

#include "common/base/limits.h"
#include "meta_service/state/meta_state.h"

namespace mmc::meta {

namespace {
constexpr size_t kStepExtents = 16'384;  // reserved in one step
constexpr size_t kStepRecords = 2'048;   // put into the tables in one step
constexpr int kMaxWindows = 10;          // a node that never ends its report does not hold up the others for ever
}  // namespace

void MetaState::BeginRecovery(TimePoint now) {
  if (options_.recovery.count() <= 0) return;
  MutexLock lock(recovery_mutex_);
  recovery_began_ = now;
  burying_.store(true);
  recovering_.store(true, std::memory_order_release);
}

bool MetaState::Recover(TimePoint now) {
  if (!burying_.load() && buried_.load() == 0) return false;
  bool ended = false;
  {
    MutexLock lock(recovery_mutex_);
    const size_t open = membership_.OpenReports();
    if (recovering()) {
      const Duration since = now - recovery_began_;
      const bool all = options_.members_known && membership_.Unreported(options_.members).empty();
      ended = (open == 0 && (all || since >= options_.recovery)) || since >= kMaxWindows * options_.recovery;
      if (ended) recovering_.store(false, std::memory_order_release);
    }
    if (recovering() || open > 0 || MayReturn()) return ended;
    burying_.store(false);
    for (Shard& shard : shards_) {
      MutexLock shard_lock(shard.mutex);
      shard.buried.clear();
    }
    buried_.store(0);
  }
  return ended;
}

bool MetaState::MayReturn() const {
  if (options_.recovery.count() <= 0 || late_floor_.load() != 0) return false;
  return !options_.members_known || !membership_.Absent(options_.members).empty();
}

void MetaState::RefuseLate(uint64_t below) {
  uint64_t floor = late_floor_.load();
  const uint64_t next = std::min(below, next_generation_.load());
  while (floor < next && !late_floor_.compare_exchange_weak(floor, next)) {
  }
  burying_.store(false);  // after the floor: it stands for all that is not buried from here on
}

std::vector<MemberRow> MetaState::Members() const {
  const bool recovering = this->recovering();  // before the look at who is there
  std::vector<MemberRow> rows = membership_.Rows();
  for (MemberRow& row : membership_.Absent(options_.members)) {
    if (!recovering) row.kind = MemberRow::Kind::kMissing;
    rows.push_back(std::move(row));
  }
  std::sort(rows.begin(), rows.end(), [](const MemberRow& a, const MemberRow& b) { return a.name < b.name; });
  return rows;
}

void MetaState::Bury(Shard& shard, uint64_t hash, uint64_t generation) {
  const auto [it, fresh] = shard.buried.try_emplace(hash, generation);
  if (!fresh) it->second = std::max(it->second, generation);
  // While recovering there are no more of them than objects that were reported.
  if (fresh && buried_.fetch_add(1) >= options_.max_buried && !recovering()) RefuseLate();
}

void MetaState::RaiseGenerations(uint64_t seen) {
  uint64_t next = next_generation_.load(std::memory_order_relaxed);
  while (next <= seen && !next_generation_.compare_exchange_weak(next, seen + 1, std::memory_order_relaxed)) {
  }
}

void MetaState::CountConflict(NodeReport& report, ConflictKind kind, std::string_view key, uint64_t generation) {
  ++report.progress.conflicts[static_cast<int>(kind)];
  counters_.conflicts[static_cast<int>(kind)].fetch_add(1, std::memory_order_relaxed);
  if (!report.progress.example.empty()) return;
  constexpr size_t kMaxShown = 64;
  report.progress.example = std::string(ConflictName(kind)) + ": key '" + std::string(key.substr(0, kMaxShown)) +
                            "', generation " + std::to_string(generation);
}

Result<ReportProgress> MetaState::TakeReport(uint32_t node, uint64_t incarnation,
                                             std::span<const ReportedRecord> records, bool last, TimePoint now,
                                             uint64_t join) {
  MMC_ASSIGN_OR_RETURN(auto report, membership_.OpenReport(node, incarnation, now, join));
  if (report == nullptr) return ReportProgress{.done = true};
  MutexLock lock(report->mutex);
  if (report->phase.load() == NodeReport::Phase::kReplaced) {
    return Status(Code::kStaleNode, "the node has joined again since, its report starts anew");
  }
  if (report->phase.load() == NodeReport::Phase::kSealed) return report->progress;  // "last" has come twice
  MMC_RETURN_IF_ERROR(report->adoption.Take(records));
  report->progress.records = report->adoption.records();
  if (!last) return report->progress;
  if (!report->Enter(NodeReport::Phase::kSealed)) {
    return Status(Code::kStaleNode, "the node has joined again since, its report starts anew");
  }
  report->adoption.Seal();
  RaiseGenerations(report->adoption.highest_generation());
  return report->progress;
}

Result<ReportProgress> MetaState::AdoptStep(uint32_t node, uint64_t incarnation, TimePoint now) {
  MMC_ASSIGN_OR_RETURN(auto report, membership_.OpenReport(node, incarnation, now));
  if (report == nullptr) return ReportProgress{.done = true};
  Effects effects;
  ReportProgress progress;
  {
    MutexLock lock(report->mutex);
    if (report->phase.load() != NodeReport::Phase::kSealed) {
      return Status(Code::kStaleNode, "the node's report is not complete");
    }
    if (!report->adoption.Reserve(kStepExtents)) {
      Adoption::Ready ready;
      size_t n = 0;
      while (n < kStepRecords && report->adoption.Next(&ready)) {
        AdoptOne(*report, ready, now, &effects);
        ++n;
      }
      report->progress.done = n < kStepRecords;
    }
    if (report->progress.done) ForgetRefused(*report, node, &effects);
    progress = report->progress;
  }
  Tell(effects);
  if (progress.done) {
    membership_.ReportDone(node, report, now);
    Recover(now);
  }
  return progress;
}

// Nothing of these was let in. The feed flows from here on: until now a record that was sent twice could have met its
// own FORGET on the way.
void MetaState::ForgetRefused(NodeReport& report, uint32_t node, Effects* effects) {
  CatalogFeed& feed = report.adoption.feed();
  for (Adoption::Refused& refused : report.adoption.TakeRefused()) {
    CountConflict(report, refused.kind, refused.forget.key, refused.forget.generation);
    uint64_t seq = 0;
    feed.Forget(std::move(refused.forget), nullptr, &seq);
  }
  feed.Flow();
  effects->feeds.push_back(node);
  effects->acked.push_back(node);  // there may be nothing to acknowledge
}

void MetaState::AdoptOne(NodeReport& report, Adoption::Ready& ready, TimePoint now, Effects* effects) {
  if (ready.segment->dead()) {
    ready.segment->Free(ready.placed);
    return;
  }
  const uint64_t hash = HashKey(ready.key);
  ConflictKind why = ConflictKind::kBadRecord;
  if (Insert(ready, hash, &why, now, effects)) {
    ++report.progress.adopted;
    counters_.adopted.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  CountConflict(report, why, ready.key, ready.generation);
  FreeItem item = ready.segment->Detach(ready.placed, 0, true);  // nobody's: it was never counted
  CatalogEntry entry;
  entry.forget = true;
  entry.segment = ready.segment->info().id;
  entry.generation = ready.generation;
  entry.key = ready.key;
  uint64_t seq = 0;
  ready.segment->feed().Forget(std::move(entry), &item, &seq);
  if (item.held()) Release(std::move(item), now, effects);  // the node has gone in between
}

bool MetaState::Insert(const Adoption::Ready& ready, uint64_t hash, ConflictKind* why, TimePoint now,
                       Effects* effects) {
  const auto slot = tenants_.SlotOf(SplitStoredKey(ready.key)->tenant);  // Adoption takes no others
  if (!slot.ok()) return false;
  Tenant& tenant = tenants_.At(*slot);
  Shard& shard = ShardOf(hash);
  MutexLock lock(shard.mutex);
  *why = ConflictKind::kGeneration;
  // Under the lock: who drops the objects of a dead segment comes by later.
  if (ready.segment->dead()) return false;
  const auto buried = shard.buried.find(hash);
  if (buried != shard.buried.end() && buried->second >= ready.generation) {
    *why = ConflictKind::kRemoved;
    return false;
  }
  Object* object = shard.table.Find(hash, ready.key);
  if (object != nullptr && (object->writing || object->generation > ready.generation)) return false;
  if (object != nullptr && object->generation == ready.generation) {
    *why = ConflictKind::kDuplicate;
    bool fits = object->size == ready.size && object->replica_count < kMaxReplicas &&
                (object->checksum == ready.checksum || object->checksum == 0 || ready.checksum == 0);
    for (uint32_t i = 0; i < object->replica_count; ++i) {
      fits &= segments_.Get(object->replicas()[i].placed.segment).node() != ready.segment->node();
    }
    if (!fits) return false;
    tenant.Charge(ready.placed.units());
    const uint8_t asked = std::max(object->asked, ready.asked);
    object = AddReplica(shard, object, hash, ready.placed);
    object->asked = std::max(asked, object->replica_count);
    NoteReplicas(shard, object, hash);
    ready.segment->replicas().fetch_add(1, std::memory_order_relaxed);
    return true;
  }
  if (ready.generation < late_floor_.load()) {
    *why = ConflictKind::kRemoved;
    return false;
  }
  if (object != nullptr) {
    counters_.conflicts[static_cast<int>(ConflictKind::kGeneration)].fetch_add(object->replica_count,
                                                                               std::memory_order_relaxed);
    RemoveObject(shard, object, hash, now, effects);
  }
  object = Object::Make(ready.key, ready.size, *slot, {&ready.placed, 1});
  object->generation = ready.generation;
  object->checksum = ready.checksum;
  object->stamp = next_stamp_.fetch_add(1, std::memory_order_relaxed);
  object->asked = ready.asked;
  object->kept = static_cast<uint8_t>(ready.hard_pinned ? Retention::kHard : Retention::kNormal);
  NoteKept(shard, object, hash, {}, {}, now);
  shard.table.Insert(hash, object);
  NoteReplicas(shard, object, hash);
  shard.policy->Insert(object->replicas());
  ready.segment->replicas().fetch_add(1, std::memory_order_relaxed);
  tenant.Charge(ready.placed.units());
  tenant.objects.fetch_add(1, std::memory_order_relaxed);
  tenant.value_bytes.fetch_add(object->size, std::memory_order_relaxed);
  return true;
}

}  // namespace mmc::meta
