// What a key is called in the tables and catalogs: the tenant's name in front of it.
//
//   default tenant   the key as it is; one that begins with 0xff as 0xff 0x00 key
//   tenant T         0xff length(T) T key
//
// No key of one tenant is ever the stored key of another, and the tenant of a stored key can be told from its bytes
// alone, so that catalogs bring tenants back.
//
// Thread safety: pure functions; a KeyMatch is a value. Ownership: views point into what was given.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace mmc::meta {

inline constexpr char kStoredMark = '\xff';

// The stored key is the key itself.
inline bool StoredAsIs(std::string_view tenant, std::string_view key) {
  return tenant.empty() && (key.empty() || key.front() != kStoredMark);
}

// REQUIRES: tenant.size() <= kMaxTenantBytes.
inline void AppendStoredKey(std::string_view tenant, std::string_view key, std::string* out) {
  if (!StoredAsIs(tenant, key)) {
    out->push_back(kStoredMark);
    out->push_back(static_cast<char>(tenant.size()));
    out->append(tenant);
  }
  out->append(key);
}

struct SplitKey {
  std::string_view tenant, key;
};

// Nothing when these bytes are no stored key.
inline std::optional<SplitKey> SplitStoredKey(std::string_view stored) {
  if (stored.empty()) return std::nullopt;
  if (stored.front() != kStoredMark) return SplitKey{{}, stored};
  if (stored.size() < 3) return std::nullopt;
  const size_t length = static_cast<uint8_t>(stored[1]);
  if (stored.size() < 2 + length + 1) return std::nullopt;
  const SplitKey split{stored.substr(2, length), stored.substr(2 + length)};
  // The default tenant's other keys are stored as they are: one name for one key.
  if (length == 0 && split.key.front() != kStoredMark) return std::nullopt;
  return split;
}

// Which stored keys are those of one tenant that begin with a prefix.
class KeyMatch {
 public:
  KeyMatch(std::string_view tenant, std::string_view prefix) : plain_(tenant.empty() && prefix.empty()) {
    if (!plain_) AppendStoredKey(tenant, prefix, &prefix_);
  }
  bool operator()(std::string_view stored) const {
    if (!plain_) return stored.starts_with(prefix_);
    return stored.front() != kStoredMark || stored[1] == '\0';
  }

 private:
  const bool plain_;  // all of the default tenant
  std::string prefix_;
};

}  // namespace mmc::meta
