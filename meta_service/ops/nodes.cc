// Join, NodeHeartbeat, NodeLeave, ReportReplica, Directory.
#include <algorithm>
#include <set>
#include <string>

#include "common/base/bytes.h"
#include "meta_service/background/members_file.h"
#include "meta_service/ops/common.h"

namespace mmc::meta::ops {

namespace {

constexpr int kMaxSegments = 64;
constexpr int kMaxEndpoints = 16;
constexpr size_t kMaxTextBytes = 1024;

Status Wrong(const std::string& what) { return Status(Code::kInvalidArgument, what); }

Status CheckJoin(const proto::JoinRequest& request) {
  if (request.name().empty() || request.name().size() > kMaxNodeNameBytes) {
    return Wrong("a node's name has 1..255 bytes");
  }
  if (request.incarnation() == 0) return Wrong("incarnation 0 is not possible");
  if (request.host_id().size() > kMaxTextBytes) return Wrong("host_id has at most 1024 bytes");
  if (request.endpoints_size() > kMaxEndpoints) return Wrong("a node has at most 16 endpoints");
  for (const auto& endpoint : request.endpoints()) {
    if (endpoint.transport().empty() || endpoint.transport().size() > kMaxTextBytes ||
        endpoint.address().empty() || endpoint.address().size() > kMaxTextBytes) {
      return Wrong("an endpoint's transport and address have 1..1024 bytes each");
    }
  }
  if (request.segments_size() > kMaxSegments) return Wrong("a node has at most 64 segments");
  std::set<uint32_t> ids;
  for (const auto& segment : request.segments()) {
    const std::string name = "segment " + std::to_string(segment.id());
    if (segment.id() == 0 || !ids.insert(segment.id()).second)
      return Wrong(name + ": ids are from 1 on, each once");
    if (segment.medium() < 0 || segment.medium() >= kMediums)
      return Wrong(name + ": unknown medium");
    if (segment.size() == 0 || segment.size() > kMaxSegmentBytes ||
        !IsAligned(segment.size(), kSegmentAlignment)) {
      return Wrong(name + ": size " + std::to_string(segment.size()) +
                   " is not a multiple of 2 MiB in 2 MiB..1 TiB");
    }
  }
  return Status::Ok();
}

}  // namespace

Status Join(OpEnv& env, const Context&, const proto::JoinRequest& request, proto::JoinReply* reply) {
  MMC_RETURN_IF_ERROR(CheckJoin(request));
  JoinSpec spec{.name = request.name(),
                .incarnation = request.incarnation(),
                .host_id = request.host_id(),
                .acked_seq = request.acked_seq(),
                .keeps_memory = request.keeps_memory(),
                .must_resume = request.must_resume(),
                .wants_tickets = request.wants_tickets(),
                .join = request.join()};
  for (const auto& endpoint : request.endpoints())
    spec.endpoints.push_back({endpoint.transport(), endpoint.address()});
  for (const auto& segment : request.segments()) {
    spec.segments.push_back({segment.id(), segment.epoch(), static_cast<Medium>(segment.medium()),
                             segment.size(), segment.numa_node()});
  }
  MMC_ASSIGN_OR_RETURN(const Joined joined, env.state.Join(spec, env.clock.Now()));
  if (joined.newer_join != 0) {
    reply->set_newer_join(joined.newer_join);
    return Status::Ok();
  }
  // Before the node knows that it is a member: from here on objects may lie there that a restart has to wait for.
  if (env.members != nullptr) env.members->Save();
  reply->set_node(joined.node);
  reply->set_term(env.term);
  reply->set_heartbeat_ms(env.options.heartbeat.count());
  reply->set_grace_ms(env.options.node_grace.count());
  reply->set_resumed(joined.resumed);
  reply->set_want_catalog(joined.want_catalog);
  reply->set_first_session(env.state.options().id_base);
  const bool tickets = request.wants_tickets();
  const fabric::TicketKey key = env.tickets.Enlist(joined.node, request.name(), request.incarnation(), tickets);
  if (tickets) reply->set_ticket_key(key.data(), key.size());
  reply->set_clock_ms(Tickets::ClockMs(env.clock.Now()));
  return Status::Ok();
}

Status NodeHeartbeat(OpEnv& env, const Context&, const proto::NodeHeartbeatRequest& request,
                     proto::NodeHeartbeatReply* reply) {
  MMC_ASSIGN_OR_RETURN(
      const NodeHealth health,
      env.state.NodeHeartbeat(request.node(), request.incarnation(), env.clock.Now()));
  reply->set_state(static_cast<proto::NodeState>(health));
  reply->set_term(env.term);
  reply->set_clock_ms(Tickets::ClockMs(env.clock.Now()));
  return Status::Ok();
}

Status NodeLeave(OpEnv& env, const Context&, const proto::NodeLeaveRequest& request, proto::Empty*) {
  return env.state.NodeLeave(request.node(), request.incarnation(), env.clock.Now());
}

Status ReportReplica(OpEnv& env, const Context& context, const proto::ReportReplicaRequest& request, proto::Empty*) {
  MMC_RETURN_IF_ERROR(env.state.ReportReplica(request.session(), request.node(),
                                              CodeFromWire(request.status()), env.clock.Now()));
  return DropReported(env, context, request);
}

Status Directory(OpEnv& env, const Context& context, const proto::DirectoryRequest&, proto::DirectoryReply* reply) {
  uint64_t version = 0;
  for (const NodeInfo& node : env.state.Directory(env.clock.Now(), &version))
    FillNode(node, OnlyReads(env, context), reply->add_nodes());
  reply->set_version(version);
  reply->set_term(env.term);
  return Status::Ok();
}

}  // namespace mmc::meta::ops
