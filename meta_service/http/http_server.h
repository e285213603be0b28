// HttpServer: HTTP/1.1 in front of a Router, in the clear or over TLS, with a limit on everything a stranger can send.
//
// Who asks is known by a token or, over TLS, by a client certificate (access.h); a certificate that does not hold ends
// the handshake, none at all is a stranger. A server without TLS and without tokens trusts everybody when its address
// is a loopback one, and nobody otherwise.
//
// Thread safety: Start and Stop from one thread, the rest from any. Ownership: owns its threads and
// connections; the router must outlive it.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "common/base/clock.h"
#include "common/base/status.h"
#include "common/security/tls_context.h"
#include "meta_service/http/router.h"

namespace mmc::meta::http {

struct HttpOptions {
  std::string url;  // "http://127.0.0.1:8000", "http://[::1]:0"; port 0: a free one
  std::string url_key = "ock.mmc.meta_service.metrics_url";  // named when the address is taken
  int threads = 2;
  uint32_t max_connections = 256;  // more are closed as they come
  uint32_t max_header_bytes = 16 << 10;
  uint32_t max_body_bytes = 64 << 10;
  std::chrono::milliseconds idle_timeout{60'000};     // between two requests of one connection
  // For the TLS handshake, for the first byte after it, and for all of one request.
  std::chrono::milliseconds request_timeout{10'000};
  std::chrono::milliseconds write_timeout{30'000};    // for one piece of a response
  std::shared_ptr<security::TlsContext> tls;          // null: in the clear
  std::string token_path;                             // file of tokens; empty: none
  std::string token_key = "ock.mmc.meta_service.http.token.path";  // its setting, for messages
};

class HttpServer {
 public:
  HttpServer(HttpOptions options, const Router& router);
  ~HttpServer();  // Stop(now)
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  // Errors: kConfig (url, tokens), kIo (the address cannot be had; the message names the key to change).
  Status Start();
  // Takes no new connection or request, lets running responses finish until `deadline`. Idempotent.
  void Stop(TimePoint deadline);

  uint16_t port() const;
  uint64_t connections() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace mmc::meta::http
