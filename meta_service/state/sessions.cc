#include "meta_service/state/sessions.h"

#include <utility>

namespace mmc::meta {

bool Session::AddPin(uint64_t generation, uint64_t hash, uint32_t max) {
  MutexLock lock(mutex_);
  if (ended()) return false;
  auto it = pins_.find(generation);
  if (it == pins_.end()) {
    if (pins_.size() >= max) return false;
    it = pins_.emplace(generation, Pin{hash, 0}).first;
  }
  if (it->second.hash != hash) return false;  // generations are unique, unless a catalog lied
  ++it->second.count;
  return true;
}

bool Session::TakePin(uint64_t generation, Pin* pin) {
  MutexLock lock(mutex_);
  auto it = pins_.find(generation);
  if (it == pins_.end()) return false;
  *pin = it->second;
  if (--it->second.count == 0) pins_.erase(it);
  return true;
}

Result<uint64_t> Session::RemovalLimit(uint64_t call, uint64_t next) {
  MutexLock lock(mutex_);
  if (ended()) return Status(Code::kSessionLost, "session " + std::to_string(id_) + " has ended, open a new one");
  const auto known = removals_.find(call);
  if (known != removals_.end()) return known->second;
  if (call <= forgotten_removal_) {
    return Status(Code::kCancelled, "removal " + std::to_string(call) + " of session " + std::to_string(id_) +
                                        " is older than those that are remembered: ask with a new number");
  }
  removals_.emplace(call, next);
  if (removals_.size() > kMaxRemovals) {
    forgotten_removal_ = removals_.begin()->first;
    removals_.erase(removals_.begin());
  }
  return next;
}

bool Session::End(std::unordered_map<uint64_t, Pin>* pins) {
  MutexLock lock(mutex_);
  if (ended_.exchange(true, std::memory_order_acq_rel)) return false;
  pins->swap(pins_);
  removals_.clear();
  return true;
}

Result<std::shared_ptr<Session>> Sessions::Open(const std::string& name, const std::string& host_id,
                                                uint32_t pid, uint16_t tenant,
                                                std::shared_ptr<const security::Identity> owner,
                                                uint32_t max_sessions, TimePoint now) {
  MutexLock lock(mutex_);
  if (sessions_.size() >= max_sessions) {
    return Status(Code::kQueueFull,
                  std::to_string(max_sessions) + " client sessions are open, no more are taken");
  }
  const uint64_t id = next_id_++;
  auto session = std::make_shared<Session>(id, name, host_id, pid, tenant, std::move(owner), now);
  sessions_.emplace(id, session);
  return session;
}

Result<std::shared_ptr<Session>> Sessions::Find(uint64_t id) const {
  MutexLock lock(mutex_);
  const auto it = sessions_.find(id);
  if (it == sessions_.end()) {
    return Status(Code::kSessionLost,
                  "session " + std::to_string(id) + " is not known here, open a new one");
  }
  return it->second;
}

void Sessions::Erase(uint64_t id) {
  MutexLock lock(mutex_);
  sessions_.erase(id);
}

std::vector<std::shared_ptr<Session>> Sessions::SilentSince(TimePoint before) const {
  MutexLock lock(mutex_);
  std::vector<std::shared_ptr<Session>> silent;
  for (const auto& [id, session] : sessions_) {
    if (session->last_heard() <= before) silent.push_back(session);
  }
  return silent;
}

uint64_t Sessions::Oldest() const {
  MutexLock lock(mutex_);
  return sessions_.empty() ? next_id_ : sessions_.begin()->first;
}

size_t Sessions::size() const {
  MutexLock lock(mutex_);
  return sessions_.size();
}

}  // namespace mmc::meta
