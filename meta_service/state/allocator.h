// Hands out units of one segment. Its bookkeeping is outside of the segment: a descriptor (24
// bytes) per block.
//
// Two-level segregated free lists: a hole of n units sits in the list of (power of two, 1/8 step)
// below n; two bitmaps find a list whose holes all fit in a few instructions. Neighbouring holes
// are merged at every free.
//
//   descriptors:  slab of Block, linked by index      physical order: prev_phys <-> next_phys
//   free lists:   heads_[class]                       prev_free <-> next_free (prev_free == kUsed:
//   allocated)
//
// Thread safety: none; the owner locks. Ownership: owns its descriptors.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

namespace mmc::meta {

struct Extent {
  uint32_t offset = 0;  // units from the start of the segment
  uint32_t units = 0;
  uint32_t block = 0;  // the allocator's name for it
};

class Allocator {
 public:
  static constexpr uint32_t kMaxUnits = 1u << 30;

  // REQUIRES: 1 <= units <= kMaxUnits.
  explicit Allocator(uint32_t units);

  // One block when a hole fits; otherwise the largest holes until it is enough. False, and nothing
  // taken, when fewer units are free. `out` is appended to.
  bool Allocate(uint32_t units, std::vector<Extent>* out);
  // One block or nothing.
  bool AllocateOne(uint32_t units, Extent* out);
  void Free(uint32_t block);
  // Takes exactly [offset, offset + units). False when any of it is taken or outside. Cheap when
  // called in rising order of offsets on a fresh allocator.
  bool Reserve(uint32_t offset, uint32_t units, Extent* out);

  uint32_t total_units() const { return total_; }
  uint32_t free_units() const { return free_; }
  uint32_t used_units() const { return total_ - free_; }
  uint32_t used_blocks() const { return used_blocks_; }
  uint32_t holes() const { return holes_; }
  uint64_t MetadataBytes() const { return slab_.bytes() + sizeof(*this); }
  // Walks everything; false when an invariant is broken.
  bool CheckInvariants() const;

 private:
  static constexpr uint32_t kNone = 0xFFFFFFFF;
  static constexpr uint32_t kUsed = 0xFFFFFFFE;
  static constexpr int kStepBits = 3;
  static constexpr int kSteps = 1 << kStepBits;
  static constexpr int kLevels = 31;

  struct Block {
    uint32_t offset, units;
    uint32_t prev_phys, next_phys;
    uint32_t prev_free,
        next_free;  // of the free list; in an unused descriptor next_free links the spare ones
  };
  static_assert(sizeof(Block) == 24);

  // Grows by a chunk at a time: no descriptor ever moves, so growing costs the same at every size.
  class Slab {
   public:
    Block& operator[](uint32_t i) { return chunks_[i / kChunk][i % kChunk]; }
    const Block& operator[](uint32_t i) const { return chunks_[i / kChunk][i % kChunk]; }
    uint32_t Append() {
      if (size_ % kChunk == 0) chunks_.push_back(std::make_unique<Block[]>(kChunk));
      return size_++;
    }
    uint64_t bytes() const { return chunks_.size() * kChunk * sizeof(Block); }

   private:
    static constexpr uint32_t kChunk = 4096;
    std::vector<std::unique_ptr<Block[]>> chunks_;
    uint32_t size_ = 0;
  };

  static int ClassOf(uint32_t units);        // of a hole of that size
  static int ClassThatFits(uint32_t units);  // the first class whose every hole fits
  int FirstClassFrom(int from) const;        // -1: none
  int LastClass() const;                     // -1: none
  uint32_t FindFit(uint32_t units) const;
  uint32_t NewDescriptor();
  void DropDescriptor(uint32_t index);
  void Link(uint32_t index);
  void Unlink(uint32_t index);
  uint32_t SplitAfter(uint32_t index, uint32_t units);
  void Take(uint32_t index, uint32_t units, Extent* out);

  uint32_t total_, free_;
  uint32_t used_blocks_ = 0, holes_ = 0;
  uint32_t spare_ = kNone;
  uint32_t first_ = kNone;   // physically first block
  uint32_t cursor_ = kNone;  // where the last Reserve ended
  uint32_t level_bits_ = 0;
  std::array<uint8_t, kLevels> step_bits_{};
  std::array<uint32_t, kLevels * kSteps> heads_;
  Slab slab_;
};

}  // namespace mmc::meta
