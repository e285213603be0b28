// Nodes: joining, leaving, dying, and their catalog feeds.
#include <utility>

#include "meta_service/state/meta_state.h"

namespace mmc::meta {

namespace {

constexpr uint32_t kDropsPerLock = 64;

// What a client meets when a node cannot be reached; anything else says nothing about the node.
bool SpeaksAgainstNode(Code met) {
  switch (met) {
    case Code::kPeerUnreachable:
    case Code::kUnavailable:
    case Code::kConnectionLost:
    case Code::kUnconfirmed:
      return true;
    default:
      return false;
  }
}

}  // namespace

// Every replica of a segment that is gone. An object with no replica left is gone too.
void MetaState::DropSegment(Segment& segment, TimePoint now, Effects* effects) {
  for (Shard& shard : shards_) {
    for (bool more = true; more;) {
      MutexLock lock(shard.mutex);
      for (uint32_t n = 0; n < kDropsPerLock && more; ++n) {
        Replica* replica = shard.policy->AnyIn(segment.slot());
        more = replica != nullptr;
        if (!more) break;
        Object* object = Object::Of(replica);
        if (object->replica_count > 1) {
          DropReplica(shard, object, replica->placed.index, now, effects);
        } else {
          RemoveObject(shard, object, HashKey(object->key()), now, effects);
        }
      }
    }
  }
  std::vector<FreeItem> freed;
  segment.feed().Close(&freed);
  for (FreeItem& item : freed) Free(std::move(item));
}

void MetaState::DropSegments(const Membership::Segments& segments, TimePoint now,
                             Effects* effects) {
  for (const auto& segment : segments) DropSegment(*segment, now, effects);
  if (segments.empty()) return;
  RefreshPool();
  effects->feeds.push_back(
      segments.front()->node());  // a poll of it must not wait on, nor a commit
  effects->acked.push_back(segments.front()->node());
}

Result<Joined> MetaState::Join(const JoinSpec& spec, TimePoint now) {
  Membership::Admission admission;
  {
    MutexLock lock(recovery_mutex_);  // what is removed from here on is not adopted any more
    MMC_ASSIGN_OR_RETURN(
        admission, membership_.Join(spec, options_.max_nodes, options_.max_feed_records, now, !recovering()));
    if (admission.newer_join != 0) return Joined{.newer_join = admission.newer_join};
    if (admission.want_catalog) burying_.store(true);
  }
  Effects effects;
  DropSegments(admission.dropped, now, &effects);
  RefreshPool();
  effects.space = true;
  Tell(effects);
  return Joined{.node = admission.node, .resumed = admission.resumed, .want_catalog = admission.want_catalog};
}

Result<NodeHealth> MetaState::NodeHeartbeat(uint32_t node, uint64_t incarnation, TimePoint now) {
  return membership_.Heartbeat(node, incarnation, now);
}

Status MetaState::NodeLeave(uint32_t node, uint64_t incarnation, TimePoint now) {
  MMC_ASSIGN_OR_RETURN(auto dropped, membership_.Leave(node, incarnation));
  Effects effects;
  DropSegments(dropped, now, &effects);
  Tell(effects);
  return Status::Ok();
}

Status MetaState::CatalogSync(uint32_t node, uint64_t incarnation, uint64_t acked_seq,
                              std::span<const uint64_t> fenced, size_t max_entries,
                              CatalogBatch* out, TimePoint now, bool fenced_all, uint64_t join) {
  MMC_ASSIGN_OR_RETURN(auto feed, membership_.Feed(node, incarnation, fenced_all, now, join));
  std::vector<FreeItem> freed;
  bool acked_more = false;
  MMC_RETURN_IF_ERROR(feed->Poll(acked_seq, fenced, max_entries, out, &freed, &acked_more));
  Effects effects;
  if (acked_more) {
    effects.acked.push_back(node);
    membership_.NoteAcked(node, *feed);
  }
  for (FreeItem& item : freed) Release(std::move(item), now, &effects);
  Tell(effects);
  return Status::Ok();
}

// A tenant that says again and again that a node cannot be reached would keep everybody's blocks away from it: where
// there are others, its word counts for one tenth of the time.
bool MetaState::MayAccuse(uint16_t tenant, uint32_t node, TimePoint now) {
  if (tenants_.count() == 1) return true;
  const Duration rest = 10 * options_.node_suspect;
  MutexLock lock(accused_mutex_);
  std::erase_if(accused_, [&](const auto& entry) { return entry.second + rest <= now; });
  return accused_.try_emplace({tenant, node}, now).second;
}

Status MetaState::ReportReplica(uint64_t session_id, uint32_t node, Code met, TimePoint now) {
  MMC_ASSIGN_OR_RETURN(auto session, sessions_.Find(session_id));
  session->Heard(now);
  if (!SpeaksAgainstNode(met) || !MayAccuse(session->tenant(), node, now)) return Status::Ok();
  return membership_.Suspect(node, options_.node_suspect, now);
}

void MetaState::CheckNodes(TimePoint now) {
  Effects effects;
  const auto dropped =
      membership_.Check(options_.node_suspect, options_.node_grace, ListeningSince(), now);
  for (const auto& segment : dropped) {
    effects.feeds.push_back(segment->node());
    effects.acked.push_back(segment->node());
  }
  DropSegments(dropped, now, &effects);
  Tell(effects);
}

std::vector<NodeInfo> MetaState::Directory(TimePoint now, uint64_t* version) const {
  return membership_.Directory(now, version);
}

}  // namespace mmc::meta
