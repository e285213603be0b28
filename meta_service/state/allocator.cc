#include "meta_service/state/allocator.h"

#include <algorithm>
#include <bit>

namespace mmc::meta {

namespace {
// Holes of the class just below "every hole fits" that are looked at: catches exact fits without a
// search.
constexpr int kNearFits = 4;
// The same when no larger class has one: past these the request is put together from several holes.
constexpr int kLastFits = 64;
}  // namespace

Allocator::Allocator(uint32_t units) : total_(units), free_(units) {
  heads_.fill(kNone);
  first_ = NewDescriptor();
  slab_[first_] = {0, units, kNone, kNone, kNone, kNone};
  Link(first_);
}

int Allocator::ClassOf(uint32_t units) {
  const int level = std::bit_width(units) - 1;
  const uint32_t step = level >= kStepBits ? (units >> (level - kStepBits)) & (kSteps - 1)
                                           : (units << (kStepBits - level)) & (kSteps - 1);
  return level * kSteps + static_cast<int>(step);
}

int Allocator::ClassThatFits(uint32_t units) {
  const int level = std::bit_width(units) - 1;
  if (level <= kStepBits) return ClassOf(units);  // each class holds one size only
  const uint32_t round = (1u << (level - kStepBits)) - 1;
  return ClassOf(units + round);
}

int Allocator::FirstClassFrom(int from) const {
  int level = from / kSteps;
  if (level >= kLevels) return -1;
  const uint32_t steps = step_bits_[level] & (0xFFu << (from % kSteps));
  if (steps != 0) return level * kSteps + std::countr_zero(steps);
  if (level + 1 >= kLevels) return -1;
  const uint32_t levels = level_bits_ & ~((2u << level) - 1);
  if (levels == 0) return -1;
  level = std::countr_zero(levels);
  return level * kSteps + std::countr_zero(static_cast<uint32_t>(step_bits_[level]));
}

int Allocator::LastClass() const {
  if (level_bits_ == 0) return -1;
  const int level = std::bit_width(level_bits_) - 1;
  return level * kSteps + std::bit_width(static_cast<uint32_t>(step_bits_[level])) - 1;
}

uint32_t Allocator::NewDescriptor() {
  if (spare_ != kNone) {
    const uint32_t index = spare_;
    spare_ = slab_[index].next_free;
    return index;
  }
  return slab_.Append();
}

void Allocator::DropDescriptor(uint32_t index) {
  if (cursor_ == index) cursor_ = kNone;
  slab_[index].next_free = spare_;
  spare_ = index;
}

void Allocator::Link(uint32_t index) {
  Block& block = slab_[index];
  const int c = ClassOf(block.units);
  block.prev_free = kNone;
  block.next_free = heads_[c];
  if (heads_[c] != kNone) slab_[heads_[c]].prev_free = index;
  heads_[c] = index;
  step_bits_[c / kSteps] |= static_cast<uint8_t>(1u << (c % kSteps));
  level_bits_ |= 1u << (c / kSteps);
  ++holes_;
}

void Allocator::Unlink(uint32_t index) {
  Block& block = slab_[index];
  const int c = ClassOf(block.units);
  if (block.next_free != kNone) slab_[block.next_free].prev_free = block.prev_free;
  if (block.prev_free != kNone) {
    slab_[block.prev_free].next_free = block.next_free;
  } else {
    heads_[c] = block.next_free;
    if (heads_[c] == kNone) {
      step_bits_[c / kSteps] &= static_cast<uint8_t>(~(1u << (c % kSteps)));
      if (step_bits_[c / kSteps] == 0) level_bits_ &= ~(1u << (c / kSteps));
    }
  }
  --holes_;
}

// Cuts `index` (not in a free list) to `units`; the rest becomes a block of its own, in no list
// yet.
uint32_t Allocator::SplitAfter(uint32_t index, uint32_t units) {
  const uint32_t rest = NewDescriptor();
  Block& block = slab_[index];
  slab_[rest] = {block.offset + units, block.units - units, index, block.next_phys, kNone, kNone};
  if (block.next_phys != kNone) slab_[block.next_phys].prev_phys = rest;
  block.next_phys = rest;
  block.units = units;
  return rest;
}

void Allocator::Take(uint32_t index, uint32_t units, Extent* out) {
  Unlink(index);
  if (slab_[index].units > units) Link(SplitAfter(index, units));
  Block& block = slab_[index];
  block.prev_free = kUsed;
  free_ -= units;
  ++used_blocks_;
  *out = {block.offset, units, index};
}

uint32_t Allocator::FindFit(uint32_t units) const {
  const int own = ClassOf(units);
  const int fits = ClassThatFits(units);
  if (own != fits) {
    uint32_t index = heads_[own];
    for (int i = 0; i < kNearFits && index != kNone; ++i, index = slab_[index].next_free) {
      if (slab_[index].units >= units) return index;
    }
  }
  const int c = FirstClassFrom(fits);
  if (c >= 0) return heads_[c];
  uint32_t index = heads_[own];
  for (int i = 0; i < kLastFits && index != kNone; ++i, index = slab_[index].next_free) {
    if (slab_[index].units >= units) return index;
  }
  return kNone;
}

bool Allocator::AllocateOne(uint32_t units, Extent* out) {
  if (units == 0 || units > free_) return false;
  const uint32_t index = FindFit(units);
  if (index == kNone) return false;
  Take(index, units, out);
  return true;
}

bool Allocator::Allocate(uint32_t units, std::vector<Extent>* out) {
  if (units == 0 || units > free_) return false;
  uint32_t left = units;
  while (left > 0) {
    Extent extent;
    const uint32_t fit = FindFit(left);
    if (fit != kNone) {
      Take(fit, left, &extent);
    } else {
      const uint32_t largest = heads_[LastClass()];  // free_ >= left > 0: there is a hole
      Take(largest, std::min(left, slab_[largest].units), &extent);
    }
    left -= extent.units;
    out->push_back(extent);
  }
  return true;
}

void Allocator::Free(uint32_t index) {
  free_ += slab_[index].units;
  --used_blocks_;
  const uint32_t next = slab_[index].next_phys;
  if (next != kNone && slab_[next].prev_free != kUsed) {
    Unlink(next);
    slab_[index].units += slab_[next].units;
    slab_[index].next_phys = slab_[next].next_phys;
    if (slab_[next].next_phys != kNone) slab_[slab_[next].next_phys].prev_phys = index;
    DropDescriptor(next);
  }
  const uint32_t prev = slab_[index].prev_phys;
  if (prev != kNone && slab_[prev].prev_free != kUsed) {
    Unlink(prev);
    slab_[prev].units += slab_[index].units;
    slab_[prev].next_phys = slab_[index].next_phys;
    if (slab_[index].next_phys != kNone) slab_[slab_[index].next_phys].prev_phys = prev;
    DropDescriptor(index);
    index = prev;
  }
  slab_[index].prev_free = kNone;
  Link(index);
}

bool Allocator::Reserve(uint32_t offset, uint32_t units, Extent* out) {
  if (units == 0 || offset >= total_ || units > total_ - offset) return false;
  uint32_t index = cursor_ != kNone && slab_[cursor_].offset <= offset ? cursor_ : first_;
  while (slab_[index].offset + slab_[index].units <= offset) index = slab_[index].next_phys;
  const Block hole = slab_[index];
  if (hole.prev_free == kUsed || hole.offset + hole.units - offset < units) return false;
  Unlink(index);
  if (offset > hole.offset) {
    const uint32_t rest = SplitAfter(index, offset - hole.offset);
    Link(index);
    index = rest;
  }
  if (slab_[index].units > units) Link(SplitAfter(index, units));
  slab_[index].prev_free = kUsed;
  free_ -= units;
  ++used_blocks_;
  cursor_ = index;
  *out = {offset, units, index};
  return true;
}

bool Allocator::CheckInvariants() const {
  uint32_t at = 0, free = 0, used = 0, holes = 0, prev = kNone;
  bool prev_was_hole = false;
  for (uint32_t index = first_; index != kNone; index = slab_[index].next_phys) {
    const Block& block = slab_[index];
    const bool hole = block.prev_free != kUsed;
    if (block.offset != at || block.units == 0 || block.prev_phys != prev ||
        (hole && prev_was_hole))
      return false;
    at += block.units;
    (hole ? free : used) += block.units;
    holes += hole;
    prev = index;
    prev_was_hole = hole;
  }
  uint32_t listed = 0;
  for (int c = 0; c < kLevels * kSteps; ++c) {
    if ((heads_[c] != kNone) != ((step_bits_[c / kSteps] >> (c % kSteps)) & 1)) return false;
    for (uint32_t index = heads_[c]; index != kNone; index = slab_[index].next_free) {
      if (ClassOf(slab_[index].units) != c || slab_[index].prev_free == kUsed) return false;
      ++listed;
    }
  }
  return at == total_ && free == free_ && used == used_units() && holes == holes_ &&
         listed == holes_;
}

}  // namespace mmc::meta
