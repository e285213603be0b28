#include "meta_service/ops/admit.h"

namespace mmc::meta::ops {

Status CheckSession(OpEnv& env, const Context& context, uint64_t session) {
  if (session == 0 || env.state.OwnsSession(*context.identity, session)) return Status::Ok();
  return Status(Code::kPermission, "session " + std::to_string(session) + " was not opened by '" +
                                       context.identity->subject + "'; a caller uses its own sessions only");
}

Status CheckNodeName(const Context& context, const std::string& name) {
  if (!name.empty() && context.identity->name == name) return Status::Ok();
  return Status(Code::kPermission, "the certificate of '" + context.identity->subject + "' is " +
                                       (context.identity->name.empty()
                                            ? "of no node"
                                            : "of node '" + context.identity->name + "'") +
                                       ", it cannot speak for another one: its SAN must have mmc:node:<name>");
}

Status CheckNode(OpEnv& env, const Context& context, uint32_t node) {
  const std::string name = env.state.NodeName(node);
  return name.empty() ? Status::Ok() : CheckNodeName(context, name);
}

}  // namespace mmc::meta::ops
