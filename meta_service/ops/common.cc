#include "meta_service/ops/common.h"

#include <algorithm>
#include <string>

namespace mmc::meta::ops {

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

void FillNode(const NodeInfo& info, proto::Node* out) {
  out->set_id(info.id);
  out->set_name(info.name);
  out->set_incarnation(info.incarnation);
  out->set_host_id(info.host_id);
  out->set_state(static_cast<proto::NodeState>(info.health));
  for (const EndpointInfo& endpoint : info.endpoints) {
    auto* to = out->add_endpoints();
    to->set_transport(endpoint.transport);
    to->set_address(endpoint.address);
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
                                   static_cast<size_t>(record.extent_length_size())}});
  }
  return records;
}

Status StillRecovering() {
  return Status(Code::kRecovering,
                "the meta service has started a moment ago and nodes still report what they hold: "
                "try again soon");
}

bool MissesAny(OpEnv& env, std::span<const std::string_view> keys) {
  std::vector<uint8_t> present(keys.size());
  env.state.Exists(keys, present.data());
  for (size_t i = 0; i < keys.size(); ++i) {
    if (present[i] == 0 && JudgeKey(keys[i]) == Code::kOk) return true;
  }
  return false;
}

TimePoint WaitLimit(const OpEnv& env, const Context& context) {
  const Duration left = context.deadline - Clock::Real().Now();
  const Duration margin = std::min<Duration>(std::chrono::milliseconds(100), left / 10);
  return env.clock.Now() + (left - margin);
}

}  // namespace mmc::meta::ops
