// OpenSSL itself as the other side of a data connection: shows certificates that ours would not even load, speaks old
// versions, changes keys over and over.
//
// Thread safety: one thread. Ownership: owns sockets and certificates.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/socket.h>

#include <memory>
#include <string>

#include "fabric/tcp/frame.h"
#include "fabric/tcp/socket.h"
#include "tests/contract/contract_fixture.h"

namespace mmc::fabric::contract {

struct RawTlsOptions {
  std::string cert;  // empty: none is shown
  std::string key;
  std::string ca;  // only for a server: the authority that clients are asked for
  int version = TLS1_3_VERSION;
};

class RawTls {
 public:
  // Connects; the handshake comes with the first of the calls below.
  RawTls(const std::string& address, const RawTlsOptions& options) : RawTls(options, false) {
    auto socket = tcp::ConnectTo(address, "", Soon());
    EXPECT_TRUE(socket.ok());
    if (socket.ok()) Begin(std::move(*socket));
  }
  // The other end of a connection that was accepted.
  RawTls(UniqueFd accepted, const RawTlsOptions& options) : RawTls(options, true) { Begin(std::move(accepted)); }
  ~RawTls() {
    SSL_free(ssl_);
    SSL_CTX_free(context_);
  }
  RawTls(const RawTls&) = delete;
  RawTls& operator=(const RawTls&) = delete;

  bool Shake() { return SSL_do_handshake(ssl_) == 1 || Note(); }
  bool Send(const void* data, size_t size) { return SSL_write(ssl_, data, static_cast<int>(size)) > 0 || Note(); }
  bool Receive(void* data, size_t size) {
    auto* at = static_cast<char*>(data);
    while (size > 0) {
      const int n = SSL_read(ssl_, at, static_cast<int>(size));
      if (n <= 0) return Note();
      at += n;
      size -= static_cast<size_t>(n);
    }
    return true;
  }
  // Hello and its answer; kPeerUnreachable when the connection ended first.
  Code Greet() {
    tcp::Hello hello;
    hello.access = 1;
    tcp::HelloReply reply;
    if (!Shake() || !Send(&hello, sizeof(hello)) || !Receive(&reply, sizeof(reply))) return Code::kPeerUnreachable;
    return CodeFromWire(reply.code);
  }
  // False when the listener has had enough.
  bool ChangeKeys() { return SSL_key_update(ssl_, SSL_KEY_UPDATE_REQUESTED) == 1 && SSL_do_handshake(ssl_) == 1; }
  int fd() const { return socket_.get(); }
  // OpenSSL's words for what went wrong first: "tlsv1 alert unknown ca".
  const std::string& trouble() const { return trouble_; }

 private:
  RawTls(const RawTlsOptions& options, bool server)
      : server_(server), context_(SSL_CTX_new(server ? TLS_server_method() : TLS_client_method())) {
    SSL_CTX_set_min_proto_version(context_, options.version);
    SSL_CTX_set_max_proto_version(context_, options.version);
    if (!options.cert.empty()) {
      EXPECT_EQ(SSL_CTX_use_certificate_chain_file(context_, options.cert.c_str()), 1) << options.cert;
      EXPECT_EQ(SSL_CTX_use_PrivateKey_file(context_, options.key.c_str(), SSL_FILETYPE_PEM), 1) << options.key;
    }
    if (!options.ca.empty()) {
      EXPECT_EQ(SSL_CTX_load_verify_locations(context_, options.ca.c_str(), nullptr), 1);
      SSL_CTX_set_verify(context_, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
    }
    ssl_ = SSL_new(context_);
  }
  void Begin(UniqueFd socket) {
    socket_ = std::move(socket);
    fcntl(socket_.get(), F_SETFL, fcntl(socket_.get(), F_GETFL) & ~O_NONBLOCK);
    const timeval limit{60, 0};
    setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    SSL_set_fd(ssl_, socket_.get());
    if (server_) {
      SSL_set_accept_state(ssl_);
    } else {
      SSL_set_connect_state(ssl_);
    }
  }
  bool Note() {
    const unsigned long error = ERR_peek_error();
    if (trouble_.empty()) trouble_ = error == 0 ? "the connection ended" : ERR_reason_error_string(error);
    ERR_clear_error();
    return false;
  }

  const bool server_;
  SSL_CTX* const context_;
  SSL* ssl_ = nullptr;
  UniqueFd socket_;
  std::string trouble_;
};

}  // namespace mmc::fabric::contract
