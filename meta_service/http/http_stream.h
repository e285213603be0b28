// The bytes of one HTTP connection, in the clear or through TLS. Beast and Asio read and write it like a socket; every
// operation ends when the time that was set with expires_after is over.
//
// Thread safety: none; one connection, one strand. Ownership: owns the socket and the TLS session.
#pragma once

#include <openssl/ssl.h>

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <memory>
#include <utility>

#include "common/security/tls_context.h"

namespace mmc::meta::http {

class HttpStream {
 public:
  using tcp = boost::asio::ip::tcp;
  using executor_type = boost::beast::tcp_stream::executor_type;

  // `ssl` null: in the clear.
  HttpStream(tcp::socket socket, security::SslPtr ssl) : tcp_(std::move(socket)) {
    if (ssl != nullptr) tls_ = std::make_unique<Tls>(tcp_, ssl.release());
  }

  executor_type get_executor() { return tcp_.get_executor(); }
  tcp::socket& socket() { return tcp_.socket(); }
  // What goes past TLS: the first byte, and words to a peer that does not speak it.
  boost::beast::tcp_stream& raw() { return tcp_; }
  bool has_tls() const { return tls_ != nullptr; }
  SSL* ssl() { return tls_->native_handle(); }  // REQUIRES: has_tls()

  template <typename Duration>
  void expires_after(Duration time) {
    tcp_.expires_after(time);
  }
  void close() { tcp_.close(); }

  // REQUIRES: has_tls(). `first`: bytes that were read already.
  template <typename Token>
  auto async_handshake(boost::asio::const_buffer first, Token&& token) {
    return tls_->async_handshake(boost::asio::ssl::stream_base::server, first, std::forward<Token>(token));
  }
  template <typename Token>
  auto async_shutdown(Token&& token) {
    return tls_->async_shutdown(std::forward<Token>(token));
  }
  template <typename Buffers, typename Token>
  auto async_read_some(const Buffers& buffers, Token&& token) {
    return tls_ != nullptr ? tls_->async_read_some(buffers, std::forward<Token>(token))
                           : tcp_.async_read_some(buffers, std::forward<Token>(token));
  }
  template <typename Buffers, typename Token>
  auto async_write_some(const Buffers& buffers, Token&& token) {
    return tls_ != nullptr ? tls_->async_write_some(buffers, std::forward<Token>(token))
                           : tcp_.async_write_some(buffers, std::forward<Token>(token));
  }

 private:
  using Tls = boost::asio::ssl::stream<boost::beast::tcp_stream&>;
  boost::beast::tcp_stream tcp_;
  std::unique_ptr<Tls> tls_;
};

}  // namespace mmc::meta::http
