// TLS over one non-blocking socket: handshake, read, write, and nothing waits in here.
//
// Thread safety: all methods from any thread, one reader and one writer at a time. Ownership: owns the SSL; the
// descriptor stays the caller's and must outlive the session. Nothing here raises SIGPIPE.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <span>
#include <string_view>

#include "common/base/mutex.h"
#include "common/base/status.h"
#include "common/security/tls_context.h"

struct bio_st;

namespace mmc::security {

class TlsSession {
 public:
  enum class Want : uint8_t { kNothing, kRead, kWrite };
  // One of: bytes moved; `want` says what the socket must be ready for; the peer has closed in order; a failure.
  struct Outcome {
    size_t bytes = 0;
    Want want = Want::kNothing;
    bool end = false;
    Status failure;

    bool done() const { return want == Want::kNothing && !end && failure.ok(); }
  };

  // Errors: kInternal when OpenSSL has no memory; kInvalidArgument for a host that can be no name.
  static Result<std::unique_ptr<TlsSession>> Server(
      TlsContext& context, int fd,
      TlsContext::ClientCertificate client = TlsContext::ClientCertificate::kRequired);
  static Result<std::unique_ptr<TlsSession>> Client(TlsContext& context, int fd, const PeerWanted& wanted);
  ~TlsSession();
  TlsSession(const TlsSession&) = delete;
  TlsSession& operator=(const TlsSession&) = delete;

  // done(): the peer is who it must be. A client's certificate is judged later: a service that refuses it says so in
  // answer to the first read.
  Outcome Handshake();
  Outcome Read(std::span<std::byte> into);
  // After kWrite: the same bytes again, they may lie elsewhere.
  Outcome Write(std::span<const std::byte> from);
  // Tells the peer that nothing follows, if the socket takes it.
  void Shutdown();

  // A read can go on without the socket being ready.
  bool buffered() const;
  // Of the peer; after the handshake. Role::kNone: it showed no certificate.
  std::shared_ptr<const Identity> peer() const;
  // See TlsContext::PeerRevoked; after the handshake.
  bool Revoked();
  // What the peer sends is not TLS; its first bytes, up to 32.
  bool plain() const;
  // After `end`: the connection was closed, and the peer had not said so before, encrypted as the rest.
  bool cut() const;
  std::string first_bytes() const;

 private:
  friend struct TlsSocket;  // OpenSSL's side of the descriptor

  TlsSession(SslPtr ssl, int fd) : fd_(fd), ssl_(std::move(ssl)) {}
  static Result<std::unique_ptr<TlsSession>> Make(Result<SslPtr> ssl, int fd);
  Outcome After(int result, size_t bytes) MMC_REQUIRES(mutex_);
  Status NotePeer() MMC_REQUIRES(mutex_);

  const int fd_;
  mutable Mutex mutex_;
  const SslPtr ssl_ MMC_PT_GUARDED_BY(mutex_);
  std::shared_ptr<const Identity> peer_ MMC_GUARDED_BY(mutex_) = NoIdentity();
  Status failed_ MMC_GUARDED_BY(mutex_);  // it is over
  bool drained_ MMC_GUARDED_BY(mutex_) = true;  // the last read ended for want of bytes
  // Of the calls from OpenSSL, which come while the lock is held.
  std::array<char, 32> first_{};
  size_t first_length_ = 0;
  bool sniffed_ = false;
  bool plain_ = false;
  bool cut_ = false;
  bool flooded_ = false;
  int system_error_ = 0;
  size_t budget_ = 0;         // bytes that one operation may still take in
  uint64_t key_updates_ = 0;  // of the peer, until bytes of the application came last
};

}  // namespace mmc::security
