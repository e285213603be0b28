// Objects that are of use only together: whoever reads one leases all, and when one is evicted the others go too.
//
// A group is the objects that are there now and were committed under its name; nobody says how many they should be.
// Thread safety: all methods from any thread; its lock is the innermost. Ownership: knows objects by number only.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "common/base/mutex.h"

namespace mmc::meta {

class Groups {
 public:
  static constexpr size_t kMaxMembers = 1024;  // of one group

  struct Member {
    uint64_t hash = 0;  // of the key
    uint64_t generation = 0;
  };

  // False: the group has as many members as it may; this one is then in none.
  bool Add(uint16_t tenant, std::string_view name, const Member& member);
  void Erase(uint64_t generation);
  // All members of the groups that these are in, each group once.
  std::vector<Member> MembersOf(std::span<const uint64_t> generations) const;
  size_t size() const;

 private:
  struct Group {
    const std::string* name = nullptr;  // its key in groups_
    std::vector<Member> members;
  };

  mutable Mutex mutex_;
  std::unordered_map<std::string, Group> groups_ MMC_GUARDED_BY(mutex_);  // by tenant and name
  std::unordered_map<uint64_t, Group*> of_ MMC_GUARDED_BY(mutex_);        // by generation
};

}  // namespace mmc::meta
