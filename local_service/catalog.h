// Catalog: the owner's own record of the committed objects in its segments, in a named
// shared-memory file that only the owner can write (mode 0600). The bytes are described in
// catalog_format.h; CatalogReader reads them back.
//
// Thread safety: Add, Forget, SetApplied, Reset and Remove from one thread at a time; the counters and
// what is noted of fences from any. Ownership: owns the file, its lock and its mapping. The file stays behind when the
// process dies; Remove() deletes it.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "common/base/mutex.h"
#include "common/base/status.h"
#include "local_service/catalog_format.h"

namespace mmc::local {

// Whose objects a catalog holds.
struct CatalogIdentity {
  std::string node;
  uint64_t incarnation = 0;
  std::string boot_id;  // of the machine's start; empty: cannot be told
  std::vector<CatalogSegmentRow> segments;
};

// One committed replica.
struct CatalogRecordView {
  std::string_view key;
  uint64_t generation = 0;
  uint32_t segment = 0;
  uint64_t size = 0;
  uint64_t checksum = 0;
  uint8_t replicas = 0;  // that the object should have; 0: not known
  bool hard_pinned = false;  // never evicted
  std::span<const CatalogExtent> extents;
};

struct CatalogImage;

class Catalog {
 public:
  // Takes `path` for this process and leaves in it what an earlier one wrote: Read() it, then
  // Resume() or Reset(). Errors: kExists (another process holds it), kPermission (it is not ours),
  // kIo.
  static Result<std::unique_ptr<Catalog>> Hold(const std::string& path);
  // Takes `path` for this process: an older file of that name is emptied. Errors: kExists (another
  // process holds it), kPermission (it is not ours), kIo, kInvalidArgument (identity).
  static Result<std::unique_ptr<Catalog>> Create(const std::string& path,
                                                 const CatalogIdentity& identity);
  ~Catalog();
  Catalog(const Catalog&) = delete;
  Catalog& operator=(const Catalog&) = delete;

  // What the file says. Errors: as CatalogReader::Open.
  Result<CatalogImage> Read() const;
  // Goes on with what Read() gave; slots of records that were not in it are free.
  Status Resume(const CatalogImage& image);
  // What an earlier process wrote is gone; Reset() must follow.
  Status Clear();
  // Calls `visit` for the records from `cursor` (0: the first) until it answers false. Returns the
  // cursor of that one; 0: there are no more.
  uint64_t Scan(uint64_t cursor, const std::function<bool(const CatalogRecordView&)>& visit);
  // Forgets everything and starts again for another identity.
  Status Reset(const CatalogIdentity& identity);
  // Adding what is there already replaces it. Errors: kInvalidArgument (the record), kIo (no room
  // in the file system; the header then counts the record as missing).
  Status Add(const CatalogRecordView& record);
  // False: no such record.
  bool Forget(uint32_t segment, uint64_t generation);
  // Everything up to `seq` is in the file.
  void SetApplied(uint64_t seq);
  void SetTerm(uint64_t term);
  // Must not connect again, not to the next process of this incarnation either; in the file when it returns. All
  // sessions below one: likewise.
  void NoteFenced(uint64_t session);
  void NoteRefusedBelow(uint64_t session);
  CatalogFences fences() const;
  // Deletes the file. The catalog is of no use afterwards.
  void Remove();

  uint64_t objects() const { return objects_.load(std::memory_order_relaxed); }
  uint64_t file_bytes() const { return file_bytes_.load(std::memory_order_relaxed); }
  uint64_t missing() const { return missing_.load(std::memory_order_relaxed); }
  const std::string& path() const { return path_; }
  const CatalogIdentity& identity() const { return identity_; }

 private:
  struct Name {
    uint64_t generation;
    uint32_t segment;
    friend bool operator==(const Name&, const Name&) = default;
  };
  struct NameHash {
    size_t operator()(const Name& name) const;
  };

  Catalog(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}
  CatalogHeader& header() { return *reinterpret_cast<CatalogHeader*>(base_); }
  SlotHeader& SlotAt(uint64_t offset) { return *reinterpret_cast<SlotHeader*>(base_ + offset); }
  const CatalogSegmentRow* FindSegment(uint32_t id) const;
  Status Check(const CatalogRecordView& record) const;
  // Makes the file `bytes` long and maps it.
  Status GrowTo(uint64_t bytes);
  // A free slot of that capacity: one that was forgotten, or a new one at the end.
  Result<uint64_t> TakeSlot(uint32_t capacity);
  void WriteFences() MMC_REQUIRES(fences_mutex_);

  const std::string path_;
  int fd_;
  std::byte* base_ = nullptr;
  uint64_t mapped_ = 0;
  uint64_t used_ = 0;  // end of the last slot
  CatalogIdentity identity_;
  std::unordered_map<Name, uint64_t, NameHash> index_;              // -> offset of the slot
  std::unordered_map<uint32_t, std::vector<uint64_t>> free_slots_;  // by capacity
  std::atomic<uint64_t> objects_{0};
  std::atomic<uint64_t> file_bytes_{0};
  std::atomic<uint64_t> missing_{0};
  mutable Mutex fences_mutex_;
  CatalogFences fences_ MMC_GUARDED_BY(fences_mutex_);
  uint64_t fences_incarnation_ MMC_GUARDED_BY(fences_mutex_) = 0;
};

// "<directory>/mmc-<name>-<uid>.<suffix>". Characters of `node` that do not belong in a file name
// are replaced, long names are cut, and a hash of the name keeps the results apart.
std::string ServiceFilePath(std::string_view directory, std::string_view node,
                            std::string_view suffix);

}  // namespace mmc::local
