// TLS peers that do as they like: a client and a server straight over OpenSSL, with whatever a test wants to go wrong.
//
// Thread safety: RawTls is used by one thread; RawTlsServer runs one of its own. Ownership: both own their sockets.
#pragma once

#include <openssl/err.h>
#include <openssl/ssl.h>

#include <future>
#include <string>

#include "tests/unit/rpc_fixture.h"
#include "tests/unit/test_certs.h"

namespace mmc::test {

struct RawTlsOptions {
  CertPair pair = {};  // empty: no certificate
  int version = TLS1_3_VERSION;
};

inline OpenSslPtr<SSL_CTX> RawContext(const RawTlsOptions& options, const SSL_METHOD* method) {
  OpenSslPtr<SSL_CTX> out(SSL_CTX_new(method));
  SSL_CTX_set_min_proto_version(out.get(), options.version);
  SSL_CTX_set_max_proto_version(out.get(), options.version);
  if (options.pair.cert.empty()) return out;
  const auto chain = security::ParseCertificates(options.pair.cert, "raw");
  const auto key = security::ParseKey(options.pair.key, "", "raw");
  EXPECT_EQ(SSL_CTX_use_certificate(out.get(), chain->front().get()), 1);
  EXPECT_EQ(SSL_CTX_use_PrivateKey(out.get(), key->get()), 1);
  return out;
}

class RawTls {
 public:
  RawTls(uint16_t port, const RawTlsOptions& options)
      : socket_(port), context_(RawContext(options, TLS_client_method())), ssl_(SSL_new(context_.get())) {
    SSL_set_fd(ssl_.get(), socket_.fd());
  }

  // "" when the service takes this client and answers a call, else the alert that it sends.
  std::string Call() {
    ERR_clear_error();
    if (SSL_connect(ssl_.get()) != 1) return Why();
    const std::string request = rpc::RawRequest(rpc::kEcho.id, 1, "");
    if (!Send(request)) return Why();
    char answer[rpc::kHeaderBytes];
    return SSL_read(ssl_.get(), answer, sizeof(answer)) > 0 ? "" : Why();
  }
  bool Send(const std::string& bytes) {
    return SSL_write(ssl_.get(), bytes.data(), static_cast<int>(bytes.size())) > 0;
  }
  SSL* ssl() { return ssl_.get(); }

 private:
  static std::string Why() {
    const std::string why = security::TakeOpenSslError();
    return why.empty() ? "closed" : why;
  }

  rpc::RawSocket socket_;
  const OpenSslPtr<SSL_CTX> context_;
  const OpenSslPtr<SSL> ssl_;
};

// Takes one connection, and says at the end what became of the handshake: "" or what the client has sent.
class RawTlsServer {
 public:
  explicit RawTlsServer(const RawTlsOptions& options) : context_(RawContext(options, TLS_server_method())) {
    listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::bind(listener_, reinterpret_cast<const sockaddr*>(&at), sizeof(at)), 0);
    EXPECT_EQ(::listen(listener_, 8), 0);
    socklen_t length = sizeof(at);
    EXPECT_EQ(::getsockname(listener_, reinterpret_cast<sockaddr*>(&at), &length), 0);
    port_ = ntohs(at.sin_port);
    result_ = std::async(std::launch::async, [this] { return Serve(); });
  }
  ~RawTlsServer() {
    (void)::shutdown(listener_, SHUT_RDWR);
    if (result_.valid()) result_.wait();
    ::close(listener_);
  }

  std::string url(const std::string& host = "127.0.0.1") const {
    return "tcp://" + host + ":" + std::to_string(port_);
  }
  std::string Result() { return result_.get(); }

 private:
  std::string Serve() {
    const int fd = ::accept(listener_, nullptr, nullptr);
    if (fd < 0) return "nobody came";
    const timeval patience{60, 0};
    ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    const OpenSslPtr<SSL> ssl(SSL_new(context_.get()));
    SSL_set_fd(ssl.get(), fd);
    ERR_clear_error();
    std::string out;
    char byte;
    if (SSL_accept(ssl.get()) != 1 || SSL_read(ssl.get(), &byte, 1) <= 0) out = security::TakeOpenSslError();
    ::close(fd);
    return out;
  }

  const OpenSslPtr<SSL_CTX> context_;
  int listener_ = -1;
  uint16_t port_ = 0;
  std::future<std::string> result_;
};

}  // namespace mmc::test
