// Who a peer is: what its certificate says about it, in the product's own words.
//
// A certificate names its holder in URI subject alternative names: exactly one "mmc:role:<role>", at most one
// "mmc:tenant:<tenant>" and, for a local service, one "mmc:node:<node name>"; the host goes into DNS and IP names.
// Thread safety: values and pure functions.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace mmc::security {

enum class Role : uint8_t { kNone, kMeta, kLocal, kClient, kAdmin };

// "meta", "local", "client", "admin"; "none".
std::string_view RoleName(Role role);
std::optional<Role> ParseRole(std::string_view name);

struct Identity {
  Role role = Role::kNone;  // kNone: not authenticated, TLS is off or the caller is this process
  std::string tenant;       // empty: none is named
  std::string name;         // of the node, for a local service; else empty
  std::string subject;      // for logs: "CN=node-1,O=pool"
};

// The identity of a caller that no certificate speaks for.
const std::shared_ptr<const Identity>& NoIdentity();

inline constexpr std::string_view kRoleUri = "mmc:role:";
inline constexpr std::string_view kTenantUri = "mmc:tenant:";
inline constexpr std::string_view kNodeUri = "mmc:node:";

// 1..kMaxTenantBytes of letters, digits, '.', '_', '-'.
bool IsTenantName(std::string_view text);

}  // namespace mmc::security
