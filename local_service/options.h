// What mmc_local_service can be told, as one struct, and the schema of its conf file.
//
// Thread safety: LocalSchema() may be called from any thread; LocalOptions is a value.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "common/config/schema.h"
#include "common/security/tls_options.h"

namespace mmc::local {

enum class DataAccess : uint8_t { kNone, kRead, kWrite };

struct LocalOptions {
  std::string meta_url = "tcp://127.0.0.1:5000";
  std::string name;  // empty: host name, ':' and the port of the data endpoint
  std::chrono::milliseconds join_timeout{
      60'000};  // Start() keeps trying for so long; 0: without end

  uint64_t dram_bytes = 128u << 20;  // a multiple of 2 MiB
  uint64_t hbm_bytes = 0;            // a multiple of 2 MiB; see ValidateLocalOptions
  int numa_node = -1;                // -1: not bound
  bool hugepages = true;             // hugetlbfs pages when there are any; false: never
  bool prefault = true;

  std::string data_url = "tcp://127.0.0.1:7000";  // the TCP data endpoint; port 0: a free one
  bool data_url_set = false;  // false: when the default's port is taken, a free one is used instead
  bool tcp_enable = true;
  int tcp_threads = 2;
  std::string tcp_congestion_control;  // empty: the system's

  bool shm_enable = true;
  std::string shm_directory;     // of the unix socket; never empty after LocalOptionsFrom
  std::string shm_group;         // empty: only processes of the same user may connect
  bool shm_group_writes = true;  // false: members of the group get the memory for reading only
  // Of the TCP data endpoint, and of this node's links to others.
  security::TlsOptions data_tls;
  DataAccess client_access = DataAccess::kWrite;  // under TLS, by the role of the peer's certificate
  DataAccess admin_access = DataAccess::kWrite;
  DataAccess local_access = DataAccess::kRead;
  bool data_tickets = true;  // with TLS on both planes: requests need tickets of the meta service
  bool loopback_enable = false;  // serve links of this process without sockets: the embedded mode

  std::string catalog_directory = "/dev/shm";  // of the file that records the committed objects

  // Memory and catalog outlive the process and are taken up by the next one of this name.
  bool warm_restart = false;
  std::string segment_directory = "/dev/shm";  // of the memory, with warm_restart
  bool cold = false;                           // start empty, whatever is there
  bool keep_on_stop = false;                   // Stop() leaves everything for the next start

  std::string protocol =
      "host_tcp";  // as in today's conf files; older spellings have been translated
  std::string transport =
      "tcp";  // what `protocol` asks for here: "tcp", "shm", "roce", "urma", "device"
  bool protocol_strict =
      false;  // true: a transport that is not there is an error instead of a warning

  std::chrono::milliseconds drain{5000};  // SIGTERM: running transfers get this long

  security::TlsOptions tls;  // of the calls to the meta service; whoever makes the channel reads them
};

// The conf file of the local service and of clients on its machine (ock.mmc.client.*, see
// common/config/local_conf.h).
const config::Schema& LocalSchema();

// REQUIRES: `values` come from LocalSchema(). Sizes have been rounded up to 2 MiB.
LocalOptions LocalOptionsFrom(const config::Values& values);

// What a local service needs and a client that reads the same file does not: a pool that is not
// empty, an endpoint. Errors: kConfig, one line naming keys and values.
Status ValidateLocalOptions(const LocalOptions& options);

// Where the shared-memory socket goes when nothing was said: /run/mmc when it is there and
// writable, else $XDG_RUNTIME_DIR/mmc, else /tmp/mmc-<uid>. The directory is not made here.
std::string DefaultShmDirectory();

}  // namespace mmc::local
