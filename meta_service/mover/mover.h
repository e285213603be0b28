// Copies replicas from node to node: objects that have fewer replicas than their writer asked for get new ones,
// and what lies on a draining node goes elsewhere.
//
// A copy holds a pin on its object, so that the source stays in place, and the space at its destination. The
// destination node is told by its catalog poll (Collect), reads the bytes itself, and answers (Finish): then the
// replica is added and its ADD record queued, or the space goes back; the replica on a draining node goes when the
// catalogs have the others. A command is told again until it is
// answered, and its space is not used for anything else before: a node answers every command that it was told, or
// its incarnation ends. Copies never make the evictor work: they go only where the high threshold is not passed,
// so nothing is lost for them.
//
// Where replicas of an object are too few, or lie on a draining node, is known without a search: the shards list
// the former (Shard::thin); the tables are walked for the latter, a bounded number of objects per tick.
//
// Thread safety: all methods from any thread; its lock comes before all locks of the state. Ownership: the state
// outlives it; gives back pins and space of open copies when it goes.
#pragma once

#include <google/protobuf/repeated_ptr_field.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "common/base/clock.h"
#include "common/base/mutex.h"
#include "common/base/status.h"
#include "meta_service/state/meta_state.h"
#include "proto/types.pb.h"

namespace mmc::meta {

struct MoverOptions {
  uint64_t bytes_per_second = 1u << 30;
  // Under way at one node, as source and as destination together. One copy of any size is always possible.
  uint32_t max_copies_per_node = 64;
  uint64_t max_bytes_per_node = 64u << 20;
};

struct MoverFigures {
  uint64_t under_replicated = 0;  // objects with fewer replicas than asked for
  uint64_t in_flight = 0;
  uint64_t copied_objects = 0, copied_bytes = 0, failed = 0;
  uint64_t bad_replicas = 0;  // dropped because their bytes did not match their checksum
};

class Mover {
 public:
  Mover(MetaState& state, MoverOptions options);
  ~Mover();
  Mover(const Mover&) = delete;
  Mover& operator=(const Mover&) = delete;

  void Tick(TimePoint now);

  // What this node has been asked to copy and has not answered. True when some of it was not told before.
  bool Collect(uint32_t node, google::protobuf::RepeatedPtrField<proto::CopyCommand>* out);
  // The answer; one that is not waited for is passed over.
  void Finish(uint32_t node, uint64_t id, Code code, TimePoint now);

  // From here on nothing is placed on the node, and what it holds is copied elsewhere; `cancel` ends that. How much is
  // left is in its NodeInfo. Errors: kNotFound.
  Status Drain(const std::string& node, bool cancel, TimePoint now);

  // The node's replica of this generation does not match its checksum: it goes, once nobody pins it.
  void DropBad(uint32_t node, std::string_view key, uint64_t generation, TimePoint now);

  MoverFigures figures() const;

 private:
  using Effects = MetaState::Effects;
  struct Copy {
    proto::CopyCommand command;
    uint64_t hash = 0;
    uint32_t source = 0;  // node, as `destination`
    uint32_t destination = 0;
    uint32_t source_slot = 0;  // of its segment
    Placed placed;             // at the destination
    uint16_t tenant = 0;       // whose the object is
    bool sent = false;
  };
  struct Load {
    uint32_t copies = 0;
    uint64_t bytes = 0;
  };
  struct Bad {
    uint32_t node = 0;
    std::string key;
    uint64_t generation = 0;
  };
  enum class Outcome : uint8_t {
    kStarted,
    kUnderWay,  // a copy of this object already, or one has failed a moment ago
    kBusy,      // a bound on copies under way: go on later, from here
    kNoRoom,    // no node that has none has room
    kNoSource,  // no replica that can be read now
  };

  void Pump(uint32_t steps, TimePoint now, Effects* effects) MMC_REQUIRES(mutex_);
  void Earn(TimePoint now) MMC_REQUIRES(mutex_);
  void SeeNodes(TimePoint now) MMC_REQUIRES(mutex_);
  bool MayStart() const MMC_REQUIRES(mutex_);
  bool HasRoom(uint32_t node, uint64_t bytes) const MMC_REQUIRES(mutex_);
  void Mend(uint32_t* steps, TimePoint now, Effects* effects) MMC_REQUIRES(mutex_);
  void Empty(uint32_t* steps, TimePoint now, Effects* effects) MMC_REQUIRES(mutex_);
  // False: go on with this object, later.
  bool EmptyOne(Shard& shard, Object* object, uint64_t hash, TimePoint now, Effects* effects)
      MMC_REQUIRES(mutex_, shard.mutex);
  // Whether the catalogs of its replicas that stay have them: only then may another one be forgotten, or a restart of
  // the meta service between the two would lose the object.
  bool Recorded(const Object& object) MMC_REQUIRES(mutex_);
  bool Leaving(uint32_t slot) const MMC_REQUIRES(mutex_) { return leaving_.count(slot) != 0; }

  // Sources: `wanted_slot` when it can be read, else the best one.
  Outcome Begin(Shard& shard, Object* object, uint64_t hash, uint32_t wanted_slot, Effects* effects)
      MMC_REQUIRES(mutex_, shard.mutex);
  const Replica* PickSource(const Object& object, uint32_t wanted_slot) const MMC_REQUIRES(mutex_);
  // The segment with the most free bytes on a node without a replica of it. `busy`: one was passed over for its load.
  std::shared_ptr<Segment> PickDestination(const Object& object, Medium medium, bool* busy) const
      MMC_REQUIRES(mutex_);
  void Describe(const Object& object, const Replica& source, const Placed& placed, proto::CopyCommand* out) const
      MMC_REQUIRES(mutex_);

  // Adds the replica. False: there is nothing to add it to, or it cannot be told to the catalog now.
  bool Admit(const Copy& copy, Effects* effects) MMC_REQUIRES(mutex_);
  void End(const Copy& copy, bool keep_space, TimePoint now, Effects* effects) MMC_REQUIRES(mutex_);
  void EndOrphans(TimePoint now, Effects* effects) MMC_REQUIRES(mutex_);
  void Corrupt(const Copy& copy, TimePoint now, Effects* effects) MMC_REQUIRES(mutex_);
  // False: it is pinned, try again later.
  bool DropNow(const Bad& bad, TimePoint now, Effects* effects) MMC_REQUIRES(mutex_);
  void DropLater(Bad bad) MMC_REQUIRES(mutex_);

  MetaState& state_;
  const MoverOptions options_;
  mutable Mutex mutex_;
  uint64_t next_id_ MMC_GUARDED_BY(mutex_);  // greater than those of earlier starts
  std::unordered_map<uint64_t, Copy> copies_ MMC_GUARDED_BY(mutex_);  // by id
  std::unordered_set<uint64_t> under_way_ MMC_GUARDED_BY(mutex_);     // generations of their objects
  std::unordered_map<uint32_t, Load> loads_ MMC_GUARDED_BY(mutex_);   // by node
  // Bytes that may be copied now; below 0 after a big one.
  int64_t credit_ MMC_GUARDED_BY(mutex_) = 0;
  TimePoint earned_ MMC_GUARDED_BY(mutex_);

  // The nodes as they were at this version of the directory.
  uint64_t seen_version_ MMC_GUARDED_BY(mutex_) = 0;
  std::unordered_map<uint32_t, NodeInfo> nodes_ MMC_GUARDED_BY(mutex_);
  std::shared_ptr<const PlacementView> view_ MMC_GUARDED_BY(mutex_);
  std::unordered_set<uint32_t> leaving_ MMC_GUARDED_BY(mutex_);  // slots of segments of draining nodes

  // A lap over all there is to do; one in which nothing could be done is followed by a pause.
  struct Lap {
    WalkCursor at;  // Mend: from_hash is a generation
    bool moved = false;
    TimePoint pause_until;
    void Over(TimePoint now) {
      if (!moved) pause_until = now + std::chrono::seconds(1);
      moved = false;
      at = {};
    }
  };
  Lap mend_ MMC_GUARDED_BY(mutex_), empty_ MMC_GUARDED_BY(mutex_);

  std::vector<Bad> bad_ MMC_GUARDED_BY(mutex_);  // pinned when they were to go
  TimePoint next_bad_ MMC_GUARDED_BY(mutex_);
  std::unordered_set<uint64_t> suspects_ MMC_GUARDED_BY(mutex_);  // generations of which one copy came out corrupt
  // Objects that wait to leave a node, by generation: up to which record (by slot of the segment) they wait.
  std::unordered_map<uint64_t, std::vector<std::pair<uint32_t, uint64_t>>> unrecorded_ MMC_GUARDED_BY(mutex_);
  // Generations of which a copy has failed, until when they rest.
  std::unordered_map<uint64_t, TimePoint> resting_ MMC_GUARDED_BY(mutex_);
  MoverFigures figures_ MMC_GUARDED_BY(mutex_);
};

}  // namespace mmc::meta
