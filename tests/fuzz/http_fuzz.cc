// Requests as strangers write them, into the pages over a made-up pool: "METHOD target", then maybe a line feed and a
// body. Answers must be whole: a known HTTP status, JSON where it says JSON, and streams that end. Whoever has no leave
// reaches no key and changes nothing.
#include <boost/json.hpp>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "meta_service/http/router.h"
#include "tests/unit/http_fake_pool.h"

namespace {

using namespace mmc::meta::http;

FakePool& Pool() {
  static FakePool* const pool = [] {
    auto* made = new FakePool();
    for (int i = 0; i < 1500; ++i)
      made->keys["key-" + std::to_string(i)] = 1 + static_cast<uint64_t>(i);
    made->keys["a,b&c=d%\n\xff"] = 7;
    return made;
  }();
  return *pool;
}

void Check(bool holds) {
  if (!holds) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Router router(Pool(), {.rpc_url = "tcp://127.0.0.1:5000", .version = "1"});
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const size_t space = text.find(' ');
  Request request{.method = std::string(text.substr(0, space)), .unix_seconds = 1};
  if (space != std::string_view::npos) {
    const std::string_view rest = text.substr(space + 1);
    const size_t line = rest.find('\n');
    request.target = rest.substr(0, line);
    if (line != std::string_view::npos) request.body = rest.substr(line + 1);
  }
  FakePool& pool = Pool();
  const int questions = pool.key_questions, drains = pool.drains;
  const Response refused = router.Handle(request);
  Check(pool.key_questions == questions && pool.drains == drains);
  request.access = Access::kRead;
  router.Handle(request);
  Check(pool.drains == drains);
  request.access = Access::kAdmin;
  const Response response = router.Handle(request);
  Check(response.status != 401 && response.status != 403);
  if (refused.status == 401) Check(refused.ask_token && !refused.more);
  switch (response.status) {
    case 200:
    case 400:
    case 404:
    case 405:
    case 501:
      break;
    default:
      Check(false);
  }
  if (response.content_type == "application/json") boost::json::parse(response.body);
  if (response.more) {
    int pieces = 0;
    for (bool end = response.body.empty(); !end; ++pieces) {
      const auto piece = response.more();
      Check(piece.ok());
      end = piece->empty();
    }
    Check(pieces < 100);
  }
  // A key as it is shown can be asked for.
  const auto decoded = PercentDecode(PrintableKey(text));
  Check(decoded.ok() && *decoded == text);
  return 0;
}
