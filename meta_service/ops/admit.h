// The one check before every handler: may this caller call this method, with this session, for this node?
//
// Thread safety: pure functions over the environment.
#pragma once

#include "common/rpc/method.h"
#include "meta_service/ops/ops.h"

namespace mmc::meta::ops {

// Errors: kPermission. A session or a node that is not known is left to the handler to say.
Status CheckSession(OpEnv& env, const Context& context, uint64_t session);
Status CheckNode(OpEnv& env, const Context& context, uint32_t node);
Status CheckNodeName(const Context& context, const std::string& name);

inline bool Authenticated(const Context& context) {
  return context.identity->role != security::Role::kNone || !context.identity->subject.empty();
}

// What a request says of sessions and nodes is found by its fields, so that a new method is not forgotten: `session`
// must be the caller's own; a node speaks for itself where there is an `incarnation`.
template <typename Req>
Status Admit(OpEnv& env, const Context& context, uint16_t method, const Req& request) {
  if (!Authenticated(context)) return Status::Ok();
  MMC_RETURN_IF_ERROR(env.access.Check(*context.identity, method));
  if constexpr (requires { request.session(); }) {
    MMC_RETURN_IF_ERROR(CheckSession(env, context, request.session()));
  }
  if constexpr (requires { request.incarnation(); }) {
    if constexpr (requires { request.node(); }) {
      return CheckNode(env, context, request.node());
    } else {
      return CheckNodeName(context, request.name());
    }
  }
  return Status::Ok();
}

}  // namespace mmc::meta::ops
