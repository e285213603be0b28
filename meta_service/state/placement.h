// Decides where the replicas of one PutStart call go, and takes the space.
//
// Order: the preferred nodes as given; with prefer_local the nodes of the session's host; then the
// others. Of several on the host, and of the others, the one of two drawn by lot that has more free
// bytes. A node that is full is passed over as long as another has room; when none has, the first
// choice is remembered as the one to evict from. Replicas are on distinct nodes. The medium is the
// one asked for as long as enough nodes have a segment of it that could ever hold the value;
// otherwise (unless strict) the first other medium of which that is true.
//
// Thread safety: one Placer per call and thread. Ownership: keeps the view alive.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "meta_service/state/membership.h"
#include "meta_service/state/types.h"

namespace mmc::meta {

class Placer {
 public:
  Placer(std::shared_ptr<const PlacementView> view, const PutSpec& spec,
         const std::string& session_host, uint64_t dice);

  // All replicas or none. Codes: kOk, kNoSpace (Needs() grew), kNoNode, kRecovering (the same, but
  // not for long).
  Code Place(uint64_t bytes, std::vector<Placed>* out);

  // Segments that were full, and how much the calls of Place() together lacked there.
  struct Need {
    std::shared_ptr<Segment> segment;
    uint64_t units = 0;
  };
  const std::map<uint32_t, Need>& needs() const { return needs_; }

 private:
  using Nodes = std::vector<const PlacementNode*>;
  struct Order {
    Nodes preferred;
    std::array<Nodes, 2> drawn;  // by lot within each: local ones, others
  };

  Order& OrderOf(Medium medium);
  bool Holds(const PlacementNode& node, Medium medium, uint32_t units) const;
  int PickMedium(uint32_t units);
  const PlacementNode* Draw(const Nodes& nodes, Medium medium);
  bool TryNode(const PlacementNode& node, Medium medium, uint32_t units, std::vector<Placed>* out);
  bool TryDrawn(const Nodes& nodes, Medium medium, uint32_t units, std::vector<Placed>* out);
  bool PlaceOne(Medium medium, uint32_t units, std::vector<Placed>* out);
  void Lacks(Medium medium, uint32_t units);
  bool Used(uint32_t node) const;
  uint64_t Roll();

  const std::shared_ptr<const PlacementView> view_;
  const PutSpec& spec_;
  const std::string& host_;
  uint64_t dice_;
  std::array<std::unique_ptr<Order>, kMediums> orders_;
  uint32_t last_units_ =
      0;  // PickMedium's last question and answer: batches are mostly of one size
  int last_medium_ = -1;
  std::vector<uint32_t> used_;  // nodes of the replicas placed so far of this key
  std::map<uint32_t, Need> needs_;
};

}  // namespace mmc::meta
