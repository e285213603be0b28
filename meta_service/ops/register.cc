// Which function serves which method.
#include <utility>

#include <glog/logging.h>

#include "meta_service/ops/admit.h"
#include "meta_service/ops/ops.h"

namespace mmc::meta {

namespace {

template <typename Req, typename Rep>
void Sync(OpEnv& env, rpc::Server& server, const rpc::Method<Req, Rep>& method,
          Status (*op)(OpEnv&, const ops::Context&, const Req&, Rep*)) {
  CHECK(env.access.Knows(method.id)) << method.name << " is in no table of access";
  server.Handle(method, [&env, op, id = method.id](const rpc::CallContext& context, const Req& request, Rep* reply) {
    const Status admitted = ops::Admit(env, context, id, request);
    return admitted.ok() ? op(env, context, request, reply) : admitted;
  });
}

ops::Awaitable<Status> Refuse(Status status) { co_return status; }

template <typename Req, typename Rep>
void Async(OpEnv& env, rpc::Server& server, const rpc::Method<Req, Rep>& method,
           ops::Awaitable<Status> (*op)(OpEnv&, rpc::CallContext, const Req&, Rep*)) {
  CHECK(env.access.Knows(method.id)) << method.name << " is in no table of access";
  server.HandleAsync(method, [&env, op, id = method.id](rpc::CallContext context, const Req& request, Rep* reply) {
    Status admitted = ops::Admit(env, context, id, request);
    return admitted.ok() ? op(env, std::move(context), request, reply) : Refuse(std::move(admitted));
  });
}

}  // namespace

void RegisterOps(OpEnv& env, rpc::Server& server) {
  Sync(env, server, proto::kOpenSession, &ops::OpenSession);
  Sync(env, server, proto::kSessionHeartbeat, &ops::SessionHeartbeat);
  Sync(env, server, proto::kCloseSession, &ops::CloseSession);
  Async(env, server, proto::kPutStart, &ops::PutStart);
  if (env.options.commit_durable) {
    Async(env, server, proto::kPutCommit, &ops::PutCommitDurable);
    Async(env, server, proto::kStat, &ops::StatDurable);
    Async(env, server, proto::kRemove, &ops::RemoveDurable);
  } else {
    Sync(env, server, proto::kPutCommit, &ops::PutCommit);
    Sync(env, server, proto::kStat, &ops::Stat);
    Sync(env, server, proto::kRemove, &ops::Remove);
  }
  Sync(env, server, proto::kPutAbort, &ops::PutAbort);
  Sync(env, server, proto::kLookup, &ops::Lookup);
  Sync(env, server, proto::kUnpin, &ops::Unpin);
  Sync(env, server, proto::kLookupPrefix, &ops::LookupPrefix);
  Sync(env, server, proto::kExists, &ops::Exists);
  Async(env, server, proto::kRemoveAll, &ops::RemoveAll);
  Async(env, server, proto::kRemoveByPrefix, &ops::RemoveByPrefix);
  Sync(env, server, proto::kList, &ops::List);
  Sync(env, server, proto::kJoin, &ops::Join);
  Sync(env, server, proto::kNodeHeartbeat, &ops::NodeHeartbeat);
  Sync(env, server, proto::kNodeLeave, &ops::NodeLeave);
  Async(env, server, proto::kCatalogSync, &ops::CatalogSync);
  Async(env, server, proto::kCatalogReport, &ops::CatalogReport);
  Sync(env, server, proto::kReportReplica, &ops::ReportReplica);
  Sync(env, server, proto::kDirectory, &ops::Directory);
  Sync(env, server, proto::kClusterStatus, &ops::ClusterStatus);
  Sync(env, server, proto::kDrain, &ops::Drain);
  Sync(env, server, proto::kScrub, &ops::Scrub);
  Sync(env, server, proto::kScrubStatus, &ops::ScrubStatus);
}

}  // namespace mmc::meta
