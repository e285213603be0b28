#include "client_sdk/cli/render.h"

#include <algorithm>

#include "client_sdk/cli/text.h"
#include "common/base/bytes.h"

namespace mmc::cli {
namespace {

namespace json = boost::json;

double Rate(uint64_t before, uint64_t now, double seconds) {
  return seconds > 0 && now > before ? static_cast<double>(now - before) / seconds : 0;
}

std::string UsedOf(uint64_t used, uint64_t capacity) {
  return FormatBytes(used) + " of " + FormatBytes(capacity) + " (" + FormatPercent(used, capacity) +
         ")";
}

json::object NodeJson(const NodeInfo& node) {
  json::array endpoints;
  for (const std::string& endpoint : node.endpoints) endpoints.emplace_back(endpoint);
  return {{"name", node.name},
          {"state", node.state},
          {"host", node.host_id},
          {"endpoints", std::move(endpoints)},
          {"capacity_bytes", node.capacity_bytes},
          {"used_bytes", node.used_bytes},
          {"objects", node.objects},
          {"silent_ms", node.silent_ms},
          {"drain_left_objects", node.drain_left_objects},
          {"drain_left_bytes", node.drain_left_bytes}};
}

json::array TenantsJson(std::span<const TenantUse> tenants) {
  json::array list;
  for (const TenantUse& tenant : tenants) {
    list.emplace_back(json::object{{"name", tenant.name},
                                   {"objects", tenant.objects},
                                   {"value_bytes", tenant.value_bytes},
                                   {"used_bytes", tenant.used_bytes},
                                   {"waiting_to_free_bytes", tenant.waiting_to_free_bytes},
                                   {"quota_bytes", tenant.quota_bytes},
                                   {"sessions", tenant.sessions},
                                   {"grants", tenant.grants},
                                   {"pins", tenant.pins},
                                   {"evicted_objects", tenant.evicted_objects},
                                   {"evicted_bytes", tenant.evicted_bytes}});
  }
  return list;
}

// Nothing where nobody but the default tenant is there.
std::string TenantsText(std::span<const TenantUse> tenants) {
  const bool only_default = tenants.size() == 1 && tenants[0].name == "default" && tenants[0].quota_bytes == 0;
  if (tenants.empty() || only_default) return {};
  Table table({"TENANT", "USED", "QUOTA", "FULL", "OBJECTS", "CLIENTS", "WRITES", "PINS", "EVICTED"});
  for (const TenantUse& tenant : tenants) {
    const bool limited = tenant.quota_bytes != 0;
    table.Add({tenant.name, FormatBytes(tenant.used_bytes), limited ? FormatBytes(tenant.quota_bytes) : "-",
               limited ? FormatPercent(tenant.used_bytes, tenant.quota_bytes) : "-", std::to_string(tenant.objects),
               std::to_string(tenant.sessions), std::to_string(tenant.grants), std::to_string(tenant.pins),
               FormatBytes(tenant.evicted_bytes)});
  }
  return "\n" + table.Text();
}

}  // namespace

json::object KeyJson(std::string_view key) {
  if (IsUtf8(key)) return {{"key", json::string_view(key.data(), key.size())}};
  return {{"key", PrintableKey(key)}, {"key_hex", Hex(key)}};
}

json::object NodesJson(std::span<const NodeInfo> nodes) {
  json::array list;
  for (const NodeInfo& node : nodes) list.emplace_back(NodeJson(node));
  return {{"nodes", std::move(list)}};
}

std::string NodesText(std::span<const NodeInfo> nodes) {
  if (nodes.empty()) return "no node has joined; start one: mmc_local_service --config FILE\n";
  Table table({"NAME", "STATE", "USED", "CAPACITY", "FULL", "OBJECTS", "SILENT", "ENDPOINTS"});
  for (const NodeInfo& node : nodes) {
    std::string endpoints;
    for (const std::string& endpoint : node.endpoints)
      endpoints += (endpoints.empty() ? "" : ", ") + endpoint;
    const std::string left = node.state == "draining" ? ", " + std::to_string(node.drain_left_objects) + " left" : "";
    table.Add({node.name, node.state + left, FormatBytes(node.used_bytes),
               FormatBytes(node.capacity_bytes),
               FormatPercent(node.used_bytes, node.capacity_bytes), std::to_string(node.objects),
               FormatTime(std::chrono::milliseconds(node.silent_ms)), endpoints});
  }
  return table.Text();
}

json::object StatusJson(const ClusterStatus& status) {
  json::object object = {
      {"version", status.version},
      {"term", status.term},
      {"uptime_ms", status.uptime_ms},
      {"objects", status.objects},
      {"value_bytes", status.value_bytes},
      {"capacity_bytes", status.capacity_bytes},
      {"used_bytes", status.used_bytes},
      {"waiting_to_free_bytes", status.waiting_to_free_bytes},
      {"sessions", status.sessions},
      {"grants", status.grants},
      {"pins", status.pins},
      {"lookups_hit", status.lookups_hit},
      {"lookups_missed", status.lookups_missed},
      {"puts", status.puts},
      {"gets", status.gets},
      {"removes", status.removes},
      {"evicted_objects", status.evicted_objects},
      {"evicted_bytes", status.evicted_bytes},
      {"evict_threshold_high", status.evict_threshold_high},
      {"evict_threshold_low", status.evict_threshold_low},
      {"recovering", status.recovering},
      {"under_replicated", status.under_replicated},
      {"soft_pinned", status.soft_pinned},
      {"hard_pinned", status.hard_pinned},
      {"copies_in_flight", status.copies_in_flight},
  };
  object["nodes"] = NodesJson(status.nodes)["nodes"];
  object["tenants"] = TenantsJson(status.tenants);
  return object;
}

std::string StatusText(const ClusterStatus& status) {
  const auto line = [](const char* label, const std::string& value) {
    return std::string(label) + value + "\n";
  };
  std::string text;
  text += line("meta service  ", "version " + status.version + ", term " +
                                     std::to_string(status.term) + ", up " +
                                     FormatSeconds(static_cast<double>(status.uptime_ms) / 1000));
  text += line("pool          ", UsedOf(status.used_bytes, status.capacity_bytes) +
                                     " used, evicts above " +
                                     std::to_string(status.evict_threshold_high) + "% down to " +
                                     std::to_string(status.evict_threshold_low) + "%");
  text += line("objects       ", std::to_string(status.objects) + ", values " +
                                     FormatBytes(status.value_bytes) + ", waiting to be freed " +
                                     FormatBytes(status.waiting_to_free_bytes));
  text += line("clients       ", std::to_string(status.sessions) + " sessions, " +
                                     std::to_string(status.grants) + " writes under way, " +
                                     std::to_string(status.pins) + " pins");
  const uint64_t lookups = status.lookups_hit + status.lookups_missed;
  text += line("lookups       ", std::to_string(lookups) + " keys, " +
                                     FormatPercent(status.lookups_hit, lookups) + " hit");
  text +=
      line("since start   ", std::to_string(status.puts) + " puts, " + std::to_string(status.gets) +
                                 " gets, " + std::to_string(status.removes) + " removes, " +
                                 std::to_string(status.evicted_objects) + " evicted (" +
                                 FormatBytes(status.evicted_bytes) + ")");
  if (status.recovering) text += line("recovering    ", "nodes still report what they hold");
  if (status.under_replicated != 0 || status.copies_in_flight != 0) {
    text += line("replicas      ", std::to_string(status.under_replicated) +
                                       " objects have too few, " +
                                       std::to_string(status.copies_in_flight) +
                                       " copies under way");
  }
  return text + "\n" + NodesText(status.nodes) + TenantsText(status.tenants);
}

json::object ObjectJson(std::string_view key, const ObjectInfo& info) {
  json::object object = KeyJson(key);
  object["status"] = CodeName(info.status.code());
  object["present"] = info.status.ok();
  if (!info.status.ok()) return object;
  object["size"] = info.size;
  object["generation"] = info.generation;
  object["lease_left_ms"] = info.lease_left.count();
  object["pins"] = info.pins;
  json::array replicas;
  for (const ReplicaInfo& replica : info.replicas) {
    replicas.emplace_back(json::object{{"node", replica.node},
                                       {"medium", replica.medium},
                                       {"bytes", replica.bytes},
                                       {"extents", replica.extents}});
  }
  object["replicas"] = std::move(replicas);
  return object;
}

std::string ObjectText(std::string_view key, const ObjectInfo& info) {
  if (!info.status.ok()) return PrintableKey(key) + ": " + info.status.ToString() + "\n";
  std::string text = PrintableKey(key) + ": " + FormatBytes(info.size) + " (" +
                     std::to_string(info.size) + " bytes), generation " +
                     std::to_string(info.generation) + ", leased for " +
                     FormatTime(info.lease_left) + ", " + std::to_string(info.pins) + " pins\n";
  for (const ReplicaInfo& replica : info.replicas) {
    text += "  on " + replica.node + " in " + replica.medium + ": " + FormatBytes(replica.bytes) +
            " in " + std::to_string(replica.extents) +
            (replica.extents == 1 ? " extent\n" : " extents\n");
  }
  return text;
}

json::object TopJson(const ClusterStatus& before, const ClusterStatus& now, double seconds) {
  json::object object = StatusJson(now);
  object["interval_seconds"] = seconds;
  object["puts_per_s"] = Rate(before.puts, now.puts, seconds);
  object["gets_per_s"] = Rate(before.gets, now.gets, seconds);
  object["removes_per_s"] = Rate(before.removes, now.removes, seconds);
  object["lookups_per_s"] = Rate(before.lookups_hit + before.lookups_missed,
                                 now.lookups_hit + now.lookups_missed, seconds);
  object["evicted_per_s"] = Rate(before.evicted_objects, now.evicted_objects, seconds);
  object["evicted_bytes_per_s"] = Rate(before.evicted_bytes, now.evicted_bytes, seconds);
  return object;
}

std::string TopText(const ClusterStatus& before, const ClusterStatus& now, double seconds) {
  const uint64_t hits = now.lookups_hit - std::min(before.lookups_hit, now.lookups_hit);
  const uint64_t misses = now.lookups_missed - std::min(before.lookups_missed, now.lookups_missed);
  const auto rate = [&](uint64_t a, uint64_t b) {
    return FormatNumber(Rate(a, b, seconds), 0) + "/s";
  };
  std::string text =
      "mmc " + now.version + "  up " + FormatSeconds(static_cast<double>(now.uptime_ms) / 1000) +
      "  pool " + UsedOf(now.used_bytes, now.capacity_bytes) + "  objects " +
      std::to_string(now.objects) + "  clients " + std::to_string(now.sessions) + "\n";
  text += "puts " + rate(before.puts, now.puts) + "  gets " + rate(before.gets, now.gets) +
          "  removes " + rate(before.removes, now.removes) + "  keys looked up " +
          FormatNumber(static_cast<double>(hits + misses) / (seconds > 0 ? seconds : 1), 0) +
          "/s, " + FormatPercent(hits, hits + misses) + " hit  evicted " +
          rate(before.evicted_objects, now.evicted_objects) + "\n\n";
  return text + NodesText(now.nodes);
}

}  // namespace mmc::cli
