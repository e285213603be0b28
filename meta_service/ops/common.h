// What several methods share: whose keys a call names, judging keys and list lengths, replicas as
// columns, deadlines on the service's clock.
//
// Thread safety: pure functions; a Keys belongs to one call. Ownership: Keys points into its request.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/limits.h"
#include "meta_service/ops/ops.h"
#include "proto/types.pb.h"

namespace mmc::meta::ops {

// kOk, kInvalidArgument (empty), kTooLarge.
inline Code JudgeKey(std::string_view key) {
  if (key.empty()) return Code::kInvalidArgument;
  return key.size() > kMaxKeyBytes ? Code::kTooLarge : Code::kOk;
}

// The tenant whose keys the call names: that of the caller's certificate, or, where none speaks for the caller, the
// one asked for; an admin whose certificate names no tenant may ask for any. Errors: kInvalidArgument (no tenant's
// name), kPermission (another one's).
Result<std::string_view> TenantOf(const Context& context, const std::string& asked);

// The keys of a request, and what they are called in the tables.
class Keys {
 public:
  // Errors: those of DecodeKeys, kTooLarge.
  Status Take(const proto::KeyList& list, std::string_view tenant);
  size_t size() const { return given_.size(); }
  // As the caller has them: what is judged, and what goes into messages.
  std::span<const std::string_view> given() const { return given_; }
  // For the state. REQUIRES: a key that is not of a proper length is not put.
  std::span<const std::string_view> stored() const { return as_is_ ? given_ : stored_; }

 private:
  bool as_is_ = true;
  std::vector<std::string_view> given_, stored_;
  std::string data_;
};

// Errors: kTooLarge (more than kMaxBatch of them).
Status CheckBatch(const char* what, size_t count);
// Errors: kInvalidArgument.
Status CheckSameLength(const char* what, size_t count, const char* than, size_t expected);

// The replicas of all rows, in row order.
template <typename Row>
void FillReplicas(std::span<const Row> rows, const Views& views, proto::ReplicaColumns* out) {
  auto* counts = out->mutable_replica_counts();
  counts->Reserve(static_cast<int>(rows.size()));
  out->mutable_node()->Reserve(static_cast<int>(views.replicas.size()));
  out->mutable_segment()->Reserve(static_cast<int>(views.replicas.size()));
  out->mutable_epoch()->Reserve(static_cast<int>(views.replicas.size()));
  out->mutable_extent_counts()->Reserve(static_cast<int>(views.replicas.size()));
  out->mutable_extent_offset()->Reserve(static_cast<int>(views.extents.size()));
  out->mutable_extent_length()->Reserve(static_cast<int>(views.extents.size()));
  for (const Row& row : rows) {
    counts->AddAlreadyReserved(row.replicas);
    for (uint32_t r = row.first_replica; r < row.first_replica + row.replicas; ++r) {
      const ReplicaView& replica = views.replicas[r];
      out->mutable_node()->AddAlreadyReserved(replica.node);
      out->mutable_segment()->AddAlreadyReserved(replica.segment);
      out->mutable_epoch()->AddAlreadyReserved(replica.epoch);
      out->mutable_extent_counts()->AddAlreadyReserved(replica.extents);
      for (uint32_t e = replica.first_extent; e < replica.first_extent + replica.extents; ++e) {
        out->mutable_extent_offset()->AddAlreadyReserved(views.extents[e].offset);
        out->mutable_extent_length()->AddAlreadyReserved(views.extents[e].length);
      }
    }
  }
}

void FillStatus(std::span<const Code> codes, google::protobuf::RepeatedField<uint32_t>* out);
// Whoever may not put gets memory of its host for reading only: its addresses say so.
bool OnlyReads(const OpEnv& env, const Context& context);
void FillNode(const NodeInfo& info, bool only_reads, proto::Node* out);

// What a node's poll says of copies and checks it was asked for, and what it is asked for now.
// TakeWork answers true when some of that is new.
Status TakeResults(OpEnv& env, const proto::CatalogSyncRequest& request);
bool TakeWork(OpEnv& env, const proto::CatalogSyncRequest& request, proto::CatalogSyncReply* reply);
// A bad replica that a client reports by key and generation is dropped.
Status DropReported(OpEnv& env, const Context& context, const proto::ReportReplicaRequest& request);

// Views into the request.
std::vector<ReportedRecord> ReportedRecords(const proto::CatalogReportRequest& request);

// Why a call cannot be answered before all nodes have reported what they hold.
Status StillRecovering();
// Some key of a proper length is not among those that are there.
bool MissesAny(OpEnv& env, const Keys& keys);

// Until the catalogs have acknowledged all of it. Errors: kDeadline, which says what was `done` and what to do then.
Awaitable<Status> AwaitAcks(OpEnv& env, Context context, std::vector<AckWait> waits, const char* done,
                            const char* remedy);

// The call's deadline, a little early so that the answer gets there in time, on the service's
// clock.
TimePoint WaitLimit(const OpEnv& env, const Context& context);

}  // namespace mmc::meta::ops
