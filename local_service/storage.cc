#include "local_service/storage.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <random>
#include <utility>

#include "common/obs/log.h"
#include "fabric/fabric.h"
#include "fabric/unique_fd.h"
#include "local_service/catalog_reader.h"
#include "proto/types.pb.h"

namespace mmc::local {
namespace {

uint64_t RandomNonZero() {
  std::random_device source;
  uint64_t value = 0;
  while (value == 0) value = (uint64_t{source()} << 32) | source();
  return value;
}

// 31 bits: there is room to count up.
uint32_t RandomEpoch() { return static_cast<uint32_t>(RandomNonZero() >> 33) + 1; }

fabric::SegmentOptions SegmentOf(const LocalOptions& options) {
  fabric::SegmentOptions segment;
  segment.name = "mmc-dram";
  segment.size = options.dram_bytes;
  segment.numa_node = options.numa_node;
  segment.hugetlb = options.hugepages;
  segment.prefault = options.prefault;
  return segment;
}

// Deletes what an earlier process of this user left at `path`; says so.
Status Discard(const std::string& path) {
  struct stat info {};
  if (::lstat(path.c_str(), &info) != 0) {
    return errno == ENOENT ? Status::Ok() : ErrnoStatus("stat " + path, errno);
  }
  if (!S_ISREG(info.st_mode) || info.st_uid != ::geteuid()) {
    return Status(Code::kPermission, path +
                                         " is not a file of this user; delete it, or give the "
                                         "service another name or directory");
  }
  if (::unlink(path.c_str()) != 0) return ErrnoStatus("delete " + path, errno);
  MMC_LOG(INFO) << "deleted " << path << " of an earlier run, "
                << FormatBytes(static_cast<uint64_t>(info.st_size));
  return Status::Ok();
}

// A catalog whose memory has ended with its process is of no use to anybody.
bool EndedWithItsProcess(int fd) {
  struct stat info {};
  CatalogHeader head;
  if (::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode) || info.st_uid != ::geteuid()) return false;
  if (::pread(fd, &head, sizeof head, 0) != static_cast<ssize_t>(sizeof head)) return false;
  if (head.magic != kCatalogMagic || head.segment_count == 0 ||
      head.segment_count > kMaxCatalogSegments) {
    return false;
  }
  return std::all_of(head.segments, head.segments + head.segment_count,
                     [](const CatalogSegmentRow& row) { return row.inode == 0; });
}

// Nodes without a name of their own are called after their port: one that is killed does not come
// back under the same name, and nobody else would look at what it left.
void SweepEnded(const std::string& directory) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(directory, error)) {
    const std::string name = entry.path().filename();
    if (!name.starts_with("mmc-") || !name.ends_with(".catalog")) continue;
    const fabric::UniqueFd fd(
        ::open(entry.path().c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
    if (!fd.valid() || !EndedWithItsProcess(fd.get())) continue;
    if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) continue;  // its process lives
    struct stat by_fd {}, by_path {};
    const bool same = ::fstat(fd.get(), &by_fd) == 0 &&
                      ::lstat(entry.path().c_str(), &by_path) == 0 &&
                      by_fd.st_ino == by_path.st_ino && by_fd.st_dev == by_path.st_dev;
    if (same && ::unlink(entry.path().c_str()) == 0) {
      MMC_LOG(INFO) << "deleted " << entry.path().string() << " of a process that was killed";
    }
  }
}

Status NotTaken(std::string why) { return Status(Code::kStaleNode, std::move(why)); }

}  // namespace

Result<std::unique_ptr<Storage>> Storage::Open(const LocalOptions& options,
                                               const std::string& node) {
  std::unique_ptr<Storage> storage(
      new Storage(options, node, ServiceFilePath(options.segment_directory, node, "segment")));
  const std::string catalog = ServiceFilePath(options.catalog_directory, node, "catalog");
  // Its lock comes first: whoever has it is the one service of this name on this host.
  MMC_ASSIGN_OR_RETURN(storage->catalog_, Catalog::Hold(catalog));
  SweepEnded(options.catalog_directory);
  const Status taken = storage->TakeUp();
  if (taken.ok()) {
    storage->warm_ = true;
    MMC_LOG(INFO) << "node " << node << " goes on with " << storage->catalog_->objects()
                  << " objects of an earlier run, " << FormatBytes(storage->memory_->size());
  } else {
    if (taken.code() != Code::kNotFound) {
      MMC_LOG(WARNING) << "node " << node << " starts empty: " << taken.message();
    }
    MMC_RETURN_IF_ERROR(storage->StartEmpty());
  }
  MMC_LOG(INFO) << "segment " << kDramSegment << " of " << FormatBytes(storage->memory_->size())
                << ", pages: " << storage->memory_->page_kind()
                << (storage->memory_->backing() == fabric::Backing::kNamed
                        ? ", in " + storage->segment_path_
                        : ", ends with this process");
  if (storage->memory_->backing() == fabric::Backing::kNamed) {
    MMC_ASSIGN_OR_RETURN(storage->presence_, Presence::Create(options.segment_directory, node,
                                                              storage->warm_));
  }
  return storage;
}

Status Storage::TakeUp() {
  Result<CatalogImage> image = catalog_->Read();
  if (!image.ok()) return image.status();
  const std::string path = "catalog " + catalog_->path();
  const CatalogIdentity& had = image->identity;
  if (had.segments.size() != 1 || had.segments[0].id != kDramSegment) {
    return NotTaken(path + " has other segments than this version makes");
  }
  const CatalogSegmentRow& row = had.segments[0];
  if (row.inode == 0) return NotTaken(path + " is of a run whose memory ended with it");
  if (options_.cold) return NotTaken("told to; " + path + " has " +
                                     std::to_string(image->records.size()) + " objects");
  if (!options_.warm_restart) return NotTaken("ock.mmc.local_service.warm_restart = false");
  if (had.node != node_) return NotTaken(path + " belongs to node " + had.node);
  if (had.boot_id.empty() || had.boot_id != fabric::HostId()) {
    return NotTaken(path + " is of an earlier start of this machine");
  }
  if (row.size != options_.dram_bytes) {
    return NotTaken(path + " describes " + FormatBytes(row.size) +
                    ", and ock.mmc.local_service.dram.size is " +
                    FormatBytes(options_.dram_bytes));
  }
  Result<std::shared_ptr<fabric::SegmentMemory>> memory =
      fabric::SegmentMemory::ReopenNamed(segment_path_, SegmentOf(options_));
  if (!memory.ok()) return NotTaken(path + " has no memory: " + memory.status().message());
  if ((*memory)->file() != fabric::FileIdentity{row.device, row.inode}) {
    return NotTaken(path + " describes another file than " + segment_path_);
  }
  MMC_RETURN_IF_ERROR(catalog_->Resume(*image));
  memory_ = *std::move(memory);
  applied_seq_ = image->applied_seq;
  term_ = image->term;
  if (image->torn_records + image->overlapping_records + image->garbled_bytes + image->missing !=
      0) {
    MMC_LOG(WARNING) << path << ": dropped " << image->torn_records << " torn and "
                     << image->overlapping_records << " overlapping records, "
                     << image->garbled_bytes << " bytes are garbled, " << image->missing
                     << " records had found no room";
  }
  return Status::Ok();
}

Status Storage::StartEmpty() {
  // First of all: from here on nothing takes up the memory that goes, or the one that comes.
  MMC_RETURN_IF_ERROR(catalog_->Clear());
  Status status = Discard(segment_path_);
  if (status.ok()) {
    auto memory = MakeMemory();
    if (memory.ok()) {
      memory_ = *std::move(memory);
      status = catalog_->Reset(Identity(RandomNonZero(), RandomEpoch()));
      if (status.ok()) return status;
      if (memory_->backing() == fabric::Backing::kNamed) ::unlink(segment_path_.c_str());
    } else {
      status = memory.status();
    }
  }
  catalog_->Remove();
  return status;
}

Result<std::shared_ptr<fabric::SegmentMemory>> Storage::MakeMemory() {
  const fabric::SegmentOptions segment = SegmentOf(options_);
  if (!options_.warm_restart) return fabric::SegmentMemory::Create(segment);
  auto named = fabric::SegmentMemory::CreateNamed(segment_path_, segment);
  if (named.code() != Code::kNoSpace) return named;
  MMC_LOG(WARNING) << named.status().message() << " (ock.mmc.local_service.segment.directory = "
                   << options_.segment_directory
                   << "); until then a restart of this node loses its objects";
  return fabric::SegmentMemory::Create(segment);
}

CatalogIdentity Storage::Identity(uint64_t incarnation, uint32_t epoch) const {
  CatalogIdentity identity;
  identity.node = node_;
  identity.incarnation = incarnation;
  identity.boot_id = fabric::HostId().substr(0, kBootIdBytes);
  identity.segments.push_back({.id = kDramSegment,
                               .epoch = epoch,
                               .medium = proto::MEDIUM_DRAM,
                               .numa_node = options_.numa_node,
                               .size = options_.dram_bytes,
                               .device = memory_->file().device,
                               .inode = memory_->file().inode});
  return identity;
}

fabric::RegionRef Storage::region() const {
  return {.segment = kDramSegment, .epoch = identity().segments[0].epoch};
}

Status Storage::Renew() {
  return catalog_->Reset(Identity(RandomNonZero(), region().epoch + 1));
}

void Storage::Remove() {
  if (memory_->backing() == fabric::Backing::kNamed) ::unlink(segment_path_.c_str());
  if (presence_ != nullptr) presence_->Remove();
  catalog_->Remove();
}

}  // namespace mmc::local
