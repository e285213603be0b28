#include "meta_service/http/http_server.h"

#include <openssl/err.h>

#include <algorithm>
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
#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <boost/beast/http/write.hpp>
#include <set>
#include <sstream>
#include <thread>
#include <utility>
#include <vector>

#include "common/base/mutex.h"
#include "common/obs/log.h"
#include "common/rpc/server_core.h"
#include "common/rpc/url.h"
#include "meta_service/http/http_stream.h"

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
    Session(tcp::socket socket, security::SslPtr ssl) : stream(std::move(socket), std::move(ssl)) {}
    HttpStream stream;
    bool idle = true;  // between two requests: closing it loses nothing
    Caller caller;  // by its address or certificate
    uint64_t key_updates = 0;  // of the peer, up to the request before
  };
  using Parser = beast::http::request_parser<beast::http::string_body>;
  using Head = beast::http::response<beast::http::empty_body>;

  Impl(HttpOptions opts, const Router& r)
      : options(std::move(opts)), router(r), tokens(options.token_path, options.token_key) {}

  Status Bind();
  asio::awaitable<void> Accept();
  // Closes them and waits until they have ended, at most until `deadline`.
  void CloseSessions(bool idle_only, TimePoint deadline) MMC_EXCLUDES(mutex);
  std::shared_ptr<Session> MakeSession(tcp::socket socket);
  asio::awaitable<void> Serve(std::shared_ptr<Session> session);
  asio::awaitable<bool> Handshake(Session& session);
  asio::awaitable<bool> ReadFirstBytes(Session& session, beast::flat_buffer& buffer, bool first);
  asio::awaitable<error_code> ReadRequest(Session& session, beast::flat_buffer& buffer, Parser& parser);
  asio::awaitable<void> ServeRequests(Session& session);
  asio::awaitable<void> End(Session& session);
  Request RequestOf(const beast::http::request<beast::http::string_body>& message, Caller caller);
  // False: the connection is of no use any more.
  asio::awaitable<bool> Answer(Session& session, Response response, unsigned version, bool head,
                               bool keep_alive);
  asio::awaitable<bool> Stream(Session& session, Response& response, std::string head, bool chunked);
  asio::awaitable<bool> Write(Session& session, std::string_view bytes);
  asio::awaitable<void> Discard(HttpStream& stream, beast::flat_buffer& buffer);
  static bool ChangesKeysOnly(Session& session);
  void LogRefusal(Session& session, error_code error);
  void Forget(const std::shared_ptr<Session>& session);

  const HttpOptions options;
  const Router& router;
  Tokens tokens;
  bool trusting = false;  // of everybody: loopback, without TLS and tokens
  rpc::LogLimit refusals_log;
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
  trusting = options.tls == nullptr && !tokens.configured() && endpoint.address().is_loopback();
  return Status::Ok();
}

std::shared_ptr<HttpServer::Impl::Session> HttpServer::Impl::MakeSession(tcp::socket socket) {
  security::SslPtr ssl;
  if (options.tls != nullptr) {
    auto made = options.tls->NewServer(security::TlsContext::ClientCertificate::kOptional);
    if (!made.ok()) {
      MMC_LOG(WARNING) << "an HTTP connection is closed: " << made.status().ToString();
      return nullptr;
    }
    ssl = *std::move(made);
  }
  auto session = std::make_shared<Session>(std::move(socket), std::move(ssl));
  if (trusting) session->caller.access = Access::kAdmin;
  return session;
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
    const std::shared_ptr<Session> session = MakeSession(std::move(socket));
    if (session == nullptr) continue;
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

// True: the peer speaks TLS, and showed a certificate that holds or none.
asio::awaitable<bool> HttpServer::Impl::Handshake(Session& session) {
  constexpr char kTlsHandshake = 0x16;  // what the first record of TLS begins with
  HttpStream& stream = session.stream;
  stream.ExpiresAfter(options.request_timeout);
  char first = 0;
  const HttpStream::Taken taken = co_await stream.ReadSome(asio::buffer(&first, 1));
  if (taken.error) co_return false;
  if (first != kTlsHandshake) {
    const std::string_view words =
        "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n"
        "this port speaks TLS: use https://\n";
    co_await stream.Write(words);
    beast::flat_buffer rest(kReadBytes);
    co_await Discard(stream, rest);
    co_return false;
  }
  const error_code error = co_await stream.Handshake(asio::buffer(&first, 1));
  if (error) {
    LogRefusal(session, error);
    co_return false;
  }
  const Result<security::Identity> peer = security::TlsContext::PeerIdentity(stream.ssl());
  if (!peer.ok()) co_return false;  // the handshake has judged it: this does not happen
  session.caller = CallerOf(*peer);
  co_return true;
}

void HttpServer::Impl::LogRefusal(Session& session, error_code error) {
  if (error.category() != asio::error::get_ssl_category()) return;  // the peer is gone, or too slow
  uint64_t left_out = 0;
  if (!refusals_log.Allow(Clock::Real().Now(), &left_out)) return;
  ERR_clear_error();
  ERR_new();  // Asio has taken the error from OpenSSL's list, which the words are made from
  ERR_set_error(ERR_GET_LIB(error.value()), ERR_GET_REASON(error.value()), nullptr);
  const Status words = security::TlsContext::Describe(session.stream.ssl(), SSL_ERROR_SSL, 0);
  error_code unknown;
  const tcp::endpoint peer = session.stream.socket().remote_endpoint(unknown);
  MMC_LOG(WARNING) << "HTTP: no TLS with " << (unknown ? "a peer" : peer.address().to_string()) << ": "
                   << words.message() << (left_out == 0 ? "" : "; and " + std::to_string(left_out) + " like it");
}

asio::awaitable<bool> HttpServer::Impl::ReadFirstBytes(Session& session, beast::flat_buffer& buffer, bool first) {
  if (buffer.size() != 0) co_return true;  // of a request that came with the one before
  session.stream.ExpiresAfter(first ? options.request_timeout : options.idle_timeout);
  const HttpStream::Taken taken = co_await session.stream.ReadSome(buffer.prepare(kReadBytes));
  buffer.commit(taken.bytes);
  co_return !taken.error;
}

asio::awaitable<void> HttpServer::Impl::Serve(std::shared_ptr<Session> session) {
  bool understood = true;
  if (session->stream.has_tls()) understood = co_await Handshake(*session);
  if (understood) {
    co_await ServeRequests(*session);
    co_await End(*session);
  }
  Forget(session);
}

// Says that nothing follows: with HTTP/1.0 that is the end of a body, which a stranger must not be able to make up.
asio::awaitable<void> HttpServer::Impl::End(Session& session) {
  if (session.stream.has_tls() && session.stream.socket().is_open()) {
    session.stream.ExpiresAfter(kDiscardTime);
    co_await session.stream.Shutdown();
  }
  error_code ignored;
  session.stream.socket().shutdown(tcp::socket::shutdown_send, ignored);
}

Request HttpServer::Impl::RequestOf(const beast::http::request<beast::http::string_body>& message, Caller caller) {
  if (caller.access < Access::kAdmin && tokens.configured()) {
    const auto field = message[beast::http::field::authorization];
    const Caller by_token = tokens.Of({field.data(), field.size()});
    if (by_token.access > caller.access) caller = by_token;
  }
  return {.method = std::string(message.method_string()),
          .target = std::string(message.target()),
          .unix_seconds = UnixSeconds(),
          .body = message.body(),
          .access = caller.access,
          .tenant = std::move(caller.tenant)};
}

// New keys without end make this side compute and carry nothing. Within a request its time is the limit.
bool HttpServer::Impl::ChangesKeysOnly(Session& session) {
  constexpr uint64_t kMost = 32;
  if (!session.stream.has_tls()) return false;
  const uint64_t updates = security::TlsContext::KeyUpdates(session.stream.ssl());
  return updates - std::exchange(session.key_updates, updates) > kMost;
}

// Until the parser has a whole request. What came behind it stays in the buffer.
asio::awaitable<error_code> HttpServer::Impl::ReadRequest(Session& session, beast::flat_buffer& buffer,
                                                          Parser& parser) {
  parser.eager(true);
  for (;;) {
    error_code error = beast::http::error::need_more;
    if (buffer.size() != 0) buffer.consume(parser.put(buffer.data(), error));
    if (error != beast::http::error::need_more) {
      if (error || parser.is_done()) co_return error;
      continue;
    }
    const size_t room = std::min(kReadBytes, buffer.max_size() - buffer.size());
    if (room == 0) co_return beast::http::error::buffer_overflow;
    const HttpStream::Taken taken = co_await session.stream.ReadSome(buffer.prepare(room));
    buffer.commit(taken.bytes);
    error = taken.error;
    if (error == asio::error::eof) {
      if (!parser.got_some()) co_return beast::http::error::end_of_stream;
      error = {};
      parser.put_eof(error);
      co_return error;
    }
    if (error) co_return error;
  }
}

asio::awaitable<void> HttpServer::Impl::ServeRequests(Session& session) {
  beast::flat_buffer buffer(options.max_header_bytes + options.max_body_bytes + kReadBytes);
  bool open = true;
  for (bool first = true; open && !closing; first = false) {
    session.idle = true;
    if (!co_await ReadFirstBytes(session, buffer, first)) break;
    session.idle = false;
    Parser parser;
    parser.header_limit(options.max_header_bytes);
    parser.body_limit(options.max_body_bytes);
    session.stream.ExpiresAfter(options.request_timeout);
    const error_code error = co_await ReadRequest(session, buffer, parser);
    const bool link_failed = error && (error.category() == asio::error::get_system_category() ||
                                       error.category() == asio::error::get_ssl_category());
    if (error == beast::http::error::end_of_stream || error == beast::error::timeout || link_failed) break;
    if (ChangesKeysOnly(session)) break;
    if (error) {
      if (co_await Answer(session, ParseFailure(error), 11, false, false))
        co_await Discard(session.stream, buffer);
      break;
    }
    const auto& message = parser.get();
    const bool revoked = session.stream.has_tls() && security::TlsContext::PeerRevoked(session.stream.ssl());
    const Request request = RequestOf(message, revoked ? Caller() : session.caller);
    const bool keep_alive = message.keep_alive() && !closing && !revoked;
    open = co_await Answer(session, router.Handle(request), message.version(), request.method == "HEAD", keep_alive);
    open = open && keep_alive;
  }
}

// Closing with bytes unread resets the connection, and the peer may lose the answer that says why:
// take some first.
asio::awaitable<void> HttpServer::Impl::Discard(HttpStream& stream, beast::flat_buffer& buffer) {
  error_code ignored;
  if (!stream.secured()) stream.socket().shutdown(tcp::socket::shutdown_send, ignored);
  stream.ExpiresAfter(kDiscardTime);
  for (size_t all = 0; all < kDiscardBytes;) {
    buffer.clear();
    const HttpStream::Taken taken = co_await stream.ReadSome(buffer.prepare(kReadBytes));
    if (taken.error) break;
    all += taken.bytes;
  }
}

asio::awaitable<bool> HttpServer::Impl::Write(Session& session, std::string_view bytes) {
  session.stream.ExpiresAfter(options.write_timeout);
  const error_code error = co_await session.stream.Write(bytes);
  co_return !error;
}

asio::awaitable<bool> HttpServer::Impl::Answer(Session& session, Response response,
                                               unsigned version, bool head, bool keep_alive) {
  Head reply;
  reply.version(version == 10 ? 10 : 11);
  reply.result(static_cast<unsigned>(response.status));
  reply.set(beast::http::field::server, "mmc_meta_service");
  reply.set(beast::http::field::content_type, response.content_type);
  reply.set(beast::http::field::cache_control, "no-store");
  if (response.ask_token) reply.set(beast::http::field::www_authenticate, "Bearer");
  if (response.allow_get) reply.set(beast::http::field::allow, "GET, HEAD");
  const bool streamed = response.more != nullptr;
  const bool chunked = streamed && version != 10;
  // Without chunks the end of the connection is the end of the body.
  reply.keep_alive(keep_alive && (!streamed || chunked));
  if (chunked) reply.chunked(true);
  if (!streamed) reply.content_length(response.body.size());
  std::ostringstream text;
  text << reply.base();
  if (!head && !streamed) text << response.body;
  const std::string bytes = std::move(text).str();
  if (streamed && !head) co_return co_await Stream(session, response, bytes, chunked);
  const bool written = co_await Write(session, bytes);
  co_return written && (!head || reply.keep_alive());
}

asio::awaitable<bool> HttpServer::Impl::Stream(Session& session, Response& response, std::string head,
                                               bool chunked) {
  if (!co_await Write(session, head)) co_return false;
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
  MMC_RETURN_IF_ERROR(impl_->tokens.Load());
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
