// The certificates of one plane, loaded and checked, and the connections that start from them.
//
// TLS 1.3 only, both sides show a certificate, sessions are never resumed: every connection is judged by the
// certificates and revocation lists of its moment. A reload counts for the connections that start after it. Those that
// are open go on, but services ask again whether the peer has been revoked (PeerRevoked).
// Thread safety: all methods from any thread. Ownership: callers share it; an SSL keeps what it was made from.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/clock.h"
#include "common/base/mutex.h"
#include "common/base/status.h"
#include "common/security/identity.h"
#include "common/security/tls_options.h"

struct ssl_st;  // SSL

namespace mmc::security {

struct SslFree {
  void operator()(ssl_st* ssl) const;
};
using SslPtr = std::unique_ptr<ssl_st, SslFree>;

// What a caller demands of the certificate of the service that it calls.
struct PeerWanted {
  std::string host;         // DNS name or IP address that it must carry; empty: any
  Role role = Role::kNone;  // kNone: any
  std::string node;         // node name that it must carry; empty: any
};

// One thing with an end date.
struct TlsFile {
  std::string kind;  // "certificate", "authority", "revocation list"
  std::string path;
  std::string subject;
  int64_t not_before = 0;  // seconds since 1970
  int64_t not_after = 0;
};

class TlsContext {
 public:
  // Errors: kConfig naming the setting or the file and what is wrong with it: a path that is empty, a file that cannot
  // be read, a key that others may read or that does not fit, a certificate without role or outside its dates.
  static Result<std::shared_ptr<TlsContext>> Load(const TlsOptions& options);
  // Null when `options` does not enable TLS. Errors: as Load, and kConfig when the own certificate's role is not among
  // `roles`; none: any will do.
  static Result<std::shared_ptr<TlsContext>> LoadFor(const TlsOptions& options, const std::vector<Role>& roles = {});
  ~TlsContext();

  // Reads all files again. After an error the old ones stay in use.
  Status Reload();
  // The same when one of the files has changed since they were looked at last; `*reloaded` says whether that went
  // well. Looks at most every half second.
  Status ReloadIfChanged(bool* reloaded = nullptr);

  enum class ClientCertificate : uint8_t { kRequired, kOptional };
  Result<SslPtr> NewServer(ClientCertificate client = ClientCertificate::kRequired);
  // Looks for changed files first: a client has no other moment for it.
  Result<SslPtr> NewClient(const PeerWanted& wanted);

  const TlsOptions& options() const { return options_; }
  std::shared_ptr<const Identity> own() const;
  // Everything loaded that has an end date, and when a reload went well last.
  std::vector<TlsFile> Files() const;
  // "<path> (CN=...) ends on ..., in 12 days" for each file whose end is nearer than that; empty: all is well.
  std::vector<std::string> EndingWithin(std::chrono::hours time) const;
  // Whether peers that trust the same files would take the own certificate. Errors: kPermission in words.
  Status CheckOwn() const;

  // Of a finished handshake. Errors: kPermission. kNone in the result: an optional certificate was not shown.
  static Result<Identity> PeerIdentity(const ssl_st* ssl);
  // Of a finished handshake: the peer's certificate, or one between it and the authority, is on a revocation list that
  // has been loaded since. Looks at the certificate once for each time that the files were loaded; else cheap. Not at
  // the same time as other calls for this connection.
  static bool PeerRevoked(ssl_st* ssl);
  // How often the peer has asked for new traffic keys so far.
  static uint64_t KeyUpdates(const ssl_st* ssl);
  // Why the last operation on `ssl` failed, in one line: which file, which name, which date. `ssl_error` is what
  // SSL_get_error answered, `system_error` the errno then (0: the peer has closed). Empties this thread's list of
  // OpenSSL errors. kPermission: a certificate was refused, here or by the peer; else kUnavailable.
  static Status Describe(const ssl_st* ssl, int ssl_error, int system_error);
  // The peer has refused the certificate that was shown to it: it has taken nothing of what was sent.
  static bool RefusedByPeer(const Status& described);

  struct Loaded;
  struct Current;  // what is loaded now; connections keep it

 private:
  explicit TlsContext(TlsOptions options);
  std::string Fingerprint() const;
  std::shared_ptr<const Loaded> loaded() const;

  const TlsOptions options_;
  const std::shared_ptr<Current> current_;
  mutable Mutex mutex_;
  std::string fingerprint_ MMC_GUARDED_BY(mutex_);
  TimePoint looked_at_ MMC_GUARDED_BY(mutex_);
};

}  // namespace mmc::security
