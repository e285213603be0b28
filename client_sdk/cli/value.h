// Values that can be checked without having been kept: every byte is a function of (key, version,
// position).
//
// Word j of a value is table[j mod W] xor mix(seed, j / W) with seed = XXH3(key, version): making
// or checking one costs about a memcpy, a byte out of place or of another key or version shows, and
// any split into pieces works.
//
// Thread safety: pure functions over a constant table.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace mmc::cli {

uint64_t ValueSeed(std::string_view key, uint64_t version);

// Bytes [offset, offset + out.size()) of the value.
void FillValue(uint64_t seed, uint64_t offset, std::span<std::byte> out);

// How many of these bytes differ from those FillValue would give.
uint64_t CountWrongBytes(uint64_t seed, uint64_t offset, std::span<const std::byte> bytes);

}  // namespace mmc::cli
