#include "local_service/catalog_reader.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <set>
#include <unordered_map>

namespace mmc::local {
namespace {

Result<CatalogIdentity> ParseHeader(const CatalogHeader& head) {
  if (head.magic == 0)
    return Status(Code::kNotFound, "catalog: its owner did not finish making it");
  if (head.magic != kCatalogMagic) return Status(Code::kMalformed, "catalog: wrong magic");
  if (head.version != kCatalogVersion && head.version != kCatalogVersionBefore) {
    return Status(Code::kBadVersion, "catalog: version " + std::to_string(head.version) +
                                         "; this program knows " + std::to_string(kCatalogVersion));
  }
  if (head.header_bytes != kCatalogHeaderBytes)
    return Status(Code::kMalformed, "catalog: wrong header length");
  if (head.checksum != HeaderChecksum(head))
    return Status(Code::kMalformed, "catalog: header checksum");
  if (head.name_bytes == 0 || head.name_bytes > kMaxNodeNameBytes) {
    return Status(Code::kMalformed, "catalog: node name length");
  }
  if (head.segment_count > kMaxCatalogSegments)
    return Status(Code::kMalformed, "catalog: segment count");
  CatalogIdentity identity;
  identity.node.assign(head.name, head.name_bytes);
  identity.incarnation = head.incarnation;
  identity.boot_id.assign(head.boot_id, ::strnlen(head.boot_id, kBootIdBytes));
  identity.segments.assign(head.segments, head.segments + head.segment_count);
  std::set<uint32_t> ids;
  for (const CatalogSegmentRow& row : identity.segments) {
    if (row.id == 0 || row.size == 0 || row.size > kMaxSegmentBytes || !ids.insert(row.id).second) {
      return Status(Code::kMalformed, "catalog: segment table");
    }
  }
  return identity;
}

class Parser {
 public:
  Parser(std::span<const std::byte> bytes, CatalogImage& image) : bytes_(bytes), image_(image) {}

  void Run() {
    uint64_t offset = kCatalogHeaderBytes;
    while (bytes_.size() - offset >= sizeof(SlotHeader)) {
      SlotHeader slot;
      std::memcpy(&slot, bytes_.data() + offset, sizeof slot);
      const bool is_slot = slot.magic == kSlotMagic && slot.capacity >= sizeof(SlotHeader) &&
                           slot.capacity <= kMaxSlotBytes &&
                           IsAligned(slot.capacity, kSlotAlignment) &&
                           slot.slot_check == SlotCheck(slot, image_.identity.incarnation, offset);
      if (!is_slot) {
        // Not one, or one that lost its head: go on at the next place where one can start.
        const uint64_t length = std::min<uint64_t>(kSlotAlignment, bytes_.size() - offset);
        if (!AllZero(bytes_.subspan(offset, length))) {
          image_.garbled_bytes += length;
          image_.slots.end = offset + length;
        }
        offset += length;
        continue;
      }
      TakeSlot(slot, offset);
      if (slot.capacity > bytes_.size() - offset) break;  // the file was cut here
      if (!took_) image_.slots.free.push_back(offset);
      offset += slot.capacity;
      image_.slots.end = offset;
    }
    DropOverlaps();
  }

 private:
  static bool AllZero(std::span<const std::byte> bytes) {
    return std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
  }

  void TakeSlot(const SlotHeader& slot, uint64_t offset) {
    took_ = false;
    if (slot.state == kSlotFree) return;
    std::optional<CatalogImage::Record> record = ParseRecord(slot, offset);
    if (!record || !names_.insert({slot.segment, slot.generation}).second) {
      ++image_.torn_records;
      return;
    }
    record->slot = offset;
    image_.records.push_back(std::move(*record));
    took_ = true;
  }

  std::optional<CatalogImage::Record> ParseRecord(const SlotHeader& slot, uint64_t offset) const {
    if (slot.state != kSlotLive || slot.capacity > bytes_.size() - offset) return std::nullopt;
    if (slot.key_bytes == 0 || slot.key_bytes > kMaxStoredKeyBytes) return std::nullopt;
    if (slot.size == 0 || slot.size > kMaxValueBytes || slot.extent_count == 0) return std::nullopt;
    const uint64_t bytes = RecordBytes(slot.key_bytes, slot.extent_count);
    if (bytes > slot.capacity) return std::nullopt;
    const std::span<const std::byte> body =
        bytes_.subspan(offset + sizeof(SlotHeader), bytes - sizeof(SlotHeader));
    if (slot.record_checksum != RecordChecksum(slot, body, image_.identity.incarnation, offset))
      return std::nullopt;

    const auto& segments = image_.identity.segments;
    const auto segment =
        std::find_if(segments.begin(), segments.end(),
                     [&](const CatalogSegmentRow& row) { return row.id == slot.segment; });
    if (segment == segments.end()) return std::nullopt;
    CatalogImage::Record record{
        .key = std::string(reinterpret_cast<const char*>(body.data()), slot.key_bytes),
        .generation = slot.generation,
        .segment = slot.segment,
        .epoch = segment->epoch,
        .size = slot.size,
        .checksum = slot.checksum,
        .replicas = slot.replicas,
        .hard_pinned = (slot.flags & kSlotHardPinned) != 0,
        .extents = std::vector<CatalogExtent>(slot.extent_count)};
    std::memcpy(record.extents.data(), body.data() + AlignUp(slot.key_bytes, 8),
                slot.extent_count * sizeof(CatalogExtent));
    uint64_t room = 0;
    for (const CatalogExtent& extent : record.extents) {
      if (extent.length == 0 || extent.length > segment->size) return std::nullopt;
      if (extent.offset > segment->size - extent.length) return std::nullopt;
      room += extent.length;
    }
    if (room < record.size) return std::nullopt;
    return record;
  }

  // Bytes that two records claim belong to neither for sure.
  void DropOverlaps() {
    struct Claim {
      uint32_t segment;
      uint64_t from, to;
      size_t record;
    };
    std::vector<Claim> claims;
    for (size_t i = 0; i < image_.records.size(); ++i) {
      for (const CatalogExtent& extent : image_.records[i].extents) {
        claims.push_back(
            {image_.records[i].segment, extent.offset, extent.offset + extent.length, i});
      }
    }
    std::sort(claims.begin(), claims.end(), [](const Claim& a, const Claim& b) {
      return a.segment != b.segment ? a.segment < b.segment : a.from < b.from;
    });
    std::vector<bool> drop(image_.records.size());
    const Claim* widest = nullptr;  // the claim so far that reaches furthest
    for (const Claim& claim : claims) {
      if (widest != nullptr && widest->segment == claim.segment && claim.from < widest->to) {
        drop[widest->record] = drop[claim.record] = true;
      }
      if (widest == nullptr || widest->segment != claim.segment || claim.to > widest->to)
        widest = &claim;
    }
    size_t kept = 0;
    for (size_t i = 0; i < image_.records.size(); ++i) {
      if (drop[i]) {
        ++image_.overlapping_records;
        image_.slots.free.push_back(image_.records[i].slot);
        continue;
      }
      if (kept != i) image_.records[kept] = std::move(image_.records[i]);
      ++kept;
    }
    image_.records.resize(kept);
  }

  std::span<const std::byte> bytes_;
  CatalogImage& image_;
  bool took_ = false;  // the last slot's record is in the image
  std::set<std::pair<uint32_t, uint64_t>> names_;
};

}  // namespace

Result<CatalogImage> CatalogReader::Parse(std::span<const std::byte> bytes) {
  if (bytes.empty()) return Status(Code::kNotFound, "catalog: its owner did not finish making it");
  if (bytes.size() < kCatalogHeaderBytes)
    return Status(Code::kMalformed, "catalog: shorter than its header");
  CatalogHeader head;
  std::memcpy(&head, bytes.data(), sizeof head);
  CatalogImage image;
  MMC_ASSIGN_OR_RETURN(image.identity, ParseHeader(head));
  image.applied_seq = head.applied_seq;
  image.missing = head.missing;
  image.term = head.term;
  if (head.fences.checksum == FencesChecksum(head.fences, head.incarnation)) image.fences = head.fences;
  image.slots.end = kCatalogHeaderBytes;
  image.slots.file_bytes = bytes.size();
  Parser(bytes, image).Run();
  return image;
}

Result<CatalogImage> CatalogReader::Open(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  if (fd < 0) {
    if (errno == ENOENT) return Status(Code::kNotFound, "catalog " + path + ": no such file");
    return ErrnoStatus("open catalog " + path, errno);
  }
  struct Closer {
    int fd;
    ~Closer() { ::close(fd); }
  } closer{fd};
  return Read(fd, path);
}

Result<CatalogImage> CatalogReader::Read(int fd, const std::string& path) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) return ErrnoStatus("stat catalog " + path, errno);
  if (!S_ISREG(info.st_mode) || info.st_uid != ::geteuid()) {
    return Status(Code::kPermission, "catalog " + path + " is not a file of this user");
  }
  std::vector<std::byte> bytes(static_cast<size_t>(info.st_size));
  size_t got = 0;
  while (got < bytes.size()) {
    const ssize_t n = ::pread(fd, bytes.data() + got, bytes.size() - got, static_cast<off_t>(got));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoStatus("read catalog " + path, errno);
    if (n == 0) break;
    got += static_cast<size_t>(n);
  }
  bytes.resize(got);
  Result<CatalogImage> image = Parse(bytes);
  if (!image.ok()) return image.status().Annotate(path);
  return image;
}

}  // namespace mmc::local
