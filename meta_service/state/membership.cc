#include "meta_service/state/membership.h"

#include <algorithm>
#include <utility>

namespace mmc::meta {

namespace {

Status Stale(const std::string& what) {
  return Status(
      Code::kStaleNode,
      what + "; join again, with a new incarnation and new segment epochs when it is over");
}

constexpr size_t kMaxOver = 4096;

}  // namespace

Membership::Membership(SegmentTable& table, const std::vector<MemberRow>& before)
    : table_(table), view_(std::make_shared<PlacementView>()) {
  MutexLock lock(mutex_);
  for (const MemberRow& row : before) {
    if (row.kind != MemberRow::Kind::kHere) {
      NoteOver(row.name, row.incarnation);
    } else if (row.draining) {
      drains_[row.name] = row.incarnation;
    }
  }
}

// Names come and go: no more of them are remembered than nodes can be there.
void Membership::NoteOver(const std::string& name, uint64_t incarnation) {
  if (over_.size() < kMaxOver || over_.count(name) != 0) over_[name] = incarnation;
}

Result<Membership::Node*> Membership::Find(uint32_t node, uint64_t incarnation, uint64_t join) {
  const auto it = nodes_.find(node);
  if (it == nodes_.end()) return Stale("node " + std::to_string(node) + " is not known");
  if (it->second.spec.incarnation != incarnation || it->second.gone) {
    return Stale("incarnation " + std::to_string(incarnation) + " of node " + it->second.spec.name +
                 " is over");
  }
  // What an earlier process of the node has done, the one of now has not: its connections are others.
  if (join != 0 && join < it->second.spec.join) {
    return Stale("node " + it->second.spec.name + " has joined again since this call was made");
  }
  return &it->second;
}

// The node of that name, made when there is none; the one that is gone longest makes room when
// there are too many.
Result<Membership::Node*> Membership::Place(const std::string& name, uint32_t max_nodes) {
  if (const auto it = by_name_.find(name); it != by_name_.end()) return &nodes_[it->second];
  if (nodes_.size() >= max_nodes) {
    auto oldest = nodes_.end();
    for (auto it = nodes_.begin(); it != nodes_.end(); ++it) {
      if (!it->second.gone) continue;
      if (oldest == nodes_.end() || it->second.last_heard < oldest->second.last_heard) oldest = it;
    }
    if (oldest == nodes_.end()) {
      return Status(Code::kQueueFull,
                    std::to_string(max_nodes) + " nodes are there, no more can join");
    }
    if (oldest->second.health == NodeHealth::kDead) {
      NoteOver(oldest->second.spec.name, oldest->second.spec.incarnation);
    }
    by_name_.erase(oldest->second.spec.name);
    nodes_.erase(oldest);
  }
  const uint32_t id = next_id_++;
  by_name_[name] = id;
  Node* node = &nodes_[id];
  node->id = id;
  return node;
}

void Membership::TakeSpec(Node* node, const JoinSpec& spec) {
  node->spec = spec;
  for (const auto& segment : node->segments) segment->set_ticketed(spec.wants_tickets);
}

Result<Membership::Admission> Membership::Join(const JoinSpec& spec, uint32_t max_nodes,
                                               uint32_t max_feed_records, TimePoint now, bool late) {
  MutexLock lock(mutex_);
  const auto named = by_name_.find(spec.name);
  if (named != by_name_.end() && spec.join != 0 && spec.join < nodes_.at(named->second).spec.join) {
    return Admission{.newer_join = nodes_.at(named->second).spec.join};
  }
  if (spec.must_resume && !spec.keeps_memory) {
    if (named == by_name_.end() || nodes_.at(named->second).spec.incarnation != spec.incarnation) {
      return Stale("incarnation " + std::to_string(spec.incarnation) + " of " + spec.name +
                   " is not known here");
    }
  }
  if (const auto over = over_.find(spec.name);
      over != over_.end() && over->second == spec.incarnation) {
    return Stale("incarnation " + std::to_string(spec.incarnation) + " of " + spec.name +
                 " is over: it was away for too long");
  }
  MMC_ASSIGN_OR_RETURN(Node * node, Place(spec.name, max_nodes));
  const bool known = node->feed != nullptr;
  if (known && node->spec.incarnation == spec.incarnation) return Resume(node, spec, now);
  Admission admission{.node = node->id};
  if (known) admission.dropped = End(node, NodeHealth::kDead);
  auto feed = std::make_shared<CatalogFeed>(node->id, spec.acked_seq, max_feed_records);
  for (const SegmentInfo& info : spec.segments) {
    auto segment = std::make_shared<Segment>(info, node->id, feed);
    if (Status added = table_.Add(segment); !added.ok()) {
      for (auto& made : node->segments) made->Kill();
      node->segments.clear();
      node->gone = true;
      return added;
    }
    node->segments.push_back(std::move(segment));
  }
  TakeSpec(node, spec);
  node->feed = std::move(feed);
  node->health = NodeHealth::kServing;
  node->gone = false;
  const auto drain = drains_.find(spec.name);
  node->draining = drain != drains_.end() && drain->second == spec.incarnation;
  if (drain != drains_.end()) drains_.erase(drain);
  over_.erase(spec.name);
  node->fenced = !spec.keeps_memory;
  node->late = late && spec.keeps_memory;
  if (spec.keeps_memory) {
    admission.want_catalog = true;
    node->health = NodeHealth::kRecovering;
    node->report = std::make_shared<NodeReport>(node->segments, node->feed);
    node->feed->Hold();
  }
  node->suspect_until = TimePoint();
  node->last_heard = now;
  Changed();
  return admission;
}

Result<Membership::Admission> Membership::Resume(Node* node, const JoinSpec& spec, TimePoint now) {
  if (node->gone) return Stale("incarnation " + std::to_string(spec.incarnation) + " of " + spec.name + " is over");
  if (node->spec.segments != spec.segments) {
    return Stale("node " + spec.name + " changed its segments within one incarnation");
  }
  Admission admission{.node = node->id, .resumed = true};
  if (node->report != nullptr && node->report->Enter(NodeReport::Phase::kReplaced)) {
    node->report = std::make_shared<NodeReport>(node->segments, node->feed);
    admission.resumed = false;
  }
  // What comes again after all was adopted is passed over; the fence is what is still missing then.
  admission.want_catalog = !admission.resumed || !node->fenced;
  TakeSpec(node, spec);
  Heard(node, now);
  Changed();
  return admission;
}

void Membership::Heard(Node* node, TimePoint now) {
  node->last_heard = now;
  if (node->health != NodeHealth::kSuspect || now < node->suspect_until) return;
  node->health = NodeHealth::kServing;
  Changed();
}

Result<NodeHealth> Membership::Heartbeat(uint32_t id, uint64_t incarnation, TimePoint now) {
  MutexLock lock(mutex_);
  MMC_ASSIGN_OR_RETURN(Node * node, Find(id, incarnation));
  Heard(node, now);
  return node->health;
}

Result<std::shared_ptr<CatalogFeed>> Membership::Feed(uint32_t id, uint64_t incarnation,
                                                      bool fenced_all, TimePoint now, uint64_t join) {
  MutexLock lock(mutex_);
  MMC_ASSIGN_OR_RETURN(Node * node, Find(id, incarnation, join));
  Heard(node, now);
  if (fenced_all && !std::exchange(node->fenced, true)) Changed();
  return node->feed;
}

Result<Membership::Report> Membership::OpenReport(uint32_t id, uint64_t incarnation,
                                                  TimePoint now, uint64_t join) {
  MutexLock lock(mutex_);
  MMC_ASSIGN_OR_RETURN(Node * node, Find(id, incarnation, join));
  Heard(node, now);
  return node->report;
}

void Membership::ReportDone(uint32_t id, const Report& report, TimePoint now) {
  MutexLock lock(mutex_);
  const auto it = nodes_.find(id);
  if (it == nodes_.end() || it->second.gone || it->second.report != report) return;
  Node& node = it->second;
  node.report = nullptr;
  node.late &= !node.feed->SettledToFlow();
  node.health = now < node.suspect_until ? NodeHealth::kSuspect : NodeHealth::kServing;
  Changed();
}

void Membership::NoteAcked(uint32_t id, const CatalogFeed& feed) {
  MutexLock lock(mutex_);
  const auto it = nodes_.find(id);
  if (it == nodes_.end() || !it->second.late || it->second.feed.get() != &feed || !feed.SettledToFlow()) return;
  it->second.late = false;
  Changed();
}

size_t Membership::OpenReports() const {
  MutexLock lock(mutex_);
  return std::count_if(nodes_.begin(), nodes_.end(),
                       [](const auto& entry) { return entry.second.report != nullptr; });
}

std::vector<MemberRow> Membership::Unreported(const std::vector<MemberRow>& rows) const {
  MutexLock lock(mutex_);
  std::vector<MemberRow> out;
  for (const MemberRow& row : rows) {
    if (row.kind != MemberRow::Kind::kHere) continue;
    const auto named = by_name_.find(row.name);
    const Node* node = named == by_name_.end() ? nullptr : &nodes_.at(named->second);
    if (node == nullptr || node->gone || node->report != nullptr) out.push_back(row);
  }
  return out;
}

std::string Membership::NameOf(uint32_t node) const {
  MutexLock lock(mutex_);
  const auto it = nodes_.find(node);
  return it == nodes_.end() ? std::string() : it->second.spec.name;
}

std::vector<MemberRow> Membership::Absent(const std::vector<MemberRow>& rows) const {
  MutexLock lock(mutex_);
  std::vector<MemberRow> out;
  for (const MemberRow& row : rows) {
    if (row.kind == MemberRow::Kind::kHere && by_name_.count(row.name) == 0) out.push_back(row);
  }
  return out;
}

std::vector<MemberRow> Membership::Rows() const {
  MutexLock lock(mutex_);
  std::vector<MemberRow> rows;
  for (const auto& [name, id] : by_name_) {
    const Node& node = nodes_.at(id);
    if (!node.gone) {
      const auto kind = node.late ? MemberRow::Kind::kMissing : MemberRow::Kind::kHere;
      rows.push_back({kind, name, node.spec.incarnation, node.draining && !node.late});
    } else if (node.health == NodeHealth::kDead) {
      rows.push_back({MemberRow::Kind::kGone, name, node.spec.incarnation, false});
    }
  }
  for (const auto& [name, incarnation] : over_) {
    rows.push_back({MemberRow::Kind::kGone, name, incarnation, false});
  }
  return rows;
}

Membership::Segments Membership::End(Node* node, NodeHealth health) {
  node->health = health;
  node->gone = true;
  node->report = nullptr;
  for (auto& segment : node->segments) segment->Kill();
  Segments dropped = std::exchange(node->segments, {});
  Changed();
  return dropped;
}

Result<Membership::Segments> Membership::Leave(uint32_t id, uint64_t incarnation) {
  MutexLock lock(mutex_);
  MMC_ASSIGN_OR_RETURN(Node * node, Find(id, incarnation));
  return End(node, NodeHealth::kLeaving);
}

Status Membership::Suspect(uint32_t id, Duration hold, TimePoint now) {
  MutexLock lock(mutex_);
  const auto it = nodes_.find(id);
  if (it == nodes_.end())
    return Status(Code::kNotFound, "node " + std::to_string(id) + " is not known");
  Node& node = it->second;
  if (node.gone) return Status::Ok();
  node.suspect_until = std::max(node.suspect_until, now + hold);
  if (node.health == NodeHealth::kServing) {
    node.health = NodeHealth::kSuspect;
    Changed();
  }
  return Status::Ok();
}

Membership::Segments Membership::Check(Duration suspect, Duration grace, TimePoint listening_since,
                                       TimePoint now) {
  MutexLock lock(mutex_);
  Segments dropped;
  for (auto& [id, node] : nodes_) {
    if (node.gone) continue;
    const Duration silent = now - std::max(node.last_heard, listening_since);
    if (silent >= grace) {
      Segments dead = End(&node, NodeHealth::kDead);
      dropped.insert(dropped.end(), dead.begin(), dead.end());
    } else if (silent >= suspect && node.health == NodeHealth::kServing) {
      node.health = NodeHealth::kSuspect;
      Changed();
    }
  }
  return dropped;
}

void Membership::Changed() {
  auto view = std::make_shared<PlacementView>();
  for (const auto& [id, node] : nodes_) {
    if (node.draining || node.gone) continue;
    if (node.health == NodeHealth::kServing && node.fenced) {
      view->nodes.push_back({id, node.spec.host_id, node.segments});
    } else {
      view->more_coming |=
          node.health == NodeHealth::kServing || node.health == NodeHealth::kRecovering;
    }
  }
  view_ = std::move(view);
  version_.fetch_add(1, std::memory_order_acq_rel);
}

std::shared_ptr<const PlacementView> Membership::View() const {
  MutexLock lock(mutex_);
  return view_;
}

std::vector<NodeInfo> Membership::Directory(TimePoint now, uint64_t* version) const {
  MutexLock lock(mutex_);
  std::vector<NodeInfo> infos;
  for (const auto& [id, node] : nodes_) {
    if (node.gone && node.health == NodeHealth::kLeaving)
      continue;  // it said goodbye: nothing to show
    NodeInfo info{id,          node.spec.name,     node.spec.incarnation, node.spec.host_id,
                  node.health, node.spec.endpoints};
    for (const auto& segment : node.segments) {
      info.segments.push_back(segment->info());
      info.used_bytes.push_back(segment->used_units() * kUnitBytes);
      info.objects += segment->replicas().load(std::memory_order_relaxed);
    }
    ShowDrain(node, &info);
    info.silent = now - node.last_heard;
    infos.push_back(std::move(info));
  }
  *version = this->version();
  return infos;
}

std::vector<std::shared_ptr<CatalogFeed>> Membership::Feeds() const {
  MutexLock lock(mutex_);
  std::vector<std::shared_ptr<CatalogFeed>> feeds;
  for (const auto& [id, node] : nodes_) {
    if (!node.gone && !node.segments.empty()) feeds.push_back(node.feed);
  }
  return feeds;
}

uint64_t Membership::FencesWaiting() const {
  MutexLock lock(mutex_);
  uint64_t sum = 0;
  for (const auto& [id, node] : nodes_)
    sum += node.feed != nullptr ? node.feed->fences_waiting() : 0;
  return sum;
}

uint64_t Membership::FeedRecords() const {
  MutexLock lock(mutex_);
  uint64_t sum = 0;
  for (const auto& [id, node] : nodes_) sum += node.feed != nullptr ? node.feed->queued() : 0;
  return sum;
}

}  // namespace mmc::meta
