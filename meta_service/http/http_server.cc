#include "meta_service/http/http_server.h"

#include <atomic>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/v6_only.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "common/base/mutex.h"
#include "common/obs/log.h"
#include "common/rpc/url.h"

namespace mmc::meta::http {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
using tcp = asio::ip::tcp;
using boost::system::error_code;

constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);
constexpr size_t kReadBytes = 4096;
constexpr size_t kDiscardBytes = 1 << 20;
constexpr std::chrono::seconds kDiscardTime{1};
constexpr std::chrono::seconds kCutOff{1};

int64_t UnixSeconds() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

// What a request that does not parse is answered with.
Response ParseFailure(error_code error) {
  const int status =
      error == beast::http::error::header_limit || error == beast::http::error::buffer_overflow
          ? 431
      : error == beast::http::error::body_limit ? 413
                                                : 400;
  const char* const what = status == 431   ? "the request's header is too long"
                           : status == 413 ? "the request's body is too long"
                                           : "this is not an HTTP request";
  return ErrorResponse(status, Status(status == 400 ? Code::kMalformed : Code::kTooLarge, what),
                       UnixSeconds());
}

}  // namespace

struct HttpServer::Impl {
  // One connection. Everything but `closing` is touched on its strand only.
  struct Session {
    explicit Session(beast::tcp_stream s) : stream(std::move(s)) {}
    beast::tcp_stream stream;
    bool idle = true;  // between two requests: closing it loses nothing
  };
  using Reply = beast::http::response<beast::http::string_body>;

  Impl(HttpOptions opts, const Router& r) : options(std::move(opts)), router(r) {}

  Status Bind();
  asio::awaitable<void> Accept();
  // Closes them and waits until they have ended, at most until `deadline`.
  void CloseSessions(bool idle_only, TimePoint deadline) MMC_EXCLUDES(mutex);
  asio::awaitable<void> Serve(std::shared_ptr<Session> session);
  asio::awaitable<bool> ReadFirstBytes(Session& session, beast::flat_buffer& buffer);
  // False: the connection is of no use any more.
  asio::awaitable<bool> Answer(Session& session, Response response, unsigned version, bool head,
                               bool keep_alive);
  asio::awaitable<bool> Stream(Session& session, Response& response, Reply& head, bool chunked);
  asio::awaitable<bool> Write(Session& session, std::string_view bytes);
  asio::awaitable<void> Discard(Session& session, beast::flat_buffer& buffer);
  void Forget(const std::shared_ptr<Session>& session);

  const HttpOptions options;
  const Router& router;
  asio::io_context context;
  tcp::acceptor acceptor{context};
  std::vector<std::thread> threads;
  std::atomic<bool> closing{false};
  std::atomic<uint16_t> port{0};
  Mutex mutex;
  CondVar changed;
  std::set<std::shared_ptr<Session>> sessions MMC_GUARDED_BY(mutex);
};

Status HttpServer::Impl::Bind() {
  const Result<rpc::Url> url = rpc::ParseUrl(options.url);
  if (!url.ok()) return Status(Code::kConfig, options.url_key + ": " + url.status().message());
  error_code error;
  tcp::resolver resolver(context);
  const auto found =
      resolver.resolve(url->host, std::to_string(url->port), tcp::resolver::passive, error);
  if (error || found.empty()) {
    return Status(Code::kIo, options.url_key + " = " + options.url +
                                 ": the host is not known: " + error.message());
  }
  const tcp::endpoint endpoint = found.begin()->endpoint();
  acceptor.open(endpoint.protocol(), error);
  if (!error) acceptor.set_option(tcp::acceptor::reuse_address(true), error);
  if (!error) acceptor.bind(endpoint, error);
  if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
  if (error == asio::error::address_in_use) {
    return Status(Code::kIo, "address " + options.url +
                                 " is in use by another process; stop that one or set " +
                                 options.url_key + " to another port");
  }
  if (error)
    return Status(Code::kIo, options.url_key + " = " + options.url + ": " + error.message());
  port = acceptor.local_endpoint(error).port();
  return Status::Ok();
}

asio::awaitable<void> HttpServer::Impl::Accept() {
  asio::steady_timer pause(context);
  while (!closing) {
    auto [error, socket] = co_await acceptor.async_accept(asio::make_strand(context), kAwait);
    if (closing) break;
    if (error) {
      // Out of descriptors, most likely: wait instead of spinning.
      pause.expires_after(std::chrono::milliseconds(100));
      co_await pause.async_wait(kAwait);
      continue;
    }
    auto session = std::make_shared<Session>(beast::tcp_stream(std::move(socket)));
    {
      MutexLock lock(mutex);
      if (sessions.size() >= options.max_connections) continue;  // closes it
      sessions.insert(session);
    }
    asio::co_spawn(session->stream.get_executor(), Serve(session), asio::detached);
  }
}

void HttpServer::Impl::Forget(const std::shared_ptr<Session>& session) {
  MutexLock lock(mutex);
  sessions.erase(session);
  changed.NotifyAll();
}

asio::awaitable<bool> HttpServer::Impl::ReadFirstBytes(Session& session,
                                                       beast::flat_buffer& buffer) {
  if (buffer.size() != 0) co_return true;  // of a request that came with the one before
  session.stream.expires_after(options.idle_timeout);
  auto [error, bytes] = co_await session.stream.async_read_some(buffer.prepare(kReadBytes), kAwait);
  buffer.commit(bytes);
  co_return !error;
}

asio::awaitable<void> HttpServer::Impl::Serve(std::shared_ptr<Session> session) {
  beast::flat_buffer buffer(options.max_header_bytes + options.max_body_bytes + kReadBytes);
  bool open = true;
  while (open && !closing) {
    session->idle = true;
    if (!co_await ReadFirstBytes(*session, buffer)) break;
    session->idle = false;
    beast::http::request_parser<beast::http::string_body> parser;
    parser.header_limit(options.max_header_bytes);
    parser.body_limit(options.max_body_bytes);
    session->stream.expires_after(options.request_timeout);
    auto [error, bytes] = co_await beast::http::async_read(session->stream, buffer, parser, kAwait);
    const bool link_failed = error && error.category() == asio::error::get_system_category();
    if (error == beast::http::error::end_of_stream || error == beast::error::timeout || link_failed)
      break;
    if (error) {
      if (co_await Answer(*session, ParseFailure(error), 11, false, false))
        co_await Discard(*session, buffer);
      break;
    }
    const auto& message = parser.get();
    const Request request{.method = std::string(message.method_string()),
                          .target = std::string(message.target()),
                          .unix_seconds = UnixSeconds(),
                          .body = message.body()};
    const bool keep_alive = message.keep_alive() && !closing;
    open = co_await Answer(*session, router.Handle(request), message.version(),
                           request.method == "HEAD", keep_alive);
    open = open && keep_alive;
  }
  error_code ignored;
  session->stream.socket().shutdown(tcp::socket::shutdown_send, ignored);
  Forget(session);
}

// Closing with bytes unread resets the connection, and the peer may lose the answer that says why:
// take some first.
asio::awaitable<void> HttpServer::Impl::Discard(Session& session, beast::flat_buffer& buffer) {
  error_code ignored;
  session.stream.socket().shutdown(tcp::socket::shutdown_send, ignored);
  session.stream.expires_after(kDiscardTime);
  for (size_t taken = 0; taken < kDiscardBytes;) {
    buffer.clear();
    auto [error, bytes] =
        co_await session.stream.async_read_some(buffer.prepare(kReadBytes), kAwait);
    if (error) break;
    taken += bytes;
  }
}

asio::awaitable<bool> HttpServer::Impl::Write(Session& session, std::string_view bytes) {
  session.stream.expires_after(options.write_timeout);
  auto [error, written] =
      co_await asio::async_write(session.stream, asio::buffer(bytes.data(), bytes.size()), kAwait);
  co_return !error;
}

asio::awaitable<bool> HttpServer::Impl::Answer(Session& session, Response response,
                                               unsigned version, bool head, bool keep_alive) {
  Reply reply;
  reply.version(version == 10 ? 10 : 11);
  reply.result(static_cast<unsigned>(response.status));
  reply.set(beast::http::field::server, "mmc_meta_service");
  reply.set(beast::http::field::content_type, response.content_type);
  reply.set(beast::http::field::cache_control, "no-store");
  if (response.allow_get) reply.set(beast::http::field::allow, "GET, HEAD");
  const bool streamed = response.more != nullptr;
  const bool chunked = streamed && version != 10;
  // Without chunks the end of the connection is the end of the body.
  reply.keep_alive(keep_alive && (!streamed || chunked));
  if (chunked) reply.chunked(true);
  if (streamed && !head) co_return co_await Stream(session, response, reply, chunked);
  if (!streamed) reply.content_length(response.body.size());
  if (!head) reply.body() = std::move(response.body);
  session.stream.expires_after(options.write_timeout);
  beast::http::response_serializer<beast::http::string_body> serializer(reply);
  if (head) {
    auto [error, bytes] =
        co_await beast::http::async_write_header(session.stream, serializer, kAwait);
    co_return !error && reply.keep_alive();
  }
  auto [error, bytes] = co_await beast::http::async_write(session.stream, serializer, kAwait);
  co_return !error;
}

asio::awaitable<bool> HttpServer::Impl::Stream(Session& session, Response& response, Reply& head,
                                               bool chunked) {
  session.stream.expires_after(options.write_timeout);
  beast::http::response_serializer<beast::http::string_body> serializer(head);
  auto [error, bytes] =
      co_await beast::http::async_write_header(session.stream, serializer, kAwait);
  if (error) co_return false;
  std::string piece = std::move(response.body);
  while (!piece.empty()) {
    if (chunked) {
      char size[24];
      std::snprintf(size, sizeof size, "%zx\r\n", piece.size());
      piece.insert(0, size);
      piece += "\r\n";
    }
    if (!co_await Write(session, piece)) co_return false;
    Result<std::string> next = response.more();
    if (!next.ok()) {
      MMC_LOG(WARNING) << "an HTTP response broke off: " << next.status().ToString();
      co_return false;  // without the last chunk: the reader sees that the body is not whole
    }
    piece = *std::move(next);
  }
  if (chunked && !co_await Write(session, "0\r\n\r\n")) co_return false;
  co_return chunked;
}

HttpServer::HttpServer(HttpOptions options, const Router& router)
    : impl_(std::make_unique<Impl>(std::move(options), router)) {}

void HttpServer::Impl::CloseSessions(bool idle_only, TimePoint deadline) {
  MutexLock lock(mutex);
  for (const std::shared_ptr<Session>& session : sessions) {
    asio::post(session->stream.get_executor(), [session, idle_only] {
      if (session->idle || !idle_only) session->stream.close();
    });
  }
  while (!sessions.empty() && Clock::Real().Now() < deadline) changed.WaitUntil(mutex, deadline);
}

HttpServer::~HttpServer() { Stop(Clock::Real().Now()); }

Status HttpServer::Start() {
  MMC_RETURN_IF_ERROR(impl_->Bind());
  asio::co_spawn(impl_->context, impl_->Accept(), asio::detached);
  for (int i = 0; i < impl_->options.threads; ++i) {
    impl_->threads.emplace_back([impl = impl_.get()] { impl->context.run(); });
  }
  return Status::Ok();
}

void HttpServer::Stop(TimePoint deadline) {
  Impl& impl = *impl_;
  if (impl.threads.empty()) return;
  impl.closing = true;
  asio::post(impl.context, [&impl] {
    error_code ignored;
    impl.acceptor.close(ignored);
  });
  impl.CloseSessions(/*idle_only=*/true, deadline);
  // What still runs is cut off: its handlers end as soon as they see their stream closed.
  impl.CloseSessions(/*idle_only=*/false, Clock::Real().Now() + kCutOff);
  impl.context.stop();
  for (std::thread& thread : impl.threads) thread.join();
  impl.threads.clear();
}

uint16_t HttpServer::port() const { return impl_->port.load(); }

uint64_t HttpServer::connections() const {
  MutexLock lock(impl_->mutex);
  return impl_->sessions.size();
}

}  // namespace mmc::meta::http
