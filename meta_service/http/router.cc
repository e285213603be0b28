#include "meta_service/http/router.h"

#include <algorithm>
#include <array>
#include <boost/json.hpp>

#include "meta_service/http/drain_jobs.h"
#include "meta_service/http/pages.h"

namespace mmc::meta::http {
namespace {

// Routes that clients of such pages know and this service does not have, with all below them.
constexpr std::array<std::string_view, 4> kNotHere = {
    "/metadata", "/api/v1/remove_all", "/api/v1/analysis/alloc_free_latency", "/metrics/ptracer"};

bool IsNotHere(std::string_view path) {
  return std::any_of(kNotHere.begin(), kNotHere.end(), [path](std::string_view route) {
    return path.substr(0, route.size()) == route &&
           (path.size() == route.size() || path[route.size()] == '/');
  });
}

Response NoEntry(const Request& request, const std::string& page, Access needed, const std::string& how) {
  const bool stranger = request.access == Access::kNone;
  const std::string what = needed == Access::kAdmin ? " changes something" : " names keys or tenants";
  const Status status(Code::kPermission, stranger ? page + what + ": " + how
                                                  : page + what + ": this token may only read, take one of 'admin'");
  Response response = ErrorResponse(stranger ? 401 : 403, status, request.unix_seconds);
  response.ask_token = stranger;
  return response;
}

// The one that the page is about; nothing: none is named, and the caller may see all.
Result<std::optional<std::string>> TenantOf(const Request& request, const Target& target) {
  const std::string* const raw = target.Find("tenant");
  if (raw == nullptr) return request.tenant;
  MMC_ASSIGN_OR_RETURN(const std::string name, PercentDecode(*raw));
  const std::string asked = TenantNamed(name);
  if (!request.tenant || *request.tenant == asked) return std::optional(asked);
  return Status(Code::kPermission, "keys of tenant '" + PrintableKey(name) + "' are for those of that tenant");
}

}  // namespace

Response ErrorResponse(int http_status, const Status& status, int64_t unix_seconds) {
  boost::json::object body;
  body["success"] = false;
  body["error_message"] =
      status.message().empty() ? std::string(CodeMeaning(status.code())) : status.message();
  body["error_code"] = CodeName(status.code());
  body["timestamp"] = unix_seconds;
  Response response;
  response.status = http_status;
  response.content_type = "application/json";
  response.body = boost::json::serialize(body) + "\n";
  return response;
}

Response Router::Handle(const Request& request) const {
  const Result<Target> target = ParseTarget(request.target);
  if (!target.ok()) return ErrorResponse(400, target.status(), request.unix_seconds);
  const std::string shown = PrintableKey(target->path);
  const bool drain_job = IsDrainJobPath(target->path);
  const PageRow row = drain_job ? PageRow{nullptr, DrainJobAccess(target->path)} : FindPage(target->path);
  if (request.access < row.needs) return NoEntry(request, shown, row.needs, info_.how_to_enter);
  if (drain_job) return DrainJobPage(pool_, request, *target);
  if (row.page == nullptr) {
    if (IsNotHere(target->path)) {
      const Status status(Code::kUnsupported, shown + " is not supported by this service");
      return ErrorResponse(501, status, request.unix_seconds);
    }
    return ErrorResponse(404, Status(Code::kNotFound, "no page " + shown), request.unix_seconds);
  }
  if (request.method != "GET" && request.method != "HEAD") {
    const Status status(Code::kUnsupported, shown + " can only be read: use GET");
    Response response = ErrorResponse(405, status, request.unix_seconds);
    response.allow_get = true;
    return response;
  }
  const Result<std::optional<std::string>> tenant = TenantOf(request, *target);
  if (!tenant.ok()) {
    const bool other = tenant.status().code() == Code::kPermission;
    return ErrorResponse(other ? 403 : 200, tenant.status(), request.unix_seconds);
  }
  return row.page({pool_, info_, *target, request.unix_seconds, *tenant});
}

}  // namespace mmc::meta::http
