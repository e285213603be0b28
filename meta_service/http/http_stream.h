// The bytes of one HTTP connection, in the clear or, after the handshake, through TLS. Every operation ends when the
// time that was set with ExpiresAfter is over.
//
// No templates: each operation of Asio and Beast below is compiled once, in http_stream.cc.
// Thread safety: none; one connection, one strand. Ownership: owns the socket and the TLS session.
#pragma once

#include <openssl/ssl.h>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <chrono>
#include <cstddef>
#include <memory>
#include <string_view>

#include "common/security/tls_context.h"

namespace mmc::meta::http {

class HttpStream {
 public:
  using tcp = boost::asio::ip::tcp;
  using Error = boost::system::error_code;
  struct Taken {
    Error error;
    size_t bytes = 0;
  };

  // `ssl` null: in the clear.
  HttpStream(tcp::socket socket, security::SslPtr ssl);

  auto get_executor() { return tcp_.get_executor(); }
  tcp::socket& socket() { return tcp_.socket(); }
  bool has_tls() const { return tls_ != nullptr; }
  bool secured() const { return secured_; }  // the handshake is done
  SSL* ssl() { return tls_->native_handle(); }  // REQUIRES: has_tls()

  void ExpiresAfter(std::chrono::milliseconds time) { tcp_.expires_after(time); }
  void close() { tcp_.close(); }

  // REQUIRES: has_tls(). `first`: bytes that were read already.
  boost::asio::awaitable<Error> Handshake(boost::asio::const_buffer first);
  // REQUIRES: secured().
  boost::asio::awaitable<void> Shutdown();
  boost::asio::awaitable<Taken> ReadSome(boost::asio::mutable_buffer room);
  // All of `bytes`.
  boost::asio::awaitable<Error> Write(std::string_view bytes);

 private:
  using Tls = boost::asio::ssl::stream<boost::beast::tcp_stream&>;
  boost::beast::tcp_stream tcp_;
  std::unique_ptr<Tls> tls_;
  bool secured_ = false;
};

}  // namespace mmc::meta::http
