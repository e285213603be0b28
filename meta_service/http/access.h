// Who may see which page: tokens from a file, and what a client certificate says.
//
//   the file    one token a line, "admin TOKEN", "read TOKEN" or "read TOKEN tenant=NAME" (the keys of that tenant and
//               no others); '#' begins a comment line; TOKEN: 16 to 256 visible ASCII characters. Nobody else may read
//               the file. It is read again when it has changed; while it cannot be read, no token is good.
//   a request   "Authorization: Bearer TOKEN"
//
// Tokens are kept as digests and compared in a time that does not tell where they differ.
// Thread safety: all methods from any thread. Ownership: values.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/mutex.h"
#include "common/base/status.h"
#include "common/security/identity.h"

namespace mmc::meta::http {

// Each one includes those before it. kNone: health and numbers; kRead: names of keys too; kAdmin: pages that change
// something too.
enum class Access : uint8_t { kNone, kRead, kAdmin };

struct Caller {
  Access access = Access::kNone;
  std::optional<std::string> tenant;  // the one whose keys it may see, "": the default one; nothing: all
};

class Tokens {
 public:
  // `path` empty: there are none. `setting`: the name of the path's setting, for messages.
  Tokens(std::string path, std::string setting) : path_(std::move(path)), setting_(std::move(setting)) {}

  bool configured() const { return !path_.empty(); }
  // Errors: kConfig naming the setting, the file and the line.
  Status Load() MMC_EXCLUDES(mutex_);
  // By the value of an Authorization header; kNone for one that is empty, of another kind or of no token.
  Caller Of(std::string_view authorization) MMC_EXCLUDES(mutex_);

  static constexpr size_t kMaxTokens = 1024;

 private:
  using Digest = std::array<unsigned char, 32>;
  struct Entry {
    Digest digest;
    Caller caller;
  };
  struct Stamp {  // what a file looks like from outside
    int64_t seconds = 0, nanos = 0, bytes = -1;
    uint64_t inode = 0;
    friend bool operator==(const Stamp&, const Stamp&) = default;
  };

  static Digest DigestOf(std::string_view token);
  static Stamp StampOf(const std::string& path);
  Result<std::vector<Entry>> Read() const;
  static std::optional<Entry> EntryOf(std::string_view line);
  void ReadIfChanged() MMC_REQUIRES(mutex_);

  const std::string path_, setting_;
  Mutex mutex_;
  Stamp stamp_ MMC_GUARDED_BY(mutex_);
  std::vector<Entry> entries_ MMC_GUARDED_BY(mutex_);
};

// What a certificate allows: everything for the role admin, with the keys of its tenant where it names one; nothing
// beyond kNone for all others.
Caller CallerOf(const security::Identity& identity);

// As calls to the pool take it: "default" is "".
std::string TenantNamed(std::string_view name);

}  // namespace mmc::meta::http
