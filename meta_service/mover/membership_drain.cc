// The part of a node's membership that draining changes.
#include "meta_service/state/membership.h"

namespace mmc::meta {

Status Membership::Drain(const std::string& name, bool on) {
  MutexLock lock(mutex_);
  const auto named = by_name_.find(name);
  if (named == by_name_.end() || nodes_.at(named->second).gone) {
    return Status(Code::kNotFound, "no node '" + name + "' in the pool; mmc nodes lists those that are there");
  }
  Node& node = nodes_.at(named->second);
  if (node.draining == on) return Status::Ok();
  node.draining = on;
  Changed();
  return Status::Ok();
}

Membership::Segments Membership::Draining() const {
  MutexLock lock(mutex_);
  Segments segments;
  for (const auto& [id, node] : nodes_) {
    if (node.draining && !node.gone) segments.insert(segments.end(), node.segments.begin(), node.segments.end());
  }
  return segments;
}

void Membership::ShowDrain(const Node& node, NodeInfo* info) {
  if (!node.draining || node.gone) return;
  info->draining = true;
  if (node.health == NodeHealth::kServing) info->health = NodeHealth::kDraining;
  for (const auto& segment : node.segments) {
    info->drain_left_objects += segment->replicas().load(std::memory_order_relaxed);
    info->drain_left_bytes += segment->live_units() * kUnitBytes;
  }
}

}  // namespace mmc::meta
