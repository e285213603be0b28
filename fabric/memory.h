// SegmentMemory: one owned, mapped, pre-faulted pool of host memory that other processes can map. It lives in a memfd,
// or in a named file of tmpfs or hugetlbfs that outlives the process.
// Region: memory of a known size and access right, published under a RegionRef.
//
// Thread safety: SegmentMemory is immutable after Create; RegionTable's methods may be called from any thread.
// Ownership: a SegmentMemory owns its mapping and its file; a Region keeps what it shows alive through `owner`.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "common/base/mutex.h"
#include "common/base/status.h"
#include "fabric/types.h"

namespace mmc::fabric {

struct SegmentOptions {
  std::string name = "mmc";  // shown in /proc/<pid>/maps
  uint64_t size = 0;         // a multiple of 2 MiB
  int numa_node = -1;        // -1: not bound
  bool hugetlb = true;       // try hugetlbfs pages first, then transparent huge pages
  bool prefault = true;      // touch every page now, with several threads
};

// What the kernel promises about the file behind a mapping.
enum class Backing : uint8_t {
  kSealed = 0,  // a memfd: nobody can make it shorter
  kNamed = 1,   // a file of tmpfs or hugetlbfs: its owner never makes it shorter, he deletes it
};

// Which file a named segment is, for as long as the machine runs. All 0: a memfd.
struct FileIdentity {
  uint64_t device = 0;
  uint64_t inode = 0;
  friend bool operator==(const FileIdentity&, const FileIdentity&) = default;
};

class SegmentMemory {
 public:
  // A memfd, 2 MiB aligned in this process. Errors: kInvalidArgument (size), kIo (with what to change).
  static Result<std::shared_ptr<SegmentMemory>> Create(const SegmentOptions& options);
  // A new file at `path`, which must not be there: zeros. Errors: kExists, kNoSpace (its file system has less room),
  // kUnsupported (that keeps files on a disk), kInvalidArgument, kIo.
  static Result<std::shared_ptr<SegmentMemory>> CreateNamed(const std::string& path, const SegmentOptions& options);
  // The file of an earlier process, with what is in it. Errors: kNotFound, kPermission (not a file of this user),
  // kInvalidArgument (another size), kUnsupported, kIo.
  static Result<std::shared_ptr<SegmentMemory>> ReopenNamed(const std::string& path, const SegmentOptions& options);
  // Maps another process's segment; takes the fd. The mapping is shared; writable only when `access` says so.
  static Result<std::shared_ptr<SegmentMemory>> Map(int fd, uint64_t size, Access access, bool prefault,
                                                    Backing backing = Backing::kSealed);
  ~SegmentMemory();
  SegmentMemory(const SegmentMemory&) = delete;
  SegmentMemory& operator=(const SegmentMemory&) = delete;

  std::byte* data() const { return data_; }
  uint64_t size() const { return size_; }
  int fd() const { return fd_; }
  // "2 MiB hugetlb", "transparent huge pages", "4 KiB": what was got, for the log and the doctor.
  const std::string& page_kind() const { return page_kind_; }
  Backing backing() const { return backing_; }
  const FileIdentity& file() const { return file_; }

 private:
  SegmentMemory() = default;
  // Maps, binds and prefaults the named file that fd_ is.
  Status TakeNamed(const std::string& path, const SegmentOptions& options, bool prefault);

  std::byte* data_ = nullptr;
  uint64_t size_ = 0;
  int fd_ = -1;
  Backing backing_ = Backing::kSealed;
  FileIdentity file_;
  std::string page_kind_;
};

struct Region {
  RegionRef ref;
  std::span<std::byte> memory;
  Access access = Access::kReadWrite;
  MemoryKind kind = MemoryKind::kHost;
  std::shared_ptr<SegmentMemory> segment;  // null: memory that cannot be mapped by other processes
};

// The regions a process lends. Listeners resolve every remote access through it.
class RegionTable {
 public:
  // Called with `added` true for a region that came and false for one that goes. Runs under the table's lock: short,
  // and no call back into the table.
  using Watcher = std::function<void(const std::shared_ptr<const Region>&, bool added)>;

  // Errors: kExists (the segment id is taken, whatever its epoch).
  Status Add(Region region);
  // Later accesses answer kStaleRegion. Running ones finish: the memory dies with the last shared_ptr.
  void Remove(RegionRef ref);
  // Checks name, epoch, range and access right. Errors: kStaleRegion, kOutOfRange, kReadOnly.
  Result<std::shared_ptr<const Region>> Resolve(RegionRef ref, uint64_t offset, uint64_t length, Direction way) const;
  std::vector<std::shared_ptr<const Region>> List() const;
  // Reports every region that is there now, then each change, until Unwatch. After Unwatch it does not run any more.
  uint64_t Watch(Watcher watcher);
  void Unwatch(uint64_t id);

 private:
  mutable Mutex mutex_;
  uint64_t next_watcher_ MMC_GUARDED_BY(mutex_) = 1;
  std::unordered_map<uint64_t, Watcher> watchers_ MMC_GUARDED_BY(mutex_);
  std::unordered_map<uint32_t, std::shared_ptr<const Region>> regions_ MMC_GUARDED_BY(mutex_);
};

// Range and right of one access to a region. Errors: kOutOfRange, kReadOnly.
Status CheckAccess(const Region& region, uint64_t offset, uint64_t length, Direction direction);

// Resolves the accesses of one request: remembers the regions it has seen, and keeps them alive until Clear().
// Thread safety: one thread.
class RegionCache {
 public:
  explicit RegionCache(const RegionTable& table) : table_(table) {}
  // The bytes of one access. Errors: as RegionTable::Resolve; kUnsupported for device memory.
  Result<std::byte*> At(RegionRef ref, uint64_t offset, uint64_t length, Direction direction);
  void Clear() { seen_.clear(); }

 private:
  const RegionTable& table_;
  std::vector<std::shared_ptr<const Region>> seen_;  // the one used last is at the end
};

}  // namespace mmc::fabric
