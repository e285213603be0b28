// The calls that are one question to the meta service.
#include <algorithm>

#include "client_sdk/src/client_impl.h"
#include "proto/key_list.h"
#include "proto/names.h"

namespace mmc {
namespace {

using client::CheckBatch;
using client::CheckKey;

// Keys for a call that has no status per key: one wrong key fails the call.
Status EncodeAll(std::span<const std::string_view> keys, proto::KeyList* out) {
  MMC_RETURN_IF_ERROR(CheckBatch(keys.size()));
  for (size_t i = 0; i < keys.size(); ++i) {
    MMC_RETURN_IF_ERROR(CheckKey(keys[i]).Annotate("key " + std::to_string(i)));
  }
  proto::EncodeKeys(keys, out);
  return Status::Ok();
}

// The good keys for a call with a status per key; the wrong ones have theirs afterwards.
std::vector<uint32_t> EncodeGood(std::span<const std::string_view> keys,
                                 std::vector<Status>* statuses, proto::KeyList* out) {
  std::vector<uint32_t> good;
  statuses->resize(keys.size());
  for (uint32_t i = 0; i < keys.size(); ++i) {
    (*statuses)[i] = CheckKey(keys[i]);
    if (!(*statuses)[i].ok()) continue;
    good.push_back(i);
    proto::AppendKey(keys[i], out);
  }
  return good;
}

Status StatusOf(uint32_t wire) {
  const Code code = CodeFromWire(wire);
  return code == Code::kOk ? Status::Ok() : Status(code, std::string(CodeMeaning(code)));
}

// A removal whose answer was lost is asked for again, by the same session and number as long as the service knows them:
// then it takes nothing that was put after one of the attempts was answered, in whatever order they get there. One that
// it does not know any more is not carried out late either.
template <typename M>
Status CallAgain(client::Session& session, const M& method, typename M::Request* request, typename M::Reply* reply,
                 TimePoint deadline, bool* again) {
  client::Backoff backoff;
  auto opened = session.current();
  request->set_session(opened->id);
  request->set_call(session.NextRemoval());
  while (true) {
    Status status = session.Call(method, *request, reply, deadline, client::OnLostAnswer::kReport);
    if (status.code() == Code::kSessionLost) {
      MMC_RETURN_IF_ERROR(session.Reopen(*opened, deadline));
      opened = session.current();
      request->set_session(opened->id);
    } else if (status.code() == Code::kCancelled) {
      request->set_call(session.NextRemoval());
    } else if (status.recovery() == Recovery::kAskOutcome) {
      *again = true;
    } else {
      return status;
    }
    if (!session.Pause(backoff.Next(), deadline)) return status;
    reply->Clear();
  }
}

NodeInfo NodeInfoOf(const proto::Node& node) {
  NodeInfo out;
  out.name = node.name();
  out.state = proto::NodeStateName(node.state());
  out.host_id = node.host_id();
  for (const proto::Endpoint& endpoint : node.endpoints()) {
    out.endpoints.push_back(endpoint.transport() + " " + endpoint.address());
  }
  for (const proto::Segment& segment : node.segments()) out.capacity_bytes += segment.size();
  for (const uint64_t used : node.used_bytes()) out.used_bytes += used;
  out.objects = node.objects();
  out.silent_ms = node.silent_ms();
  out.drain_left_objects = node.drain_left_objects();
  out.drain_left_bytes = node.drain_left_bytes();
  const bool empty = out.drain_left_objects == 0 && out.drain_left_bytes == 0;
  if (node.state() == proto::NODE_DRAINING && empty) out.state = "drained";
  return out;
}

TenantUse TenantUseOf(const proto::TenantUse& tenant) {
  return {.name = tenant.name(),
          .objects = tenant.objects(),
          .value_bytes = tenant.value_bytes(),
          .used_bytes = tenant.used_bytes(),
          .waiting_to_free_bytes = tenant.waiting_bytes(),
          .quota_bytes = tenant.quota_bytes(),
          .sessions = tenant.sessions(),
          .grants = tenant.grants(),
          .pins = tenant.pins(),
          .evicted_objects = tenant.evicted_objects(),
          .evicted_bytes = tenant.evicted_bytes()};
}

ReplicaInfo ReplicaInfoOf(const client::Location& location, const client::Replica& replica,
                          const client::Directory& directory) {
  ReplicaInfo out;
  const client::DirectoryNode* node = directory.Find(replica.node);
  out.node = node == nullptr ? "node " + std::to_string(replica.node) : node->name;
  out.medium = node == nullptr ? "unknown" : proto::MediumName(node->MediumOf(replica.region.segment));
  out.bytes = location.size;
  out.extents = replica.extent_count;
  return out;
}

}  // namespace

Result<std::vector<uint8_t>> ClientImpl::Exists(std::span<const std::string_view> keys,
                                                const ExistsOptions& options) {
  std::vector<uint8_t> present(keys.size());
  if (keys.empty()) return present;
  proto::ExistsRequest request;
  request.set_tenant(core_->options.tenant);
  MMC_RETURN_IF_ERROR(EncodeAll(keys, request.mutable_keys()));
  if (options.lease.has_value()) {
    request.set_lease(true);
    request.set_lease_ms(static_cast<uint64_t>(std::max<int64_t>(0, options.lease->count())));
  }
  proto::ExistsReply reply;
  MMC_RETURN_IF_ERROR(
      core_->session->Call(proto::kExists, request, &reply, core_->DeadlineFor(options.timeout)));
  if (reply.present().size() != keys.size()) {
    return Status(Code::kMalformed, "reply to Exists: not one answer per key");
  }
  for (size_t i = 0; i < keys.size(); ++i) present[i] = reply.present()[i] != 0 ? 1 : 0;
  return present;
}

Result<uint32_t> ClientImpl::Prefix(std::span<const std::string_view> keys) {
  if (keys.empty()) return 0U;
  proto::LookupPrefixRequest request;
  request.set_tenant(core_->options.tenant);
  MMC_RETURN_IF_ERROR(EncodeAll(keys, request.mutable_keys()));
  proto::LookupPrefixReply reply;
  MMC_RETURN_IF_ERROR(
      core_->session->Call(proto::kLookupPrefix, request, &reply, core_->DeadlineFor({})));
  if (reply.present() > keys.size()) {
    return Status(Code::kMalformed,
                  "reply to LookupPrefix: more keys are present than were asked for");
  }
  return reply.present();
}

Result<std::vector<ObjectInfo>> ClientImpl::Stat(std::span<const std::string_view> keys) {
  MMC_RETURN_IF_ERROR(CheckBatch(keys.size()));
  const TimePoint deadline = core_->DeadlineFor({});
  std::vector<ObjectInfo> out(keys.size());
  std::vector<Status> statuses;
  proto::StatRequest request;
  request.set_tenant(core_->options.tenant);
  const std::vector<uint32_t> good = EncodeGood(keys, &statuses, request.mutable_keys());
  for (size_t i = 0; i < keys.size(); ++i) out[i].status = statuses[i];
  if (good.empty()) return out;
  client::Backoff backoff;
  while (true) {
    const auto opened = core_->session->current();
    const Status asked = StatOnce(*opened, request, good, deadline, &out);
    if (asked.code() == Code::kSessionLost) {
      MMC_RETURN_IF_ERROR(core_->session->Reopen(*opened, deadline));
    } else {
      MMC_RETURN_IF_ERROR(asked);
      const bool all_known = std::none_of(good.begin(), good.end(), [&](uint32_t i) {
        return out[i].status.code() == Code::kRecovering;
      });
      if (all_known) return out;
    }
    // What is still unknown at the deadline says so itself.
    if (!core_->session->Pause(backoff.Next(), deadline)) return out;
  }
}

Status ClientImpl::StatOnce(const client::OpenedSession& opened, const proto::StatRequest& request,
                            const std::vector<uint32_t>& good, TimePoint deadline,
                            std::vector<ObjectInfo>* out) {
  proto::StatReply reply;
  MMC_RETURN_IF_ERROR(core_->session->Call(proto::kStat, request, &reply, deadline));
  const int n = static_cast<int>(good.size());
  if (reply.status_size() != n || reply.size_size() != n || reply.generation_size() != n ||
      reply.checksum_size() != n || reply.lease_left_ms_size() != n || reply.pins_size() != n) {
    return Status(Code::kMalformed, "reply to Stat: not one row per key");
  }
  client::ReplicaReader reader(reply.replicas());
  MMC_ASSIGN_OR_RETURN(auto directory, core_->session->DirectoryAt(opened, 0, deadline));
  for (int at = 0; at < n; ++at) {
    ObjectInfo& info = (*out)[good[static_cast<size_t>(at)]];
    info = ObjectInfo();
    info.status = StatusOf(reply.status(at));
    client::Location location;
    location.size = info.status.ok() ? reply.size(at) : 0;
    MMC_RETURN_IF_ERROR(reader.Next(location.size, &location));
    if (!info.status.ok()) continue;
    info.size = reply.size(at);
    info.generation = reply.generation(at);
    info.checksum = reply.checksum(at);
    info.lease_left = std::chrono::milliseconds(reply.lease_left_ms(at));
    info.pins = reply.pins(at);
    for (const client::Replica& replica : location.replicas) {
      if (directory->Find(replica.node) == nullptr) {
        MMC_ASSIGN_OR_RETURN(directory,
                             core_->session->DirectoryAt(opened, directory->version + 1, deadline));
      }
      info.replicas.push_back(ReplicaInfoOf(location, replica, *directory));
    }
  }
  return Status::Ok();
}

Result<std::vector<Status>> ClientImpl::Remove(std::span<const std::string_view> keys) {
  MMC_RETURN_IF_ERROR(CheckBatch(keys.size()));
  std::vector<Status> statuses;
  proto::RemoveRequest request;
  request.set_tenant(core_->options.tenant);
  const std::vector<uint32_t> good = EncodeGood(keys, &statuses, request.mutable_keys());
  if (good.empty()) return statuses;
  if (core_->cache != nullptr) {
    for (const uint32_t i : good) core_->cache->Drop(keys[i]);
  }
  proto::RemoveReply reply;
  bool again = false;
  MMC_RETURN_IF_ERROR(
      CallAgain(*core_->session, proto::kRemove, &request, &reply, core_->DeadlineFor({}), &again));
  if (reply.status_size() != static_cast<int>(good.size())) {
    return Status(Code::kMalformed, "reply to Remove: not one status per key");
  }
  for (size_t at = 0; at < good.size(); ++at) {
    Status& status = statuses[good[at]];
    status = StatusOf(reply.status(static_cast<int>(at)));
    // Gone by now: the call whose answer was lost may have done it.
    if (again && status.code() == Code::kNotFound) status = Status::Ok();
  }
  return statuses;
}

Result<uint64_t> ClientImpl::RemoveByPrefix(std::string_view prefix) {
  if (prefix.empty()) {
    return Status(Code::kInvalidArgument,
                  "the prefix is empty: that would remove everything; RemoveAll does that");
  }
  if (core_->cache != nullptr) core_->cache->Clear();
  proto::RemoveByPrefixRequest request;
  request.set_tenant(core_->options.tenant);
  request.set_prefix(std::string(prefix));
  proto::RemoveManyReply reply;
  bool again = false;
  MMC_RETURN_IF_ERROR(CallAgain(*core_->session, proto::kRemoveByPrefix, &request, &reply,
                                core_->DeadlineFor({}), &again));
  return reply.removed();
}

Result<uint64_t> ClientImpl::RemoveAll() {
  if (core_->cache != nullptr) core_->cache->Clear();
  proto::RemoveAllRequest request;
  request.set_tenant(core_->options.tenant);
  proto::RemoveManyReply reply;
  bool again = false;
  MMC_RETURN_IF_ERROR(CallAgain(*core_->session, proto::kRemoveAll, &request, &reply,
                                core_->DeadlineFor({}), &again));
  return reply.removed();
}

Result<ListPage> ClientImpl::List(std::string_view prefix, std::string_view page_token,
                                  uint32_t limit) {
  proto::ListRequest request;
  request.set_tenant(core_->options.tenant);
  request.set_prefix(std::string(prefix));
  request.set_page_token(std::string(page_token));
  request.set_limit(limit);
  proto::ListReply reply;
  MMC_RETURN_IF_ERROR(core_->session->Call(proto::kList, request, &reply, core_->DeadlineFor({})));
  MMC_ASSIGN_OR_RETURN(const auto keys, proto::DecodeKeys(reply.keys()));
  if (reply.size_size() != static_cast<int>(keys.size())) {
    return Status(Code::kMalformed, "reply to List: not one size per key");
  }
  ListPage page;
  page.keys.assign(keys.begin(), keys.end());
  page.sizes.assign(reply.size().begin(), reply.size().end());
  page.next_page_token = reply.next_page_token();
  return page;
}

Result<ClusterStatus> ClientImpl::Cluster() {
  proto::ClusterStatusReply reply;
  MMC_RETURN_IF_ERROR(core_->session->Call(proto::kClusterStatus, proto::ClusterStatusRequest(),
                                           &reply, core_->DeadlineFor({})));
  ClusterStatus out;
  out.version = reply.version();
  out.term = reply.term();
  out.uptime_ms = reply.uptime_ms();
  out.objects = reply.objects();
  out.value_bytes = reply.value_bytes();
  out.capacity_bytes = reply.capacity_bytes();
  out.used_bytes = reply.used_bytes();
  out.sessions = reply.sessions();
  out.grants = reply.grants();
  out.pins = reply.pins();
  out.waiting_to_free_bytes = reply.waiting_to_free_bytes();
  out.lookups_hit = reply.lookups_hit();
  out.lookups_missed = reply.lookups_missed();
  out.evicted_objects = reply.evicted_objects();
  out.evicted_bytes = reply.evicted_bytes();
  out.puts = reply.puts();
  out.gets = reply.gets();
  out.removes = reply.removes();
  out.evict_threshold_high = reply.evict_threshold_high();
  out.evict_threshold_low = reply.evict_threshold_low();
  out.recovering = reply.recovering();
  out.under_replicated = reply.under_replicated();
  out.soft_pinned = reply.soft_pinned();
  out.hard_pinned = reply.hard_pinned();
  out.copies_in_flight = reply.copies_in_flight();
  for (const proto::Node& node : reply.nodes()) out.nodes.push_back(NodeInfoOf(node));
  for (const proto::TenantUse& tenant : reply.tenants()) out.tenants.push_back(TenantUseOf(tenant));
  return out;
}

}  // namespace mmc
