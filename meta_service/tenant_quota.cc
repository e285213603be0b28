#include "meta_service/tenant_quota.h"

#include <algorithm>
#include <charconv>

#include "common/base/bytes.h"
#include "common/base/limits.h"
#include "common/config/value.h"
#include "common/security/identity.h"

namespace mmc::meta {

namespace {

constexpr std::string_view kDefault = "default";
constexpr uint64_t kLeastQuota = 1_MiB;

using config::Trim;

Result<TenantQuota> ParseOne(std::string_view entry) {
  const size_t colon = entry.find(':');
  if (colon == std::string_view::npos) {
    return Status(Code::kConfig, "'" + std::string(entry) + "' is not of the form TENANT:SIZE or TENANT:PERCENT%");
  }
  const std::string_view name = Trim(entry.substr(0, colon)), amount = Trim(entry.substr(colon + 1));
  TenantQuota quota{.tenant = "*"};
  if (name != "*") {
    const auto tenant = TenantFrom(name);
    if (!tenant.ok() || name.empty()) {
      return Status(Code::kConfig, "'" + std::string(name) + "' is no tenant's name" +
                                       (tenant.ok() ? "" : ": " + tenant.status().message()));
    }
    quota.tenant = *tenant;
  }
  if (amount.ends_with('%')) {
    const char* end = amount.data() + amount.size() - 1;
    const auto [at, error] = std::from_chars(amount.data(), end, quota.percent);
    if (error == std::errc() && at == end && quota.percent >= 1 && quota.percent <= 100) return quota;
    return Status(Code::kConfig, "'" + std::string(entry) + "': a percentage is 1% to 100%");
  }
  const auto bytes = ParseBytes(amount);
  if (!bytes.ok() || *bytes < kLeastQuota) {
    return Status(Code::kConfig, "'" + std::string(entry) + "': a size is 1MB or more (KB, MB, GB, TB), or 1% to 100%");
  }
  quota.bytes = *bytes;
  return quota;
}

}  // namespace

Result<std::string_view> TenantFrom(std::string_view name) {
  if (name.empty() || name == kDefault) return std::string_view();
  if (security::IsTenantName(name)) return name;
  return Status(Code::kInvalidArgument, "a tenant's name is 1 to " + std::to_string(kMaxTenantBytes) +
                                            " letters, digits, '.', '_' and '-', not '" +
                                            config::Printable(name) + "'");
}

Result<std::vector<TenantQuota>> ParseTenantQuotas(std::string_view text) {
  std::vector<TenantQuota> quotas;
  for (text = Trim(text); !text.empty();) {
    const size_t comma = std::min(text.find(','), text.size());
    MMC_ASSIGN_OR_RETURN(TenantQuota quota, ParseOne(Trim(text.substr(0, comma))));
    text = Trim(text.substr(std::min(text.size(), comma + 1)));
    const auto same = [&](const TenantQuota& other) { return other.tenant == quota.tenant; };
    if (std::any_of(quotas.begin(), quotas.end(), same)) {
      return Status(Code::kConfig, "tenant '" + std::string(TenantShown(quota.tenant)) + "' has two quotas");
    }
    quotas.push_back(std::move(quota));
  }
  return quotas;
}

}  // namespace mmc::meta
