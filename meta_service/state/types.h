// What goes into and comes out of MetaState: options, rows of batches, views of replicas. No
// protobuf here.
//
// Thread safety: values. Ownership: string_views point into the caller's request.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/clock.h"
#include "common/base/status.h"
#include "meta_service/tenant_quota.h"

namespace mmc::meta {

inline constexpr uint64_t kUnitBytes = 4096;  // what the allocator counts in

constexpr uint32_t UnitsOf(uint64_t bytes) {
  return static_cast<uint32_t>((bytes + kUnitBytes - 1) / kUnitBytes);
}

enum class Medium : uint8_t { kDram = 0, kHbm = 1, kSsd = 2 };
inline constexpr int kMediums = 3;
const char* MediumName(Medium medium);

// The numbers are those of proto::NodeState. kRecovering: its catalog is being reported.
// kDraining: no new blocks, and what it holds is copied elsewhere.
enum class NodeHealth : uint8_t {
  kServing = 0,
  kSuspect = 1,
  kDead = 2,
  kLeaving = 3,
  kRecovering = 4,
  kDraining = 5
};
inline constexpr int kNodeHealths = 6;
const char* NodeHealthName(NodeHealth health);

// A node as the members file tells of it, from start to start of the meta service.
struct MemberRow {
  enum class Kind : uint8_t {
    kHere = 0,     // is in the pool; while recovering also: was, and may come back
    kMissing = 1,  // was, and had not come back when the recovery was over; or has, and must still forget something
    kGone = 2,     // this incarnation is over: it was declared dead, or stayed away for a whole term
  };
  Kind kind = Kind::kHere;
  std::string name;
  uint64_t incarnation = 0;  // 0: not known
  bool draining = false;
  friend bool operator==(const MemberRow&, const MemberRow&) = default;
};

struct StateOptions {
  uint32_t evict_high = 90;  // percent of a segment
  uint32_t evict_low = 80;
  std::string evict_policy = "lru";
  bool exists_counts_as_use = false;
  Duration lease = std::chrono::seconds(5);
  Duration max_lease = std::chrono::minutes(10);
  Duration grant = std::chrono::minutes(10);
  Duration soft_pin = std::chrono::minutes(30);  // when a commit asks for no time
  Duration max_soft_pin = std::chrono::hours(24);
  bool evict_soft_pinned = true;  // when nothing else can be; false: puts then find no room
  // On nodes that want tickets: what is granted is not given to others for so long, whatever becomes of the grant. The
  // ticket cannot be taken back.
  Duration write_ticket = std::chrono::seconds(20);
  Duration session_expiry = std::chrono::seconds(10);
  Duration node_suspect = std::chrono::seconds(3);
  Duration node_grace = std::chrono::seconds(30);
  uint32_t max_sessions = 65'536;
  uint32_t max_grants_per_session = 1u << 16;
  uint32_t max_pins_per_session = 1u << 20;
  uint64_t max_pins = 1u << 22;  // of all sessions together: each takes about a hundred bytes
  uint32_t max_feed_records =
      1u << 18;  // per node, not yet acknowledged; then commits there answer kQueueFull
  uint32_t max_nodes = 4096;
  uint64_t id_base =
      1;  // sessions and generations count from here: must grow from start to start of the service
  uint64_t seed = 1;  // of the placement's dice
  Duration recovery{
      0};  // how long a start waits for nodes that know of objects; 0: it knows to be the first
  // `members` has all the nodes that there were: no need to wait for others.
  bool members_known = false;
  std::vector<MemberRow> members;
  // What is removed while a node may still come back with it is remembered, up to so many keys; after that what such a
  // node holds is not taken any more.
  uint32_t max_buried = 1u << 18;
  std::vector<TenantQuota> quotas;
  // Of one tenant, whatever its quota: so that none takes all there are.
  uint32_t max_sessions_per_tenant = 32'768;
  uint32_t max_grants_per_tenant = 1u << 20;
  uint32_t max_pins_per_tenant = 1u << 21;
};

// ---- batches
// -----------------------------------------------------------------------------------------------------

struct ExtentView {
  uint64_t offset = 0;  // bytes from the start of the segment
  uint64_t length = 0;  // bytes of the value
};

struct ReplicaView {
  uint32_t node = 0;
  uint32_t segment = 0;  // id on that node
  uint32_t epoch = 0;
  uint32_t first_extent = 0;  // in Views::extents
  uint32_t extents = 0;
};

// Replicas and extents of a batch; rows point into it. Kept by the caller so that its memory is
// used again.
struct Views {
  std::vector<ReplicaView> replicas;
  std::vector<ExtentView> extents;
  void Clear() {
    replicas.clear();
    extents.clear();
  }
};

struct PutSpec {
  uint64_t session = 0;
  uint16_t tenant = 0;  // whose keys the rows have: that of the session
  uint64_t call = 0;    // MetaState::NextCall(); the same for every attempt of one call
  uint32_t replicas = 1;
  std::span<const uint32_t> preferred;  // node ids
  Medium medium = Medium::kDram;
  bool prefer_local = false;
  bool strict_medium = false;
};

struct PutRow {
  std::string_view key;
  uint64_t hash = 0;
  uint64_t size = 0;
  Code code = Code::kOk;
  bool settled = false;  // true: another attempt would not change it
  uint64_t grant = 0;
  uint32_t first_replica = 0;  // in Views::replicas
  uint32_t replicas = 0;
};

struct ReadRow {
  uint64_t hash = 0;
  Code code = Code::kNotFound;
  uint32_t replicas = 0;
  uint32_t first_replica = 0;
  uint32_t pins = 0;
  uint64_t size = 0;
  uint64_t generation = 0;
  uint64_t checksum = 0;
  Duration lease_left{0};  // Stat only
};

struct ListedKey {
  std::string key;
  uint64_t size = 0;
};

// Where a walk over all objects goes on. Keys that are there from its start to its end are met
// exactly once.
struct WalkCursor {
  uint32_t shard = 0;
  uint64_t from_hash = 0;
  bool done = false;
};

// ---- nodes
// -------------------------------------------------------------------------------------------------------

struct EndpointInfo {
  std::string transport;
  std::string address;
  friend bool operator==(const EndpointInfo&, const EndpointInfo&) = default;
};

struct SegmentInfo {
  uint32_t id = 0;
  uint32_t epoch = 0;
  Medium medium = Medium::kDram;
  uint64_t size = 0;
  int32_t numa_node = -1;
  friend bool operator==(const SegmentInfo&, const SegmentInfo&) = default;
};

struct JoinSpec {
  std::string name;
  uint64_t incarnation = 0;
  std::string host_id;
  std::vector<EndpointInfo> endpoints;
  std::vector<SegmentInfo> segments;
  uint64_t acked_seq = 0;
  bool keeps_memory = false;  // it has objects of this incarnation and can say which
  bool must_resume =
      false;  // refuse it when this incarnation is not known (and it keeps no memory)
  bool wants_tickets = false;  // whoever is told of space there gets a ticket for it, see StateOptions::write_ticket
  uint64_t join = 0;  // grows with every join of that name; 0: not known
};

struct Joined {
  uint32_t node = 0;
  bool resumed = false;
  bool want_catalog =
      false;  // what it holds is asked for; no space of it is given out before it has fenced all
  uint64_t newer_join = 0;  // not 0: this join is older than that one, and nothing was done
};

struct NodeInfo {
  uint32_t id = 0;
  std::string name;
  uint64_t incarnation = 0;
  std::string host_id;
  NodeHealth health = NodeHealth::kServing;
  std::vector<EndpointInfo> endpoints;
  std::vector<SegmentInfo> segments;
  std::vector<uint64_t> used_bytes;  // as in segments
  uint64_t objects = 0;
  bool draining = false;
  uint64_t drain_left_objects = 0, drain_left_bytes = 0;  // what is still there, being written too
  Duration silent{0};
};

// One record of a node's catalog feed.
struct CatalogEntry {
  uint64_t seq = 0;
  bool forget = false;
  uint32_t segment = 0;
  uint64_t generation = 0;
  uint64_t size = 0;
  uint64_t checksum = 0;
  std::string key;
  uint8_t asked = 0;  // replicas that the object should have
  bool hard_pinned = false;
  ExtentView first;   // extents: the first, and the others if any
  std::vector<ExtentView> others;
};

struct CatalogBatch {
  std::vector<CatalogEntry> entries;
  std::vector<uint64_t> fences;
  bool fresh = false;  // false: nothing that was not sent before; the caller may wait
};

// Why a record that a node reported was not taken, or one that was there had to go.
enum class ConflictKind : uint8_t {
  kBadRecord = 0,   // no such segment, outside of it, lengths that do not sum up, ...
  kOverlap = 1,     // a higher generation claims some of the same bytes
  kGeneration = 2,  // the key has a higher generation
  kRemoved = 3,     // the key was removed while its owner had not reported yet
  kDuplicate = 4,   // a second replica of the same generation on one node, or one of another size
};
inline constexpr int kConflictKinds = 5;
const char* ConflictName(ConflictKind kind);

// What has become of a node's report so far.
struct ReportProgress {
  bool done = false;
  uint64_t records = 0;  // taken
  uint64_t adopted = 0;  // in the tables
  uint64_t conflicts[kConflictKinds] = {};
  std::string example;  // of a conflict
};

// Commits and removals that want to know when an owner's catalog has, or has forgotten, them.
class CatalogFeed;
struct AckWait {
  std::shared_ptr<CatalogFeed> feed;
  uint64_t seq = 0;
};

// ---- figures
// -----------------------------------------------------------------------------------------------------

enum class EvictCause : uint8_t { kBackground = 0, kInline = 1 };
inline constexpr int kEvictCauses = 2;

struct TenantFigures {
  std::string name;  // empty: the default tenant
  uint64_t objects = 0, value_bytes = 0;
  uint64_t used_bytes = 0;     // replicas, grants and what waits to be freed
  uint64_t waiting_bytes = 0;  // of these, what waits to be freed
  uint64_t quota_bytes = 0;    // 0: none
  uint64_t sessions = 0, grants = 0, pins = 0;
  uint64_t evicted_objects = 0, evicted_bytes = 0;
};

struct Figures {
  uint64_t objects = 0, value_bytes = 0, capacity_bytes = 0, used_bytes = 0, waiting_bytes = 0;
  uint64_t sessions = 0, grants = 0, pins = 0;
  uint64_t soft_pinned = 0, hard_pinned = 0;  // objects
  uint64_t hits = 0, misses = 0, puts = 0, gets = 0, removes = 0;
  uint64_t evicted_objects[kEvictCauses] = {};
  uint64_t evicted_bytes[kEvictCauses] = {};
  uint64_t fences_waiting = 0, feed_records = 0;
  uint64_t recovering = 0;  // 0 or 1
  uint64_t adopted = 0;     // replicas
  uint64_t conflicts[kConflictKinds] = {};
};

}  // namespace mmc::meta
