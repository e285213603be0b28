// The machine: pages, limits, shared memory, processors, RDMA, network.
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <charconv>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "client_sdk/cli/doctor.h"
#include "common/base/bytes.h"

namespace mmc::cli {
namespace {

constexpr uint64_t kEnoughFiles = 4096;
constexpr uint64_t kHugePage = 2_MiB;

std::optional<uint64_t> Number(const std::optional<std::string>& text) {
  if (!text) return std::nullopt;
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), number);
  if (error != std::errc() || end != text->data() + text->size()) return std::nullopt;
  return number;
}

Check HugePages(const Machine& machine, uint64_t dram_bytes) {
  Check check{.name = "huge pages"};
  const std::string folder = "sys/kernel/mm/hugepages/hugepages-2048kB/";
  const uint64_t pages = Number(machine.Read(folder + "nr_hugepages")).value_or(0);
  const uint64_t free = Number(machine.Read(folder + "free_hugepages")).value_or(0);
  const uint64_t wanted = (dram_bytes + kHugePage - 1) / kHugePage;
  check.saw = std::to_string(pages) + " pages of 2 MiB, " + std::to_string(free) + " free";
  if (free >= wanted) return check;
  // Pages that a running local service holds are not free: only a pool of none at all is worth a
  // word.
  if (pages >= wanted) return check;
  const std::optional<std::string> thp =
      machine.Read("sys/kernel/mm/transparent_hugepage/shmem_enabled");
  const bool transparent = thp && (thp->find("[advise]") != std::string::npos ||
                                   thp->find("[always]") != std::string::npos ||
                                   thp->find("[within_size]") != std::string::npos);
  check.saw +=
      "; transparent huge pages for shared memory " + std::string(transparent ? "on" : "off");
  check.verdict = transparent ? Verdict::kOk : Verdict::kWarn;
  if (!transparent) {
    check.remedy = "run: sysctl vm.nr_hugepages=" + std::to_string(wanted) +
                   ", or: echo advise > /sys/kernel/mm/transparent_hugepage/shmem_enabled";
  }
  return check;
}

Check LockedMemory(const Machine& machine, uint64_t dram_bytes) {
  Check check{.name = "locked memory limit"};
  if (machine.limits.locked_bytes == UINT64_MAX) {
    check.saw = "unlimited";
    return check;
  }
  check.saw = FormatBytes(machine.limits.locked_bytes);
  const bool rdma = machine.IsFolder("sys/class/infiniband");
  if (machine.limits.locked_bytes >= dram_bytes || !rdma) return check;
  check.verdict = Verdict::kWarn;
  check.remedy =
      "RDMA pins the whole pool: set ulimit -l unlimited, or LimitMEMLOCK=infinity in the unit";
  return check;
}

Check OpenFiles(const Machine& machine) {
  Check check{.name = "open files limit", .saw = std::to_string(machine.limits.open_files)};
  if (machine.limits.open_files >= kEnoughFiles) return check;
  check.verdict = Verdict::kWarn;
  check.remedy =
      "many clients need many connections: set ulimit -n 65536, or LimitNOFILE=65536 in the unit";
  return check;
}

Check SharedMemory(const Machine& machine) {
  Check check{.name = "/dev/shm"};
  if (machine.shm_total_bytes == 0) {
    check.verdict = Verdict::kFail;
    check.saw = "not there";
    check.remedy =
        "mount it: mount -t tmpfs tmpfs /dev/shm; the catalog of a local service is kept there";
    return check;
  }
  check.saw =
      FormatBytes(machine.shm_free_bytes) + " free of " + FormatBytes(machine.shm_total_bytes);
  if (machine.shm_free_bytes >= 32_MiB) return check;
  check.verdict = Verdict::kWarn;
  check.remedy =
      "the catalog of a local service is kept there: make room, or mount -o remount,size=1G "
      "/dev/shm";
  return check;
}

std::optional<uint64_t> CgroupLimit(const Machine& machine) {
  const std::optional<uint64_t> v2 = Number(machine.Read("sys/fs/cgroup/memory.max"));
  return v2 ? v2 : Number(machine.Read("sys/fs/cgroup/memory/memory.limit_in_bytes"));
}

std::optional<uint64_t> MemInfo(const Machine& machine, const std::string& label) {
  std::istringstream lines(machine.Read("proc/meminfo").value_or(""));
  for (std::string line; std::getline(lines, line);) {
    if (line.rfind(label + ":", 0) != 0) continue;
    uint64_t kib = 0;
    std::istringstream(line.substr(label.size() + 1)) >> kib;
    return kib << 10;
  }
  return std::nullopt;
}

Check Memory(const Machine& machine, uint64_t dram_bytes) {
  Check check{.name = "memory"};
  const std::optional<uint64_t> total = MemInfo(machine, "MemTotal");
  const std::optional<uint64_t> available = MemInfo(machine, "MemAvailable");
  if (!total || !available) {
    check.verdict = Verdict::kWarn;
    check.saw = "/proc/meminfo cannot be read";
    check.remedy = "mount /proc";
    return check;
  }
  check.saw = FormatBytes(*available) + " available of " + FormatBytes(*total);
  uint64_t bound = *total;
  // An unlimited group of cgroup v1 has a limit of nearly 2^63.
  if (const std::optional<uint64_t> limit = CgroupLimit(machine); limit && *limit < *total) {
    check.saw += ", control group limit " + FormatBytes(*limit);
    bound = *limit;
  }
  if (dram_bytes < bound) return check;
  check.verdict = Verdict::kFail;
  check.remedy = "dram.size " + FormatBytes(dram_bytes) +
                 " does not fit: lower ock.mmc.local_service.dram.size or raise "
                 "the control group's memory.max";
  return check;
}

Check Processors(const Machine& machine) {
  size_t nodes = 0;
  while (machine.IsFolder("sys/devices/system/node/node" + std::to_string(nodes))) ++nodes;
  Check check{.name = "processors",
              .saw = std::to_string(machine.processors) + ", NUMA nodes " +
                     std::to_string(std::max<size_t>(nodes, 1))};
  if (nodes > 1) check.remedy = "bind each local service to one: ock.mmc.local_service.numa.node";
  return check;
}

Check Rdma(const Machine& machine) {
  Check check{.name = "RDMA devices"};
  std::error_code error;
  std::string names;
  for (const auto& entry :
       std::filesystem::directory_iterator(machine.root + "sys/class/infiniband", error)) {
    names += (names.empty() ? "" : ", ") + entry.path().filename().string();
  }
  check.saw = names.empty() ? "none; hosts talk over TCP" : names;
  return check;
}

Check CongestionControl(const Machine& machine) {
  Check check{.name = "TCP congestion control"};
  const std::optional<std::string> now = machine.Read("proc/sys/net/ipv4/tcp_congestion_control");
  check.saw =
      now.value_or("unknown") + ", there are: " +
      machine.Read("proc/sys/net/ipv4/tcp_available_congestion_control").value_or("unknown");
  return check;
}

}  // namespace

Machine Machine::ThisOne() {
  Machine machine;
  struct statvfs shm {};
  if (statvfs("/dev/shm", &shm) == 0) {
    machine.shm_free_bytes = static_cast<uint64_t>(shm.f_bavail) * shm.f_frsize;
    machine.shm_total_bytes = static_cast<uint64_t>(shm.f_blocks) * shm.f_frsize;
  }
  machine.processors = std::max(1u, std::thread::hardware_concurrency());
  rlimit limit{};
  if (getrlimit(RLIMIT_MEMLOCK, &limit) == 0) {
    machine.limits.locked_bytes = limit.rlim_cur == RLIM_INFINITY ? UINT64_MAX : limit.rlim_cur;
  }
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) machine.limits.open_files = limit.rlim_cur;
  return machine;
}

std::optional<std::string> Machine::Read(const std::string& path) const {
  std::ifstream file(root + path);
  if (!file) return std::nullopt;
  std::string text(size_t{64} << 10, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(file.gcount()));
  text.erase(text.find_last_not_of(" \t\n") + 1);
  return text;
}

bool Machine::IsFolder(const std::string& path) const {
  std::error_code error;
  return std::filesystem::is_directory(root + path, error);
}

std::vector<Check> CheckMachine(const Machine& machine, uint64_t dram_bytes) {
  return {Memory(machine, dram_bytes),
          HugePages(machine, dram_bytes),
          SharedMemory(machine),
          LockedMemory(machine, dram_bytes),
          OpenFiles(machine),
          Processors(machine),
          Rdma(machine),
          CongestionControl(machine)};
}

Check CheckClock() {
  Check check{.name = "clock"};
  timespec monotonic{};
  timespec wall{};
  clock_gettime(CLOCK_MONOTONIC, &monotonic);
  clock_gettime(CLOCK_REALTIME, &wall);
  char text[64] = "";
  tm parts{};
  gmtime_r(&wall.tv_sec, &parts);
  std::strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S UTC", &parts);
  check.saw = std::string(text) + ", up " + std::to_string(monotonic.tv_sec) + " s";
  constexpr time_t kYear2024 = 1704067200;
  if (wall.tv_sec >= kYear2024) return check;
  check.verdict = Verdict::kWarn;
  check.remedy =
      "the wall clock is wrong, logs will be too: start a time service (leases use the monotonic "
      "clock)";
  return check;
}

}  // namespace mmc::cli
