#include "local_service/catalog.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <iterator>
#include <set>

#include "common/obs/log.h"
#include "local_service/catalog_reader.h"

namespace mmc::local {
namespace {

constexpr uint64_t kFirstBytes = 64_KiB;
constexpr uint64_t kMaxStep = 64_MiB;

// Opens and locks the file; retries when it is deleted by its last owner in between.
Result<int> OpenLocked(const std::string& path) {
  for (int attempt = 0; attempt < 16; ++attempt) {
    const int fd =
        ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
    if (fd < 0) return ErrnoStatus("open catalog " + path, errno);
    struct stat by_fd {};
    struct stat by_path {};
    if (::fstat(fd, &by_fd) != 0) {
      const int err = errno;
      ::close(fd);
      return ErrnoStatus("stat catalog " + path, err);
    }
    if (!S_ISREG(by_fd.st_mode) || by_fd.st_uid != ::geteuid()) {
      ::close(fd);
      return Status(Code::kPermission, "catalog " + path +
                                           " is not a file of this user; delete it or give the "
                                           "service another name or directory");
    }
    if (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
      const int err = errno;
      ::close(fd);
      if (err != EWOULDBLOCK) return ErrnoStatus("lock catalog " + path, err);
      return Status(Code::kExists, "catalog " + path +
                                       " is held by another local service of this name; give this "
                                       "one another name or stop that one");
    }
    const bool still_there = ::stat(path.c_str(), &by_path) == 0 &&
                             by_path.st_ino == by_fd.st_ino && by_path.st_dev == by_fd.st_dev;
    if (still_there) {
      if (::fchmod(fd, 0600) == 0) return fd;
      const int err = errno;
      ::close(fd);
      return ErrnoStatus("chmod catalog " + path, err);
    }
    ::close(fd);
  }
  return Status(Code::kExists,
                "catalog " + path + " is deleted and made again all the time by others");
}

Status CheckIdentity(const CatalogIdentity& identity) {
  if (identity.node.empty() || identity.node.size() > kMaxNodeNameBytes) {
    return Status(Code::kInvalidArgument, "catalog: node name of " +
                                              std::to_string(identity.node.size()) + " bytes; 1.." +
                                              std::to_string(kMaxNodeNameBytes));
  }
  if (identity.boot_id.size() > kBootIdBytes) {
    return Status(Code::kInvalidArgument, "catalog: a boot id of " +
                                              std::to_string(identity.boot_id.size()) + " bytes");
  }
  if (identity.segments.size() > kMaxCatalogSegments) {
    return Status(Code::kInvalidArgument, "catalog: " + std::to_string(identity.segments.size()) +
                                              " segments; at most " +
                                              std::to_string(kMaxCatalogSegments));
  }
  std::set<uint32_t> ids;
  for (const CatalogSegmentRow& row : identity.segments) {
    if (row.id == 0 || !ids.insert(row.id).second || row.size == 0 || row.size > kMaxSegmentBytes) {
      return Status(Code::kInvalidArgument, "catalog: segment " + std::to_string(row.id) +
                                                " has a wrong size or is there twice");
    }
  }
  return Status::Ok();
}

}  // namespace

size_t Catalog::NameHash::operator()(const Name& name) const {
  return XXH3_64bits_withSeed(&name.generation, sizeof name.generation, name.segment);
}

Result<std::unique_ptr<Catalog>> Catalog::Hold(const std::string& path) {
  MMC_ASSIGN_OR_RETURN(const int fd, OpenLocked(path));
  return std::unique_ptr<Catalog>(new Catalog(path, fd));
}

Result<std::unique_ptr<Catalog>> Catalog::Create(const std::string& path,
                                                 const CatalogIdentity& identity) {
  MMC_RETURN_IF_ERROR(CheckIdentity(identity));
  MMC_ASSIGN_OR_RETURN(std::unique_ptr<Catalog> catalog, Hold(path));
  MMC_RETURN_IF_ERROR(catalog->Reset(identity));
  return catalog;
}

Result<CatalogImage> Catalog::Read() const { return CatalogReader::Read(fd_, path_); }

Status Catalog::Resume(const CatalogImage& image) {
  MMC_RETURN_IF_ERROR(CheckIdentity(image.identity));
  if (image.slots.end > image.slots.file_bytes) {
    return Status(Code::kInternal, "catalog " + path_ + ": its slots end behind the file");
  }
  MMC_RETURN_IF_ERROR(GrowTo(std::max(kFirstBytes, AlignUp(image.slots.file_bytes, 4096))));
  identity_ = image.identity;
  header().version = kCatalogVersion;  // what is in it means the same in both
  used_ = AlignUp(image.slots.end, kSlotAlignment);
  // A slot that the end of the file cut off would claim what comes there now.
  std::memset(base_ + used_, 0, mapped_ - used_);
  for (const CatalogImage::Record& record : image.records) {
    index_[Name{record.generation, record.segment}] = record.slot;
  }
  for (const uint64_t offset : image.slots.free) {
    SlotHeader& slot = SlotAt(offset);
    std::atomic_ref<uint32_t>(slot.state).exchange(kSlotFree, std::memory_order_seq_cst);
    free_slots_[slot.capacity].push_back(offset);
  }
  objects_ = index_.size();
  missing_ = image.missing;
  MutexLock lock(fences_mutex_);
  fences_ = image.fences;
  fences_incarnation_ = identity_.incarnation;
  return Status::Ok();
}

Status Catalog::Clear() {
  if (::ftruncate(fd_, 0) != 0) return ErrnoStatus("empty catalog " + path_, errno);
  return Status::Ok();
}

uint64_t Catalog::Scan(uint64_t cursor,
                       const std::function<bool(const CatalogRecordView&)>& visit) {
  uint64_t offset = std::max<uint64_t>(cursor, kCatalogHeaderBytes);
  while (offset < used_) {
    const SlotHeader& slot = SlotAt(offset);
    const bool is_slot = slot.magic == kSlotMagic &&
                         slot.slot_check == SlotCheck(slot, identity_.incarnation, offset);
    if (!is_slot) {  // garbled before this process came
      offset += kSlotAlignment;
      continue;
    }
    if (slot.state == kSlotLive) {
      const std::byte* body = base_ + offset + sizeof(SlotHeader);
      const auto* extents =
          reinterpret_cast<const CatalogExtent*>(body + AlignUp(slot.key_bytes, 8));
      const CatalogRecordView record{
          .key = {reinterpret_cast<const char*>(body), slot.key_bytes},
          .generation = slot.generation,
          .segment = slot.segment,
          .size = slot.size,
          .checksum = slot.checksum,
          .replicas = slot.replicas,
          .hard_pinned = (slot.flags & kSlotHardPinned) != 0,
          .extents = {extents, slot.extent_count}};
      if (!visit(record)) return offset;
    }
    offset += slot.capacity;
  }
  return 0;
}

Catalog::~Catalog() {
  if (base_ != nullptr) ::munmap(base_, mapped_);
  ::close(fd_);
}

Status Catalog::Reset(const CatalogIdentity& identity) {
  MMC_RETURN_IF_ERROR(CheckIdentity(identity));
  // Without its magic the file holds nothing, whatever a kill leaves of the rest.
  if (base_ != nullptr) {
    std::atomic_ref<uint64_t>(header().magic).store(0, std::memory_order_release);
    ::munmap(base_, mapped_);
    base_ = nullptr;
    mapped_ = 0;
  }
  index_.clear();
  free_slots_.clear();
  objects_ = 0;
  missing_ = 0;
  if (::ftruncate(fd_, 0) != 0) return ErrnoStatus("empty catalog " + path_, errno);
  MMC_RETURN_IF_ERROR(GrowTo(kFirstBytes));
  used_ = kCatalogHeaderBytes;
  identity_ = identity;

  CatalogHeader& head = header();
  head.version = kCatalogVersion;
  head.header_bytes = kCatalogHeaderBytes;
  head.incarnation = identity.incarnation;
  head.name_bytes = static_cast<uint32_t>(identity.node.size());
  std::memcpy(head.name, identity.node.data(), identity.node.size());
  std::memcpy(head.boot_id, identity.boot_id.data(), identity.boot_id.size());
  head.segment_count = static_cast<uint32_t>(identity.segments.size());
  std::copy(identity.segments.begin(), identity.segments.end(), head.segments);
  head.checksum = HeaderChecksum(head);
  {
    MutexLock lock(fences_mutex_);
    fences_ = {};
    fences_incarnation_ = identity.incarnation;
  }
  std::atomic_ref<uint64_t>(head.magic).store(kCatalogMagic, std::memory_order_release);
  return Status::Ok();
}

Status Catalog::GrowTo(uint64_t bytes) {
  // Allocated, not just lengthened: a full file system must be an error here, not a SIGBUS at the
  // first store.
  int err;
  do {
    err = ::posix_fallocate(fd_, 0, static_cast<off_t>(bytes));
  } while (err == EINTR);
  if (err != 0) return ErrnoStatus("grow catalog " + path_ + " to " + FormatBytes(bytes), err);
  void* mapping = base_ == nullptr
                      ? ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0)
                      : ::mremap(base_, mapped_, bytes, MREMAP_MAYMOVE);
  if (mapping == MAP_FAILED) return ErrnoStatus("map catalog " + path_, errno);
  base_ = static_cast<std::byte*>(mapping);
  mapped_ = bytes;
  header().area_bytes = bytes - kCatalogHeaderBytes;
  file_bytes_ = bytes;
  return Status::Ok();
}

const CatalogSegmentRow* Catalog::FindSegment(uint32_t id) const {
  for (const CatalogSegmentRow& row : identity_.segments) {
    if (row.id == id) return &row;
  }
  return nullptr;
}

Status Catalog::Check(const CatalogRecordView& record) const {
  const CatalogSegmentRow* segment = FindSegment(record.segment);
  const char* wrong = nullptr;
  if (record.key.empty() || record.key.size() > kMaxStoredKeyBytes) wrong = "key length";
  if (record.size == 0 || record.size > kMaxValueBytes) wrong = "value size";
  if (record.extents.empty()) wrong = "no extents";
  if (RecordBytes(record.key.size(), record.extents.size()) > kMaxSlotBytes)
    wrong = "too many extents";
  if (segment == nullptr) wrong = "unknown segment";
  uint64_t room = 0;
  for (const CatalogExtent& extent : record.extents) {
    if (wrong != nullptr) break;
    if (extent.length == 0 || extent.length > segment->size ||
        extent.offset > segment->size - extent.length) {
      wrong = "extent outside its segment";
    }
    room += extent.length;
  }
  if (wrong == nullptr && room < record.size) wrong = "extents smaller than the value";
  if (wrong == nullptr) return Status::Ok();
  return Status(Code::kInvalidArgument, "catalog record generation " +
                                            std::to_string(record.generation) + " segment " +
                                            std::to_string(record.segment) + ": " + wrong);
}

Result<uint64_t> Catalog::TakeSlot(uint32_t capacity) {
  std::vector<uint64_t>& free = free_slots_[capacity];
  if (!free.empty()) {
    const uint64_t offset = free.back();
    free.pop_back();
    return offset;
  }
  if (mapped_ - used_ < capacity) {
    const uint64_t step = std::clamp<uint64_t>(mapped_ / 4, kFirstBytes, kMaxStep);
    MMC_RETURN_IF_ERROR(GrowTo(AlignUp(mapped_ + std::max<uint64_t>(step, capacity), 4096)));
  }
  const uint64_t offset = used_;
  SlotHeader& slot = SlotAt(offset);
  slot.capacity = capacity;
  slot.magic = kSlotMagic;
  slot.slot_check = SlotCheck(slot, identity_.incarnation, offset);
  used_ += capacity;
  return offset;
}

Status Catalog::Add(const CatalogRecordView& record) {
  MMC_RETURN_IF_ERROR(Check(record));
  Forget(record.segment, record.generation);
  const uint64_t bytes = RecordBytes(record.key.size(), record.extents.size());
  Result<uint64_t> taken = TakeSlot(static_cast<uint32_t>(SlotCapacity(bytes)));
  if (!taken.ok()) {
    std::atomic_ref<uint64_t>(header().missing).fetch_add(1, std::memory_order_relaxed);
    missing_.fetch_add(1, std::memory_order_relaxed);
    return taken.status();
  }
  const uint64_t offset = *taken;
  SlotHeader& slot = SlotAt(offset);
  slot.key_bytes = static_cast<uint16_t>(record.key.size());
  slot.replicas = record.replicas;
  slot.flags = record.hard_pinned ? kSlotHardPinned : 0;
  slot.extent_count = static_cast<uint32_t>(record.extents.size());
  slot.segment = record.segment;
  slot.generation = record.generation;
  slot.size = record.size;
  slot.checksum = record.checksum;
  std::byte* body = base_ + offset + sizeof(SlotHeader);
  const uint64_t padded = AlignUp(record.key.size(), 8);
  std::memcpy(body, record.key.data(), record.key.size());
  std::memset(body + record.key.size(), 0, padded - record.key.size());
  std::memcpy(body + padded, record.extents.data(), record.extents.size_bytes());
  slot.record_checksum =
      RecordChecksum(slot, {body, bytes - sizeof(SlotHeader)}, identity_.incarnation, offset);
  std::atomic_ref<uint32_t>(slot.state).store(kSlotLive, std::memory_order_release);
  index_[Name{record.generation, record.segment}] = offset;
  objects_ = index_.size();
  return Status::Ok();
}

bool Catalog::Forget(uint32_t segment, uint64_t generation) {
  const auto it = index_.find(Name{generation, segment});
  if (it == index_.end()) return false;
  SlotHeader& slot = SlotAt(it->second);
  // Sequentially consistent: nothing that is stored into the slot later may be seen before this.
  std::atomic_ref<uint32_t>(slot.state).exchange(kSlotFree, std::memory_order_seq_cst);
  free_slots_[slot.capacity].push_back(it->second);
  index_.erase(it);
  objects_ = index_.size();
  return true;
}

void Catalog::SetApplied(uint64_t seq) {
  std::atomic_ref<uint64_t>(header().applied_seq).store(seq, std::memory_order_release);
}

void Catalog::SetTerm(uint64_t term) {
  std::atomic_ref<uint64_t>(header().term).store(term, std::memory_order_release);
}

// By the file, not by the mapping, which moves when it grows.
void Catalog::WriteFences() {
  fences_.checksum = FencesChecksum(fences_, fences_incarnation_);
  const ssize_t written = ::pwrite(fd_, &fences_, sizeof fences_, offsetof(CatalogHeader, fences));
  if (written == static_cast<ssize_t>(sizeof fences_)) return;
  MMC_LOG(ERROR) << path_ << ": a fence could not be noted: " << std::strerror(errno)
                 << "; the next process of this node may let the session in again";
}

void Catalog::NoteFenced(uint64_t session) {
  MutexLock lock(fences_mutex_);
  CatalogFences next = fences_;
  auto* const begin = std::begin(next.sessions);
  auto* const end = std::end(next.sessions);
  const uint64_t first = std::max<uint64_t>(next.refused_below, 1);
  if (session < first || std::find(begin, end, session) != end) return;
  auto* place = std::find_if(begin, end, [first](uint64_t noted) { return noted < first; });
  if (place == end) {  // session numbers only grow: the older half goes
    std::sort(begin, end);
    next.refused_below = next.sessions[kCatalogFences / 2];
    place = begin;
  }
  *place = session;
  fences_ = next;
  WriteFences();
}

void Catalog::NoteRefusedBelow(uint64_t session) {
  MutexLock lock(fences_mutex_);
  if (session <= fences_.refused_below) return;
  fences_.refused_below = session;
  WriteFences();
}

CatalogFences Catalog::fences() const {
  MutexLock lock(fences_mutex_);
  return fences_;
}

void Catalog::Remove() { ::unlink(path_.c_str()); }

std::string ServiceFilePath(std::string_view directory, std::string_view node,
                            std::string_view suffix) {
  constexpr size_t kShownBytes = 32;  // a unix socket's path has room for 107 bytes in all
  std::string shown;
  for (const char c : node.substr(0, kShownBytes)) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '-' || c == '_' || c == '.';
    shown.push_back(plain ? c : '_');
  }
  if (shown != node) {
    static constexpr char kHex[] = "0123456789abcdef";
    const uint64_t hash = XXH3_64bits(node.data(), node.size());
    shown.push_back('-');
    for (int shift = 60; shift >= 32; shift -= 4) shown.push_back(kHex[(hash >> shift) & 15]);
  }
  return std::string(directory) + "/mmc-" + shown + "-" + std::to_string(::geteuid()) + "." +
         std::string(suffix);
}

}  // namespace mmc::local
