#include "meta_service/http/http_stream.h"

#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <tuple>
#include <utility>

namespace mmc::meta::http {
namespace {

namespace asio = boost::asio;

constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);
constexpr size_t kWriteBytes = 64 << 10;  // at once

}  // namespace

HttpStream::HttpStream(tcp::socket socket, security::SslPtr ssl) : tcp_(std::move(socket)) {
  if (ssl != nullptr) tls_ = std::make_unique<Tls>(tcp_, ssl.release());
}

asio::awaitable<HttpStream::Error> HttpStream::Handshake(asio::const_buffer first) {
  auto [error, bytes] = co_await tls_->async_handshake(asio::ssl::stream_base::server, first, kAwait);
  secured_ = !error;
  co_return error;
}

asio::awaitable<void> HttpStream::Shutdown() { co_await tls_->async_shutdown(kAwait); }

asio::awaitable<HttpStream::Taken> HttpStream::ReadSome(asio::mutable_buffer room) {
  std::tuple<Error, size_t> taken;
  if (secured_) {
    taken = co_await tls_->async_read_some(room, kAwait);
  } else {
    taken = co_await tcp_.async_read_some(room, kAwait);
  }
  co_return Taken{std::get<0>(taken), std::get<1>(taken)};
}

asio::awaitable<HttpStream::Error> HttpStream::Write(std::string_view bytes) {
  while (!bytes.empty()) {
    const asio::const_buffer next(bytes.data(), std::min(bytes.size(), kWriteBytes));
    std::tuple<Error, size_t> taken;
    if (secured_) {
      taken = co_await tls_->async_write_some(next, kAwait);
    } else {
      taken = co_await tcp_.async_write_some(next, kAwait);
    }
    if (std::get<0>(taken)) co_return std::get<0>(taken);
    bytes.remove_prefix(std::get<1>(taken));
  }
  co_return Error();
}

}  // namespace mmc::meta::http
