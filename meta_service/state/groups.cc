#include "meta_service/state/groups.h"

#include <algorithm>

namespace mmc::meta {

bool Groups::Add(uint16_t tenant, std::string_view name, const Member& member) {
  std::string key = std::to_string(tenant) + '/';
  key += name;
  MutexLock lock(mutex_);
  const auto at = groups_.try_emplace(std::move(key)).first;
  Group& group = at->second;
  group.name = &at->first;
  if (group.members.size() >= kMaxMembers) return false;
  group.members.push_back(member);
  of_[member.generation] = &group;
  return true;
}

void Groups::Erase(uint64_t generation) {
  MutexLock lock(mutex_);
  const auto found = of_.find(generation);
  if (found == of_.end()) return;
  Group& group = *found->second;
  of_.erase(found);
  std::erase_if(group.members, [=](const Member& member) { return member.generation == generation; });
  if (group.members.empty()) groups_.erase(groups_.find(*group.name));
}

std::vector<Groups::Member> Groups::MembersOf(std::span<const uint64_t> generations) const {
  MutexLock lock(mutex_);
  std::vector<const Group*> groups;
  for (const uint64_t generation : generations) {
    const auto found = of_.find(generation);
    if (found != of_.end()) groups.push_back(found->second);
  }
  std::sort(groups.begin(), groups.end());
  groups.erase(std::unique(groups.begin(), groups.end()), groups.end());
  std::vector<Member> members;
  for (const Group* group : groups) members.insert(members.end(), group->members.begin(), group->members.end());
  return members;
}

size_t Groups::size() const {
  MutexLock lock(mutex_);
  return groups_.size();
}

}  // namespace mmc::meta
