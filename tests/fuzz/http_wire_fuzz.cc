// The bytes of a connection to the HTTP side, cut into pieces of the size of their first byte, through the parser and
// the limits of the server and on to the pages. No request gets past its limits, and nothing of a stranger reaches a
// key.
#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "meta_service/http/http_server.h"
#include "meta_service/http/router.h"
#include "tests/unit/http_fake_pool.h"

namespace {

namespace http = boost::beast::http;
using namespace mmc::meta::http;

void Check(bool holds) {
  if (!holds) std::abort();
}

FakePool& Pool() {
  static FakePool* const pool = [] {
    auto* made = new FakePool();
    for (int i = 0; i < 300; ++i) made->keys["key-" + std::to_string(i)] = 1;
    return made;
  }();
  return *pool;
}

void Ask(const http::request<http::string_body>& message, Access access) {
  static const Router router(Pool(), {.rpc_url = "tcp://127.0.0.1:5000", .version = "1"});
  const int questions = Pool().key_questions, drains = Pool().drains;
  const Response response = router.Handle({.method = std::string(message.method_string()),
                                           .target = std::string(message.target()),
                                           .unix_seconds = 1,
                                           .body = message.body(),
                                           .access = access});
  Check(response.status >= 200 && response.status < 600);
  if (access == Access::kNone) Check(Pool().key_questions == questions);
  if (access != Access::kAdmin) Check(Pool().drains == drains);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  static const HttpOptions options;
  static Tokens none("", "a setting");
  const size_t step = 1 + data[0];
  boost::beast::flat_buffer buffer(options.max_header_bytes + options.max_body_bytes + 4096);
  size_t at = 1;
  for (int requests = 0; requests < 16 && (at < size || buffer.size() != 0); ++requests) {
    http::request_parser<http::string_body> parser;
    parser.header_limit(options.max_header_bytes);
    parser.body_limit(options.max_body_bytes);
    boost::system::error_code error;
    while (!parser.is_done()) {
      const size_t used = parser.put(buffer.data(), error);
      buffer.consume(used);
      if (parser.is_done() || (error && error != http::error::need_more)) break;
      if (at == size) return 0;  // the connection ends within a request
      const size_t bytes = std::min({step, size - at, buffer.max_size() - buffer.size()});
      if (bytes == 0) return 0;
      boost::asio::buffer_copy(buffer.prepare(bytes), boost::asio::buffer(data + at, bytes));
      buffer.commit(bytes);
      at += bytes;
      error = {};
    }
    if (error) return 0;
    const auto& message = parser.get();
    Check(message.body().size() <= options.max_body_bytes);
    const auto field = message[http::field::authorization];
    Check(none.Of({field.data(), field.size()}).access == Access::kNone);
    for (const Access access : {Access::kNone, Access::kRead, Access::kAdmin}) Ask(message, access);
  }
  return 0;
}
