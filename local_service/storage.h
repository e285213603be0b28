// Storage: what a node holds that can outlive its process. One segment of memory, the catalog of
// the objects in it, and the presence file of those who map it.
//
//   <segment.directory>/mmc-<node>-<uid>.segment     the memory; or a memfd, which ends with the
//                                                    process
//   <catalog.directory>/mmc-<node>-<uid>.catalog     see catalog.h; its lock guards all of them
//
// A start is warm when the catalog is whole, of this node and of this start of the machine, and
// names the very file (inode, size) that the segment is. Else the start is cold: what is there and
// ours is deleted, with one line that says why.
//
// Thread safety: Catalog's; the rest is immutable but for Renew and Remove, one thread at a time.
// Ownership: owns files, mapping and locks. The files stay behind until Remove().
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "common/base/status.h"
#include "fabric/memory.h"
#include "local_service/catalog.h"
#include "local_service/options.h"
#include "local_service/presence.h"

namespace mmc::local {

inline constexpr uint32_t kDramSegment = 1;

class Storage {
 public:
  // Errors: kExists (another service of this name), kPermission (files of others in the way), kIo.
  static Result<std::unique_ptr<Storage>> Open(const LocalOptions& options,
                                               const std::string& node);

  // Objects of an earlier process are there; `applied_seq` and `term` are its.
  bool warm() const { return warm_; }
  uint64_t applied_seq() const { return applied_seq_; }
  uint64_t term() const { return term_; }

  Catalog& catalog() { return *catalog_; }
  const CatalogIdentity& identity() const { return catalog_->identity(); }
  fabric::RegionRef region() const;
  // Null after Unmap().
  const std::shared_ptr<fabric::SegmentMemory>& memory() const { return memory_; }
  // Null: nobody can map this memory after this process.
  Presence* presence() { return presence_.get(); }

  // A new incarnation with a new epoch and no objects. REQUIRES: nobody can reach the memory.
  Status Renew();
  // Deletes all files.
  void Remove();
  // Lets go of the memory; who still uses it keeps it.
  void Unmap() { memory_.reset(); }

 private:
  Storage(const LocalOptions& options, std::string node, const std::string& segment_path)
      : options_(options), node_(std::move(node)), segment_path_(segment_path) {}
  // Takes up what an earlier process left. Not OK: why there is nothing to take up.
  Status TakeUp();
  Status StartEmpty();
  Result<std::shared_ptr<fabric::SegmentMemory>> MakeMemory();
  CatalogIdentity Identity(uint64_t incarnation, uint32_t epoch) const;

  const LocalOptions& options_;
  const std::string node_;
  const std::string segment_path_;
  bool warm_ = false;
  uint64_t applied_seq_ = 0;
  uint64_t term_ = 0;
  std::unique_ptr<Catalog> catalog_;
  std::shared_ptr<fabric::SegmentMemory> memory_;
  std::unique_ptr<Presence> presence_;
};

}  // namespace mmc::local
