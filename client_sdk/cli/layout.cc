#include "client_sdk/cli/layout.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "client_sdk/cli/value.h"
#include "common/base/bytes.h"
#include "common/base/limits.h"

namespace mmc::cli {
namespace {

constexpr uint64_t kMaxPieces = 65536;
constexpr uint64_t kPieceAlignment = 64;

// Calls fn(bytes, offset in the value) for each piece from `skip` on.
template <typename Fn>
void ForPieces(std::span<const Buffer> pieces, uint64_t skip, const Fn& fn) {
  uint64_t offset = 0;
  for (const Buffer& piece : pieces) {
    const uint64_t end = offset + piece.size;
    if (end > skip) {
      const uint64_t first = std::max(offset, skip);
      fn(std::span<std::byte>(static_cast<std::byte*>(piece.data) + (first - offset), end - first),
         first);
    }
    offset = end;
  }
}

}  // namespace

Result<Layout> Layout::Even(uint64_t bytes, uint64_t pieces) {
  if (bytes == 0 || bytes > kMaxValueBytes || pieces == 0 || pieces > std::min(kMaxPieces, bytes)) {
    return Status(Code::kInvalidArgument,
                  "a value of " + FormatBytes(bytes) + " cannot be cut into " +
                      std::to_string(pieces) +
                      " pieces; take 1 byte to 1 GiB and at least a byte, at most 65536 pieces");
  }
  Layout layout{.pieces = {}, .bytes = bytes};
  layout.pieces.reserve(pieces);
  for (uint64_t i = 0; i < pieces; ++i)
    layout.pieces.push_back((i + 1) * bytes / pieces - i * bytes / pieces);
  return layout;
}

Layout Layout::DeepSeek() {
  Layout layout;
  for (int layer = 0; layer < 61; ++layer) {
    layout.pieces.push_back(128_KiB);
    layout.pieces.push_back(16_KiB);
  }
  for (size_t piece : layout.pieces) layout.bytes += piece;
  return layout;
}

void UnmapMemory::operator()(std::byte* memory) const { munmap(memory, size); }

Result<Arena> Arena::Create(const Layout& layout, uint32_t slots) {
  size_t size = 0;
  std::vector<size_t> starts;
  for (size_t piece : layout.pieces) {
    starts.push_back(size);
    size += AlignUp(piece * slots, kPieceAlignment);
  }
  void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    return ErrnoStatus("mmap of " + FormatBytes(size) + " for " + std::to_string(slots) + " values",
                       errno);
  }
  madvise(memory, size, MADV_HUGEPAGE);  // advice: small pages serve as well
  Arena arena;
  arena.memory_ = {static_cast<std::byte*>(memory), UnmapMemory{size}};
  arena.pieces_ = layout.pieces.size();
  arena.slots_ = slots;
  for (uint32_t slot = 0; slot < slots; ++slot) {
    for (size_t i = 0; i < layout.pieces.size(); ++i) {
      std::byte* at = arena.memory_.get() + starts[i] + slot * layout.pieces[i];
      arena.buffers_.push_back({at, layout.pieces[i]});
      arena.const_buffers_.push_back({at, layout.pieces[i]});
    }
  }
  return arena;
}

void Arena::Fill(uint32_t slot, uint64_t seed) const {
  ForPieces(Buffers(slot), 0,
            [&](std::span<std::byte> piece, uint64_t offset) { FillValue(seed, offset, piece); });
}

uint64_t Arena::CountWrong(uint32_t slot, uint64_t seed) const {
  uint64_t wrong = 0;
  ForPieces(Buffers(slot), 0, [&](std::span<std::byte> piece, uint64_t offset) {
    wrong += CountWrongBytes(seed, offset, piece);
  });
  return wrong;
}

uint64_t Arena::CountWrongBehindStamp(uint32_t slot, uint64_t seed) const {
  uint64_t wrong = 0;
  ForPieces(Buffers(slot), kStampBytes, [&](std::span<std::byte> piece, uint64_t offset) {
    wrong += CountWrongBytes(seed, offset, piece);
  });
  return wrong;
}

void Arena::Stamp(uint32_t slot, uint64_t version) const {
  uint64_t at = 0;
  for (const Buffer& piece : Buffers(slot)) {
    for (size_t i = 0; i < piece.size && at < kStampBytes; ++i, ++at) {
      static_cast<std::byte*>(piece.data)[i] = static_cast<std::byte>(version >> (8 * at));
    }
    if (at == kStampBytes) return;
  }
}

uint64_t Arena::ReadStamp(uint32_t slot) const {
  uint64_t version = 0;
  uint64_t at = 0;
  for (const Buffer& piece : Buffers(slot)) {
    for (size_t i = 0; i < piece.size && at < kStampBytes; ++i, ++at) {
      version |= std::to_integer<uint64_t>(static_cast<const std::byte*>(piece.data)[i])
                 << (8 * at);
    }
    if (at == kStampBytes) break;
  }
  return version;
}

}  // namespace mmc::cli
