// The bytes of a catalog file: one page of header, then slots back to back, each with room for one
// record.
//
//   0      CatalogHeader    whose it is; its checksum covers all but the counters, its magic
//                           is written last
//   4096   slot 0           SlotHeader | key | zeros to a multiple of 8 | extents
//   ...    slot n           capacity is a multiple of 64 and never changes once the slot is there
//   ...    zeros            up to the end of the file, which grows in steps
//
// A record lives when its slot's state says so and its checksum fits. A writer fills a slot while
// its state is free and sets the state last; forgetting is that one store. So a process that is
// killed between any two instructions leaves either the record or none. docs/wire_format.md has the
// same in words.
//
// Thread safety: constants, plain structs and pure functions. All numbers are little-endian.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

#include "common/base/bytes.h"
#include "common/base/limits.h"

namespace mmc::local {

static_assert(std::endian::native == std::endian::little, "the catalog file is little-endian");

inline constexpr uint64_t kCatalogMagic = 0x31'47'4C'54'43'43'4D'4DULL;  // "MMCCTLG1"
inline constexpr uint32_t kCatalogVersion = 3;
// The same without the number of replicas, whose bytes were 0.
inline constexpr uint32_t kCatalogVersionBefore = 2;
inline constexpr uint32_t kCatalogHeaderBytes = 4096;
inline constexpr uint32_t kMaxCatalogSegments = 64;
inline constexpr uint32_t kBootIdBytes = 40;
inline constexpr uint32_t kSlotMagic = 0x544F4C53;  // "SLOT"
inline constexpr uint32_t kSlotFree = 0;
inline constexpr uint32_t kSlotLive = 0x4556494C;  // "LIVE"
inline constexpr uint8_t kSlotHardPinned = 1;  // never evicted
inline constexpr uint32_t kSlotAlignment = 64;
inline constexpr uint32_t kMaxSlotBytes = 8u << 20;

struct CatalogSegmentRow {
  uint32_t id = 0;
  uint32_t epoch = 0;
  uint32_t medium = 0;  // as proto::Medium
  int32_t numa_node = -1;
  uint64_t size = 0;
  // The named file that the segment lives in; 0: a memfd, which ends with the process.
  uint64_t device = 0;
  uint64_t inode = 0;
};
static_assert(sizeof(CatalogSegmentRow) == 40);

// Which sessions must not connect again, for the next process that takes up the memory: a fence is in here before it is
// acknowledged. When there are too many the oldest stand below `refused_below`.
inline constexpr uint32_t kCatalogFences = 64;
struct CatalogFences {
  uint64_t checksum = 0;  // XXH3-64 of the rest, seeded with the incarnation; else the block says nothing
  uint64_t refused_below = 0;
  uint64_t sessions[kCatalogFences] = {};  // 0: a free place
};
static_assert(sizeof(CatalogFences) == 528);

struct CatalogHeader {
  uint64_t magic = 0;
  uint32_t version = 0;
  uint32_t header_bytes = 0;
  uint64_t checksum = 0;  // XXH3-64 of the bytes from `incarnation` up to `area_bytes`
  uint64_t incarnation = 0;
  uint32_t name_bytes = 0;
  uint32_t segment_count = 0;
  char name[256] = {};
  // The start of the machine, as in /proc/sys/kernel/random/boot_id, zeros behind it.
  char boot_id[kBootIdBytes] = {};
  CatalogSegmentRow segments[kMaxCatalogSegments] = {};
  // Counters that change while it runs; not under the checksum.
  uint64_t area_bytes = 0;   // of the file behind the header, at least
  uint64_t applied_seq = 0;  // the last record of the meta service that is in here
  uint64_t missing = 0;      // records that found no room: not 0 means not complete
  uint64_t term = 0;         // the newest of a meta service that the node has joined
  CatalogFences fences;
  std::byte reserved[kCatalogHeaderBytes - 40 - 256 - kBootIdBytes - 40 * kMaxCatalogSegments -
                     32 - sizeof(CatalogFences)] = {};
};
static_assert(sizeof(CatalogHeader) == kCatalogHeaderBytes);

struct SlotHeader {
  uint32_t magic = 0;
  uint32_t capacity = 0;  // bytes of the slot, this header included
  // XXH3-64 of magic and capacity, seeded with incarnation ^ offset in the file.
  uint64_t slot_check = 0;
  uint32_t state = 0;  // kSlotFree or kSlotLive
  uint16_t key_bytes = 0;
  uint8_t replicas = 0;  // that the object should have; 0: not known
  uint8_t flags = 0;     // kSlotHardPinned
  uint32_t extent_count = 0;
  uint32_t segment = 0;
  uint64_t generation = 0;
  uint64_t size = 0;      // of the value
  uint64_t checksum = 0;  // of the value; 0: the writer gave none
  uint64_t record_checksum = 0;
};
static_assert(sizeof(SlotHeader) == 64);

struct CatalogExtent {
  uint64_t offset = 0;  // bytes from the start of the segment
  uint64_t length = 0;
  friend bool operator==(const CatalogExtent&, const CatalogExtent&) = default;
};
static_assert(sizeof(CatalogExtent) == 16);

// Bytes of a record: its header, key and extents.
constexpr uint64_t RecordBytes(uint64_t key_bytes, uint64_t extents) {
  return sizeof(SlotHeader) + AlignUp(key_bytes, 8) + extents * sizeof(CatalogExtent);
}
// The capacity of the slot that a record of `bytes` goes to. Steps of 64 bytes up to 1 KiB, then
// four per doubling, so that forgotten slots fit later records of about the same size.
constexpr uint64_t SlotCapacity(uint64_t bytes) {
  if (bytes <= 1024) return AlignUp(bytes, kSlotAlignment);
  return AlignUp(bytes, std::bit_floor(bytes - 1) / 4);
}

uint64_t HeaderChecksum(const CatalogHeader& header);
uint64_t FencesChecksum(const CatalogFences& fences, uint64_t incarnation);
uint64_t SlotCheck(const SlotHeader& slot, uint64_t incarnation, uint64_t file_offset);
// `body` is key, padding and extents.
uint64_t RecordChecksum(const SlotHeader& slot, std::span<const std::byte> body,
                        uint64_t incarnation, uint64_t file_offset);

}  // namespace mmc::local
