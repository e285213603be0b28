// What mmc_meta_service can be told, as one struct, and the schema of its conf file.
//
// Thread safety: MetaSchema() may be called from any thread; MetaOptions is a value.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "common/config/schema.h"
#include "common/security/tls_options.h"
#include "meta_service/access.h"
#include "meta_service/tenant_quota.h"

namespace mmc::meta {

struct MetaOptions {
  std::string url = "tcp://127.0.0.1:5000";           // RPC; empty: no socket; port 0: a free one
  std::string metrics_url = "http://127.0.0.1:8000";  // HTTP; empty: none; port 0: a free one
  std::string http_token_path;                        // tokens for its pages; empty: none
  int io_threads = 2;                                 // at least 1

  uint32_t evict_threshold_high = 90;  // percent of a segment's bytes; always above the low one
  uint32_t evict_threshold_low = 80;
  std::string evict_policy = "lru";

  std::chrono::milliseconds lease{5000};         // when a lookup asks for none
  std::chrono::milliseconds max_lease{600'000};  // a lookup's lease is capped to this
  std::chrono::milliseconds soft_pin{1'800'000};  // when a put that asks for one gives no time
  std::chrono::milliseconds max_soft_pin{86'400'000};
  bool evict_soft_pinned = true;  // when nothing else can be evicted
  std::chrono::milliseconds grant{
      600'000};  // a write must commit within this while its session lives
  // What is granted on a node that wants tickets is not given to others for so long.
  std::chrono::milliseconds write_ticket{20'000};
  std::chrono::milliseconds heartbeat{1000};         // told to nodes and sessions
  std::chrono::milliseconds session_expiry{10'000};  // silence after which a client session is over
  std::chrono::milliseconds node_suspect{3000};  // silence after which a node gets no new placement
  std::chrono::milliseconds node_grace{30'000};  // silence after which a node is dead

  // How long a start waits for nodes that know of objects; 0: it knows to be the first (the conf file says 3 s).
  std::chrono::milliseconds recovery{0};
  std::string state_path;       // folder of the members file; empty: none
  bool commit_durable = false;  // a commit is answered when the owners' catalogs have it

  uint64_t copy_bytes_per_second = 1u << 30;  // between nodes: lost replicas made anew, drains

  AccessTable access;
  std::vector<TenantQuota> tenant_quotas;
  // Of one tenant.
  uint32_t max_sessions_per_tenant = 32'768;
  uint32_t max_grants_per_tenant = 1u << 20;
  uint32_t max_pins_per_tenant = 1u << 21;

  uint32_t max_sessions = 65'536;
  uint32_t max_connections = 16'384;
  uint64_t max_buffer_bytes = 1u << 30;   // of requests and answers under way, of all connections together
  std::chrono::milliseconds drain{5000};  // SIGTERM: running calls get this long

  security::TlsOptions tls;  // of the calls
};

// The conf file of the meta service. Log keys are read by runtime::DaemonMain.
const config::Schema& MetaSchema();

// REQUIRES: `values` come from MetaSchema(). io_threads 0 has become min(cores, 4).
MetaOptions MetaOptionsFrom(const config::Values& values);

}  // namespace mmc::meta
