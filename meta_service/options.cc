#include "meta_service/options.h"

#include <algorithm>
#include <thread>

#include "common/config/common_settings.h"

namespace mmc::meta {
namespace {

using config::Setting;

constexpr int kMaxDefaultIoThreads = 4;
constexpr int64_t kHour = 3'600'000;
constexpr char kNoSsd[] = "this version keeps blocks in memory only.";

std::vector<Setting> ServiceSettings() {
  Setting url = config::Url("ock.mmc.meta_service_url", "tcp://127.0.0.1:5000", "tcp",
                            "Address that clients and local services call.");
  url.free_port = true;
  Setting metrics_url =
      config::Url("ock.mmc.meta_service.metrics_url", "http://127.0.0.1:8000", "http",
                  "Address of /metrics, /health, /ready and the REST routes. With ock.mmc.tls.enable it speaks TLS, "
                  "and a client may show its certificate.");
  metrics_url.free_port = true;
  metrics_url.may_be_empty = true;
  metrics_url.choices.push_back("https");
  return {
      url,
      metrics_url,
      config::Text("ock.mmc.meta_service.http.token.path", "", 255,
                   "File of tokens for the pages that name keys or change something: lines 'read TOKEN' or "
                   "'admin TOKEN'; nobody else may read it. Empty: none; then those pages want a client "
                   "certificate of the role admin or, without TLS, a loopback address."),
      config::Int("ock.mmc.meta.io_threads", "0", 0, 64,
                  "Threads that serve calls; 0: as many as the machine has cores, at most 4."),
      config::Int("ock.mmc.meta.max_connections", "16384", 1, 1'000'000,
                  "Connections; more are refused."),
      config::Bytes("ock.mmc.meta.max_buffer_bytes", "1GB", 128u << 20, 1ull << 40,
                    "Memory for requests that arrive or wait and for answers that are not taken yet, of all "
                    "connections together; what would need more is refused."),
      config::Int("ock.mmc.meta.max_sessions", "65536", 1, 1'000'000,
                  "Client sessions; more are refused."),
      config::Int("ock.mmc.meta.drain_milliseconds", "5000", 0, 600'000,
                  "After SIGTERM, how long running calls may take to finish."),
      config::Bool(
          "ock.mmc.meta.ha.enable", "false",
          "Several meta services with an elected leader. This version has none: true is refused."),
  };
}

std::vector<Setting> EvictionSettings() {
  return {
      config::Int(
          "ock.mmc.evict_threshold_high", "90", 1, 100,
          "Percent of a node's memory that is used when eviction begins; above the low threshold."),
      config::Int("ock.mmc.evict_threshold_low", "80", 0, 98,
                  "Percent that eviction goes down to."),
      config::Enum("ock.mmc.meta.evict_policy", "lru", {"lru"},
                   "Which blocks go first: the least recently used."),
      config::Bool("ock.mmc.meta.evict_soft_pinned", "true",
                   "Whether soft-pinned blocks are evicted when nothing else can be; false: writes then find no room."),
  };
}

std::vector<Setting> TenantSettings() {
  return {
      config::Text("ock.mmc.meta.tenant.quota", "", 1023,
                   "How much of the pool each tenant may hold, all replicas counted: 'alpha:10GB, beta:20%, "
                   "default:1TB, *:5%'. A tenant at its quota evicts its own blocks; '*' is every tenant that is not "
                   "named, 'default' that of callers that name none; without an entry: no quota."),
      config::Int("ock.mmc.meta.tenant.max_sessions", "32768", 1, 1'000'000,
                  "Client sessions of one tenant; more are refused."),
      config::Int("ock.mmc.meta.tenant.max_grants", "1048576", 1, 100'000'000,
                  "Writes under way of one tenant; more are refused."),
      config::Int("ock.mmc.meta.tenant.max_pins", "2097152", 1, 100'000'000,
                  "Pins held by one tenant; more are refused."),
  };
}

std::vector<Setting> TimeSettings() {
  return {
      config::Int("ock.mmc.meta.lease_milliseconds", "5000", 1, kHour,
                  "How long the bytes of a block that was looked up stay in place, when the reader "
                  "asks for no time."),
      config::Int("ock.mmc.meta.max_lease_milliseconds", "600000", 1, 24 * kHour,
                  "Longest lease that a reader can have."),
      config::Int("ock.mmc.meta.soft_pin_milliseconds", "1800000", 1, 24 * kHour,
                  "How long a block that was put with a soft pin is evicted after all others, when the writer gives "
                  "no time."),
      config::Int("ock.mmc.meta.max_soft_pin_milliseconds", "86400000", 1, 24 * kHour,
                  "Longest soft pin that a writer can have."),
      config::Int("ock.mmc.meta.grant_milliseconds", "600000", 1000, 24 * kHour,
                  "How long a write may take between its start and its commit."),
      config::Int("ock.mmc.meta.write_ticket_milliseconds", "20000", 100, kHour,
                  "Where nodes want tickets (ock.mmc.local_service.hcom.tls.tickets): how long one for "
                  "writing is good. So long what was put cannot be evicted, and what was given back "
                  "waits."),
      config::Int("ock.mmc.meta.heartbeat_milliseconds", "1000", 10, 600'000,
                  "How often nodes and clients say that they live."),
      config::Int("ock.mmc.meta.session_expiry_milliseconds", "10000", 100, kHour,
                  "Silence after which a client is taken for dead and its unfinished writes are "
                  "taken back."),
      config::Int("ock.mmc.meta.node_suspect_milliseconds", "3000", 20, kHour,
                  "Silence after which a node gets no new blocks; reads are still tried."),
      config::Int("ock.mmc.meta.node_grace_milliseconds", "30000", 100, 24 * kHour,
                  "Silence after which a node is dead and its blocks are lost."),
  };
}

std::vector<Setting> RecoverySettings() {
  return {
      config::Int("ock.mmc.meta.recovery_milliseconds", "3000", 0, kHour,
                  "After a start, how long local services have to join and report what they hold before "
                  "a block that nobody has reported counts as not there; 0: no wait."),
      config::Text("ock.mmc.meta.state_path", "", 1023,
                   "Folder for the list of local services, with which a start ends its wait once all of "
                   "them have reported; empty: $STATE_DIRECTORY, or none."),
      config::Enum("ock.mmc.meta.commit_mode", "async", {"async", "sync"},
                   "async: a write or a removal is answered once the meta service has it; sync: once the "
                   "catalogs of the local services concerned have it too."),
  };
}

std::vector<Setting> CopySettings() {
  return {
      config::Bytes("ock.mmc.meta.copy_bytes_per_second", "1GB", 1u << 20, 1ull << 40,
                    "How fast blocks are copied from node to node, all nodes together: to make lost "
                    "replicas anew, and to empty a node that is drained."),
  };
}

std::vector<Setting> IdleSettings() {
  using config::WithoutEffect;
  return {
      WithoutEffect(config::Url("ock.mmc.meta_service.config_store_url", "tcp://127.0.0.1:6000",
                                "tcp", "Address of the config store."),
                    "there is no config store; nodes find each other through the meta service."),
      WithoutEffect(config::Int("ock.mmc.meta_service.metrics_report_interval_seconds", "30", 0,
                                86'400, "How often metrics are written to the log."),
                    "metrics are read at metrics_url, they are not written to the log."),
      WithoutEffect(config::Text("ock.mmc.log_output_target", "", 1023, "Where logs go."),
                    "an empty ock.mmc.log_path sends logs to stderr."),
      WithoutEffect(config::Bool("ock.mmc.ubs_io.enable", "false", "Blocks on SSD."), kNoSsd),
      WithoutEffect(
          config::Int("ock.mmc.rewarm.dram_watermark", "95", 0, 100,
                      "Percent of memory above which blocks are not fetched back from SSD."),
          kNoSsd),
      WithoutEffect(
          config::Enum("ock.mmc.meta_service.storage.metadata_mode", "aggregated",
                       {"aggregated", "separated"}, "Who keeps the metadata of blocks on SSD."),
          kNoSsd),
  };
}

Status CheckThresholds(const config::Values& values) {
  const int64_t high = values.GetInt("ock.mmc.evict_threshold_high");
  const int64_t low = values.GetInt("ock.mmc.evict_threshold_low");
  if (high > low) return Status::Ok();
  return Status(Code::kConfig,
                "ock.mmc.evict_threshold_high = " + std::to_string(high) +
                    " must be above ock.mmc.evict_threshold_low = " + std::to_string(low));
}

// `smaller` must be below `larger`, both times.
config::Schema::Rule Below(std::string smaller, std::string larger) {
  return [smaller, larger](const config::Values& values) {
    if (values.GetInt(smaller) < values.GetInt(larger)) return Status::Ok();
    return Status(Code::kConfig, smaller + " = " + values.GetString(smaller) + " must be below " +
                                     larger + " = " + values.GetString(larger));
  };
}

// Of "x" there is a usual time and a longest one.
config::Schema::Rule UsualNotAboveLongest(const std::string& name) {
  return [usual = "ock.mmc.meta." + name + "_milliseconds",
          longest = "ock.mmc.meta.max_" + name + "_milliseconds"](const config::Values& values) {
    if (values.GetInt(usual) <= values.GetInt(longest)) return Status::Ok();
    return Status(Code::kConfig, usual + " = " + std::to_string(values.GetInt(usual)) + " must not be above " +
                                     longest + " = " + std::to_string(values.GetInt(longest)));
  };
}

Status CheckHttps(const config::Values& values) {
  const std::string& url = values.GetString("ock.mmc.meta_service.metrics_url");
  if (!url.starts_with("https:") || values.GetBool("ock.mmc.tls.enable")) return Status::Ok();
  return Status(Code::kConfig, "ock.mmc.meta_service.metrics_url = " + url +
                                   " needs ock.mmc.tls.enable = true; write http:// or turn TLS on");
}

Status CheckQuotas(const config::Values& values) {
  const std::string key = "ock.mmc.meta.tenant.quota";
  return ParseTenantQuotas(values.GetString(key)).status().Annotate(key);
}

Status CheckNoHa(const config::Values& values) {
  if (!values.GetBool("ock.mmc.meta.ha.enable")) return Status::Ok();
  return Status(Code::kConfig,
                "ock.mmc.meta.ha.enable = true: leader election is not supported by this version; "
                "set it to false");
}

std::chrono::milliseconds Milliseconds(const config::Values& values, const std::string& name) {
  return std::chrono::milliseconds(values.GetInt("ock.mmc.meta." + name + "_milliseconds"));
}

}  // namespace

const config::Schema& MetaSchema() {
  static const config::Schema* const schema = [] {
    std::vector<Setting> settings =
        config::Sections({{"Service", ServiceSettings()},
                          {"Eviction", EvictionSettings()},
                          {"Tenants", TenantSettings()},
                          {"Roles", AccessSettings()},
                          {"Times", TimeSettings()},
                          {"Recovery", RecoverySettings()},
                          {"Copies", CopySettings()},
                          {"Logs", config::LogSettings()},
                          {"TLS", config::TlsSettings()},
                          {"Accepted: no need for them", IdleSettings()}});
    const std::string prefix = "ock.mmc.meta.";
    return new config::Schema(
        "mmc_meta_service", std::move(settings),
        {config::TlsRule(), CheckNoHa, CheckHttps, CheckThresholds, UsualNotAboveLongest("lease"),
         UsualNotAboveLongest("soft_pin"), CheckQuotas, CheckAccess,
         Below(prefix + "heartbeat_milliseconds", prefix + "session_expiry_milliseconds"),
         Below(prefix + "heartbeat_milliseconds", prefix + "node_suspect_milliseconds"),
         Below(prefix + "node_suspect_milliseconds", prefix + "node_grace_milliseconds")});
  }();
  return *schema;
}

MetaOptions MetaOptionsFrom(const config::Values& values) {
  MetaOptions out;
  out.url = values.GetString("ock.mmc.meta_service_url");
  out.metrics_url = values.GetString("ock.mmc.meta_service.metrics_url");
  out.http_token_path = values.GetString("ock.mmc.meta_service.http.token.path");
  out.io_threads = static_cast<int>(values.GetInt("ock.mmc.meta.io_threads"));
  if (out.io_threads == 0) {
    out.io_threads =
        std::clamp(static_cast<int>(std::thread::hardware_concurrency()), 1, kMaxDefaultIoThreads);
  }
  out.evict_threshold_high = static_cast<uint32_t>(values.GetInt("ock.mmc.evict_threshold_high"));
  out.evict_threshold_low = static_cast<uint32_t>(values.GetInt("ock.mmc.evict_threshold_low"));
  out.evict_policy = values.GetString("ock.mmc.meta.evict_policy");
  out.lease = Milliseconds(values, "lease");
  out.max_lease = Milliseconds(values, "max_lease");
  out.soft_pin = Milliseconds(values, "soft_pin");
  out.max_soft_pin = Milliseconds(values, "max_soft_pin");
  out.evict_soft_pinned = values.GetBool("ock.mmc.meta.evict_soft_pinned");
  out.grant = Milliseconds(values, "grant");
  out.write_ticket = Milliseconds(values, "write_ticket");
  out.heartbeat = Milliseconds(values, "heartbeat");
  out.session_expiry = Milliseconds(values, "session_expiry");
  out.node_suspect = Milliseconds(values, "node_suspect");
  out.node_grace = Milliseconds(values, "node_grace");
  out.access = AccessFrom(values);
  out.tenant_quotas = ParseTenantQuotas(values.GetString("ock.mmc.meta.tenant.quota")).value_or({});
  out.max_sessions_per_tenant = static_cast<uint32_t>(values.GetInt("ock.mmc.meta.tenant.max_sessions"));
  out.max_grants_per_tenant = static_cast<uint32_t>(values.GetInt("ock.mmc.meta.tenant.max_grants"));
  out.max_pins_per_tenant = static_cast<uint32_t>(values.GetInt("ock.mmc.meta.tenant.max_pins"));
  out.max_sessions = static_cast<uint32_t>(values.GetInt("ock.mmc.meta.max_sessions"));
  out.max_buffer_bytes = values.GetBytes("ock.mmc.meta.max_buffer_bytes");
  out.max_connections = static_cast<uint32_t>(values.GetInt("ock.mmc.meta.max_connections"));
  out.drain = Milliseconds(values, "drain");
  out.recovery = Milliseconds(values, "recovery");
  out.state_path = values.GetString("ock.mmc.meta.state_path");
  out.copy_bytes_per_second = values.GetBytes("ock.mmc.meta.copy_bytes_per_second");
  out.tls = security::TlsOptionsFrom(values, "ock.mmc.tls.");
  out.commit_durable = values.GetString("ock.mmc.meta.commit_mode") == "sync";
  return out;
}

}  // namespace mmc::meta
