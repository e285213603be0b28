// What a connection needs of its byte stream, over TLS: the same members as PlainStream, after the handshake.
//
// Thread safety: none; lives on one io thread. Ownership: owns the socket and the session.
#pragma once

#include <boost/asio/buffer.hpp>
#include <boost/asio/compose.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/post.hpp>
#include <memory>
#include <span>
#include <utility>

#include "common/rpc/plain_stream.h"
#include "common/security/tls_session.h"

namespace mmc::rpc {

class TlsStream {
 public:
  using Executor = PlainStream::Executor;
  using Socket = PlainStream::Socket;
  using Error = PlainStream::Error;
  using Session = security::TlsSession;

  // REQUIRES: the session's handshake over this socket, which is non-blocking, is done.
  TlsStream(Socket socket, std::unique_ptr<Session> session)
      : socket_(std::move(socket)), session_(std::move(session)) {}

  Executor get_executor() { return socket_.get_executor(); }

  template <typename Token>
  auto async_read_some(const asio::mutable_buffer& buffer, Token&& token) {
    const auto step = [session = session_.get(), buffer] {
      return session->Read({static_cast<std::byte*>(buffer.data()), buffer.size()});
    };
    return asio::async_compose<Token, void(Error, size_t)>(Steps<decltype(step)>{*this, step}, token, socket_);
  }
  template <typename Token>
  auto async_write_some(const asio::const_buffer& buffer, Token&& token) {
    const auto step = [session = session_.get(), buffer] {
      return session->Write({static_cast<const std::byte*>(buffer.data()), buffer.size()});
    };
    return asio::async_compose<Token, void(Error, size_t)>(Steps<decltype(step)>{*this, step}, token, socket_);
  }
  size_t TryWrite(const asio::const_buffer& buffer, Error& error) {
    const auto outcome = session_->Write({static_cast<const std::byte*>(buffer.data()), buffer.size()});
    error = ErrorOf(outcome);
    if (outcome.want != Session::Want::kNothing) error = asio::error::would_block;
    return outcome.bytes;
  }

  void Cancel() {
    Error ignored;
    socket_.cancel(ignored);
  }
  void ShutdownSend() {
    Error ignored;
    session_->Shutdown();
    socket_.shutdown(asio::socket_base::shutdown_send, ignored);
  }
  void Close() {
    Error ignored;
    socket_.close(ignored);
  }
  // What the peer did that ended the stream, when that was worse than going away.
  const Status& fault() const { return fault_; }
  // Its certificate has been revoked since the handshake.
  bool Revoked() { return session_->Revoked(); }

 private:
  // Runs `step` until it has moved bytes or failed, waiting for the socket in between.
  template <typename Step>
  struct Steps {
    TlsStream& stream;
    Step step;
    bool waited = false;  // the first step completes through the executor, as asynchronous operations must
    bool ended = false;
    Error error{};
    size_t bytes = 0;

    template <typename Self>
    void operator()(Self& self, const Error& wait_error = {}) {
      if (wait_error) error = wait_error;
      if (wait_error || ended) {
        self.complete(error, bytes);
        return;
      }
      const Session::Outcome outcome = step();
      Socket& socket = stream.socket_;
      if (outcome.want != Session::Want::kNothing) {
        waited = true;
        socket.async_wait(outcome.want == Session::Want::kRead ? Socket::wait_read : Socket::wait_write,
                          std::move(self));
        return;
      }
      if (outcome.failure.code() == Code::kMalformed) stream.fault_ = outcome.failure;
      error = ErrorOf(outcome);
      bytes = outcome.bytes;
      if (waited) {
        self.complete(error, bytes);
        return;
      }
      ended = true;
      asio::post(socket.get_executor(), std::move(self));
    }
  };

  static Error ErrorOf(const Session::Outcome& outcome) {
    if (outcome.end) return asio::error::eof;
    if (!outcome.failure.ok()) return asio::error::connection_aborted;
    return {};
  }

  Socket socket_;
  std::unique_ptr<Session> session_;
  Status fault_;
};

}  // namespace mmc::rpc
