// CatalogReader: a catalog file back into memory, trusting none of its bytes.
//
// Thread safety: pure functions. Ownership: a CatalogImage owns its records.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "common/base/status.h"
#include "local_service/catalog.h"

namespace mmc::local {

struct CatalogImage {
  struct Record {
    std::string key;
    uint64_t generation = 0;
    uint32_t segment = 0;
    uint32_t epoch = 0;  // of that segment
    uint64_t size = 0;
    uint64_t checksum = 0;
    uint8_t replicas = 0;  // that the object should have; 0: not known
    bool hard_pinned = false;
    std::vector<CatalogExtent> extents;
    uint64_t slot = 0;  // where in the file
  };
  // The file as its next owner finds it.
  struct Slots {
    std::vector<uint64_t> free;  // where they are; records that were dropped left theirs
    uint64_t end = 0;            // nothing is behind it
    uint64_t file_bytes = 0;
  };

  CatalogIdentity identity;
  uint64_t applied_seq = 0;
  uint64_t term = 0;            // of the meta service joined last
  uint64_t missing = 0;         // records that found no room when they came
  CatalogFences fences;         // none when they do not check out
  std::vector<Record> records;  // in the order of the file
  uint64_t torn_records = 0;    // slots that claim to live and do not check out; dropped
  // Records that claim the same bytes as another; both are dropped.
  uint64_t overlapping_records = 0;
  uint64_t garbled_bytes = 0;  // that are neither a slot nor unused
  Slots slots;
};

class CatalogReader {
 public:
  // Takes no more memory than a few times the file. Errors: kNotFound (no such file, or one that
  // holds nothing because its owner died while making it), kMalformed (header), kBadVersion,
  // kPermission (not ours), kIo.
  static Result<CatalogImage> Open(const std::string& path);
  // The same of an open file; `path` is for messages.
  static Result<CatalogImage> Read(int fd, const std::string& path);
  static Result<CatalogImage> Parse(std::span<const std::byte> bytes);
};

}  // namespace mmc::local
