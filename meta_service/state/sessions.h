// Client sessions: who is there, when it was last heard, what it has pinned. Grants are in the
// shards.
//
// Thread safety: all methods from any thread. Ownership: the table shares sessions with the calls
// that use them; one that has ended (ended() is true) gets no new grants or pins.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "common/base/clock.h"
#include "common/base/mutex.h"
#include "common/base/status.h"
#include "common/security/identity.h"

namespace mmc::meta {

struct Pin {
  uint64_t hash = 0;  // of the key: the shard that has the object by its generation
  uint32_t count = 0;
};

class Session {
 public:
  Session(uint64_t id, std::string name, std::string host_id, uint32_t pid, uint16_t tenant,
          std::shared_ptr<const security::Identity> owner, TimePoint now)
      : id_(id),
        name_(std::move(name)),
        host_id_(std::move(host_id)),
        pid_(pid),
        tenant_(tenant),
        owner_(std::move(owner)) {
    Heard(now);
  }

  uint64_t id() const { return id_; }
  const std::string& name() const { return name_; }
  const std::string& host_id() const { return host_id_; }
  uint32_t pid() const { return pid_; }
  uint16_t tenant() const { return tenant_; }  // slot in Tenants
  const security::Identity& owner() const { return *owner_; }

  void Heard(TimePoint now) {
    last_heard_.store(now.time_since_epoch().count(), std::memory_order_relaxed);
  }
  TimePoint last_heard() const {
    return TimePoint(Duration(last_heard_.load(std::memory_order_relaxed)));
  }
  bool ended() const { return ended_.load(std::memory_order_acquire); }
  std::atomic<uint32_t>& grants() { return grants_; }

  // One more pin of this generation. False: ended, or `max` generations are pinned already.
  bool AddPin(uint64_t generation, uint64_t hash, uint32_t max);
  // One pin less; `pin` says which object has to lose one. False: this session holds none.
  bool TakePin(uint64_t generation, Pin* pin);
  // Up to which generation removal `call` may take what is there: `next` when it comes for the first time, later the
  // same again. Errors: kSessionLost (ended), kCancelled (older than those that are remembered).
  Result<uint64_t> RemovalLimit(uint64_t call, uint64_t next);
  // True for the one caller that ends it; `pins` are to be released.
  bool End(std::unordered_map<uint64_t, Pin>* pins);

 private:
  // Of the newest calls. A client has far fewer under way, and may ask anew where that is not so.
  static constexpr size_t kMaxRemovals = 64;

  const uint64_t id_;
  const std::string name_, host_id_;
  const uint32_t pid_;
  const uint16_t tenant_;
  const std::shared_ptr<const security::Identity> owner_;
  std::atomic<int64_t> last_heard_{0};
  std::atomic<uint32_t> grants_{0};
  std::atomic<bool> ended_{false};
  Mutex mutex_;
  std::unordered_map<uint64_t, Pin> pins_ MMC_GUARDED_BY(mutex_);  // by generation
  std::map<uint64_t, uint64_t> removals_ MMC_GUARDED_BY(mutex_);   // call -> up to which generation
  uint64_t forgotten_removal_ MMC_GUARDED_BY(mutex_) = 0;          // this one and older ones are in doubt
};

class Sessions {
 public:
  explicit Sessions(uint64_t first_id) : next_id_(first_id) {}

  Result<std::shared_ptr<Session>> Open(const std::string& name, const std::string& host_id,
                                        uint32_t pid, uint16_t tenant,
                                        std::shared_ptr<const security::Identity> owner, uint32_t max_sessions,
                                        TimePoint now);
  // Errors: kSessionLost.
  Result<std::shared_ptr<Session>> Find(uint64_t id) const;
  void Erase(uint64_t id);
  std::vector<std::shared_ptr<Session>> SilentSince(TimePoint before) const;
  // Of those that are there; the next one to come when there is none.
  uint64_t Oldest() const;
  size_t size() const;

 private:
  mutable Mutex mutex_;
  uint64_t next_id_ MMC_GUARDED_BY(mutex_);
  std::map<uint64_t, std::shared_ptr<Session>> sessions_ MMC_GUARDED_BY(mutex_);
};

}  // namespace mmc::meta
