#include "meta_service/http/pages.h"

#include <array>
#include <boost/json.hpp>
#include <charconv>
#include <cstdio>
#include <optional>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/limits.h"
#include "proto/key_list.h"
#include "proto/names.h"

namespace mmc::meta::http {
namespace {

namespace json = boost::json;

constexpr uint32_t kListPage = 250;  // keys a piece of /get_all_keys: at most 1.5 MiB of text
constexpr char kRole[] = "leader";    // of a pool with one meta service

Response Text(std::string body) {
  Response response;
  response.body = std::move(body);
  return response;
}

Response Json(const json::value& value) {
  Response response;
  response.content_type = "application/json";
  response.body = json::serialize(value) + "\n";
  return response;
}

Response Error(const PageContext& page, const Status& status) {
  // A service that cannot answer now is not a wrong question: probes and scrapers must see it in
  // the HTTP status.
  const bool broken = status.recovery() != Recovery::kNone || status.code() == Code::kInternal;
  return ErrorResponse(broken ? 503 : 200, status, page.unix_seconds);
}

// One row per segment of the pool.
struct SegmentRow {
  const proto::Node* node;
  const proto::Segment* segment;
  uint64_t used;
  std::string name;
};

// A node may have several segments of one medium; the first one has the plain name.
std::vector<SegmentRow> Segments(const proto::ClusterStatusReply& cluster) {
  std::vector<SegmentRow> rows;
  for (const proto::Node& node : cluster.nodes()) {
    std::array<int, 4> seen{};
    for (int i = 0; i < node.segments_size(); ++i) {
      const proto::Segment& segment = node.segments(i);
      std::string name = PrintableKey(node.name()) + "-" + proto::MediumName(segment.medium());
      int& nth = seen[static_cast<size_t>(segment.medium()) & 3];
      if (++nth > 1) name += "-" + std::to_string(nth);
      rows.push_back(
          {&node, &segment, i < node.used_bytes_size() ? node.used_bytes(i) : 0, std::move(name)});
    }
  }
  return rows;
}

// "rank-3-dram": node 3, by the number that the pool gave it.
bool IsRankName(std::string_view asked, const SegmentRow& row) {
  constexpr std::string_view kRank = "rank-";
  if (asked.substr(0, kRank.size()) != kRank) return false;
  asked.remove_prefix(kRank.size());
  uint32_t id = 0;
  const auto [end, error] = std::from_chars(asked.data(), asked.data() + asked.size(), id);
  if (error != std::errc() || id != row.node->id()) return false;
  return std::string_view(end, static_cast<size_t>(asked.data() + asked.size() - end)) ==
         std::string("-") + proto::MediumName(row.segment->medium());
}

const SegmentRow* FindSegment(const std::vector<SegmentRow>& rows, const std::string& asked) {
  for (const SegmentRow& row : rows) {
    if (row.name == asked) return &row;
  }
  const std::string printable = PrintableKey(asked);
  for (const SegmentRow& row : rows) {
    if (row.name == printable || IsRankName(asked, row)) return &row;
  }
  return nullptr;
}

uint64_t Remaining(const SegmentRow& row) {
  return row.segment->size() > row.used ? row.segment->size() - row.used : 0;
}

json::object SegmentJson(const SegmentRow& row) {
  return {{"segment", row.name},
          {"node", PrintableKey(row.node->name())},
          {"node_id", row.node->id()},
          {"medium", proto::MediumName(row.segment->medium())},
          {"status", proto::NodeStateName(row.node->state())},
          {"epoch", row.segment->epoch()},
          {"capacity_bytes", row.segment->size()},
          {"used_bytes", row.used},
          {"remaining_bytes", Remaining(row)}};
}

// The decoded value of a parameter. Errors: kInvalidArgument naming it.
Result<std::string> Param(const PageContext& page, std::string_view name) {
  const std::string* raw = page.target.Find(name);
  if (raw == nullptr || raw->empty()) {
    return Status(Code::kInvalidArgument, "parameter '" + std::string(name) + "' is missing");
  }
  return PercentDecode(*raw);
}

// ---- health ----

Response Metrics(const PageContext& page) {
  Response response = Text(page.pool.Metrics());
  response.content_type = "text/plain; version=0.0.4; charset=utf-8";
  return response;
}

Response Health(const PageContext& page) {
  return Json(json::object{{"status", "ok"},
                           {"role", kRole},
                           {"service_ready", page.pool.Ready()},
                           {"leader_address", page.info.rpc_url},
                           {"version", page.info.version}});
}

Response Ready(const PageContext& page) {
  if (page.pool.Ready()) return Text("ready\n");
  Response response = Text(page.pool.Recovering() ? "recovering\n" : "not ready\n");
  response.status = 503;
  return response;
}

Response Role(const PageContext&) { return Text(std::string(kRole) + "\n"); }

Response HaStatus(const PageContext& page) {
  proto::ClusterStatusReply cluster;
  if (const Status status = page.pool.Cluster(&cluster); !status.ok()) return Error(page, status);
  return Text("ha=off role=" + std::string(kRole) + " term=" + std::to_string(cluster.term()) +
              "\n");
}

Response Leader(const PageContext& page) {
  proto::ClusterStatusReply cluster;
  if (const Status status = page.pool.Cluster(&cluster); !status.ok()) return Error(page, status);
  return Json(json::object{
      {"present", true}, {"leader_address", page.info.rpc_url}, {"view_version", cluster.term()}});
}

Response Summary(const PageContext& page) {
  proto::ClusterStatusReply c;
  if (const Status status = page.pool.Cluster(&c); !status.ok()) return Error(page, status);
  int serving = 0;
  for (const proto::Node& node : c.nodes()) serving += node.state() == proto::NODE_SERVING ? 1 : 0;
  const auto percent = [](uint64_t part, uint64_t whole) {
    char text[32];
    std::snprintf(text, sizeof text, "%.1f%%",
                  whole == 0 ? 0.0 : 100.0 * double(part) / double(whole));
    return std::string(text);
  };
  const auto number = [](uint64_t n) { return std::to_string(n); };
  std::string line = "role=" + std::string(kRole);
  line += ", service_ready=" + std::string(page.pool.Ready() ? "true" : "false");
  line += ", term=" + number(c.term()) + ", uptime_s=" + number(c.uptime_ms() / 1000);
  line += ", nodes_serving=" + number(static_cast<uint64_t>(serving)) + "/" +
          number(static_cast<uint64_t>(c.nodes_size()));
  line += ", mem=" + FormatBytes(c.used_bytes()) + " / " + FormatBytes(c.capacity_bytes()) + " (" +
          percent(c.used_bytes(), c.capacity_bytes()) + ")";
  line += ", keys=" + number(c.objects()) + ", value_bytes=" + number(c.value_bytes());
  line += ", sessions=" + number(c.sessions()) + ", grants=" + number(c.grants()) +
          ", pins=" + number(c.pins());
  line += ", waiting_to_free_bytes=" + number(c.waiting_to_free_bytes());
  line += ", puts=" + number(c.puts()) + ", gets=" + number(c.gets()) +
          ", removes=" + number(c.removes());
  line += ", hits=" + number(c.lookups_hit()) + ", misses=" + number(c.lookups_missed()) + " (" +
          percent(c.lookups_hit(), c.lookups_hit() + c.lookups_missed()) + " hit)";
  line += ", evicted_keys=" + number(c.evicted_objects()) +
          ", evicted_bytes=" + number(c.evicted_bytes());
  return Text(line + "\n");
}

// ---- keys ----

// Where one replica of a StatReply begins in its flat columns.
struct ReplicaCursor {
  int replica = 0;
  int extent = 0;
};

// The replicas of the key that the cursor stands at; moves it on. False: the columns do not fit
// together.
bool ReplicasJson(const proto::StatReply& stat, const std::vector<SegmentRow>& rows, int key,
                  ReplicaCursor* at, json::array* out) {
  const proto::ReplicaColumns& columns = stat.replicas();
  if (key >= columns.replica_counts_size()) return false;
  for (uint32_t r = 0; r < columns.replica_counts(key); ++r, ++at->replica) {
    if (at->replica >= std::min({columns.node_size(), columns.segment_size(), columns.epoch_size(),
                                 columns.extent_counts_size()})) {
      return false;
    }
    const uint32_t node_id = columns.node(at->replica);
    const uint32_t segment_id = columns.segment(at->replica);
    json::object replica{{"size_", key < stat.size_size() ? stat.size(key) : 0},
                         {"node_id", node_id},
                         {"segment_id", segment_id},
                         {"epoch", columns.epoch(at->replica)}};
    for (const SegmentRow& row : rows) {
      if (row.node->id() != node_id || row.segment->id() != segment_id) continue;
      replica["segment"] = row.name;
      replica["medium"] = proto::MediumName(row.segment->medium());
      if (row.node->endpoints_size() == 0) continue;
      replica["protocol_"] = PrintableKey(row.node->endpoints(0).transport());
      // Without the secret of a same-host address.
      const std::string& address = row.node->endpoints(0).address();
      replica["transport_endpoint_"] = PrintableKey(address.substr(0, address.find('#')));
    }
    json::array extents;
    const uint32_t count = columns.extent_counts(at->replica);
    const int known = std::min(columns.extent_offset_size(), columns.extent_length_size());
    if (count > static_cast<uint32_t>(known - at->extent)) return false;
    for (uint32_t e = 0; e < count; ++e, ++at->extent) {
      extents.push_back(json::object{{"offset", columns.extent_offset(at->extent)},
                                     {"length", columns.extent_length(at->extent)}});
    }
    replica["extents"] = std::move(extents);
    out->push_back(std::move(replica));
  }
  return true;
}

struct KeyAnswer {
  Status status;
  json::array replicas;
};

// One answer per key, in order.
Result<std::vector<KeyAnswer>> AskKeys(const PageContext& page,
                                       const std::vector<std::string>& keys) {
  const std::vector<std::string_view> views(keys.begin(), keys.end());
  proto::StatReply stat;
  proto::ClusterStatusReply cluster;
  MMC_RETURN_IF_ERROR(page.pool.Stat(page.tenant.value_or(""), views, &stat));
  MMC_RETURN_IF_ERROR(page.pool.Cluster(&cluster));
  if (stat.status_size() != static_cast<int>(keys.size())) {
    return Status(Code::kInternal, "the meta service answered for another number of keys");
  }
  const std::vector<SegmentRow> rows = Segments(cluster);
  std::vector<KeyAnswer> answers(keys.size());
  ReplicaCursor cursor;
  for (int i = 0; i < stat.status_size(); ++i) {
    KeyAnswer& answer = answers[static_cast<size_t>(i)];
    if (!ReplicasJson(stat, rows, i, &cursor, &answer.replicas)) {
      return Status(Code::kInternal,
                    "the meta service answered replica columns that do not fit together");
    }
    const Code code = CodeFromWire(stat.status(i));
    if (code != Code::kOk)
      answer.status = Status(code, "key " + PrintableKey(keys[static_cast<size_t>(i)]) + ": " +
                                       std::string(CodeMeaning(code)));
  }
  return answers;
}

Response QueryKey(const PageContext& page) {
  Result<std::string> key = Param(page, "key");
  if (!key.ok()) return Error(page, key.status());
  Result<std::vector<KeyAnswer>> answers = AskKeys(page, {*key});
  if (!answers.ok()) return Error(page, answers.status());
  KeyAnswer& answer = answers->front();
  if (!answer.status.ok()) return Error(page, answer.status);
  return Json(json::object{{"success", true}, {"data", std::move(answer.replicas)}});
}

Response BatchQueryKeys(const PageContext& page) {
  const std::string* raw = page.target.Find("keys");
  if (raw == nullptr || raw->empty()) {
    return Error(page,
                 Status(Code::kInvalidArgument, "parameter 'keys' is missing; write keys=a,b"));
  }
  const Result<std::vector<std::string>> keys = DecodeList(*raw);
  if (!keys.ok()) return Error(page, keys.status());
  if (keys->empty())
    return Error(page, Status(Code::kInvalidArgument, "parameter 'keys' names no key"));
  Result<std::vector<KeyAnswer>> answers = AskKeys(page, *keys);
  if (!answers.ok()) return Error(page, answers.status());
  json::object data;
  for (size_t i = 0; i < keys->size(); ++i) {
    KeyAnswer& answer = (*answers)[i];
    json::object one{{"ok", answer.status.ok()}};
    if (answer.status.ok()) {
      one["values"] = std::move(answer.replicas);
    } else {
      one["error"] = answer.status.message();
    }
    data[PrintableKey((*keys)[i])] = std::move(one);
  }
  return Json(json::object{{"success", true}, {"data", std::move(data)}});
}

// The keys of one page as lines, and the token of the next page.
Result<std::string> KeyLines(PoolView& pool, const std::string& tenant, const std::string& prefix,
                             std::string* token) {
  proto::ListReply reply;
  MMC_RETURN_IF_ERROR(pool.List(tenant, prefix, *token, kListPage, &reply));
  MMC_ASSIGN_OR_RETURN(const auto keys, proto::DecodeKeys(reply.keys()));
  std::string lines;
  for (const std::string_view key : keys) lines += PrintableKey(key) + "\n";
  *token = reply.next_page_token();
  return lines;
}

// One page of keys is in memory at a time, however many there are.
Response AllKeys(const PageContext& page) {
  std::string prefix;
  if (page.target.Find("prefix") != nullptr) {
    Result<std::string> given = Param(page, "prefix");
    if (!given.ok()) return Error(page, given.status());
    prefix = *given;
  }
  const auto next = [&pool = page.pool, tenant = page.tenant.value_or(""), prefix, token = std::string(),
                     last = false]() mutable -> Result<std::string> {
    std::string lines;
    while (lines.empty() && !last) {
      MMC_ASSIGN_OR_RETURN(lines, KeyLines(pool, tenant, prefix, &token));
      last = token.empty();
    }
    return lines;
  };
  std::function<Result<std::string>()> more = next;
  Result<std::string> first = more();
  if (!first.ok()) return Error(page, first.status());
  Response response = Text(*std::move(first));
  response.more = std::move(more);
  return response;
}

// ---- segments ----

Response AllSegments(const PageContext& page) {
  proto::ClusterStatusReply cluster;
  if (const Status status = page.pool.Cluster(&cluster); !status.ok()) return Error(page, status);
  std::string lines;
  for (const SegmentRow& row : Segments(cluster)) lines += row.name + "\n";
  return Text(lines);
}

Response SegmentsDetail(const PageContext& page) {
  proto::ClusterStatusReply cluster;
  if (const Status status = page.pool.Cluster(&cluster); !status.ok()) return Error(page, status);
  json::array data;
  for (const SegmentRow& row : Segments(cluster)) data.push_back(SegmentJson(row));
  return Json(json::object{{"success", true}, {"data", std::move(data)}});
}

// Runs `show` on the segment that the request names.
template <typename Show>
Response WithSegment(const PageContext& page, Show show) {
  const Result<std::string> name = Param(page, "segment");
  if (!name.ok()) return Error(page, name.status());
  proto::ClusterStatusReply cluster;
  if (const Status status = page.pool.Cluster(&cluster); !status.ok()) return Error(page, status);
  const std::vector<SegmentRow> rows = Segments(cluster);
  const SegmentRow* const row = FindSegment(rows, *name);
  if (row == nullptr)
    return Error(page, Status(Code::kNotFound, "no segment " + PrintableKey(*name)));
  return show(*row);
}

Response QuerySegment(const PageContext& page) {
  return WithSegment(page, [](const SegmentRow& row) {
    return Text(row.name + "\nUsed(bytes): " + std::to_string(row.used) +
                "\nCapacity(bytes) : " + std::to_string(row.segment->size()) + "\n");
  });
}

Response SegmentStatus(const PageContext& page) {
  return WithSegment(page, [](const SegmentRow& row) {
    json::object out = SegmentJson(row);
    out["success"] = true;
    return Json(out);
  });
}

Response CapacityUsage(const PageContext& page) {
  proto::ClusterStatusReply cluster;
  if (const Status status = page.pool.Cluster(&cluster); !status.ok()) return Error(page, status);
  struct Sum {
    uint64_t capacity = 0, used = 0;
    json::object ToJson() const {
      return {{"capacity_bytes", capacity},
              {"used_bytes", used},
              {"usage", capacity == 0 ? 0.0 : double(used) / double(capacity)}};
    }
  };
  Sum device, host;
  for (const SegmentRow& row : Segments(cluster)) {
    Sum& sum = row.segment->medium() == proto::MEDIUM_HBM ? device : host;
    sum.capacity += row.segment->size();
    sum.used += row.used;
  }
  return Json(json::object{
      {"success", true}, {"data", json::object{{"npu", device.ToJson()}, {"cpu", host.ToJson()}}}});
}

Response SegmentRemaining(const PageContext& page) {
  proto::ClusterStatusReply cluster;
  if (const Status status = page.pool.Cluster(&cluster); !status.ok()) return Error(page, status);
  json::object data;
  for (const SegmentRow& row : Segments(cluster)) data[row.name] = Remaining(row);
  return Json(json::object{{"success", true}, {"data", std::move(data)}});
}

Response TenantUse(const PageContext& page) {
  proto::ClusterStatusReply cluster;
  if (const Status status = page.pool.Cluster(&cluster); !status.ok()) return Error(page, status);
  json::object data;
  for (const proto::TenantUse& tenant : cluster.tenants()) {
    if (page.tenant && TenantNamed(tenant.name()) != *page.tenant) continue;
    data[tenant.name()] = json::object{{"objects", tenant.objects()},
                                       {"value_bytes", tenant.value_bytes()},
                                       {"used_bytes", tenant.used_bytes()},
                                       {"waiting_bytes", tenant.waiting_bytes()},
                                       {"quota_bytes", tenant.quota_bytes()},
                                       {"sessions", tenant.sessions()},
                                       {"grants", tenant.grants()},
                                       {"pins", tenant.pins()},
                                       {"evicted_bytes", tenant.evicted_bytes()}};
  }
  return Json(json::object{{"success", true}, {"data", std::move(data)}});
}

constexpr std::array<std::pair<std::string_view, PageRow>, 17> kPages = {{
    {"/metrics", {&Metrics, Access::kNone}},
    {"/metrics/summary", {&Summary, Access::kNone}},
    {"/health", {&Health, Access::kNone}},
    {"/ready", {&Ready, Access::kNone}},
    {"/role", {&Role, Access::kNone}},
    {"/ha_status", {&HaStatus, Access::kNone}},
    {"/leader", {&Leader, Access::kNone}},
    {"/get_all_keys", {&AllKeys, Access::kRead}},
    {"/query_key", {&QueryKey, Access::kRead}},
    {"/batch_query_keys", {&BatchQueryKeys, Access::kRead}},
    {"/get_all_segments", {&AllSegments, Access::kNone}},
    {"/query_segment", {&QuerySegment, Access::kNone}},
    {"/get_segments_detail", {&SegmentsDetail, Access::kNone}},
    {"/api/v1/segments/status", {&SegmentStatus, Access::kNone}},
    {"/api/v1/capacity/usage", {&CapacityUsage, Access::kNone}},
    {"/api/v1/capacity/segment_remaining", {&SegmentRemaining, Access::kNone}},
    {"/api/v1/tenants", {&TenantUse, Access::kRead}},
}};

}  // namespace

PageRow FindPage(std::string_view path) {
  for (const auto& [route, row] : kPages) {
    if (route == path) return row;
  }
  return {};
}

}  // namespace mmc::meta::http
