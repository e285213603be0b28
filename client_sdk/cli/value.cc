#include "client_sdk/cli/value.h"

#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cstring>

namespace mmc::cli {
namespace {

constexpr uint64_t kWords =
    8191;  // just under 64 KiB; odd, so that no block size falls into step with it
constexpr uint64_t kTableBytes = kWords * 8;

uint64_t Mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15ULL;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

const std::array<uint64_t, kWords>& Table() {
  static const std::array<uint64_t, kWords> table = [] {
    std::array<uint64_t, kWords> words{};
    for (uint64_t i = 0; i < kWords; ++i) words[i] = Mix(i);
    return words;
  }();
  return table;
}

// Calls run(first word of the table, mix, offset in `size`, bytes) for each stretch that lies in
// one round of the table and is made of whole words; edge(byte, offset in `size`) for the bytes
// before and after.
template <typename Run, typename Edge>
void Walk(uint64_t seed, uint64_t offset, size_t size, const Run& run, const Edge& edge) {
  size_t done = 0;
  while (done < size) {
    const uint64_t position = offset + done;
    const uint64_t in_round = position % kTableBytes;
    const uint64_t mix = Mix(seed + position / kTableBytes);
    const size_t left = std::min<uint64_t>(size - done, kTableBytes - in_round);
    if (in_round % 8 == 0 && left >= 8) {
      const size_t whole = left & ~size_t{7};
      run(&Table()[in_round / 8], mix, done, whole);
      done += whole;
      continue;
    }
    const uint64_t word = Table()[in_round / 8] ^ mix;
    edge(static_cast<std::byte>(word >> (8 * (in_round % 8))), done);
    ++done;
  }
}

}  // namespace

uint64_t ValueSeed(std::string_view key, uint64_t version) {
  return XXH3_64bits_withSeed(key.data(), key.size(), version);
}

void FillValue(uint64_t seed, uint64_t offset, std::span<std::byte> out) {
  Walk(
      seed, offset, out.size(),
      [&](const uint64_t* table, uint64_t mix, size_t at, size_t bytes) {
        std::byte* to = out.data() + at;
        for (size_t i = 0; i < bytes / 8; ++i) {
          const uint64_t word = table[i] ^ mix;
          std::memcpy(to + i * 8, &word, 8);
        }
      },
      [&](std::byte byte, size_t at) { out[at] = byte; });
}

uint64_t CountWrongBytes(uint64_t seed, uint64_t offset, std::span<const std::byte> bytes) {
  uint64_t wrong = 0;
  Walk(
      seed, offset, bytes.size(),
      [&](const uint64_t* table, uint64_t mix, size_t at, size_t n) {
        const std::byte* from = bytes.data() + at;
        uint64_t difference = 0;
        for (size_t i = 0; i < n / 8; ++i) {
          uint64_t word;
          std::memcpy(&word, from + i * 8, 8);
          difference |= word ^ table[i] ^ mix;
        }
        if (difference == 0) return;
        for (size_t i = 0; i < n; ++i) {
          const uint64_t word = table[i / 8] ^ mix;
          if (from[i] != static_cast<std::byte>(word >> (8 * (i % 8)))) ++wrong;
        }
      },
      [&](std::byte byte, size_t at) { wrong += bytes[at] != byte ? 1 : 0; });
  return wrong;
}

}  // namespace mmc::cli
