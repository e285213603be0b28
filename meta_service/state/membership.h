// Nodes: who joined with which incarnation and segments, and who is still heard.
//
// A node is known by its name; its id is given at the first join and stays. An incarnation that
// left or was declared dead cannot come back: late writers of it might still be under way. One that
// is not known and keeps its memory reports what is in it (kRecovering), then serves; new blocks
// are placed on it once it has fenced all earlier writers.
//
// Thread safety: all methods from any thread. Ownership: shares segments and feeds with the
// SegmentTable. Lock order: this lock, then the SegmentTable's.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/base/clock.h"
#include "common/base/mutex.h"
#include "common/base/status.h"
#include "meta_service/state/adoption.h"
#include "meta_service/state/catalog_feed.h"
#include "meta_service/state/segment.h"
#include "meta_service/state/types.h"

namespace mmc::meta {

// What placement looks at: the serving nodes. Immutable.
struct PlacementNode {
  uint32_t id = 0;
  std::string host_id;
  std::vector<std::shared_ptr<Segment>> segments;
};
struct PlacementView {
  std::vector<PlacementNode> nodes;
  bool more_coming = false;  // a node that is here takes new blocks soon: its report, or its fence,
                             // is not done yet
};

class Membership {
 public:
  using Segments = std::vector<std::shared_ptr<Segment>>;

  using Report = std::shared_ptr<NodeReport>;

  // `before`: the nodes of earlier starts; drains go on, what is over stays over.
  explicit Membership(SegmentTable& table, const std::vector<MemberRow>& before = {});

  struct Admission {
    uint32_t node = 0;
    bool resumed = false;
    bool want_catalog = false;
    Segments dropped;  // of the incarnation before: the caller drops what is in them
    uint64_t newer_join = 0;  // not 0: there was a newer join of that name, and nothing was done
  };
  // `late`: nobody waits for nodes any more, and what this one brings may have been removed. Errors: kStaleNode,
  // kQueueFull (nodes, segments).
  Result<Admission> Join(const JoinSpec& spec, uint32_t max_nodes, uint32_t max_feed_records,
                         TimePoint now, bool late = false);
  // A sign of life. Errors: kStaleNode.
  Result<NodeHealth> Heartbeat(uint32_t node, uint64_t incarnation, TimePoint now);
  // The same, for the node's feed. `fenced_all`: nobody of the time before its join can write there
  // any more. `join`: of which join the node speaks, and it is stale when there was a newer one; 0: any.
  Result<std::shared_ptr<CatalogFeed>> Feed(uint32_t node, uint64_t incarnation, bool fenced_all,
                                            TimePoint now, uint64_t join = 0);
  // The same, for the node's report; null when there is none to wait for.
  Result<Report> OpenReport(uint32_t node, uint64_t incarnation, TimePoint now, uint64_t join = 0);
  // The report is in the tables: the node serves, its feed flows.
  void ReportDone(uint32_t node, const Report& report, TimePoint now);
  // It has acknowledged more records.
  void NoteAcked(uint32_t node, const CatalogFeed& feed);
  size_t OpenReports() const;
  // Those of `rows` that are there or waited for, and have not joined here or not ended their report.
  std::vector<MemberRow> Unreported(const std::vector<MemberRow>& rows) const;
  // The same, but only of those that have not joined.
  std::vector<MemberRow> Absent(const std::vector<MemberRow>& rows) const;
  // The nodes that are there, and the incarnations that are over.
  std::vector<MemberRow> Rows() const;
  // Empty: no such node.
  std::string NameOf(uint32_t node) const;
  Result<Segments> Leave(uint32_t node, uint64_t incarnation);
  // No new placement there for `hold`, heartbeats or not. Errors: kNotFound.
  Status Suspect(uint32_t node, Duration hold, TimePoint now);
  // No new placement there while it is draining, in this incarnation. Errors: kNotFound.
  Status Drain(const std::string& name, bool on);
  Segments Draining() const;
  // Serving -> suspect -> dead. Gives the segments of those that died now. Silence before `listening_since` is not
  // theirs.
  Segments Check(Duration suspect, Duration grace, TimePoint listening_since, TimePoint now);

  std::shared_ptr<const PlacementView> View() const;
  std::vector<NodeInfo> Directory(TimePoint now, uint64_t* version) const;
  uint64_t version() const { return version_.load(std::memory_order_acquire); }
  // Of the nodes that are here and have segments.
  std::vector<std::shared_ptr<CatalogFeed>> Feeds() const;
  uint64_t FencesWaiting() const;
  uint64_t FeedRecords() const;

 private:
  struct Node {
    uint32_t id = 0;
    JoinSpec spec;
    NodeHealth health = NodeHealth::kServing;
    bool gone = false;  // left or dead: this incarnation is over
    bool fenced =
        true;  // false: writers of the time before its join may still be there, no new placement
    bool draining = false;
    bool late = false;  // it has still to be told what it must not keep: the next start must not take it as it is
    Report report;  // null: none, or done
    TimePoint last_heard, suspect_until;
    Segments segments;
    std::shared_ptr<CatalogFeed> feed;
  };

  Result<Node*> Find(uint32_t node, uint64_t incarnation, uint64_t join = 0) MMC_REQUIRES(mutex_);
  // The same incarnation has joined again.
  Result<Admission> Resume(Node* node, const JoinSpec& spec, TimePoint now) MMC_REQUIRES(mutex_);
  Result<Node*> Place(const std::string& name, uint32_t max_nodes) MMC_REQUIRES(mutex_);
  // REQUIRES: the node's segments are those of the spec.
  void TakeSpec(Node* node, const JoinSpec& spec) MMC_REQUIRES(mutex_);
  void Heard(Node* node, TimePoint now) MMC_REQUIRES(mutex_);
  Segments End(Node* node, NodeHealth health) MMC_REQUIRES(mutex_);
  void NoteOver(const std::string& name, uint64_t incarnation) MMC_REQUIRES(mutex_);
  static void ShowDrain(const Node& node, NodeInfo* info);
  void Changed() MMC_REQUIRES(mutex_);

  SegmentTable& table_;
  std::atomic<uint64_t> version_{1};
  mutable Mutex mutex_;
  uint32_t next_id_ MMC_GUARDED_BY(mutex_) = 1;
  std::map<uint32_t, Node> nodes_ MMC_GUARDED_BY(mutex_);
  std::map<std::string, uint32_t> by_name_ MMC_GUARDED_BY(mutex_);
  // By name: incarnations that are over and that no node here stands for; drains of the start before, until the node
  // joins.
  std::map<std::string, uint64_t> over_ MMC_GUARDED_BY(mutex_);
  std::map<std::string, uint64_t> drains_ MMC_GUARDED_BY(mutex_);
  std::shared_ptr<const PlacementView> view_ MMC_GUARDED_BY(mutex_);
};

}  // namespace mmc::meta
