// Catalog files as a broken disk or a stranger would hand them over: what is read must keep its own
// rules. So that the fuzzer gets past the checksums, the input's checksums are also made to fit,
// and the file read again.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <span>
#include <vector>

#include "local_service/catalog_reader.h"

namespace {

using namespace mmc;
using namespace mmc::local;

void Check(bool holds) {
  if (!holds) std::abort();
}

void Read(std::span<const std::byte> bytes) {
  const Result<CatalogImage> image = CatalogReader::Parse(bytes);
  if (!image.ok()) return;
  Check(!image->identity.node.empty() && image->identity.node.size() <= kMaxNodeNameBytes);
  std::map<uint32_t, uint64_t> segments;
  for (const CatalogSegmentRow& row : image->identity.segments) segments[row.id] = row.size;
  std::vector<std::pair<uint64_t, uint64_t>> claims;
  for (const CatalogImage::Record& record : image->records) {
    Check(!record.key.empty() && record.key.size() <= kMaxStoredKeyBytes);
    Check(record.size != 0 && record.size <= kMaxValueBytes);
    Check(segments.count(record.segment) == 1);
    uint64_t room = 0;
    for (const CatalogExtent& extent : record.extents) {
      Check(extent.length != 0 && extent.offset + extent.length <= segments[record.segment]);
      room += extent.length;
      // Segments are at most 1 TiB: the two numbers share one.
      claims.emplace_back((uint64_t{record.segment} << 41) + extent.offset, extent.length);
    }
    Check(room >= record.size);
  }
  if (segments.size() > 1) return;
  std::sort(claims.begin(), claims.end());
  for (size_t i = 1; i < claims.size(); ++i)
    Check(claims[i - 1].first + claims[i - 1].second <= claims[i].first);
}

// Makes every checksum right that the reader would look at.
void Repair(std::vector<std::byte>& bytes) {
  if (bytes.size() < kCatalogHeaderBytes) bytes.resize(kCatalogHeaderBytes);
  CatalogHeader head;
  std::memcpy(&head, bytes.data(), sizeof head);
  head.magic = kCatalogMagic;
  head.version = kCatalogVersion;
  head.header_bytes = kCatalogHeaderBytes;
  head.checksum = HeaderChecksum(head);
  std::memcpy(bytes.data(), &head, sizeof head);
  for (uint64_t at = kCatalogHeaderBytes; bytes.size() - at >= sizeof(SlotHeader);) {
    SlotHeader slot;
    std::memcpy(&slot, bytes.data() + at, sizeof slot);
    if (slot.magic != kSlotMagic) {
      at += kSlotAlignment;
      continue;
    }
    slot.slot_check = SlotCheck(slot, head.incarnation, at);
    const uint64_t body = RecordBytes(slot.key_bytes, slot.extent_count) - sizeof(SlotHeader);
    if (body <= bytes.size() - at - sizeof(SlotHeader)) {
      slot.record_checksum = RecordChecksum(slot, {bytes.data() + at + sizeof(SlotHeader), body},
                                            head.incarnation, at);
    }
    std::memcpy(bytes.data() + at, &slot, sizeof slot);
    at += std::max<uint64_t>(kSlotAlignment,
                             AlignUp(std::min(slot.capacity, kMaxSlotBytes), kSlotAlignment));
    if (at > bytes.size()) break;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::vector<std::byte> bytes(size);
  if (size != 0) std::memcpy(bytes.data(), data, size);
  Read(bytes);
  Repair(bytes);
  Read(bytes);
  return 0;
}
