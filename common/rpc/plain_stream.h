// What a connection needs of its byte stream, over a bare TCP socket. TlsStream has the same members.
//
// Thread safety: none; lives on one io thread. Ownership: owns the socket.
#pragma once

#include <boost/asio/buffer.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <utility>

#include "common/base/status.h"

namespace mmc::rpc {

namespace asio = boost::asio;

class PlainStream {
 public:
  using Executor = asio::io_context::executor_type;
  using Socket = asio::basic_stream_socket<asio::ip::tcp, Executor>;
  using Error = boost::system::error_code;

  explicit PlainStream(Socket socket) : socket_(std::move(socket)) {
    Error ignored;  // a socket that is gone already says so at the first read
    socket_.set_option(asio::ip::tcp::no_delay(true), ignored);
    socket_.non_blocking(true, ignored);
  }

  Executor get_executor() { return socket_.get_executor(); }

  template <typename Token>
  auto async_read_some(const asio::mutable_buffer& buffer, Token&& token) {
    return socket_.async_read_some(buffer, std::forward<Token>(token));
  }
  template <typename Token>
  auto async_write_some(const asio::const_buffer& buffer, Token&& token) {
    return socket_.async_write_some(buffer, std::forward<Token>(token));
  }
  // Writes what the kernel takes now.
  size_t TryWrite(const asio::const_buffer& buffer, Error& error) { return socket_.write_some(buffer, error); }

  // Ends pending reads and writes with operation_aborted.
  void Cancel() {
    Error ignored;
    socket_.cancel(ignored);
  }
  void ShutdownSend() {
    Error ignored;
    socket_.shutdown(asio::socket_base::shutdown_send, ignored);
  }
  void Close() {
    Error ignored;
    socket_.close(ignored);
  }
  static Status fault() { return Status::Ok(); }
  static bool Revoked() { return false; }

 private:
  Socket socket_;
};

}  // namespace mmc::rpc
