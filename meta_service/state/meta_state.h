// Everything the meta service knows, and every decision it takes: objects, grants, leases, pins,
// sessions, nodes.
//
// Pure: no threads, no I/O, no clock (methods take `now`), so a test drives it by hand. Callers
// that want to wait (for space, another writer, catalog records) try, wait for the StateListener,
// and try again: see ops/.
//
// The map of this directory:
//   meta_state.h       the front; one .cc per group of calls
//   shard.h            1/64 of all keys: table, eviction order and grants under one lock
//   object_table.h     open-addressing table of one shard
//   object.h           an object, its replicas and key in one block
//   stored_key.h       what a key of a tenant is called in the tables
//   tenants.h          what each tenant holds, may hold, and who gives way first
//   eviction_policy.h  who goes first (lru_policy.cc); evictor.cc takes the oldest of all shards
//   retention.h        what writers want to be kept: soft_pins.h, groups.h, meta_state_keep.cc
//   segment.h          one pool of one node: allocator.h, counters, and the table of all segments
//   catalog_feed.h     per node: records until acknowledged, space that waits for that, fences
//   deferred_free.h    space that waits for leases
//   sessions.h, membership.h, placement.h
//   adoption.h         what a node reports that it holds, until it is in the tables
//   ../mover/          copies between nodes; works on these parts, its lock comes before theirs
//
// Life of space: allocated by PutStart -> (commit) visible -> detached by remove or eviction
// (FORGET is queued) -> FORGET acknowledged -> last lease and pin over -> free. Of an uncommitted
// grant: aborted -> free; session ended -> fenced on that node -> free.
//
// Locks, in the order they may nest: recovery, membership; a report, shard, session, feed,
// deferred, segment table, segment; the table of sessions is held across no call into another part.
// No more than one lock of a kind at a time.
//
// Thread safety: all methods from any thread. Ownership: owns everything; the listener must outlive
// it.
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "common/base/clock.h"
#include "common/base/status.h"
#include "meta_service/state/adoption.h"
#include "meta_service/state/deferred_free.h"
#include "meta_service/state/groups.h"
#include "meta_service/state/membership.h"
#include "meta_service/state/segment.h"
#include "meta_service/state/sessions.h"
#include "meta_service/state/shard.h"
#include "meta_service/state/stored_key.h"
#include "meta_service/state/tenants.h"
#include "meta_service/state/types.h"

namespace mmc::meta {

class Mover;
class Placer;

// Told after a change, without any lock held, on the thread that made it.
class StateListener {
 public:
  virtual ~StateListener() = default;
  virtual void OnSpace() = 0;  // space became free
  virtual void OnKeys() = 0;   // a grant ended: its key is there, or free to take
  // A waiting CatalogSync of this node has something to take.
  virtual void OnFeed(uint32_t node) = 0;
  // The node's catalog has more records, or the node is gone.
  virtual void OnAcked(uint32_t node) = 0;
};

class MetaState {
 public:
  // REQUIRES: evict_low < evict_high <= 100, the policy's name is known (KnownEvictionPolicy).
  explicit MetaState(StateOptions options);
  ~MetaState();
  MetaState(const MetaState&) = delete;
  MetaState& operator=(const MetaState&) = delete;

  void SetListener(StateListener* listener) { listener_.store(listener); }
  const StateOptions& options() const { return options_; }

  // ---- sessions (meta_state_sessions.cc). kSessionLost: not known any more; kQueueFull: too many.
  // `tenant`: a slot of tenants(). `owner`: who may use it, where a certificate says who the caller is.
  Result<uint64_t> OpenSession(const std::string& name, const std::string& host_id, uint32_t pid, TimePoint now,
                               uint16_t tenant = 0,
                               const std::shared_ptr<const security::Identity>& owner = security::NoIdentity());
  // True, too, for a session that is not known.
  bool OwnsSession(const security::Identity& caller, uint64_t session) const;
  Status SessionHeartbeat(uint64_t session, TimePoint now);
  // Ends it: grants are revoked (their space waits for the fences), pins released.
  Status CloseSession(uint64_t session, TimePoint now);
  // All sessions below this one are over.
  uint64_t OldestSession() const { return sessions_.Oldest(); }
  // Ends the sessions that were silent for too long or sit on an expired grant. Returns how many.
  size_t ExpireSessions(TimePoint now);

  // ---- puts (meta_state_put.cc)
  uint64_t NextCall() { return next_call_.fetch_add(1, std::memory_order_relaxed) + 1; }
  // One attempt for the rows that are not settled. Row codes: kOk, kExists, kBeingWritten (settled
  // when this very call holds the key), kNoSpace (not settled: space was evicted or waits),
  // kNoNode, kQueueFull (too many grants), kRecovering (settled: the key is not there, but a node
  // may still report it). Errors of the call: kSessionLost, kPermission (the session is another tenant's).
  Status PutStart(const PutSpec& spec, std::span<PutRow> rows, Views* views, TimePoint now);
  // Row codes: kOk, kGrantLost, kReplicasLost, kQueueFull (the grant stays: commit again later).
  // `checksums` and `failed_replicas` are empty or as long as `grants`. `waits`, when given, gets
  // what to wait for until every owner's catalog has what was committed. `keeping`: how long it is to stay.
  Status PutCommit(uint64_t session, std::span<const uint64_t> grants,
                   std::span<const uint64_t> checksums, std::span<const uint32_t> failed_replicas,
                   std::span<Code> codes, TimePoint now, std::vector<AckWait>* waits = nullptr,
                   const Keeping& keeping = {});
  // What to wait for until every owner's catalog has what is there now of these keys.
  void AwaitCatalogs(std::span<const std::string_view> keys, std::vector<AckWait>* waits);
  // Unconfirmed: ends the session (see CloseSession).
  Status PutAbort(uint64_t session, std::span<const uint64_t> grants, bool unconfirmed,
                  std::span<Code> codes, TimePoint now);

  // ---- reads (meta_state_read.cc). Rows are in key order; replicas of a row in `views`.
  // session 0: anonymous. Pins need a session (kInvalidArgument). Row codes: kOk, kNotFound,
  // kRecovering, kQueueFull (pins). The calls without row codes do not know of recovery: ask
  // recovering() before them.
  Status Lookup(uint64_t session, std::span<const std::string_view> keys, Duration lease, bool pin,
                std::span<ReadRow> rows, Views* views, TimePoint now);
  // lease 0 is the default; longer than max_lease is cut.
  Duration LeaseFor(Duration asked) const;
  uint32_t LookupPrefix(std::span<const std::string_view> keys);
  void Exists(std::span<const std::string_view> keys, uint8_t* present);
  // What is there is leased as by a Lookup, and counts as used: the first key as the last one used.
  void ExistsLeased(std::span<const std::string_view> keys, Duration lease, uint8_t* present,
                    TimePoint now);
  void Stat(std::span<const std::string_view> keys, std::span<ReadRow> rows, Views* views,
            TimePoint now);
  // Row codes: kOk, kNotFound (this session holds no such pin).
  Status Unpin(uint64_t session, std::span<const uint64_t> generations, std::span<Code> codes,
               TimePoint now);

  // ---- removals and walks (meta_state_remove.cc)
  // Below which generation a removal may take what is there: the same for all attempts of one call of a session, so
  // that one that comes late takes nothing that was put since. session 0: an attempt of its own. Errors: kSessionLost,
  // kCancelled (sessions.h).
  Result<uint64_t> RemovalLimit(uint64_t session, uint64_t call, TimePoint now);
  static constexpr uint64_t kNoLimit = UINT64_MAX;
  void Remove(std::span<const std::string_view> keys, std::span<Code> codes, TimePoint now,
              uint64_t limit = kNoLimit);
  // One bounded step (at most a few thousand keys looked at); call until cursor->done. Returns how
  // many it removed.
  uint64_t RemoveStep(const KeyMatch& match, WalkCursor* cursor, TimePoint now, uint64_t limit = kNoLimit);
  // What to wait for until no catalog of a node that is here has a removed object of these keys any more, whoever
  // removed it.
  void AwaitForgotten(const std::function<bool(std::string_view key)>& of, std::vector<AckWait>* waits) const;
  // Appends up to `limit` keys in all; a page may be short when few keys match: go on until
  // cursor->done.
  void ListStep(const KeyMatch& match, size_t limit, WalkCursor* cursor, std::vector<ListedKey>* out);

  // ---- eviction (evictor.cc)
  // Detaches the longest unused replicas of a segment until `bytes` are on their way to be free, or
  // `max_steps` were looked at. An object with replicas elsewhere loses only the one here. Leased
  // and pinned ones go to the young end (they are in use). Returns the bytes detached.
  uint64_t EvictFrom(uint32_t segment_slot, uint64_t bytes, EvictCause cause, uint32_t max_steps,
                     TimePoint now);
  // Tenants above the high threshold of their quota, down to the low one. Then
  // segments above the high threshold, down to the low one, at most `max_steps` replicas in all. (A
  // medium can only be above the threshold when one of its segments is.) Returns the bytes
  // detached.
  uint64_t EvictBetweenThresholds(uint32_t max_steps, TimePoint now);

  // ---- what is kept for longer (meta_state_keep.cc)
  // 0 is the default; longer than max_soft_pin is cut.
  Duration SoftPinFor(Duration asked) const;
  // Soft pins whose time is over: their objects are like all others from then on, and as if just used.
  void EndSoftPins(TimePoint now);

  // ---- nodes (meta_state_nodes.cc). kStaleNode: not that incarnation, dead, or gone: join anew.
  Result<Joined> Join(const JoinSpec& spec, TimePoint now);
  Result<NodeHealth> NodeHeartbeat(uint32_t node, uint64_t incarnation, TimePoint now);
  Status NodeLeave(uint32_t node, uint64_t incarnation, TimePoint now);
  // Takes acknowledgements, gives what comes next (at most max_entries). `join`: the number of the join that the call
  // belongs to, here and below; 0: any.
  Status CatalogSync(uint32_t node, uint64_t incarnation, uint64_t acked_seq,
                     std::span<const uint64_t> fenced, size_t max_entries, CatalogBatch* out,
                     TimePoint now, bool fenced_all = false, uint64_t join = 0);
  Status ReportReplica(uint64_t session, uint32_t node, Code met, TimePoint now);
  // Serving -> suspect -> dead by silence; a dead node's replicas are dropped.
  void CheckNodes(TimePoint now);
  // This process was stopped (SIGSTOP, a suspended machine) and goes on: it has heard nobody meanwhile, so that only
  // silence from here on makes nodes and sessions end.
  void Resumed(TimePoint now) { listening_since_.store(now.time_since_epoch().count()); }
  std::vector<NodeInfo> Directory(TimePoint now, uint64_t* version) const;
  // Empty: there was never such a node.
  std::string NodeName(uint32_t node) const { return membership_.NameOf(node); }
  uint64_t directory_version() const { return membership_.version(); }

  // ---- recovery (meta_state_recovery.cc): what nodes hold of the time before this start
  // From here on a key that is not there may still be reported, until Recover() says that it is
  // over.
  void BeginRecovery(TimePoint now);
  bool recovering() const { return recovering_.load(std::memory_order_acquire); }
  // True when it has ended now: the window is over and no report is open, all members have
  // reported, or ten windows are over.
  bool Recover(TimePoint now);
  // A batch of what the node holds; with `last` it is all, and AdoptStep() brings it in. A node
  // that was not asked, or has reported already, is answered `done`. Errors: kStaleNode, kTooLarge.
  Result<ReportProgress> TakeReport(uint32_t node, uint64_t incarnation,
                                    std::span<const ReportedRecord> records, bool last,
                                    TimePoint now, uint64_t join = 0);
  // A bounded part of a complete report; call until `done`. Errors: kStaleNode.
  Result<ReportProgress> AdoptStep(uint32_t node, uint64_t incarnation, TimePoint now);
  // What the next start has to know of the nodes, in the order of their names.
  std::vector<MemberRow> Members() const;

  // ---- tenants
  Tenants& tenants() { return tenants_; }
  std::vector<TenantFigures> TenantUse() const { return tenants_.figures(); }

  // ---- time and figures
  // Frees what has waited for its leases; forgets segments of dead nodes that nothing uses any
  // more.
  void Reap(TimePoint now);
  Figures figures() const;
  // "1.2 GiB leased or pinned, ...": why a put of this medium finds no room, for messages.
  std::string ExplainNoSpace(Medium medium, uint16_t tenant, TimePoint now) const;
  // Bytes that the tables of the state take for objects (keys not counted): for tests and
  // benchmarks.
  uint64_t MetadataBytes() const;
  uint64_t CommittedReplicas() const;
  // Adds everything up anew: empty, or what does not agree (meta_state_check.cc). For tests, while no other call runs.
  std::string CheckInvariants();

 private:
  friend class Mover;
  friend class Placer;

  // What a call has caused; told to the listener when no lock is held.
  struct Effects {
    bool space = false;
    bool keys = false;
    std::vector<uint32_t> feeds;
    std::vector<uint32_t> acked;
    std::vector<Groups::Member> orphans;  // of groups of which a member was evicted
  };
  struct Counters {
    // Those of objects and grants are kept by tenant, those of pins too.
    std::atomic<uint64_t> pins{0};
    std::atomic<uint64_t> hits{0}, misses{0}, puts{0}, gets{0}, removes{0};
    std::atomic<uint64_t> evicted_objects[kEvictCauses] = {};
    std::atomic<uint64_t> evicted_bytes[kEvictCauses] = {};
    std::atomic<uint64_t> adopted{0}, thin{0};
    std::atomic<uint64_t> kept[kRetentions] = {};  // objects
    std::atomic<uint64_t> conflicts[kConflictKinds] = {};
  };

  // Of Exists and ExistsLeased; lease_until 0: no lease.
  void LookForKeys(std::span<const std::string_view> keys, bool use, int64_t lease_until,
                   uint8_t* present);
  Shard& ShardOf(uint64_t hash) { return shards_[hash % kShards]; }
  void Tell(const Effects& effects);

  // Takes the object out of the table; it stays in memory while it is pinned, its space goes the
  // way of the map above.
  void RemoveObject(Shard& shard, Object* object, uint64_t hash, TimePoint now, Effects* effects)
      MMC_REQUIRES(shard.mutex);
  // One of several replicas: its memory in the object is closed up.
  void DropReplica(Shard& shard, Object* object, uint32_t index, TimePoint now, Effects* effects)
      MMC_REQUIRES(shard.mutex);
  // Queues the FORGET and sends the space on its way. With `keep`, the space stays with the
  // (pinned) object.
  void DetachReplica(const Object& object, Replica* replica, bool keep, TimePoint now,
                     Effects* effects);
  static void CloseUp(Shard& shard, Object* object, uint32_t index) MMC_REQUIRES(shard.mutex);
  void Release(FreeItem item, TimePoint now, Effects* effects);
  void DropPin(uint64_t generation, const Pin& pin, uint32_t count, TimePoint now,
               Effects* effects);
  // One more replica of a committed object, which moves in memory: `object` is gone.
  Object* AddReplica(Shard& shard, Object* object, uint64_t hash, const Placed& placed)
      MMC_REQUIRES(shard.mutex);

  void SettleKnown(const PutSpec& spec, std::span<PutRow> rows);
  bool SettleIfThere(Shard& shard, const PutSpec& spec, PutRow* row) MMC_REQUIRES(shard.mutex);
  void InsertGrant(const PutSpec& spec, Session& session, std::span<const Placed> placed,
                   PutRow* row, Views* views, TimePoint now, Effects* effects);
  void EvictForNeeds(const Placer& placer, uint16_t tenant, TimePoint now);
  // Counts the row's replicas for the tenant. Row codes: kNoSpace (not settled when making room can help).
  bool ChargeRow(Tenant& tenant, const PutSpec& spec, PutRow* row, uint64_t* lacking_units);
  struct CommitRow {
    uint64_t grant = 0, checksum = 0;
    uint32_t failed = 0;  // bit r: replica r was not written
    uint64_t stamp = 0, generation = 0;
    std::string_view group;
  };
  Code CommitOne(uint64_t session, const CommitRow& row, const Keeping& keeping, TimePoint now, Effects* effects,
                 std::vector<AckWait>* waits);
  // A committed object is in the table, and in the eviction order that is due to it; and is out of both.
  void NoteKept(Shard& shard, Object* object, uint64_t hash, const Keeping& keeping, std::string_view group,
                TimePoint now) MMC_REQUIRES(shard.mutex);
  void NoteNotKept(Shard& shard, const Object* object) MMC_REQUIRES(shard.mutex);
  void SetRetention(Shard& shard, Object* object, Retention retention) MMC_REQUIRES(shard.mutex);
  // Who has read these has use for the others of their groups too.
  void UseGroups(std::span<const uint64_t> generations, int64_t lease_until);
  void QueueAdds(const Object& object, Effects* effects, std::vector<AckWait>* waits);
  void QueueAdd(const Object& object, const Placed& placed, Effects* effects,
                std::vector<AckWait>* waits);
  // Its replicas, or the number it should have, have changed. The other: it is out of the table.
  void NoteReplicas(Shard& shard, const Object* object, uint64_t hash) MMC_REQUIRES(shard.mutex);
  void NoteGone(Shard& shard, const Object* object) MMC_REQUIRES(shard.mutex);
  void EraseGrant(Shard& shard, Grant* grant) MMC_REQUIRES(shard.mutex);
  Code AbortOne(uint64_t session, uint64_t grant, TimePoint now, Effects* effects);
  void FreeUnwritten(const Placed& placed, uint16_t tenant, Effects* effects);
  void FreeGranted(const Object& object, const Placed& placed, TimePoint now, Effects* effects);
  FreeItem Detach(Segment& segment, const Placed& placed, int64_t lease_until, bool soon, uint16_t tenant);
  void Free(FreeItem item);
  void RefreshPool();
  bool EndSession(const std::shared_ptr<Session>& session, TimePoint now, Effects* effects);
  void RevokeGrants(uint64_t session, Effects* effects);
  std::vector<uint64_t> SessionsOfExpiredGrants(TimePoint now);

  void AppendReplicas(const Object& object, uint32_t* first, uint32_t* count, Views* views) const;
  void Prefetch(std::span<const uint64_t> hashes);
  // Whose replicas, and where.
  static constexpr uint32_t kAnySegment = UINT32_MAX;
  struct EvictQueue {
    uint16_t tenant = 0;
    uint32_t segment = kAnySegment;
    Retention retention = Retention::kNormal;
  };
  static Replica* VictimIn(Shard& shard, const EvictQueue& queue) MMC_REQUIRES(shard.mutex);
  uint64_t EvictStep(Shard& shard, const EvictQueue& queue, uint64_t limit, uint64_t wanted_units, EvictCause cause,
                     uint32_t* steps, TimePoint now, Effects* effects) MMC_REQUIRES(shard.mutex);
  uint64_t OldestStamp(Shard& shard, const EvictQueue& queue);
  // These return units detached.
  uint64_t EvictLeastRecent(const EvictQueue& queue, uint64_t wanted_units, EvictCause cause, uint32_t* steps,
                            TimePoint now);
  // What effects->orphans names, unless it is in use.
  uint64_t EvictOrphans(const EvictQueue& queue, EvictCause cause, TimePoint now, Effects* effects);
  void CountEvicted(uint16_t tenant, uint64_t objects, uint64_t units, EvictCause cause);
  uint64_t EvictOldest(EvictQueue queue, uint64_t wanted_units, EvictCause cause, uint32_t* steps, TimePoint now);
  uint64_t EvictInTurns(uint32_t segment_slot, uint64_t wanted_units, std::vector<Tenants::Turn> turns, double floor,
                        EvictCause cause, uint32_t* steps, TimePoint now);
  uint64_t EvictFor(uint16_t asker, uint32_t segment_slot, uint64_t units, uint32_t max_steps, TimePoint now);
  void EvictForQuota(uint16_t slot, uint64_t units, TimePoint now);
  uint64_t EvictOverQuotas(uint32_t* steps, TimePoint now);

  bool MayAccuse(uint16_t tenant, uint32_t node, TimePoint now);
  void DropSegment(Segment& segment, TimePoint now, Effects* effects);
  void DropSegments(const Membership::Segments& segments, TimePoint now, Effects* effects);

  // What is not there up to this generation must not come back with a node's report.
  void Bury(Shard& shard, uint64_t hash, uint64_t generation) MMC_REQUIRES(shard.mutex);
  // The recovery is over, and a node that was there before may still come back.
  bool MayReturn() const;
  // Nothing of what such a node holds below this generation is taken from here on, unless it is there anyway.
  void RefuseLate(uint64_t below = kNoLimit);
  void RaiseGenerations(uint64_t seen);
  void ForgetRefused(NodeReport& report, uint32_t node, Effects* effects)
      MMC_REQUIRES(report.mutex);
  void AdoptOne(NodeReport& report, Adoption::Ready& ready, TimePoint now, Effects* effects)
      MMC_REQUIRES(report.mutex);
  // False: it is not in, `why` says what stands against it.
  bool Insert(const Adoption::Ready& ready, uint64_t hash, ConflictKind* why, TimePoint now,
              Effects* effects);
  void CountConflict(NodeReport& report, ConflictKind kind, std::string_view key,
                     uint64_t generation) MMC_REQUIRES(report.mutex);

  const StateOptions options_;
  std::atomic<StateListener*> listener_{nullptr};
  std::atomic<uint64_t> next_call_{0};
  std::atomic<uint64_t> next_stamp_{1};
  std::atomic<uint64_t> next_generation_;
  Counters counters_;
  Tenants tenants_;
  SegmentTable segments_;
  DeferredFree deferred_;
  Groups groups_;
  Sessions sessions_;
  TimePoint ListeningSince() const { return TimePoint(Duration(listening_since_.load())); }

  Membership membership_;
  std::atomic<int64_t> listening_since_{std::numeric_limits<int64_t>::min()};
  std::array<Shard, kShards> shards_;
  std::atomic<bool> recovering_{false};
  std::atomic<bool> burying_{false};  // reports are open, or may come
  std::atomic<uint64_t> buried_{0};   // keys in Shard::buried
  std::atomic<uint64_t> late_floor_{0};  // records below this generation are not taken; 0: none
  mutable Mutex recovery_mutex_;      // before membership
  TimePoint recovery_began_ MMC_GUARDED_BY(recovery_mutex_);
  Mutex accused_mutex_;
  // Nodes of which a tenant has said that they cannot be reached, and when its word was last taken.
  std::map<std::pair<uint16_t, uint32_t>, TimePoint> accused_ MMC_GUARDED_BY(accused_mutex_);
};

}  // namespace mmc::meta
