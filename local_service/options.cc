#include "local_service/options.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>

#include "common/base/limits.h"
#include "common/config/local_conf.h"

namespace mmc::local {
namespace {

constexpr char kDataUrl[] = "ock.mmc.local_service.hcom_url";

// What a protocol of the conf file asks for here.
std::string TransportOf(const std::string& protocol) {
  if (protocol == "host_shm") return "shm";
  if (protocol == "host_rdma") return "roce";
  if (protocol == "host_urma") return "urma";
  if (protocol == "host_tcp") return "tcp";
  return "device";
}

bool IsWritableDirectory(const std::string& path) {
  struct stat info {};
  return stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode) &&
         access(path.c_str(), W_OK | X_OK) == 0;
}

std::chrono::milliseconds Milliseconds(const config::Values& values, std::string_view name) {
  return std::chrono::milliseconds(values.GetInt(name));
}

DataAccess AccessFrom(const config::Values& values, const std::string& role) {
  const std::string access = values.GetString("ock.mmc.local_service.hcom.tls.access." + role);
  if (access == "none") return DataAccess::kNone;
  return access == "read" ? DataAccess::kRead : DataAccess::kWrite;
}

}  // namespace

const config::Schema& LocalSchema() { return config::LocalConf(); }

std::string DefaultShmDirectory() {
  if (IsWritableDirectory("/run/mmc")) return "/run/mmc";
  const char* runtime = std::getenv("XDG_RUNTIME_DIR");
  if (runtime != nullptr && runtime[0] == '/' && IsWritableDirectory(runtime))
    return std::string(runtime) + "/mmc";
  return "/tmp/mmc-" + std::to_string(getuid());
}

LocalOptions LocalOptionsFrom(const config::Values& values) {
  LocalOptions out;
  out.meta_url = values.GetString("ock.mmc.meta_service_url");
  out.tls = security::TlsOptionsFrom(values, "ock.mmc.tls.");
  out.name = values.GetString("ock.mmc.local_service.name");
  out.join_timeout = Milliseconds(values, "ock.mmc.local_service.join_timeout_milliseconds");
  out.dram_bytes = AlignUp(values.GetBytes("ock.mmc.local_service.dram.size"), kSegmentAlignment);
  out.hbm_bytes = AlignUp(values.GetBytes("ock.mmc.local_service.hbm.size"), kSegmentAlignment);
  out.numa_node = static_cast<int>(values.GetInt("ock.mmc.local_service.numa.node"));
  out.hugepages = values.GetString("ock.mmc.local_service.hugepages") == "auto";
  out.prefault = values.GetBool("ock.mmc.local_service.prefault");
  const std::string default_data_url = out.data_url;
  out.data_url = values.GetString(kDataUrl);
  // A file of defaults (--dump-conf) names the default too: two local services of one host may both
  // use it.
  out.data_url_set = values.IsSet(kDataUrl) && out.data_url != default_data_url;
  out.tcp_enable = values.GetBool("ock.mmc.local_service.tcp.enable");
  out.tcp_threads = static_cast<int>(values.GetInt("ock.mmc.local_service.tcp.threads"));
  out.tcp_congestion_control = values.GetString("ock.mmc.local_service.tcp.congestion_control");
  out.shm_enable = values.GetBool("ock.mmc.local_service.shm.enable");
  out.shm_directory = values.GetString("ock.mmc.local_service.shm.directory");
  if (out.shm_directory.empty()) out.shm_directory = DefaultShmDirectory();
  out.shm_group = values.GetString("ock.mmc.local_service.shm.group");
  out.shm_group_writes = values.GetString("ock.mmc.local_service.shm.group.access") == "write";
  out.data_tls = security::DataTlsOptionsFrom(values);
  out.client_access = AccessFrom(values, "client");
  out.admin_access = AccessFrom(values, "admin");
  out.local_access = AccessFrom(values, "local");
  out.data_tickets = values.GetBool("ock.mmc.local_service.hcom.tls.tickets");
  out.catalog_directory = values.GetString("ock.mmc.local_service.catalog.directory");
  out.warm_restart = values.GetBool("ock.mmc.local_service.warm_restart");
  out.segment_directory = values.GetString("ock.mmc.local_service.segment.directory");
  out.cold = values.GetBool("ock.mmc.local_service.cold");
  out.keep_on_stop = values.GetString("ock.mmc.local_service.stop_mode") == "keep";
  out.protocol = values.GetString("ock.mmc.local_service.protocol");
  out.transport = TransportOf(out.protocol);
  out.protocol_strict = values.GetBool("ock.mmc.local_service.protocol.strict");
  out.drain = Milliseconds(values, "ock.mmc.local_service.drain_milliseconds");
  return out;
}

Status ValidateLocalOptions(const LocalOptions& options) {
  const auto wrong = [](std::string text) { return Status(Code::kConfig, std::move(text)); };
  if (options.hbm_bytes != 0) {
    return wrong(
        "ock.mmc.local_service.hbm.size = " + std::to_string(options.hbm_bytes) +
        ": device memory is not supported by this version; set it to 0 and give dram.size");
  }
  if (options.dram_bytes == 0) {
    return wrong(
        "ock.mmc.local_service.dram.size = 0 and ock.mmc.local_service.hbm.size = 0: a local "
        "service must give "
        "memory; set dram.size to 2MB or more");
  }
  if (!IsAligned(options.dram_bytes, kSegmentAlignment) || options.dram_bytes > kMaxSegmentBytes) {
    return wrong("ock.mmc.local_service.dram.size = " + std::to_string(options.dram_bytes) +
                 ": must be a multiple of 2 MiB up to 1 TiB");
  }
  if (!options.tcp_enable && !options.shm_enable && !options.loopback_enable) {
    return wrong(
        "ock.mmc.local_service.tcp.enable = false and ock.mmc.local_service.shm.enable = false: "
        "nobody could "
        "reach the memory; enable one of them");
  }
  if (options.keep_on_stop && !options.warm_restart) {
    return wrong(
        "ock.mmc.local_service.stop_mode = keep and ock.mmc.local_service.warm_restart = false: "
        "memory that ends with the process cannot be kept; set one of them otherwise");
  }
  return Status::Ok();
}

}  // namespace mmc::local
