#include "common/config/local_conf.h"

#include <algorithm>

#include "common/base/limits.h"
#include "common/config/common_settings.h"

namespace mmc::config {
namespace {

// TLS of the data plane, as the file names it.
constexpr char kDataTls[] = "ock.mmc.local_service.hcom.tls.";
constexpr char kNoSsd[] = "this version keeps blocks in memory only.";

Setting WithAlias(Setting setting, std::vector<std::string> older, std::string note = "") {
  std::move(older.begin(), older.end(), std::back_inserter(setting.names));
  setting.deprecated_names_note = std::move(note);
  return setting;
}

std::vector<Setting> ServiceSettings() {
  Setting data_url = Url(
      "ock.mmc.local_service.hcom_url", "tcp://127.0.0.1:7000", "tcp",
      "TCP address that clients of other hosts read and write the pool at; name an address of the "
      "network card that they reach. When the port of the default is taken, a free one is used.");
  data_url.min = 1024;
  data_url.free_port = true;
  Setting protocol = Enum("ock.mmc.local_service.protocol", "host_tcp",
                          {"host_tcp", "host_shm", "host_rdma", "host_urma", "device_rdma",
                           "device_sdma", "device_urma", "device_uboe"},
                          "Preferred way to move blocks between hosts. Where its hardware is "
                          "absent, the best one there is is used, with one "
                          "warning. Processes of one host use shared memory in any case, unless "
                          "ock.mmc.local_service.shm.enable is false.");
  protocol.old_values = {{"sdma", "device_sdma"}, {"roce", "host_rdma"}};
  protocol.deprecated_names_note = "`sdma` means `device_sdma`, `roce` means `host_rdma`";
  return {
      Url("ock.mmc.meta_service_url", "tcp://127.0.0.1:5000", "tcp",
          "Address of the meta service."),
      Text("ock.mmc.local_service.name", "", kMaxNodeNameBytes,
           "Name of this node in the pool, unique and the same after a restart; empty: host name, "
           "':' and the data port."),
      Int("ock.mmc.local_service.join_timeout_milliseconds", "0", 0, 3'600'000,
          "At start, how long to keep trying to reach the meta service; 0: until it answers."),
      Int("ock.mmc.local_service.drain_milliseconds", "5000", 0, 600'000,
          "After SIGTERM, how long running transfers may take to finish."),
      data_url,
      protocol,
      Bool("ock.mmc.local_service.protocol.strict", "false",
           "true: a preferred way whose hardware is absent ends the start with an error."),
  };
}

std::vector<Setting> MemorySettings() {
  return {
      Bytes("ock.mmc.local_service.dram.size", "128MB", 0, 1_TiB,
            "Memory that this node gives to the pool, rounded up to 2 MB."),
      Bytes("ock.mmc.local_service.hbm.size", "0", 0, 1_TiB,
            "Device memory that this node gives to the pool, rounded up to 2 MB. This version has "
            "no device pools: when it is not 0, a local service says so and starts without, or "
            "refuses to start when ock.mmc.local_service.protocol.strict is true."),
      Int("ock.mmc.local_service.numa.node", "-1", -1, 1023,
          "NUMA node that the memory is bound to; -1: not bound."),
      Enum(
          "ock.mmc.local_service.hugepages", "auto", {"auto", "never"},
          "auto: pages of hugetlbfs when there are enough free ones, else transparent huge pages."),
      Bool("ock.mmc.local_service.prefault", "true",
           "Touch every page at start, so that no put waits for it."),
      Bool("ock.mmc.local_service.warm_restart", "true",
           "Keep the memory in a named file, so that a local service of this name that starts "
           "again goes on with the objects of one that was killed or upgraded. false: memory "
           "that ends with the process."),
      Text("ock.mmc.local_service.segment.directory", "/dev/shm", 255,
           "Folder of that file, in tmpfs or hugetlbfs. When it has too little room, memory that "
           "ends with the process is taken, with one warning."),
      Bool("ock.mmc.local_service.cold", "false",
           "true, or --cold on the command line: start empty, whatever is there."),
      Enum("ock.mmc.local_service.stop_mode", "leave", {"leave", "keep"},
           "SIGTERM: leave the pool and delete the objects, or keep them for the next start of "
           "this node, as for an upgrade."),
  };
}

std::vector<Setting> TransportSettings() {
  return {
      Bool("ock.mmc.local_service.tcp.enable", "true", "Serve the pool over TCP."),
      Int("ock.mmc.local_service.tcp.threads", "2", 1, 64, "Threads that move bytes over TCP."),
      Text("ock.mmc.local_service.tcp.congestion_control", "", 15,
           "TCP congestion control, as in net.ipv4.tcp_available_congestion_control; empty: the "
           "system's."),
      Bool("ock.mmc.local_service.shm.enable", "true",
           "Let processes of this host map the pool: those of the same user, of root, and of "
           "ock.mmc.local_service.shm.group. Whoever maps it can read, and when it may write "
           "change, what lies there, whatever certificate it has: false on hosts where such "
           "processes are not trusted."),
      Text("ock.mmc.local_service.shm.directory", "", 80,
           "Folder of the unix socket, of this user or root and writable by no other; empty: "
           "/run/mmc when it is there and writable, else "
           "$XDG_RUNTIME_DIR/mmc, else "
           "/tmp/mmc-<uid>."),
      Text("ock.mmc.local_service.shm.group", "", 255,
           "Group whose members may map the pool, besides processes of the same user."),
      Enum("ock.mmc.local_service.shm.group.access", "write", {"write", "read"},
           "What members of that group may do: read gives them memory that the kernel does not "
           "let them map for writing."),
      Text("ock.mmc.local_service.catalog.directory", "/dev/shm", 255,
           "Folder of the file that records which committed objects this node holds; best in "
           "shared memory."),
  };
}

std::vector<Setting> ClientSection() {
  return {
      Text("ock.mmc.client.tenant", "", 64,
           "Whose keys a client's keys are: letters, digits, '.', '_', '-'; empty: the default tenant. With TLS it is "
           "the tenant of the client's certificate."),
      Int("ock.mmc.client.retry_milliseconds", "0", 0, 600'000,
          "How long a client keeps trying to reach the meta service; 0: one attempt."),
      Int("ock.mmc.client.timeout.seconds", "60", 1, 600, "Deadline of a call that gives none."),
      Int("ock.mmc.client.read_thread_pool.size", "4", 1, 64,
          "Threads for asynchronous calls; the larger one of this and the next key counts."),
      Int("ock.mmc.client.write_thread_pool.size", "4", 1, 64, "See the key before."),
      Bool("ock.mmc.client.shm.enable", "true", "Use shared memory for nodes of the same host."),
      Int("ock.mmc.client.tcp.connections", "4", 1, 64,
          "TCP connections to each node; big transfers use several."),
      Text("ock.mmc.client.tcp.congestion_control", "", 15,
           "TCP congestion control; empty: the system's."),
      Bool("ock.mmc.client.location_cache.enable", "false",
           "Read without asking the meta service while the lease of a location that is known "
           "lasts."),
      Int("ock.mmc.client.location_cache.keys", "1048576", 1, 100'000'000,
          "Locations that are kept."),
      Int("ock.mmc.client.copy_threads", "0", 0, 64,
          "Helpers for big copies from and to memory of the same host, besides the calling "
          "thread."),
      Enum("ock.mmc.integrity", "put", {"off", "put", "verify"},
           "put: values are stored with a checksum (XXH3-64). verify: and whole values that are "
           "read are checked against it; a replica that differs is reported and another one read."),
  };
}

std::vector<Setting> DataTlsSettings() {
  const std::string prefix = kDataTls;
  std::vector<Setting> out = {
      Bool(prefix + "enable", "false",
           "TLS 1.3 for blocks that travel over TCP, both sides with certificates: nodes of role "
           "local, clients of role client, admin or local. The same on all nodes and clients of a "
           "pool. Shared memory is not concerned.")};
  for (const char* name :
       {"ca.path", "ca.crl.path", "cert.path", "key.path", "key.pass.path", "decrypter.path"}) {
    out.push_back(Text(prefix + name, "", 255,
                       "As ock.mmc.tls." + std::string(name) +
                           ". When ca.path, cert.path and key.path are all empty, the files of "
                           "ock.mmc.tls.* are used. Not read while TLS is off."));
  }
  out.push_back(Bool(prefix + "tickets", "true",
                     "With TLS here and for the calls to the meta service: what travels over TCP needs a ticket "
                     "of the meta service for just these bytes, so that a client reaches no bytes of others. "
                     "false: a certificate is enough for all of the node's memory."));
  for (const auto& [role, access] :
       {std::pair("client", "write"), std::pair("admin", "write"), std::pair("local", "read")}) {
    out.push_back(Enum(prefix + "access." + role, access, {"none", "read", "write"},
                       "What holders of a certificate of role " + std::string(role) +
                           " may do with this node's memory over TCP, under TLS; write includes "
                           "read. With tickets these come on top, and a node may write under them "
                           "unless it may do nothing."));
  }
  return out;
}

std::vector<Setting> SsdSettings() {
  return {
      WithoutEffect(Bool("ock.mmc.ubs_io.enable", "false", "Blocks on SSD."), kNoSsd),
      WithoutEffect(Bool("ock.mmc.local_service.storage.enabled", "false", "Blocks on SSD."),
                    kNoSsd),
      WithoutEffect(
          Text("ubsio.disk.path", "", 1023, "Block devices, absolute paths joined by ':'."),
          kNoSsd),
      WithoutEffect(Int("ubsio.mem.size_in_gb", "10", 0, 3072, "Memory cache of the SSD tier."),
                    kNoSsd),
      WithoutEffect(
          Int("ubsio.standalone.device_count", "1", 1, 1024, "Processes that give memory."),
          kNoSsd),
      WithoutEffect(
          Bool("ubsio.standalone.force_new_disk", "true", "Wipe the disks at each start."), kNoSsd),
      WithoutEffect(Int("ubsio.wcache.evict_water_level", "80", 0, 100,
                        "Water level of the SSD tier's write cache."),
                    kNoSsd),
  };
}

std::vector<Setting> IdleSettings() {
  return {
      WithAlias(WithoutEffect(
                    Url("ock.mmc.local_service.config_store_url", "tcp://127.0.0.1:6000", "tcp",
                        "Address of the config store."),
                    "there is no config store; nodes find each other through the meta service."),
                {"ock.mmc.meta_service.config_store_url"}),
      WithoutEffect(
          Int("ock.mmc.local_service.world_size", "256", 1, 1024, "Number of local services."),
          "there is no world size; nodes join and leave as they come."),
      WithoutEffect(Bytes("ock.mmc.local_service.max.dram.size", "64GB", 0, 1_TiB,
                          "Largest dram.size of any node."),
                    "memory is named by segment and offset, no address range is reserved for it."),
      WithoutEffect(Bytes("ock.mmc.local_service.max.hbm.size", "0", 0, 1_TiB,
                          "Largest hbm.size of any node."),
                    "memory is named by segment and offset, no address range is reserved for it."),
      WithoutEffect(Enum("ock.mmc.local_service.memory.pool.mode", "standard",
                         {"standard", "expanded"}, "Size of the pool's address range."),
                    "memory is named by segment and offset, no address range is reserved for it."),
      WithoutEffect(Bool("ock.mmc.local_service.dram_by_sdma", "false",
                         "Copy host memory with the device's engine."),
                    "host memory is copied by the processor in this version."),
      WithoutEffect(
          Bool("ock.mmc.client.aggregate.io", "true", "Move the buffers of a batch together."),
          "the buffers of a batch always move together."),
      WithoutEffect(
          Int("ock.mmc.client.aggregate.num", "122", 1, 131'072, "Buffers that move together."),
          "the buffers of a batch always move together."),
      WithoutEffect(Bytes("ock.mmc.client.batch_option.chunk.size", "8MB", 0, 1_TiB,
                          "Bytes of one chunk of a batch."),
                    "a batch is not cut into chunks."),
      WithoutEffect(Int("ock.mmc.client.batch_option.chunk.count", "3", 1, 64, "Chunks under way."),
                    "a batch is not cut into chunks."),
  };
}

}  // namespace

const Schema& LocalConf() {
  static const Schema* const schema = [] {
    std::vector<Setting> settings = Sections({{"Service", ServiceSettings()},
                                              {"Memory", MemorySettings()},
                                              {"Transports", TransportSettings()},
                                              {"Clients", ClientSection()},
                                              {"Logs", LogSettings()},
                                              {"TLS", TlsSettings()},
                                              {"TLS of the data plane", DataTlsSettings()},
                                              {"Accepted: SSD tier", SsdSettings()},
                                              {"Accepted: no need for them", IdleSettings()}});
    return new Schema("mmc_local_service", std::move(settings), {TlsRule()});
  }();
  return *schema;
}

ClientSettings ClientSettingsFrom(const Values& values) {
  ClientSettings out;
  out.meta_url = values.GetString("ock.mmc.meta_service_url");
  out.tenant = values.GetString("ock.mmc.client.tenant");
  out.timeout = std::chrono::seconds(values.GetInt("ock.mmc.client.timeout.seconds"));
  out.connect_retry = std::chrono::milliseconds(values.GetInt("ock.mmc.client.retry_milliseconds"));
  out.location_cache = values.GetBool("ock.mmc.client.location_cache.enable");
  out.location_cache_keys =
      static_cast<uint64_t>(values.GetInt("ock.mmc.client.location_cache.keys"));
  out.same_host = values.GetBool("ock.mmc.client.shm.enable");
  out.tcp_connections = static_cast<int>(values.GetInt("ock.mmc.client.tcp.connections"));
  out.tcp_congestion_control = values.GetString("ock.mmc.client.tcp.congestion_control");
  out.integrity = values.GetString("ock.mmc.integrity");
  out.copy_threads = static_cast<int>(values.GetInt("ock.mmc.client.copy_threads"));
  out.async_threads =
      static_cast<int>(std::max(values.GetInt("ock.mmc.client.read_thread_pool.size"),
                                values.GetInt("ock.mmc.client.write_thread_pool.size")));
  return out;
}

}  // namespace mmc::config
