// A connection's bytes under TLS 1.3, both sides with certificates.
//
// What Writev answers as moved may wait in here, encrypted or not, until the socket takes it: PollFor asks for that.
// An end of the connection counts as the peer's word only when it came encrypted (the peer said goodbye): whoever only
// cuts the connection, or the network between, has not said that the peer writes nothing any more.
// Thread safety: none; one thread at a time. Ownership: owns its socket.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "common/base/clock.h"
#include "common/base/status.h"
#include "common/security/tls_session.h"
#include "fabric/tcp/byte_stream.h"

namespace mmc::fabric::tcp {

class TlsStream final : public ByteStream {
 public:
  // Of a listener: the peer must show a certificate. Errors: kInternal.
  static Result<std::unique_ptr<TlsStream>> Accept(UniqueFd socket, security::TlsContext& context);
  // Shakes hands with the local service `node` (empty: any).
  // Errors: kPermission (certificates), kPeerUnreachable, kDeadline, in words.
  static Result<std::unique_ptr<TlsStream>> Connect(UniqueFd socket, security::TlsContext& context,
                                                    const std::string& node, TimePoint deadline);
  ~TlsStream() override;  // says goodbye, when the socket takes it

  // One step of the handshake of a listener's side.
  enum class Step { kDone, kWait, kFailed };
  Step Shake();
  const Status& failure() const { return failure_; }
  std::shared_ptr<const security::Identity> peer() const { return session_->peer(); }
  // What has come in is not TLS; its first bytes.
  bool plain() const { return session_->plain(); }
  std::string first_bytes() const { return session_->first_bytes(); }

  int fd() const override { return socket_.get(); }
  ssize_t Readv(const iovec* parts, int count) override;
  ssize_t Writev(const iovec* parts, int count) override;
  short PollFor(short events) const override;
  bool buffered() const override { return session_->buffered(); }
  void ShutdownWrite() override;
  bool PeerGone() override;
  bool EndedByPeer(int error) const override;
  bool Revoked() override { return session_->Revoked(); }
  std::string Describe(int error) const override;

 private:
  explicit TlsStream(UniqueFd socket) : socket_(std::move(socket)) {}
  // True when all of what waits was taken. False leaves errno.
  bool Flush();
  // One record's worth; counts what it takes as moved. False leaves errno, and nothing was taken.
  bool Encrypt(std::span<const std::byte> bytes);
  // Both answer false, with errno.
  bool Fail(const security::TlsSession::Outcome& outcome);
  bool FailWrite(const security::TlsSession::Outcome& outcome);

  UniqueFd socket_;
  std::unique_ptr<security::TlsSession> session_;
  short wants_ = POLLIN;          // of the handshake
  std::vector<std::byte> stuck_;  // a record that the socket had no room for
  bool ended_ = false;  // the peer has said goodbye
  bool half_closed_ = false;
  Status failure_;
};

}  // namespace mmc::fabric::tcp
