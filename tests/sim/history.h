// History: what the clients of a run did and saw, and whether it can be explained.
//
//   bytes     a get returns, whole and untorn, the value of one put of that key
//   misses    the meta service says "not there" only when no put of the key that succeeded has to be there: else it
//             was removed, evicted, all nodes with a replica of it are lost, or (asynchronous commits) the meta service
//             died before a catalog had it
//   removals  what was removed does not come back
//   statuses  no call answers something that can only be a fault
//
// Values tell who wrote them: every put has bytes of its own, also a second one of the same key.
//
// Thread safety: none needed. Ownership: a value of the run.
#pragma once

#include <functional>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/status.h"
#include "tests/sim/scheduler.h"

namespace mmc::sim {

// Called with the class of the invariant and what is wrong.
using Violated = std::function<void(const char* invariant, const std::string& what)>;

// A node in one incarnation: what lost memory is lost with.
using Holder = std::pair<std::string, uint64_t>;

struct PutRecord {
  uint64_t id = 0;
  std::string key;
  uint64_t size = 0;
  uint64_t checksum = 0;
  Nanos invoked = 0;
  Nanos returned = Scheduler::kNever;
  Code outcome = Code::kDeadline;
  bool committed = false;  // the meta service was asked to
  std::set<Holder> holders;
  bool copied = false;      // its replicas have moved: the holders are those it ever had
  bool may_be_lost = false;  // no catalog had it when the meta service died
  bool may_return = false;   // a catalog still had it when the meta service died, whatever it had answered
  uint64_t evicted_before = 0;
};

struct RemoveRecord {
  std::string key;
  bool prefix = false;
  Nanos invoked = 0;
  Nanos over = 0;                      // it is not carried out any more
  Nanos returned = Scheduler::kNever;
  bool done = false;                   // answered: removed
  bool Hits(const std::string& other) const { return prefix ? other.starts_with(key) : other == key; }
};

class History {
 public:
  explicit History(Scheduler& scheduler, Violated violated)
      : scheduler_(scheduler), violated_(std::move(violated)) {}

  // ---- values
  static void Fill(uint64_t id, std::string* value);
  // The put whose value these bytes are, or 0: they are torn or nobody's.
  uint64_t WhoseValue(std::string_view bytes) const;

  // ---- what clients do
  uint64_t BeginPut(const std::string& key, const std::string& value_of_id, uint64_t id);
  uint64_t NextId() { return next_put_++; }
  void EndPut(uint64_t id, const Status& status);
  uint64_t BeginRemove(const std::string& key, bool prefix);
  void EndRemove(uint64_t id, const Status& status);
  // `cached`: the client may have read by a lease of before, without asking.
  void Hit(const std::string& key, std::string_view bytes, Nanos asked, bool cached = false);
  // The meta service said "not there", just now.
  void Miss(const std::string& key);
  // Any other status of any call.
  void Saw(const char* call, const std::string& key, const Status& status);

  // ---- what is known of the services
  PutRecord* ByChecksum(uint64_t checksum);
  std::map<uint64_t, PutRecord>& puts() { return puts_; }
  // That this holder is a member of the pool now.
  std::function<bool(const Holder&)> is_member;
  std::function<uint64_t()> evicted_bytes;  // so far
  // Somebody drains nodes: an object may have fewer holders than it once had.
  bool drains = false;
  // The key was free to be given to a new writer, just now: what it held before may be gone for good.
  void Freed(const std::string& key);

  uint64_t hits = 0, misses = 0, puts_ok = 0;

 private:
  bool MustBeThere(const PutRecord& put) const;
  bool Removed(const PutRecord& put) const;

  Scheduler& scheduler_;
  const Violated violated_;
  uint64_t next_put_ = 1;
  std::map<uint64_t, PutRecord> puts_;
  std::multimap<std::string, uint64_t> by_key_;
  std::map<uint64_t, uint64_t> by_checksum_;
  std::vector<RemoveRecord> removes_;
};

}  // namespace mmc::sim
