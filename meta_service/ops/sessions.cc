// OpenSession, SessionHeartbeat, CloseSession.
#include "meta_service/ops/common.h"

namespace mmc::meta::ops {

namespace {
constexpr size_t kMaxNameBytes = 255;
}  // namespace

Status OpenSession(OpEnv& env, const Context& context, const proto::OpenSessionRequest& request,
                   proto::OpenSessionReply* reply) {
  if (request.client_name().size() > kMaxNameBytes || request.host_id().size() > kMaxNameBytes) {
    return Status(Code::kInvalidArgument, "client_name and host_id have at most 255 bytes");
  }
  MMC_ASSIGN_OR_RETURN(const std::string_view tenant, TenantOf(context, request.tenant()));
  MMC_ASSIGN_OR_RETURN(const uint16_t slot, env.state.tenants().SlotOf(tenant));
  MMC_ASSIGN_OR_RETURN(const uint64_t session,
                       env.state.OpenSession(request.client_name(), request.host_id(), request.pid(),
                                             env.clock.Now(), slot, context.identity));
  reply->set_session(session);
  reply->set_heartbeat_ms(env.options.heartbeat.count());
  reply->set_expiry_ms(env.options.session_expiry.count());
  reply->set_lease_ms(env.options.lease.count());
  reply->set_directory_version(env.state.directory_version());
  reply->set_term(env.term);
  return Status::Ok();
}

Status SessionHeartbeat(OpEnv& env, const Context&, const proto::SessionHeartbeatRequest& request,
                        proto::SessionHeartbeatReply* reply) {
  MMC_RETURN_IF_ERROR(env.state.SessionHeartbeat(request.session(), env.clock.Now()));
  reply->set_directory_version(env.state.directory_version());
  return Status::Ok();
}

Status CloseSession(OpEnv& env, const Context&, const proto::CloseSessionRequest& request, proto::Empty*) {
  return env.state.CloseSession(request.session(), env.clock.Now());
}

}  // namespace mmc::meta::ops
