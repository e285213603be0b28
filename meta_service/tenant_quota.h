// How much of the pool a tenant may hold, as a conf file says it.
//
//   ock.mmc.meta.tenant.quota = alpha:10GB, beta:20%, default:1TB, *:5%
//
// A percentage is of the memory of all nodes that are there; "default" is the tenant of callers that name none; "*"
// stands for every tenant that is not named.
//
// Thread safety: values and pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/status.h"

namespace mmc::meta {

struct TenantQuota {
  std::string tenant;  // empty: the default tenant; "*": all that are not named
  uint64_t bytes = 0;
  uint32_t percent = 0;  // of the pool; 0: `bytes` counts
};

// The tenant that a name stands for: "default" and nothing are the same one, which has the empty name here.
// Errors: kInvalidArgument (longer than kMaxTenantBytes, or with other characters than letters, digits, '.', '_', '-').
Result<std::string_view> TenantFrom(std::string_view name);
// For messages and pages.
inline std::string_view TenantShown(std::string_view tenant) { return tenant.empty() ? "default" : tenant; }

// Errors: kConfig.
Result<std::vector<TenantQuota>> ParseTenantQuotas(std::string_view text);

}  // namespace mmc::meta
