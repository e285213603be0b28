#include "common/security/identity.h"

#include <algorithm>
#include <array>
#include <utility>

#include "common/base/limits.h"

namespace mmc::security {
namespace {

constexpr std::array<std::pair<Role, std::string_view>, 5> kRoles{{{Role::kNone, "none"},
                                                                   {Role::kMeta, "meta"},
                                                                   {Role::kLocal, "local"},
                                                                   {Role::kClient, "client"},
                                                                   {Role::kAdmin, "admin"}}};

}  // namespace

std::string_view RoleName(Role role) {
  for (const auto& [known, name] : kRoles) {
    if (known == role) return name;
  }
  return "none";
}

std::optional<Role> ParseRole(std::string_view name) {
  for (const auto& [role, known] : kRoles) {
    if (known == name && role != Role::kNone) return role;
  }
  return std::nullopt;
}

const std::shared_ptr<const Identity>& NoIdentity() {
  static const auto* const none = new std::shared_ptr<const Identity>(std::make_shared<const Identity>());
  return *none;
}

bool IsTenantName(std::string_view text) {
  return !text.empty() && text.size() <= kMaxTenantBytes && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
           c == '-';
  });
}

}  // namespace mmc::security
