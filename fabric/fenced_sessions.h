// The sessions that a listener lets in no more.
//
// Bounded: session numbers only grow, so when there are too many the oldest are forgotten and everything below them is
// refused, fenced or not. A client that lives on with so old a session has to open a new one before it can connect
// again; the meta service names the oldest session that is open (RefuseBelow), so that this is rare.
//
// Thread safety: none, its listener has the lock. Ownership: values.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <set>

namespace mmc::fabric {

class FencedSessions {
 public:
  static constexpr size_t kMax = 1u << 16;

  // Session 0 is nobody's: it stands for all, and is never refused.
  void Add(uint64_t session) {
    if (session == 0) return;
    fenced_.insert(session);
    if (fenced_.size() > kMax) Forget();
  }
  void RefuseBelow(uint64_t session) { first_ = std::max(first_, session); }

  // No new connection of it.
  bool Refuses(uint64_t session) const { return session != 0 && (session < first_ || fenced_.contains(session)); }
  // What it has open is closed.
  bool Fenced(uint64_t session) const { return session != 0 && (session < forgotten_ || fenced_.contains(session)); }
  size_t size() const { return fenced_.size(); }

 private:
  void Forget() {
    fenced_.erase(fenced_.begin(), fenced_.lower_bound(first_));
    if (fenced_.size() > kMax) {
      const auto keep = std::next(fenced_.begin(), static_cast<std::ptrdiff_t>(fenced_.size() / 2));
      first_ = *keep;
      fenced_.erase(fenced_.begin(), keep);
    }
    forgotten_ = first_;
  }

  std::set<uint64_t> fenced_;
  uint64_t first_ = 0;      // older ones are refused
  uint64_t forgotten_ = 0;  // below this nothing is known any more: all count as fenced
};

}  // namespace mmc::fabric
