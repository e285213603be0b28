// The RPC surface of the meta service: one function per method, one file per rule. Each checks what
// came over the wire, asks the state, and fills the reply.
//
// Rules that hold for all: lists that belong together have one length (else kInvalidArgument for
// the call); at most kMaxBatch keys (kTooLarge); a key has 1..kMaxKeyBytes bytes and a
// value 1..kMaxValueBytes, each judged per key.
//
// Keys are those of the caller's tenant (TenantOf in common.h): in the tables they have its name in front
// (state/stored_key.h), in requests and replies they have not.
//
// Before each handler, in one place (admit.h): may the caller call the method, with this session, for this node?
//
// While the meta service recovers, rows of keys that are not there say kRecovering; a call without
// rows, of which the answer could change with what is still to be reported, fails with kRecovering.
//
// Thread safety: any thread. Ownership: OpEnv outlives the server it is registered with.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <string>
#include <vector>

#include "common/base/clock.h"
#include "common/base/status.h"
#include "common/rpc/server.h"
#include "meta_service/access.h"
#include "meta_service/mover/scrubs.h"
#include "meta_service/ops/tickets.h"
#include "meta_service/ops/waiters.h"
#include "meta_service/options.h"
#include "meta_service/state/meta_state.h"
#include "proto/methods.h"

namespace mmc::meta {

class MembersWriter;

struct OpEnv {
  MetaState& state;
  Waiters& waiters;
  Mover& mover;
  Scrubs& scrubs;
  const MetaOptions& options;
  const AccessTable& access;
  Clock& clock;
  MembersWriter* members = nullptr;  // null: no file is kept
  uint64_t term = 1;
  TimePoint started;
  Tickets tickets{};
};

// All methods of proto/methods.h.
void RegisterOps(OpEnv& env, rpc::Server& server);

namespace ops {

using Context = rpc::CallContext;
template <typename T>
using Awaitable = boost::asio::awaitable<T>;

Status OpenSession(OpEnv&, const Context&, const proto::OpenSessionRequest&, proto::OpenSessionReply*);
Status SessionHeartbeat(OpEnv&, const Context&, const proto::SessionHeartbeatRequest&,
                        proto::SessionHeartbeatReply*);
Status CloseSession(OpEnv&, const Context&, const proto::CloseSessionRequest&, proto::Empty*);

// Waits for space or for another writer, up to the deadline, as long as the call holds no grant
// (meta_service.h).
Awaitable<Status> PutStart(OpEnv&, Context, const proto::PutStartRequest&, proto::PutStartReply*);
// One attempt, without waiting.
Status PutStartNow(OpEnv&, const Context&, const proto::PutStartRequest&, proto::PutStartReply*);
Status PutCommit(OpEnv&, const Context&, const proto::PutCommitRequest&, proto::PutCommitReply*);
// Answers after every owner's catalog has what was committed; kDeadline when one has it not in time
// (ask with Stat).
Awaitable<Status> PutCommitDurable(OpEnv&, Context, const proto::PutCommitRequest&,
                                   proto::PutCommitReply*);
Status PutAbort(OpEnv&, const Context&, const proto::PutAbortRequest&, proto::PutAbortReply*);

Status Lookup(OpEnv&, const Context&, const proto::LookupRequest&, proto::LookupReply*);
Status Unpin(OpEnv&, const Context&, const proto::UnpinRequest&, proto::UnpinReply*);
Status LookupPrefix(OpEnv&, const Context&, const proto::LookupPrefixRequest&, proto::LookupPrefixReply*);
Status Exists(OpEnv&, const Context&, const proto::ExistsRequest&, proto::ExistsReply*);
Status Stat(OpEnv&, const Context&, const proto::StatRequest&, proto::StatReply*);
// The same with durable commits: does not vouch for what no catalog has, when it is asked so.
Awaitable<Status> StatDurable(OpEnv&, Context, const proto::StatRequest&, proto::StatReply*);

Status Remove(OpEnv&, const Context&, const proto::RemoveRequest&, proto::RemoveReply*);
// Answers after every catalog has forgotten the keys, as do the two below with durable commits; kDeadline when one has
// not in time.
Awaitable<Status> RemoveDurable(OpEnv&, Context, const proto::RemoveRequest&, proto::RemoveReply*);
Awaitable<Status> RemoveAll(OpEnv&, Context, const proto::RemoveAllRequest&,
                            proto::RemoveManyReply*);
Awaitable<Status> RemoveByPrefix(OpEnv&, Context, const proto::RemoveByPrefixRequest&,
                                 proto::RemoveManyReply*);
// A page may be short, even empty, before the last one: the token says whether there is more.
Status List(OpEnv&, const Context&, const proto::ListRequest&, proto::ListReply*);

Status Join(OpEnv&, const Context&, const proto::JoinRequest&, proto::JoinReply*);
Status NodeHeartbeat(OpEnv&, const Context&, const proto::NodeHeartbeatRequest&, proto::NodeHeartbeatReply*);
Status NodeLeave(OpEnv&, const Context&, const proto::NodeLeaveRequest&, proto::Empty*);
Awaitable<Status> CatalogSync(OpEnv&, Context, const proto::CatalogSyncRequest&,
                              proto::CatalogSyncReply*);
Awaitable<Status> CatalogReport(OpEnv&, Context, const proto::CatalogReportRequest&,
                                proto::CatalogReportReply*);
Status ReportReplica(OpEnv&, const Context&, const proto::ReportReplicaRequest&, proto::Empty*);
Status Drain(OpEnv&, const Context&, const proto::DrainRequest&, proto::Empty*);
Status Scrub(OpEnv&, const Context&, const proto::ScrubRequest&, proto::ScrubReply*);
Status ScrubStatus(OpEnv&, const Context&, const proto::ScrubStatusRequest&, proto::ScrubStatusReply*);
Status Directory(OpEnv&, const Context&, const proto::DirectoryRequest&, proto::DirectoryReply*);
Status ClusterStatus(OpEnv&, const Context&, const proto::ClusterStatusRequest&, proto::ClusterStatusReply*);

}  // namespace ops
}  // namespace mmc::meta
