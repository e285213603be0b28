#include "local_service/catalog_format.h"

#include <xxhash.h>

namespace mmc::local {

uint64_t HeaderChecksum(const CatalogHeader& header) {
  const char* from = reinterpret_cast<const char*>(&header.incarnation);
  const char* to = reinterpret_cast<const char*>(&header.area_bytes);
  return XXH3_64bits(from, static_cast<size_t>(to - from));
}

uint64_t FencesChecksum(const CatalogFences& fences, uint64_t incarnation) {
  return XXH3_64bits_withSeed(&fences.refused_below, sizeof fences - offsetof(CatalogFences, refused_below),
                              incarnation);
}

uint64_t SlotCheck(const SlotHeader& slot, uint64_t incarnation, uint64_t file_offset) {
  return XXH3_64bits_withSeed(&slot, offsetof(SlotHeader, slot_check), incarnation ^ file_offset);
}

uint64_t RecordChecksum(const SlotHeader& slot, std::span<const std::byte> body,
                        uint64_t incarnation, uint64_t file_offset) {
  const char* fields = reinterpret_cast<const char*>(&slot.key_bytes);
  constexpr size_t kFieldBytes =
      offsetof(SlotHeader, record_checksum) - offsetof(SlotHeader, key_bytes);
  const uint64_t seed = XXH3_64bits_withSeed(fields, kFieldBytes, incarnation ^ file_offset);
  return XXH3_64bits_withSeed(body.data(), body.size(), seed);
}

}  // namespace mmc::local
