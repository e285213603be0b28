#include "tests/sim/blocks.h"

#include <algorithm>
#include <utility>

#include "proto/key_list.h"

namespace mmc::sim {

using google::protobuf::MessageLite;

namespace {

constexpr uint64_t kUnit = meta::kUnitBytes;

std::string Describe(const Place& place) {
  return std::to_string(place.length) + " bytes at " + std::to_string(place.offset) + " of segment " +
         std::to_string(place.segment) + " of " + place.node;
}

// Whole units are taken.
bool Overlap(const Place& a, const Place& b) {
  const auto end = [](const Place& place) { return (place.offset + place.length + kUnit - 1) / kUnit * kUnit; };
  return a.node == b.node && a.segment == b.segment && a.epoch == b.epoch && a.offset < end(b) && b.offset < end(a);
}

}  // namespace

const char* MutationName(Mutation mutation) {
  static constexpr const char* kNames[kMutations] = {"none",           "forget_nothing", "fence_nothing",
                                                     "long_leases",    "commit_nothing", "lose_records",
                                                     "remove_nothing", "lose_fences",    "write_beside",
                                                     "forget_calls",   "answer_early",   "forget_joins"};
  return kNames[static_cast<int>(mutation)];
}

const char* BrokenBy(Mutation mutation) {
  static constexpr const char* kInvariants[kMutations] = {"",
                                                          "catalogs",
                                                          "fencing",
                                                          "bytes statuses",
                                                          "misses",
                                                          "misses catalogs",
                                                          "removals keys",
                                                          "rest",
                                                          "bytes statuses",
                                                          "misses",
                                                          "removals",
                                                          "joins"};
  return kInvariants[static_cast<int>(mutation)];
}

bool Blocks::Tricked(double chance) { return scheduler_.dice().Chance(chance); }

const Blocks::Node* Blocks::FindNode(uint32_t id) {
  if (state_ == nullptr) return nullptr;
  if (state_->directory_version() != version_) {
    nodes_.clear();
    for (const meta::NodeInfo& info : state_->Directory(TimePoint(), &version_)) {
      // One that still reports may have more than is known.
      const bool gone = info.health == meta::NodeHealth::kDead || info.health == meta::NodeHealth::kRecovering;
      nodes_[info.id] = {info.name, info.incarnation, gone};
    }
  }
  const auto it = nodes_.find(id);
  return it == nodes_.end() ? nullptr : &it->second;
}

bool Blocks::IsMember(const Holder& holder) {
  FindNode(0);
  if (state_ == nullptr) return false;
  return std::any_of(nodes_.begin(), nodes_.end(), [&](const auto& entry) {
    return entry.second.name == holder.first && entry.second.incarnation == holder.second && !entry.second.gone;
  });
}

void Blocks::Heard(uint64_t session) { heard_[session] = scheduler_.now(); }

bool Blocks::Alive(uint64_t session) const {
  const auto it = heard_.find(session);
  return it != heard_.end() && scheduler_.now() - it->second < session_expiry;
}

template <typename Take>
void Blocks::EachReplica(const proto::ReplicaColumns& columns, Take take) {
  int replica = 0, extent = 0;
  for (int row = 0; row < columns.replica_counts_size(); ++row) {
    for (uint32_t n = 0; n < columns.replica_counts(row); ++n, ++replica) {
      const Node* node = FindNode(columns.node(replica));
      std::vector<Place> places;
      for (uint32_t e = 0; e < columns.extent_counts(replica); ++e, ++extent) {
        places.push_back({node == nullptr ? std::string() : node->name, columns.segment(replica),
                          columns.epoch(replica), columns.extent_offset(extent), columns.extent_length(extent)});
      }
      if (node != nullptr) take(row, columns.node(replica), places);
    }
  }
}

Result<local::CatalogImage> Blocks::Catalog(const Holder& holder) const {
  auto image = local::CatalogReader::Open(catalog_path(holder.first));
  if (image.ok() && image->identity.incarnation != holder.second) return Status(Code::kNotFound, "another incarnation");
  return image;
}

void Blocks::CheckFree(const Place& place, const Node& node, const std::string& key) {
  const std::string what = Describe(place) + " given for '" + key + "' ";
  std::erase_if(leases_, [&](const Lease& lease) { return lease.until <= scheduler_.now(); });
  for (const Lease& lease : leases_) {
    if (Overlap(lease.place, place)) {
      return violated_("leases", what + "are leased until " + std::to_string(lease.until / kMicro) + " us");
    }
  }
  for (const auto& [generation, pin] : pins_) {
    if (!Alive(pin.session)) continue;
    for (const Place& held : pin.places) {
      if (Overlap(held, place)) return violated_("leases", what + "are pinned by a session that lives");
    }
  }
  if (plane_.WriteUnderWay(place)) return violated_("fencing", what + "may still be written by an earlier writer");
  const auto catalog = Catalog({node.name, node.incarnation});
  if (!catalog.ok()) return;
  for (const auto& record : catalog->records) {
    for (const local::CatalogExtent& extent : record.extents) {
      const Place claimed{node.name, record.segment, record.epoch, extent.offset, extent.length};
      if (Overlap(claimed, place)) {
        return violated_("catalogs", what + "are still of '" + record.key + "' in the node's catalog");
      }
    }
  }
}

void Blocks::Given(const Place& place, const Node& node, const std::string& key, uint64_t session, uint64_t grant) {
  CheckFree(place, node, key);
  auto& units = units_[{place.node, place.segment, place.epoch}];
  const uint64_t end = (place.offset + place.length + kUnit - 1) / kUnit;
  if (units.size() < end) units.resize(end);
  for (uint64_t i = place.offset / kUnit; i < end; ++i) units[i] = {session, grant, false, key};
}

void Blocks::OnWrite(const Place& place, uint64_t session) {
  const auto it = units_.find({place.node, place.segment, place.epoch});
  for (uint64_t i = place.offset / kUnit; i * kUnit < place.offset + place.length; ++i) {
    const Unit unit = it == units_.end() || i >= it->second.size() ? Unit() : it->second[i];
    if (unit.session == session && !unit.committed) continue;
    violated_("fencing", "session " + std::to_string(session) + " writes " + Describe(place) + ", which " +
                             (unit.session == 0     ? std::string("nobody was given")
                              : unit.session == session ? "holds its committed value of '" + unit.key + "'"
                                                        : "is of session " + std::to_string(unit.session) +
                                                              " for '" + unit.key + "'"));
    return;
  }
}

// ---- calls --------------------------------------------------------------------------------------------------------

bool Blocks::Before(uint16_t method, MessageLite* request, MessageLite* reply) {
  RemoveMany(method);
  if (method == proto::kPutCommit.id) BeforeCommit(static_cast<const proto::PutCommitRequest&>(*request));
  if (method == proto::kJoin.id) join_numbers_[request] = static_cast<const proto::JoinRequest&>(*request).join();
  return mutation == Mutation::kNone || PlayTrick(method, request, reply);
}

bool Blocks::PlayTrick(uint16_t method, MessageLite* request, MessageLite* reply) {
  if (method == proto::kPutCommit.id && mutation == Mutation::kCommitNothing && Tricked(0.05)) {
    const auto& in = static_cast<const proto::PutCommitRequest&>(*request);
    for (int i = 0; i < in.grant_size(); ++i) static_cast<proto::PutCommitReply*>(reply)->add_status(0);
    return false;
  }
  if (mutation == Mutation::kForgetJoins) {
    if (method == proto::kJoin.id) static_cast<proto::JoinRequest*>(request)->clear_join();
    if (method == proto::kCatalogSync.id) static_cast<proto::CatalogSyncRequest*>(request)->clear_join();
    if (method == proto::kCatalogReport.id) static_cast<proto::CatalogReportRequest*>(request)->clear_join();
  }
  if (method != proto::kRemove.id) return true;
  auto& in = static_cast<proto::RemoveRequest&>(*request);
  auto* const answers = static_cast<proto::RemoveReply*>(reply)->mutable_status();
  const auto keys = proto::DecodeKeys(in.keys());
  if (mutation == Mutation::kForgetCalls) in.set_session(0);
  if (mutation == Mutation::kRemoveNothing && Tricked(0.2)) {
    answers->Resize(static_cast<int>(keys->size()), 0);
    return false;
  }
  if (mutation == Mutation::kAnswerEarly && state_ != nullptr && !state_->recovering()) {
    std::vector<Code> codes(keys->size());
    state_->Remove(*keys, codes, Clock::Real().Now());
    for (const Code code : codes) answers->Add(static_cast<uint32_t>(code));
    return false;
  }
  return true;
}

void Blocks::After(uint16_t method, const MessageLite& request, MessageLite* reply, const Status& status) {
  if (!status.ok() || state_ == nullptr) return;
  RemoveMany(method);
  switch (method) {
    case proto::kOpenSession.id:
      Heard(static_cast<proto::OpenSessionReply*>(reply)->session());
      break;
    case proto::kSessionHeartbeat.id:
      Heard(static_cast<const proto::SessionHeartbeatRequest&>(request).session());
      break;
    case proto::kCloseSession.id:
      heard_.erase(static_cast<const proto::CloseSessionRequest&>(request).session());
      break;
    case proto::kPutAbort.id: {
      const auto& abort = static_cast<const proto::PutAbortRequest&>(request);
      if (abort.unconfirmed()) heard_.erase(abort.session());
      break;
    }
    case proto::kPutStart.id:
      AfterPutStart(static_cast<const proto::PutStartRequest&>(request), *static_cast<proto::PutStartReply*>(reply));
      break;
    case proto::kPutCommit.id:
      Heard(static_cast<const proto::PutCommitRequest&>(request).session());
      break;
    case proto::kExists.id:
      AfterExists(static_cast<const proto::ExistsRequest&>(request), *static_cast<proto::ExistsReply*>(reply));
      break;
    case proto::kLookup.id:
      AfterLookup(static_cast<const proto::LookupRequest&>(request), static_cast<proto::LookupReply*>(reply));
      break;
    case proto::kUnpin.id:
      AfterUnpin(static_cast<const proto::UnpinRequest&>(request), *static_cast<proto::UnpinReply*>(reply));
      break;
    case proto::kJoin.id:
      AfterJoin(static_cast<const proto::JoinRequest&>(request), *static_cast<proto::JoinReply*>(reply));
      break;
    case proto::kCatalogSync.id:
      AfterSync(static_cast<const proto::CatalogSyncRequest&>(request), static_cast<proto::CatalogSyncReply*>(reply));
      break;
    default:
      break;
  }
}

// At the beginning and at the end of one. Which of its keys a node that is away holds nobody knows: what it brings back
// late is refused.
void Blocks::RemoveMany(uint16_t method) {
  if (method != proto::kRemoveAll.id && method != proto::kRemoveByPrefix.id) return;
  for (auto& [id, put] : history_.puts()) {
    for (const Holder& holder : put.holders) put.may_be_lost |= !IsMember(holder);
  }
}

void Blocks::AfterPutStart(const proto::PutStartRequest& request, const proto::PutStartReply& reply) {
  const auto keys = proto::DecodeKeys(request.keys());
  if (!keys.ok()) return;
  Heard(request.session());
  EachReplica(reply.replicas(), [&](int row, uint32_t node, const std::vector<Place>& places) {
    const std::string key((*keys)[static_cast<size_t>(row)]);
    Grant& grant = grants_[reply.grant(row)];
    if (grant.replicas.empty()) history_.Freed(key);
    grant.key = key;
    grant.session = request.session();
    const Node* const owner = FindNode(node);
    if (owner == nullptr) return;
    grant.replicas.push_back({{owner->name, owner->incarnation}, places});
    for (const Place& place : places) Given(place, *owner, key, request.session(), reply.grant(row));
  });
}

// A durable commit is visible long before it is answered.
void Blocks::BeforeCommit(const proto::PutCommitRequest& request) {
  for (int i = 0; i < request.grant_size(); ++i) {
    const auto found = grants_.find(request.grant(i));
    if (found == grants_.end() || i >= request.checksum_size()) continue;
    // Another meta service gives the same numbers.
    if (found->second.session != request.session()) continue;
    const uint32_t failed = request.failed_replicas_size() > i ? request.failed_replicas(i) : 0;
    PutRecord* put = history_.ByChecksum(request.checksum(i));
    if (put == nullptr) {
      violated_("bytes", "a commit of '" + found->second.key + "' has the checksum of nobody's value");
      continue;
    }
    put->committed = true;
    for (size_t r = 0; r < found->second.replicas.size(); ++r) {
      if ((failed >> r & 1) != 0) continue;
      const auto& [holder, places] = found->second.replicas[r];
      put->holders.insert(holder);
      for (const Place& place : places) {
        auto& units = units_[{place.node, place.segment, place.epoch}];
        for (uint64_t u = place.offset / kUnit; u * kUnit < place.offset + place.length; ++u) {
          const bool ours = u < units.size() && units[u].grant == request.grant(i);
          if (ours && units[u].session == request.session()) units[u].committed = true;
        }
      }
    }
  }
}

void Blocks::AfterExists(const proto::ExistsRequest& request, const proto::ExistsReply& reply) {
  const auto keys = proto::DecodeKeys(request.keys());
  for (size_t i = 0; keys.ok() && i < keys->size(); ++i) {
    if (reply.present()[i] == 0) history_.Miss(std::string((*keys)[i]));
  }
}

void Blocks::AfterLookup(const proto::LookupRequest& request, proto::LookupReply* reply) {
  if (request.session() != 0) Heard(request.session());
  const auto keys = proto::DecodeKeys(request.keys());
  for (size_t i = 0; keys.ok() && i < keys->size(); ++i) {
    if (CodeFromWire(reply->status(static_cast<int>(i))) == Code::kNotFound) history_.Miss(std::string((*keys)[i]));
  }
  std::map<uint64_t, std::vector<Place>> pinned;  // by generation
  EachReplica(reply->replicas(), [&](int row, uint32_t, const std::vector<Place>& places) {
    if (reply->status(row) != 0) return;
    // The state has looked at its clock a moment ago.
    const Nanos until = scheduler_.now() - 10 * kMicro + static_cast<Nanos>(reply->lease_ms()) * kMilli;
    for (const Place& place : places) {
      leases_.push_back({place, until});
      if (request.pin()) pinned[reply->generation(row)].push_back(place);
    }
  });
  for (auto& [generation, places] : pinned) pins_.emplace(generation, Pin{std::move(places), request.session()});
  if (mutation == Mutation::kLongLeases) reply->set_lease_ms(reply->lease_ms() * 30);
}

void Blocks::AfterUnpin(const proto::UnpinRequest& request, const proto::UnpinReply& reply) {
  Heard(request.session());
  for (int i = 0; i < reply.status_size(); ++i) {
    if (reply.status(i) != 0) continue;
    const auto [first, last] = pins_.equal_range(request.generation(i));
    // One of several of a session: which one makes no difference, but their places may.
    auto found = std::find_if(first, last, [&](const auto& pin) { return pin.second.session == request.session(); });
    if (found != last) pins_.erase(found);
  }
}

void Blocks::AfterJoin(const proto::JoinRequest& request, const proto::JoinReply& reply) {
  const auto number = join_numbers_.extract(&request);
  Joined& newest = joins_[request.name()];
  if (reply.newer_join() == 0 && number.mapped() > newest.number) {
    newest = {number.mapped(), request.incarnation(), {}};
    for (const auto& endpoint : request.endpoints()) newest.endpoints.push_back(endpoint.address());
  }
  uint64_t version = 0;
  for (const meta::NodeInfo& info : state_->Directory(TimePoint(), &version)) {
    if (info.name != request.name()) continue;
    std::vector<std::string> endpoints;
    for (const meta::EndpointInfo& endpoint : info.endpoints) endpoints.push_back(endpoint.address);
    if (info.incarnation == newest.incarnation && endpoints == newest.endpoints) return;
    violated_("joins", "node " + info.name + " is known by an older join than its newest, " +
                           std::to_string(newest.number));
  }
}

void Blocks::AfterSync(const proto::CatalogSyncRequest& request, proto::CatalogSyncReply* reply) {
  const Node* node = FindNode(request.node());
  for (const auto& result : request.copy_results()) {
    const auto copy = copies_.find(result.id());
    if (copy == copies_.end()) continue;
    PutRecord* put = history_.ByChecksum(copy->second);
    if (put != nullptr && node != nullptr) {
      put->holders.insert({node->name, node->incarnation});
      put->copied = true;
    }
  }
  if (mutation == Mutation::kLoseFences) reply->clear_fence_sessions();
  if (trace && node != nullptr) {
    for (const auto& record : reply->records()) {
      trace("to " + node->name + ": " + (record.op() == proto::CATALOG_FORGET ? "forget '" : "add '") + record.key() +
            "' generation " + std::to_string(record.generation()) + ", record " + std::to_string(record.seq()));
    }
  }
  for (const auto& command : reply->copies()) copies_[command.id()] = command.checksum();
  for (auto& record : *reply->mutable_records()) {
    const bool forget = record.op() == proto::CATALOG_FORGET;
    if (forget && mutation == Mutation::kForgetNothing) record.set_generation(record.generation() + (1ULL << 50));
    if (!forget && mutation == Mutation::kLoseRecords && Tricked(0.3)) {
      record.set_op(proto::CATALOG_FORGET);
      record.set_generation(record.generation() + (1ULL << 50));
    }
  }
}

void Blocks::MetaDied(bool durable, bool members) {
  std::map<Holder, std::set<uint64_t>> kept;  // checksums
  const bool on_their_way = state_ != nullptr && state_->figures().feed_records > 0;
  for (auto& [id, put] : history_.puts()) {
    if (!put.committed) continue;
    std::set<Holder> still;
    for (const Holder& holder : put.holders) {
      auto known = kept.find(holder);
      if (known == kept.end()) {
        known = kept.emplace(holder, std::set<uint64_t>()).first;
        const auto catalog = Catalog(holder);
        if (catalog.ok()) {
          for (const auto& record : catalog->records) known->second.insert(record.checksum);
        }
      }
      if (known->second.contains(put.checksum)) still.insert(holder);
    }
    // A record on its way reaches a catalog even now. What a durable removal was answered for is in none of those that
    // count for the next start; it has to know which do.
    if (!durable || !members) put.may_return |= !still.empty() || on_their_way;
    // What a durable commit answered OK is in the catalogs, or was removed.
    if (durable && put.outcome == Code::kOk && put.returned != Scheduler::kNever) continue;
    put.may_be_lost |= still.empty();
    put.holders = still;
  }
}

}  // namespace mmc::sim
