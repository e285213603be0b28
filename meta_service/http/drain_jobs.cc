#include "meta_service/http/drain_jobs.h"

#include <boost/json.hpp>

namespace mmc::meta::http {
namespace {

namespace json = boost::json;

constexpr std::string_view kStart = "/api/v1/drain_jobs";
constexpr std::string_view kQuery = "/api/v1/drain_jobs/query";
constexpr std::string_view kCancel = "/api/v1/drain_jobs/cancel";

Response Json(const json::object& object) {
  Response response;
  response.content_type = "application/json";
  response.body = json::serialize(object) + "\n";
  return response;
}

// "a-dram" is a segment of node "a"; a node's own name stands for itself.
const proto::Node* FindNode(const proto::ClusterStatusReply& cluster, std::string_view name) {
  for (const proto::Node& node : cluster.nodes()) {
    if (node.name() == name) return &node;
  }
  for (const proto::Node& node : cluster.nodes()) {
    for (const char* medium : {"-dram", "-hbm", "-ssd"}) {
      if (node.name() + medium == name) return &node;
    }
  }
  return nullptr;
}

// The one name in the body's list. Errors: kMalformed, kInvalidArgument.
Result<std::string> NameInBody(const std::string& body) {
  boost::system::error_code error;
  const json::value value = json::parse(body, error);
  if (error || !value.is_object()) return Status(Code::kMalformed, "the body is not a JSON object");
  const json::value* segments = value.as_object().if_contains("segments");
  if (segments == nullptr || !segments->is_array() || segments->as_array().size() != 1 ||
      !segments->as_array()[0].is_string()) {
    return Status(Code::kInvalidArgument, "'segments' must be a list of one name");
  }
  return std::string(segments->as_array()[0].as_string());
}

Result<std::string> NameOf(const Request& request, const Target& target) {
  for (const char* param : {"job_id", "node", "segment"}) {
    const std::string* raw = target.Find(param);
    if (raw != nullptr && !raw->empty()) return PercentDecode(*raw);
  }
  if (!request.body.empty()) return NameInBody(request.body);
  return Status(Code::kInvalidArgument, "parameter 'node' (of a job: 'job_id') is missing");
}

json::object JobJson(const proto::Node& node) {
  const bool draining = node.state() == proto::NODE_DRAINING || node.drain_left_objects() != 0;
  const bool empty = node.drain_left_objects() == 0 && node.drain_left_bytes() == 0;
  return {{"success", true},
          {"job_id", PrintableKey(node.name())},
          {"status_name", !draining ? "CANCELED" : empty ? "SUCCEEDED" : "RUNNING"},
          {"active_units", node.drain_left_objects()},
          {"remaining_bytes", node.drain_left_bytes()},
          {"message", !draining ? "the node is not draining" : empty ? "the node is empty, it may leave" : ""}};
}

Response Failed(const Request& request, const Status& status) {
  const bool broken = status.recovery() != Recovery::kNone || status.code() == Code::kInternal;
  return ErrorResponse(broken ? 503 : 200, status, request.unix_seconds);
}

}  // namespace

bool IsDrainJobPath(std::string_view path) { return path == kStart || path == kQuery || path == kCancel; }

Access DrainJobAccess(std::string_view path) { return path == kQuery ? Access::kNone : Access::kAdmin; }

Response DrainJobPage(PoolView& pool, const Request& request, const Target& target) {
  const bool asks = target.path == kQuery;
  const bool reads = request.method == "GET" || request.method == "HEAD";
  if (asks ? !reads : request.method != "POST") {
    const Status status(Code::kUnsupported, PrintableKey(target.path) + ": use " + (asks ? "GET" : "POST"));
    return ErrorResponse(405, status, request.unix_seconds);
  }
  const Result<std::string> name = NameOf(request, target);
  if (!name.ok()) return Failed(request, name.status());
  proto::ClusterStatusReply cluster;
  if (const Status status = pool.Cluster(&cluster); !status.ok()) return Failed(request, status);
  const proto::Node* node = FindNode(cluster, *name);
  if (node == nullptr) return Failed(request, Status(Code::kNotFound, "no node " + PrintableKey(*name)));
  if (asks) return Json(JobJson(*node));
  const bool cancel = target.path == kCancel;
  if (const Status status = pool.Drain(node->name(), cancel); !status.ok()) return Failed(request, status);
  return Json({{"success", true},
               {"job_id", PrintableKey(node->name())},
               {"status", cancel ? "CANCELED" : "CREATED"}});
}

}  // namespace mmc::meta::http
