// Router: which page answers which request. Requests and responses are plain values, so that every
// page can be tested, and fuzzed, without a socket.
//
//   pages      /metrics /metrics/summary /health /ready /role /ha_status /leader /get_all_keys
//              /query_key /batch_query_keys /get_all_segments /query_segment
//              /get_segments_detail /api/v1/segments/status /api/v1/capacity/usage
//              /api/v1/capacity/segment_remaining /api/v1/tenants
//   read only  another method than GET or HEAD answers 405; only drain_jobs.h has pages that change
//              something
//   tenants    pages that name keys show those of the caller's tenant; whoever may see all names one with the
//              parameter tenant, and sees those of the default tenant without it
//   access     what names keys or tenants, and what changes something, needs it (access.h): 401 for a stranger,
//              403 for one who may only read
//   not here   routes that change something, or that have nothing to show, answer 501
//   errors     {"success": false, "error_message", "error_code", "timestamp"}; what a page cannot
//              answer (an unknown key or segment, a missing parameter) comes with HTTP 200, as
//              scripts written for such pages expect
//   segments   "<node name>-<medium>"; "rank-<N>-<medium>" also names the node with id N
//
// Thread safety: Handle from any thread. Ownership: the view must outlive the router and the
// responses.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "common/base/status.h"
#include "meta_service/http/access.h"
#include "meta_service/http/pool_view.h"
#include "meta_service/http/target.h"

namespace mmc::meta::http {

struct Request {
  std::string method;  // "GET"
  std::string target;  // "/query_key?key=a"
  int64_t unix_seconds = 0;
  std::string body;
  Access access = Access::kNone;  // of whoever asks, and
  std::optional<std::string> tenant;  // the only tenant whose keys he may see; nothing: all
};

struct Response {
  int status = 200;
  std::string content_type = "text/plain; charset=utf-8";
  std::string body;
  bool allow_get = false;  // 405: send the Allow header
  bool ask_token = false;  // 401: send the WWW-Authenticate header
  // When set, the body goes on with what this answers, piece by piece; an empty piece ends it. An
  // error breaks the connection, so that the reader sees that the body is not complete.
  std::function<Result<std::string>()> more;
};

struct PageInfo {
  std::string rpc_url;  // of this meta service, for /leader
  std::string version;
  std::string how_to_enter = "send a token";  // what a stranger is told
};

class Router {
 public:
  Router(PoolView& pool, PageInfo info) : pool_(pool), info_(std::move(info)) {}
  Response Handle(const Request& request) const;

 private:
  PoolView& pool_;
  const PageInfo info_;
};

// The response of an error in the shape above. `http_status` 200 unless the request itself is
// wrong.
Response ErrorResponse(int http_status, const Status& status, int64_t unix_seconds);

}  // namespace mmc::meta::http
