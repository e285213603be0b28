// Which roles may call which methods of the meta service: the one table that is asked before every handler.
//
// The default table is in access.cc; a conf file may give a role another list of methods
// (ock.mmc.meta.access.<role>). It is about callers that a certificate names: without TLS, and for calls from within
// the process, everything is allowed.
//
// Thread safety: immutable once made. Ownership: values.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/status.h"
#include "common/config/schema.h"
#include "common/security/identity.h"

namespace mmc::meta {

class AccessTable {
 public:
  static constexpr size_t kRoles = 5;

  AccessTable();  // the default one

  // Gives the role these methods and no others: names separated by commas, or nothing; "@client" stands for what the
  // default table gives that role. Errors: kConfig, with the name that is neither.
  Status Set(security::Role role, std::string_view methods);

  // False for methods that are in no table.
  bool Knows(uint16_t method) const;
  // Errors: kPermission, saying who may.
  Status Check(const security::Identity& caller, uint16_t method) const;
  bool Allows(security::Role role, uint16_t method) const;
  // As Set() takes it.
  std::string MethodsOf(security::Role role) const;

 private:
  static constexpr size_t kMethods = 64;
  std::array<uint64_t, kRoles> allowed_{};  // a bit per method number
};

// ock.mmc.meta.access.{client,local,admin,meta}, their rule, and the table that they make.
std::vector<config::Setting> AccessSettings();
Status CheckAccess(const config::Values& values);
// REQUIRES: CheckAccess(values).
AccessTable AccessFrom(const config::Values& values);

}  // namespace mmc::meta
