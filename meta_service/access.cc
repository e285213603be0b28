#include "meta_service/access.h"

#include <algorithm>
#include <optional>

#include "common/config/common_settings.h"
#include "common/config/value.h"
#include "proto/methods.h"

namespace mmc::meta {

namespace {

using security::Role;

constexpr uint8_t Bit(Role role) { return static_cast<uint8_t>(1u << static_cast<unsigned>(role)); }

constexpr uint8_t kMeta = Bit(Role::kMeta), kLocal = Bit(Role::kLocal), kClient = Bit(Role::kClient),
                  kAdmin = Bit(Role::kAdmin);
constexpr uint8_t kUsers = kClient | kAdmin, kAll = kMeta | kLocal | kClient | kAdmin;

struct Rule {
  uint16_t id;
  const char* name;
  uint8_t roles;
};

template <typename Method>
constexpr Rule Of(const Method& method, uint8_t roles) {
  return {method.id, method.name, roles};
}

constexpr Rule kRules[] = {
    // Sessions and objects: whose keys and sessions, is a question of the tenant and of who opened them.
    Of(proto::kOpenSession, kUsers),
    Of(proto::kSessionHeartbeat, kUsers),
    Of(proto::kCloseSession, kUsers),
    Of(proto::kPutStart, kUsers),
    Of(proto::kPutCommit, kUsers),
    Of(proto::kPutAbort, kUsers),
    Of(proto::kLookup, kUsers),
    Of(proto::kUnpin, kUsers),
    Of(proto::kLookupPrefix, kUsers),
    Of(proto::kExists, kUsers),
    Of(proto::kStat, kUsers),
    Of(proto::kRemove, kUsers),
    Of(proto::kRemoveByPrefix, kUsers),
    Of(proto::kList, kUsers),
    Of(proto::kReportReplica, kUsers),
    // Nodes, each for itself.
    Of(proto::kJoin, kLocal),
    Of(proto::kNodeHeartbeat, kLocal),
    Of(proto::kNodeLeave, kLocal),
    Of(proto::kCatalogSync, kLocal),
    Of(proto::kCatalogReport, kLocal),
    // What everybody needs who takes part.
    Of(proto::kDirectory, kAll),
    Of(proto::kClusterStatus, kAll),
    // What changes the pool for others.
    Of(proto::kRemoveAll, kAdmin),
    Of(proto::kDrain, kAdmin),
    Of(proto::kScrub, kAdmin),
    Of(proto::kScrubStatus, kAdmin),
};

constexpr Role kNamed[] = {Role::kClient, Role::kLocal, Role::kAdmin, Role::kMeta};

std::string KeyOf(Role role) { return "ock.mmc.meta.access." + std::string(security::RoleName(role)); }

const Rule* Find(uint16_t method) {
  const auto* rule = std::find_if(std::begin(kRules), std::end(kRules), [=](const Rule& r) { return r.id == method; });
  return rule == std::end(kRules) ? nullptr : rule;
}

}  // namespace

AccessTable::AccessTable() {
  for (const Rule& rule : kRules) {
    static_assert(std::all_of(std::begin(kRules), std::end(kRules), [](const Rule& r) { return r.id < kMethods; }));
    for (const Role role : kNamed) {
      if ((rule.roles & Bit(role)) != 0) allowed_[static_cast<size_t>(role)] |= uint64_t{1} << rule.id;
    }
  }
}

Status AccessTable::Set(Role role, std::string_view methods) {
  uint64_t bits = 0;
  for (methods = config::Trim(methods); !methods.empty();) {
    const size_t comma = std::min(methods.find(','), methods.size());
    const std::string_view name = config::Trim(methods.substr(0, comma));
    const std::optional<Role> like = name.starts_with('@') ? security::ParseRole(name.substr(1)) : std::nullopt;
    if (like) {
      bits |= AccessTable().allowed_[static_cast<size_t>(*like)];
      methods = config::Trim(methods.substr(std::min(methods.size(), comma + 1)));
      continue;
    }
    const auto named = [name](const Rule& r) { return name == r.name; };
    const auto* rule = std::find_if(std::begin(kRules), std::end(kRules), named);
    if (rule == std::end(kRules)) {
      return Status(Code::kConfig, "'" + config::Printable(name) + "' is no method, and no '@' with a role; "
                                       "docs/wire_format.md lists the methods");
    }
    bits |= uint64_t{1} << rule->id;
    methods = config::Trim(methods.substr(std::min(methods.size(), comma + 1)));
  }
  allowed_[static_cast<size_t>(role)] = bits;
  return Status::Ok();
}

bool AccessTable::Knows(uint16_t method) const { return Find(method) != nullptr; }

bool AccessTable::Allows(Role role, uint16_t method) const {
  if (method >= kMethods) return false;
  return (allowed_[static_cast<size_t>(role)] >> method & 1) != 0;
}

Status AccessTable::Check(const security::Identity& caller, uint16_t method) const {
  if (caller.role == Role::kNone && caller.subject.empty()) return Status::Ok();
  if (Allows(caller.role, method)) return Status::Ok();
  std::string who;
  for (const Role role : kNamed) {
    if (Allows(role, method)) who += (who.empty() ? "" : ", ") + std::string(security::RoleName(role));
  }
  const Rule* rule = Find(method);
  return Status(Code::kPermission, "the certificate of '" + caller.subject + "' has the role '" +
                                       std::string(security::RoleName(caller.role)) + "', which may not call " +
                                       (rule == nullptr ? "this method" : rule->name) + "; allowed: " +
                                       (who.empty() ? "nobody" : who) + " (" + KeyOf(caller.role) + ")");
}

std::string AccessTable::MethodsOf(Role role) const {
  std::string names;
  for (const Rule& rule : kRules) {
    if (Allows(role, rule.id)) names += (names.empty() ? "" : ", ") + std::string(rule.name);
  }
  return names;
}

std::vector<config::Setting> AccessSettings() {
  const AccessTable table;
  std::vector<config::Setting> settings;
  for (const Role role : kNamed) {
    const std::string name(security::RoleName(role));
    settings.push_back(config::Text(KeyOf(role), table.MethodsOf(role), 1023,
                                    "With TLS: the methods that certificates of the role '" + name +
                                        "' may call; '@client' stands for those that the role client may call by "
                                        "default, and so on."));
  }
  return settings;
}

Status CheckAccess(const config::Values& values) {
  AccessTable table;
  for (const Role role : kNamed)
    MMC_RETURN_IF_ERROR(table.Set(role, values.GetString(KeyOf(role))).Annotate(KeyOf(role)));
  return Status::Ok();
}

AccessTable AccessFrom(const config::Values& values) {
  AccessTable table;
  for (const Role role : kNamed) {
    const Status set = table.Set(role, values.GetString(KeyOf(role)));
    (void)set;  // CheckAccess has seen it
  }
  return table;
}

}  // namespace mmc::meta
