// How the pieces of a value lie in memory, and a worker's memory for a batch of such values.
//
// Thread safety: Layout is a value; an Arena belongs to one worker. Ownership: an Arena owns its
// memory; the buffers it hands out point into it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "client_sdk/include/mmc/client.h"
#include "common/base/status.h"

namespace mmc::cli {

struct Layout {
  std::vector<size_t> pieces;  // bytes of each, in order
  uint64_t bytes = 0;          // together

  // `bytes` cut into `pieces` of nearly one size. Errors: kInvalidArgument (more pieces than bytes,
  // or a limit passed).
  static Result<Layout> Even(uint64_t bytes, uint64_t pieces);
  // One block of DeepSeek-R1: 61 layers with 128 KiB and 16 KiB each, 8.58 MiB in 122 pieces.
  static Layout DeepSeek();
};

struct UnmapMemory {
  size_t size = 0;
  void operator()(std::byte* memory) const;
};

// `slots` values. As in an inference engine, piece i of all slots lies in one array: the pieces of
// a value are far apart.
class Arena {
 public:
  // Errors: kIo when the memory cannot be had.
  static Result<Arena> Create(const Layout& layout, uint32_t slots);

  std::span<const Buffer> Buffers(uint32_t slot) const {
    return {buffers_.data() + slot * pieces_, pieces_};
  }
  std::span<const ConstBuffer> ConstBuffers(uint32_t slot) const {
    return {const_buffers_.data() + slot * pieces_, pieces_};
  }
  uint32_t slots() const { return slots_; }

  // The whole value of a slot, made or checked (see value.h).
  void Fill(uint32_t slot, uint64_t seed) const;
  uint64_t CountWrong(uint32_t slot, uint64_t seed) const;
  // A stamp is a version in the open in the first 8 bytes, so that a reader can tell which one it
  // got. REQUIRES: the value has kMinStampedValue bytes.
  void Stamp(uint32_t slot, uint64_t version) const;
  uint64_t ReadStamp(uint32_t slot) const;
  // Wrong bytes behind the stamp.
  uint64_t CountWrongBehindStamp(uint32_t slot, uint64_t seed) const;

 private:
  std::unique_ptr<std::byte, UnmapMemory> memory_;
  std::vector<Buffer> buffers_;
  std::vector<ConstBuffer> const_buffers_;
  size_t pieces_ = 0;
  uint32_t slots_ = 0;
};

inline constexpr uint64_t kStampBytes = 8;
inline constexpr uint64_t kMinStampedValue = 16;

}  // namespace mmc::cli
