#include "meta_service/ops/common.h"

#include <algorithm>
#include <string>

#include "fabric/address.h"
#include "meta_service/ops/admit.h"
#include "proto/key_list.h"

namespace mmc::meta::ops {

Result<std::string_view> TenantOf(const Context& context, const std::string& asked) {
  MMC_ASSIGN_OR_RETURN(const std::string_view wanted, TenantFrom(asked));
  if (!Authenticated(context)) return wanted;
  const security::Identity& caller = *context.identity;
  if (caller.role == security::Role::kAdmin && caller.tenant.empty()) return wanted;
  MMC_ASSIGN_OR_RETURN(const std::string_view own, TenantFrom(caller.tenant));
  if (asked.empty() || wanted == own) return own;
  return Status(Code::kPermission, "the certificate of '" + caller.subject + "' is of tenant '" +
                                       std::string(TenantShown(own)) + "', the call is for tenant '" +
                                       std::string(TenantShown(wanted)) + "'");
}

Status Keys::Take(const proto::KeyList& list, std::string_view tenant) {
  MMC_ASSIGN_OR_RETURN(given_, proto::DecodeKeys(list));
  MMC_RETURN_IF_ERROR(CheckBatch("keys", given_.size()));
  as_is_ = std::all_of(given_.begin(), given_.end(), [&](std::string_view key) { return StoredAsIs(tenant, key); });
  if (as_is_) return Status::Ok();
  data_.reserve(list.data().size() + given_.size() * (2 + tenant.size()));  // the views below stay good
  for (const std::string_view key : given_) {
    const size_t at = data_.size();
    AppendStoredKey(tenant, key, &data_);
    stored_.push_back(std::string_view(data_).substr(at));
  }
  return Status::Ok();
}

Status CheckBatch(const char* what, size_t count) {
  if (count <= kMaxBatch) return Status::Ok();
  return Status(Code::kTooLarge, std::to_string(count) + " " + what + " in one call, at most " +
                                     std::to_string(kMaxBatch) + " are taken: split the batch");
}

Status CheckSameLength(const char* what, size_t count, const char* than, size_t expected) {
  if (count == expected) return Status::Ok();
  return Status(Code::kInvalidArgument, std::to_string(count) + " " + what + " for " +
                                            std::to_string(expected) + " " + than +
                                            ": the lists must be of one length");
}

void FillStatus(std::span<const Code> codes, google::protobuf::RepeatedField<uint32_t>* out) {
  out->Reserve(static_cast<int>(codes.size()));
  for (Code code : codes) out->AddAlreadyReserved(static_cast<uint32_t>(code));
}

bool OnlyReads(const OpEnv& env, const Context& context) {
  return Authenticated(context) && !env.access.Allows(context.identity->role, proto::kPutStart.id);
}

void FillNode(const NodeInfo& info, bool only_reads, proto::Node* out) {
  out->set_id(info.id);
  out->set_name(info.name);
  out->set_incarnation(info.incarnation);
  out->set_host_id(info.host_id);
  out->set_state(static_cast<proto::NodeState>(info.health));
  for (const EndpointInfo& endpoint : info.endpoints) {
    auto* to = out->add_endpoints();
    to->set_transport(endpoint.transport);
    const bool mapped = only_reads && endpoint.transport == "shm";
    to->set_address(mapped ? fabric::ReaderAddress(endpoint.address) : endpoint.address);
  }
  for (const SegmentInfo& segment : info.segments) {
    auto* to = out->add_segments();
    to->set_id(segment.id);
    to->set_epoch(segment.epoch);
    to->set_medium(static_cast<proto::Medium>(segment.medium));
    to->set_size(segment.size);
    to->set_numa_node(segment.numa_node);
  }
  for (uint64_t used : info.used_bytes) out->add_used_bytes(used);
  out->set_objects(info.objects);
  out->set_drain_left_objects(info.drain_left_objects);
  out->set_drain_left_bytes(info.drain_left_bytes);
  out->set_silent_ms(std::chrono::duration_cast<std::chrono::milliseconds>(info.silent).count());
}

std::vector<ReportedRecord> ReportedRecords(const proto::CatalogReportRequest& request) {
  std::vector<ReportedRecord> records;
  records.reserve(request.records_size());
  for (const auto& record : request.records()) {
    records.push_back({.key = record.key(),
                       .segment = record.segment(),
                       .generation = record.generation(),
                       .size = record.size(),
                       .checksum = record.checksum(),
                       .replicas = record.replicas(),
                       .offsets = {record.extent_offset().data(),
                                   static_cast<size_t>(record.extent_offset_size())},
                       .lengths = {record.extent_length().data(),
                                   static_cast<size_t>(record.extent_length_size())},
                       .hard_pinned = record.hard_pinned()});
  }
  return records;
}

Status StillRecovering() {
  return Status(Code::kRecovering,
                "the meta service has started a moment ago and nodes still report what they hold: "
                "try again soon");
}

bool MissesAny(OpEnv& env, const Keys& keys) {
  std::vector<uint8_t> present(keys.size());
  env.state.Exists(keys.stored(), present.data());
  for (size_t i = 0; i < keys.size(); ++i) {
    if (present[i] == 0 && JudgeKey(keys.given()[i]) == Code::kOk) return true;
  }
  return false;
}

TimePoint WaitLimit(const OpEnv& env, const Context& context) {
  const Duration left = context.deadline - Clock::Real().Now();
  const Duration margin = std::min<Duration>(std::chrono::milliseconds(100), left / 10);
  return env.clock.Now() + (left - margin);
}

}  // namespace mmc::meta::ops
