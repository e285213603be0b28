#include "fabric/memory.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/memfd.h>
#include <numaif.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <fstream>
#include <thread>
#include <utility>

#include "common/base/bytes.h"
#include "common/base/limits.h"

namespace mmc::fabric {
namespace {

constexpr uint64_t kHugePage = 2_MiB;
constexpr int kMaxNumaNodes = 1024;
constexpr uint64_t kPrefaultShare = 64_MiB;

// The number in a one-number file of /sys; 0 when there is none.
uint64_t ReadNumber(const std::string& path) {
  std::ifstream in(path);
  uint64_t value = 0;
  in >> value;
  return in ? value : 0;
}

bool HugePagesFree(uint64_t size, int numa_node) {
  const std::string base = numa_node >= 0
                               ? "/sys/devices/system/node/node" + std::to_string(numa_node) + "/hugepages"
                               : "/sys/kernel/mm/hugepages";
  const std::string dir = base + "/hugepages-2048kB/";
  const uint64_t free = ReadNumber(dir + "free_hugepages");
  const uint64_t reserved = numa_node >= 0 ? 0 : ReadNumber(dir + "resv_hugepages");
  return free >= reserved && (free - reserved) * kHugePage >= size;
}

// Bytes that the kernel believes it can give out; UINT64_MAX when it does not say.
uint64_t AvailableMemory() {
  std::ifstream in("/proc/meminfo");
  std::string name;
  while (in >> name) {
    uint64_t kib = 0;
    in >> kib;
    if (name == "MemAvailable:") return kib << 10;
    in.ignore(64, '\n');
  }
  return UINT64_MAX;
}

// A file of `size` bytes that can neither shrink nor grow: a mapping of it never faults with SIGBUS.
Result<int> MakeFile(const SegmentOptions& options, bool hugetlb) {
  const unsigned flags =
      MFD_CLOEXEC | MFD_ALLOW_SEALING | (hugetlb ? unsigned{MFD_HUGETLB} | unsigned{MFD_HUGE_2MB} : 0u);
  const int fd = memfd_create(options.name.c_str(), flags);
  if (fd < 0) return ErrnoStatus("memfd_create " + options.name, errno);
  // Nobody opens it again for writing through /proc: read-only clients stay read-only.
  if (ftruncate(fd, static_cast<off_t>(options.size)) != 0 || fchmod(fd, S_IRUSR) != 0 ||
      fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0) {
    const int err = errno;
    close(fd);
    return ErrnoStatus("segment " + options.name + " of " + FormatBytes(options.size), err);
  }
  return fd;
}

// Maps the file at an address that is a multiple of 2 MiB, so that huge pages fit.
Result<std::byte*> MapAligned(int fd, uint64_t size, int protection) {
  const uint64_t reserved = size + kHugePage;
  void* const area = mmap(nullptr, reserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (area == MAP_FAILED) return ErrnoStatus("reserve " + FormatBytes(reserved) + " of address space", errno);
  auto* const begin = static_cast<std::byte*>(area);
  auto* const aligned = reinterpret_cast<std::byte*>(AlignUp(reinterpret_cast<uint64_t>(area), kHugePage));
  void* const mapped = mmap(aligned, size, protection, MAP_SHARED | MAP_FIXED, fd, 0);
  if (mapped == MAP_FAILED) {
    const int err = errno;
    munmap(area, reserved);
    return ErrnoStatus("map " + FormatBytes(size), err);
  }
  const uint64_t mapped_size = AlignUp(size, 4096);
  if (aligned > begin) munmap(begin, static_cast<size_t>(aligned - begin));
  if (aligned + mapped_size < begin + reserved) {
    munmap(aligned + mapped_size, static_cast<size_t>(begin + reserved - (aligned + mapped_size)));
  }
  madvise(aligned, size, MADV_HUGEPAGE);  // advice only: the kernel may have none
  madvise(aligned, size, MADV_DONTDUMP);  // a core dump of the pool helps nobody
  return aligned;
}

Status Bind(std::byte* data, const SegmentOptions& options) {
  if (options.numa_node < 0) return Status::Ok();
  if (options.numa_node >= kMaxNumaNodes) {
    return Status(Code::kInvalidArgument, "NUMA node " + std::to_string(options.numa_node) + " does not exist");
  }
  constexpr size_t kBits = sizeof(unsigned long) * 8;
  std::array<unsigned long, kMaxNumaNodes / kBits> mask{};
  const auto node = static_cast<size_t>(options.numa_node);
  mask[node / kBits] = 1ul << (node % kBits);
  if (mbind(data, options.size, MPOL_BIND, mask.data(), kMaxNumaNodes, 0) == 0) return Status::Ok();
  // A kernel without NUMA has one node only: bound to it by nature.
  if (errno == ENOSYS && options.numa_node == 0) return Status::Ok();
  return ErrnoStatus("bind segment " + options.name + " to NUMA node " + std::to_string(options.numa_node) +
                         "; `numactl -H` lists the nodes",
                     errno);
}

// Faults one range in. Kernels before 5.14 have no MADV_POPULATE: they fault when the pages are used.
int Populate(std::byte* data, uint64_t size, bool write) {
  while (madvise(data, size, write ? MADV_POPULATE_WRITE : MADV_POPULATE_READ) != 0) {
    if (errno == EINTR || errno == EAGAIN) continue;
    return errno == EINVAL ? 0 : errno;
  }
  return 0;
}

Status Prefault(std::byte* data, uint64_t size, bool write) {
  const uint64_t shares = (size + kPrefaultShare - 1) / kPrefaultShare;
  const uint64_t cpus = std::max(1u, std::thread::hardware_concurrency());
  const uint64_t threads = std::min<uint64_t>({shares, cpus, 16});
  std::atomic<uint64_t> next{0};
  std::atomic<int> failed{0};
  const auto work = [&] {
    for (uint64_t i = next++; i < shares && failed == 0; i = next++) {
      const uint64_t begin = i * kPrefaultShare;
      if (const int err = Populate(data + begin, std::min(kPrefaultShare, size - begin), write)) failed = err;
    }
  };
  std::vector<std::thread> helpers;
  for (uint64_t i = 1; i < threads; ++i) helpers.emplace_back(work);
  work();
  for (auto& helper : helpers) helper.join();
  if (failed == 0) return Status::Ok();
  return ErrnoStatus("back " + FormatBytes(size) + " with memory; make the segment smaller or free memory", failed);
}

// Whether the kernel has mapped huge pages at `data` (ShmemPmdMapped of its smaps entry).
bool HasHugeMappings(const std::byte* data) {
  std::ifstream in("/proc/self/smaps");
  std::array<char, 32> start{};
  std::snprintf(start.data(), start.size(), "%" PRIx64 "-", reinterpret_cast<uint64_t>(data));
  bool inside = false;
  for (std::string line; std::getline(in, line);) {
    if (!inside) {
      inside = line.rfind(start.data(), 0) == 0;
    } else if (line.rfind("ShmemPmdMapped:", 0) == 0) {
      return line.find(" 0 kB") == std::string::npos;
    }
  }
  return false;
}

Status CheckSize(const SegmentOptions& options) {
  if (options.size != 0 && IsAligned(options.size, kSegmentAlignment) && options.size <= kMaxSegmentBytes) {
    return Status::Ok();
  }
  return Status(Code::kInvalidArgument, "segment " + options.name + " of " + std::to_string(options.size) +
                                            " bytes: the size must be a multiple of 2 MiB, at most 1 TiB");
}

bool IsHugetlb(int fd) {
  struct statfs fs {};
  return fstatfs(fd, &fs) == 0 && static_cast<uint64_t>(fs.f_type) == HUGETLBFS_MAGIC;
}

// A file system whose files are memory; `room`: bytes that must be free there.
Status CheckFileSystem(int fd, const std::string& path, uint64_t room) {
  struct statfs fs {};
  if (fstatfs(fd, &fs) != 0) return ErrnoStatus("statfs " + path, errno);
  const auto type = static_cast<uint64_t>(fs.f_type);
  if (type != TMPFS_MAGIC && type != HUGETLBFS_MAGIC) {
    return Status(Code::kUnsupported,
                  path + " is not in tmpfs or hugetlbfs: a pool must be memory, name another folder");
  }
  // A file system without a limit says 0 of 0.
  const uint64_t free = static_cast<uint64_t>(fs.f_bavail) * static_cast<uint64_t>(fs.f_bsize);
  if (fs.f_blocks == 0 || free >= room) return Status::Ok();
  return Status(Code::kNoSpace, path + " needs " + FormatBytes(room) + ", and its file system has " +
                                    FormatBytes(free) + " free; make the pool smaller or the file system larger");
}

}  // namespace

Result<std::shared_ptr<SegmentMemory>> SegmentMemory::Create(const SegmentOptions& options) {
  MMC_RETURN_IF_ERROR(CheckSize(options));
  bool hugetlb = options.hugetlb && HugePagesFree(options.size, options.numa_node);
  if (!hugetlb && options.prefault && options.size > AvailableMemory()) {
    return Status(Code::kIo, "segment " + options.name + " of " + FormatBytes(options.size) + ": only " +
                                 FormatBytes(AvailableMemory()) + " of memory are free; make it smaller");
  }
  std::shared_ptr<SegmentMemory> memory(new SegmentMemory());
  memory->size_ = options.size;
  if (hugetlb) {
    // Pages seen free may be gone by now; then ordinary ones do.
    if (auto fd = MakeFile(options, true); fd.ok()) {
      memory->fd_ = *fd;
      if (auto data = MapAligned(*fd, options.size, PROT_READ | PROT_WRITE); data.ok()) memory->data_ = *data;
    }
    hugetlb = memory->data_ != nullptr;
    if (!hugetlb && memory->fd_ >= 0) close(std::exchange(memory->fd_, -1));
  }
  if (!hugetlb) {
    MMC_ASSIGN_OR_RETURN(memory->fd_, MakeFile(options, false));
    MMC_ASSIGN_OR_RETURN(memory->data_, MapAligned(memory->fd_, options.size, PROT_READ | PROT_WRITE));
  }
  MMC_RETURN_IF_ERROR(Bind(memory->data_, options));
  if (options.prefault) MMC_RETURN_IF_ERROR(Prefault(memory->data_, options.size, true));
  memory->page_kind_ = hugetlb                           ? "2 MiB hugetlb"
                       : HasHugeMappings(memory->data_) ? "transparent huge pages"
                                                         : "4 KiB";
  return memory;
}

Status SegmentMemory::TakeNamed(const std::string& path, const SegmentOptions& options, bool prefault) {
  struct stat info {};
  if (fstat(fd_, &info) != 0) return ErrnoStatus("stat " + path, errno);
  backing_ = Backing::kNamed;
  file_ = {static_cast<uint64_t>(info.st_dev), static_cast<uint64_t>(info.st_ino)};
  size_ = options.size;
  MMC_ASSIGN_OR_RETURN(data_, MapAligned(fd_, size_, PROT_READ | PROT_WRITE));
  MMC_RETURN_IF_ERROR(Bind(data_, options));
  if (prefault) MMC_RETURN_IF_ERROR(Prefault(data_, size_, true));
  // Read-only clients get a file of their own: nobody opens this one again for writing through /proc.
  if (fchmod(fd_, S_IRUSR) != 0) return ErrnoStatus("chmod " + path, errno);
  page_kind_ = IsHugetlb(fd_) ? "2 MiB hugetlb" : HasHugeMappings(data_) ? "transparent huge pages" : "4 KiB";
  return Status::Ok();
}

Result<std::shared_ptr<SegmentMemory>> SegmentMemory::CreateNamed(const std::string& path,
                                                                  const SegmentOptions& options) {
  MMC_RETURN_IF_ERROR(CheckSize(options));
  std::shared_ptr<SegmentMemory> memory(new SegmentMemory());
  memory->fd_ = open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, S_IRUSR | S_IWUSR);
  if (memory->fd_ < 0) {
    if (errno == EEXIST) return Status(Code::kExists, path + " is there already");
    return ErrnoStatus("make segment file " + path, errno);
  }
  Status status = CheckFileSystem(memory->fd_, path, options.size);
  if (status.ok() && ftruncate(memory->fd_, static_cast<off_t>(options.size)) != 0) {
    status = ErrnoStatus("segment file " + path + " of " + FormatBytes(options.size), errno);
  }
  if (status.ok()) status = memory->TakeNamed(path, options, options.prefault);
  if (status.ok()) return memory;
  unlink(path.c_str());
  return status;
}

Result<std::shared_ptr<SegmentMemory>> SegmentMemory::ReopenNamed(const std::string& path,
                                                                  const SegmentOptions& options) {
  MMC_RETURN_IF_ERROR(CheckSize(options));
  std::shared_ptr<SegmentMemory> memory(new SegmentMemory());
  const int looked_at = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  if (looked_at < 0) {
    if (errno == ENOENT) return Status(Code::kNotFound, "no segment file " + path);
    return ErrnoStatus("open segment file " + path, errno);
  }
  memory->fd_ = looked_at;
  struct stat info {};
  if (fstat(looked_at, &info) != 0) return ErrnoStatus("stat " + path, errno);
  if (!S_ISREG(info.st_mode) || info.st_uid != geteuid()) {
    return Status(Code::kPermission, "segment file " + path + " is not a file of this user");
  }
  if (static_cast<uint64_t>(info.st_size) != options.size) {
    return Status(Code::kInvalidArgument, "segment file " + path + " has " + std::to_string(info.st_size) +
                                              " bytes instead of " + std::to_string(options.size));
  }
  MMC_RETURN_IF_ERROR(CheckFileSystem(looked_at, path, 0));
  // Through /proc: the path may lead elsewhere by now.
  if (fchmod(looked_at, S_IRUSR | S_IWUSR) != 0) return ErrnoStatus("chmod " + path, errno);
  const std::string self = "/proc/self/fd/" + std::to_string(looked_at);
  memory->fd_ = open(self.c_str(), O_RDWR | O_CLOEXEC);
  const int err = errno;
  close(looked_at);
  if (memory->fd_ < 0) return ErrnoStatus("open segment file " + path + " for writing", err);
  MMC_RETURN_IF_ERROR(memory->TakeNamed(path, options, false));
  return memory;
}

Result<std::shared_ptr<SegmentMemory>> SegmentMemory::Map(int fd, uint64_t size, Access access, bool prefault,
                                                          Backing backing) {
  std::shared_ptr<SegmentMemory> memory(new SegmentMemory());
  memory->backing_ = backing;
  memory->fd_ = fd;
  memory->size_ = size;
  struct stat info {};
  if (fstat(fd, &info) != 0) return ErrnoStatus("fstat of a segment file", errno);
  bool steady = backing == Backing::kNamed && CheckFileSystem(fd, "", 0).ok();
  if (backing == Backing::kSealed) {
    const int seals = fcntl(fd, F_GET_SEALS);
    steady = seals >= 0 && (seals & F_SEAL_SHRINK) != 0;
  }
  if (size == 0 || info.st_size < 0 || static_cast<uint64_t>(info.st_size) < size || !steady) {
    return Status(Code::kInvalidArgument, "a segment file of " + std::to_string(info.st_size) +
                                              " bytes cannot be mapped as " + std::to_string(size) +
                                              " bytes: it must be as large and sealed against shrinking");
  }
  const bool writable = access == Access::kReadWrite;
  MMC_ASSIGN_OR_RETURN(memory->data_, MapAligned(fd, size, PROT_READ | (writable ? PROT_WRITE : 0)));
  if (prefault) MMC_RETURN_IF_ERROR(Prefault(memory->data_, size, writable));
  memory->page_kind_ = IsHugetlb(fd) ? "2 MiB hugetlb" : HasHugeMappings(memory->data_) ? "transparent huge pages"
                                                                                        : "4 KiB";
  return memory;
}

SegmentMemory::~SegmentMemory() {
  if (data_ != nullptr) munmap(data_, size_);
  if (fd_ >= 0) close(fd_);
}

}  // namespace mmc::fabric
