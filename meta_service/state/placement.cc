#include "meta_service/state/placement.h"

#include <algorithm>
#include <utility>

namespace mmc::meta {

namespace {

uint64_t FreeUnits(const PlacementNode& node, Medium medium) {
  uint64_t free = 0;
  for (const auto& segment : node.segments) {
    if (segment->info().medium == medium) free += segment->free_units();
  }
  return free;
}

}  // namespace

Placer::Placer(std::shared_ptr<const PlacementView> view, const PutSpec& spec,
               const std::string& session_host, uint64_t dice)
    : view_(std::move(view)), spec_(spec), host_(session_host), dice_(dice) {}

// splitmix64: the same seed and calls give the same placement.
uint64_t Placer::Roll() {
  uint64_t z = (dice_ += 0x9E3779B97F4A7C15u);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

Placer::Order& Placer::OrderOf(Medium medium) {
  auto& order = orders_[static_cast<int>(medium)];
  if (order != nullptr) return *order;
  order = std::make_unique<Order>();
  std::vector<bool> taken(view_->nodes.size());
  const auto take = [&](size_t i, Nodes& into) {
    if (!taken[i]) into.push_back(&view_->nodes[i]);
    taken[i] = true;
  };
  for (size_t i = 0; i < view_->nodes.size(); ++i) taken[i] = !Holds(view_->nodes[i], medium, 1);
  for (uint32_t wanted : spec_.preferred) {
    for (size_t i = 0; i < view_->nodes.size(); ++i) {
      if (view_->nodes[i].id == wanted) take(i, order->preferred);
    }
  }
  for (size_t i = 0; spec_.prefer_local && !host_.empty() && i < view_->nodes.size(); ++i) {
    if (view_->nodes[i].host_id == host_) take(i, order->drawn[0]);
  }
  for (size_t i = 0; i < view_->nodes.size(); ++i) take(i, order->drawn[1]);
  return *order;
}

bool Placer::Holds(const PlacementNode& node, Medium medium, uint32_t units) const {
  return std::any_of(node.segments.begin(), node.segments.end(), [&](const auto& segment) {
    return segment->info().medium == medium && segment->total_units() >= units && !segment->dead();
  });
}

int Placer::PickMedium(uint32_t units) {
  if (units == last_units_) return last_medium_;
  last_units_ = units;
  last_medium_ = -1;
  const int asked = static_cast<int>(spec_.medium);
  for (int n = 0; n < (spec_.strict_medium ? 1 : kMediums); ++n) {
    const int medium = n == 0 ? asked : (n - 1 < asked ? n - 1 : n);
    uint32_t able = 0;
    for (const auto& node : view_->nodes) able += Holds(node, static_cast<Medium>(medium), units);
    if (able >= spec_.replicas) {
      last_medium_ = medium;
      break;
    }
  }
  return last_medium_;
}

bool Placer::Used(uint32_t node) const {
  return std::find(used_.begin(), used_.end(), node) != used_.end();
}

const PlacementNode* Placer::Draw(const Nodes& nodes, Medium medium) {
  const PlacementNode* a = nodes[Roll() % nodes.size()];
  const PlacementNode* b = nodes[Roll() % nodes.size()];
  return FreeUnits(*a, medium) >= FreeUnits(*b, medium) ? a : b;
}

bool Placer::TryNode(const PlacementNode& node, Medium medium, uint32_t units,
                     std::vector<Placed>* out) {
  if (Used(node.id)) return false;
  Segment* best = nullptr;
  for (const auto& segment : node.segments) {
    if (segment->info().medium != medium || segment->free_units() < units) continue;
    if (best == nullptr || segment->free_units() > best->free_units()) best = segment.get();
  }
  Placed placed;
  if (best == nullptr || !best->Allocate(units, &placed)) return false;
  out->push_back(placed);
  used_.push_back(node.id);
  return true;
}

bool Placer::TryDrawn(const Nodes& nodes, Medium medium, uint32_t units, std::vector<Placed>* out) {
  if (nodes.empty()) return false;
  if (TryNode(*Draw(nodes, medium), medium, units, out)) return true;
  const size_t start = Roll() % nodes.size();
  for (size_t i = 0; i < nodes.size(); ++i) {
    if (TryNode(*nodes[(start + i) % nodes.size()], medium, units, out)) return true;
  }
  return false;
}

bool Placer::PlaceOne(Medium medium, uint32_t units, std::vector<Placed>* out) {
  Order& order = OrderOf(medium);
  for (const PlacementNode* node : order.preferred) {
    if (TryNode(*node, medium, units, out)) return true;
  }
  return TryDrawn(order.drawn[0], medium, units, out) ||
         TryDrawn(order.drawn[1], medium, units, out);
}

// Remembers the segment that comes first in the order of choice among the nodes that hold no
// replica of this key yet.
void Placer::Lacks(Medium medium, uint32_t units) {
  Order& order = OrderOf(medium);
  Nodes nodes = order.preferred;
  for (const Nodes& drawn : order.drawn) {
    const size_t start = drawn.empty() ? 0 : Roll() % drawn.size();
    for (size_t i = 0; i < drawn.size(); ++i) nodes.push_back(drawn[(start + i) % drawn.size()]);
  }
  for (const PlacementNode* node : nodes) {
    if (Used(node->id)) continue;
    for (const auto& segment : node->segments) {
      if (segment->info().medium != medium || segment->total_units() < units) continue;
      Need& need = needs_[segment->slot()];
      need.segment = segment;
      need.units += units;
      return;
    }
  }
}

Code Placer::Place(uint64_t bytes, std::vector<Placed>* out) {
  const uint32_t units = UnitsOf(bytes);
  out->clear();
  used_.clear();
  const int medium = PickMedium(units);
  if (medium < 0) return view_->more_coming ? Code::kRecovering : Code::kNoNode;
  for (uint32_t r = 0; r < spec_.replicas; ++r) {
    if (PlaceOne(static_cast<Medium>(medium), units, out)) continue;
    for (uint32_t missing = r; missing < spec_.replicas; ++missing)
      Lacks(static_cast<Medium>(medium), units);
    for (size_t i = 0; i < out->size(); ++i) {
      for (const auto& node : view_->nodes) {
        for (const auto& segment : node.segments) {
          if (segment->slot() == (*out)[i].segment) segment->Free((*out)[i]);
        }
      }
    }
    out->clear();
    return Code::kNoSpace;
  }
  return Code::kOk;
}

}  // namespace mmc::meta
