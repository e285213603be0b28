#include "common/security/tls_session.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>

namespace mmc::security {
namespace {

// One operation takes in at most this much: a peer that sends records without content does not hold a thread.
constexpr size_t kBytesPerOperation = 256 * 1024;
constexpr uint64_t kMaxIdleKeyUpdates = 32;

// TLS records begin with one of these.
bool IsRecordType(char first) { return first >= 20 && first <= 24; }

}  // namespace

// A BIO over send and recv: OpenSSL's own would use write, which raises SIGPIPE.
struct TlsSocket {
  static TlsSession* Of(BIO* bio) { return static_cast<TlsSession*>(BIO_get_data(bio)); }

  // The first bytes show whether the peer speaks TLS at all; looked at before OpenSSL takes them.
  static bool Sniff(TlsSession& session) {
    const ssize_t n = ::recv(session.fd_, session.first_.data(), session.first_.size(), MSG_DONTWAIT | MSG_PEEK);
    if (n <= 0) return true;  // the read that follows says why
    session.first_length_ = static_cast<size_t>(n);
    session.sniffed_ = true;
    session.plain_ = !IsRecordType(session.first_[0]);
    return !session.plain_;
  }

  // OpenSSL calls while the session's lock is held.
  static int Read(BIO* bio, char* out, int room) MMC_NO_THREAD_SAFETY_ANALYSIS {
    TlsSession& session = *Of(bio);
    BIO_clear_retry_flags(bio);
    session.system_error_ = 0;
    session.flooded_ |= TlsContext::KeyUpdates(session.ssl_.get()) - session.key_updates_ > kMaxIdleKeyUpdates;
    if (session.flooded_ || (!session.sniffed_ && !Sniff(session))) return -1;
    const ssize_t n = session.budget_ == 0
                          ? -1
                          : ::recv(session.fd_, out, std::min<size_t>(static_cast<size_t>(room), session.budget_),
                                   MSG_DONTWAIT);
    if (n >= 0) {
      session.budget_ -= static_cast<size_t>(n);
      session.cut_ |= n == 0;
      return static_cast<int>(n);
    }
    if (session.budget_ == 0 || errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) {
      BIO_set_retry_read(bio);
    } else {
      session.system_error_ = errno;
    }
    return -1;
  }

  static int Write(BIO* bio, const char* bytes, int length) {
    TlsSession& session = *Of(bio);
    BIO_clear_retry_flags(bio);
    session.system_error_ = 0;
    const ssize_t n = ::send(session.fd_, bytes, static_cast<size_t>(length), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n >= 0) return static_cast<int>(n);
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) {
      BIO_set_retry_write(bio);
    } else {
      session.system_error_ = errno;
    }
    return -1;
  }

  static long Control(BIO* /*bio*/, int command, long /*number*/, void* /*pointer*/) {
    return command == BIO_CTRL_FLUSH ? 1 : 0;
  }

  static BIO_METHOD* Method() {
    static BIO_METHOD* const method = [] {
      BIO_METHOD* made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "mmc socket");
      if (made == nullptr) return made;
      BIO_meth_set_read(made, &Read);
      BIO_meth_set_write(made, &Write);
      BIO_meth_set_ctrl(made, &Control);
      return made;
    }();
    return method;
  }
};

TlsSession::~TlsSession() = default;

Result<std::unique_ptr<TlsSession>> TlsSession::Make(Result<SslPtr> ssl, int fd) {
  MMC_RETURN_IF_ERROR(ssl.status());
  std::unique_ptr<TlsSession> out(new TlsSession(std::move(ssl).value(), fd));
  BIO* const bio = BIO_new(TlsSocket::Method());
  if (bio == nullptr) return Status(Code::kInternal, "OpenSSL has no memory for a connection");
  BIO_set_data(bio, out.get());
  BIO_set_init(bio, 1);
  MutexLock lock(out->mutex_);
  SSL_set_bio(out->ssl_.get(), bio, bio);
  return out;
}

Result<std::unique_ptr<TlsSession>> TlsSession::Server(TlsContext& context, int fd,
                                                       TlsContext::ClientCertificate client) {
  return Make(context.NewServer(client), fd);
}

Result<std::unique_ptr<TlsSession>> TlsSession::Client(TlsContext& context, int fd, const PeerWanted& wanted) {
  return Make(context.NewClient(wanted), fd);
}

TlsSession::Outcome TlsSession::Handshake() {
  MutexLock lock(mutex_);
  if (!failed_.ok()) return {.failure = failed_};
  ERR_clear_error();
  budget_ = kBytesPerOperation;
  const Outcome outcome = After(SSL_do_handshake(ssl_.get()), 0);
  if (!outcome.done()) return outcome;
  failed_ = NotePeer();
  return {.failure = failed_};
}

Status TlsSession::NotePeer() {
  Result<Identity> identity = TlsContext::PeerIdentity(ssl_.get());
  if (!identity.ok()) return identity.status().Annotate("the certificate of the peer is refused");
  if (identity->role != Role::kNone) peer_ = std::make_shared<const Identity>(std::move(identity).value());
  return Status::Ok();
}

TlsSession::Outcome TlsSession::Read(std::span<std::byte> into) {
  MutexLock lock(mutex_);
  if (!failed_.ok()) return {.failure = failed_};
  ERR_clear_error();
  budget_ = kBytesPerOperation;
  size_t bytes = 0;
  const int result = SSL_read_ex(ssl_.get(), into.data(), into.size(), &bytes);
  if (result == 1) key_updates_ = TlsContext::KeyUpdates(ssl_.get());
  const Outcome outcome = After(result, bytes);
  drained_ = !outcome.done();
  return outcome;
}

TlsSession::Outcome TlsSession::Write(std::span<const std::byte> from) {
  MutexLock lock(mutex_);
  if (!failed_.ok()) return {.failure = failed_};
  ERR_clear_error();
  budget_ = kBytesPerOperation;
  size_t bytes = 0;
  const int result = SSL_write_ex(ssl_.get(), from.data(), std::min<size_t>(from.size(), INT_MAX), &bytes);
  Outcome outcome = After(result, bytes);
  // The peer's last words may still be there to be read, and say more than that it takes nothing.
  if (!outcome.failure.ok()) failed_ = Status::Ok();
  return outcome;
}

TlsSession::Outcome TlsSession::After(int result, size_t bytes) {
  if (result == 1) return {.bytes = bytes};
  const int error = SSL_get_error(ssl_.get(), result);
  if (error == SSL_ERROR_WANT_READ && !flooded_) return {.want = Want::kRead};
  if (error == SSL_ERROR_WANT_WRITE && !flooded_) return {.want = Want::kWrite};
  const bool over = error == SSL_ERROR_ZERO_RETURN || (cut_ && error == SSL_ERROR_SYSCALL);
  if (over && SSL_is_init_finished(ssl_.get())) {
    ERR_clear_error();
    return {.end = true};
  }
  if (flooded_) {
    ERR_clear_error();
    failed_ = Status(Code::kMalformed, "the peer changes its keys over and over and sends nothing");
  } else if (plain_) {
    ERR_clear_error();
    failed_ = Status(Code::kUnavailable, "the peer does not speak TLS");
  } else {
    failed_ = TlsContext::Describe(ssl_.get(), error, system_error_);
  }
  return {.failure = failed_};
}

void TlsSession::Shutdown() {
  MutexLock lock(mutex_);
  if (!failed_.ok() || !SSL_is_init_finished(ssl_.get())) return;
  (void)SSL_shutdown(ssl_.get());
  ERR_clear_error();
}

bool TlsSession::buffered() const {
  MutexLock lock(mutex_);
  return !drained_ && SSL_has_pending(ssl_.get()) == 1;
}

std::shared_ptr<const Identity> TlsSession::peer() const {
  MutexLock lock(mutex_);
  return peer_;
}

bool TlsSession::Revoked() {
  MutexLock lock(mutex_);
  return TlsContext::PeerRevoked(ssl_.get());
}

bool TlsSession::plain() const {
  MutexLock lock(mutex_);
  return plain_;
}

bool TlsSession::cut() const {
  MutexLock lock(mutex_);
  return cut_;
}

std::string TlsSession::first_bytes() const {
  MutexLock lock(mutex_);
  return std::string(first_.data(), first_length_);
}

}  // namespace mmc::security
