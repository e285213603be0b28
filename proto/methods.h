// The methods of the meta service: number (on the wire, never reused), name (in metrics), messages.
#pragma once

#include "common/rpc/method.h"
#include "proto/meta.pb.h"

namespace mmc::proto {

inline constexpr rpc::Method<OpenSessionRequest, OpenSessionReply> kOpenSession{1, "OpenSession"};
inline constexpr rpc::Method<SessionHeartbeatRequest, SessionHeartbeatReply> kSessionHeartbeat{2, "SessionHeartbeat"};
inline constexpr rpc::Method<CloseSessionRequest, Empty> kCloseSession{3, "CloseSession"};

inline constexpr rpc::Method<PutStartRequest, PutStartReply> kPutStart{10, "PutStart"};
inline constexpr rpc::Method<PutCommitRequest, PutCommitReply> kPutCommit{11, "PutCommit"};
inline constexpr rpc::Method<PutAbortRequest, PutAbortReply> kPutAbort{12, "PutAbort"};
inline constexpr rpc::Method<LookupRequest, LookupReply> kLookup{13, "Lookup"};
inline constexpr rpc::Method<UnpinRequest, UnpinReply> kUnpin{14, "Unpin"};
inline constexpr rpc::Method<LookupPrefixRequest, LookupPrefixReply> kLookupPrefix{15, "LookupPrefix"};
inline constexpr rpc::Method<ExistsRequest, ExistsReply> kExists{16, "Exists"};
inline constexpr rpc::Method<StatRequest, StatReply> kStat{17, "Stat"};
inline constexpr rpc::Method<RemoveRequest, RemoveReply> kRemove{18, "Remove"};
inline constexpr rpc::Method<RemoveAllRequest, RemoveManyReply> kRemoveAll{19, "RemoveAll"};
inline constexpr rpc::Method<RemoveByPrefixRequest, RemoveManyReply> kRemoveByPrefix{20, "RemoveByPrefix"};
inline constexpr rpc::Method<ListRequest, ListReply> kList{21, "List"};

inline constexpr rpc::Method<JoinRequest, JoinReply> kJoin{40, "Join"};
inline constexpr rpc::Method<NodeHeartbeatRequest, NodeHeartbeatReply> kNodeHeartbeat{41, "NodeHeartbeat"};
inline constexpr rpc::Method<NodeLeaveRequest, Empty> kNodeLeave{42, "NodeLeave"};
inline constexpr rpc::Method<CatalogSyncRequest, CatalogSyncReply> kCatalogSync{43, "CatalogSync"};
inline constexpr rpc::Method<ReportReplicaRequest, Empty> kReportReplica{44, "ReportReplica"};
inline constexpr rpc::Method<DirectoryRequest, DirectoryReply> kDirectory{45, "Directory"};
inline constexpr rpc::Method<ClusterStatusRequest, ClusterStatusReply> kClusterStatus{46, "ClusterStatus"};
inline constexpr rpc::Method<CatalogReportRequest, CatalogReportReply> kCatalogReport{47, "CatalogReport"};

inline constexpr rpc::Method<DrainRequest, Empty> kDrain{60, "Drain"};
inline constexpr rpc::Method<ScrubRequest, ScrubReply> kScrub{61, "Scrub"};
inline constexpr rpc::Method<ScrubStatusRequest, ScrubStatusReply> kScrubStatus{62, "ScrubStatus"};

}  // namespace mmc::proto
