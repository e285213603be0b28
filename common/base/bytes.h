// Byte quantities: literals, alignment, and text as people write it ("2.5GB", "1024MB", "4096").
//
// Thread safety: pure functions. Units are powers of 1024: 1KB = 1KiB = 1024 bytes, as the conf files say.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "common/base/status.h"

namespace mmc {

constexpr uint64_t operator""_KiB(unsigned long long n) { return n << 10; }
constexpr uint64_t operator""_MiB(unsigned long long n) { return n << 20; }
constexpr uint64_t operator""_GiB(unsigned long long n) { return n << 30; }
constexpr uint64_t operator""_TiB(unsigned long long n) { return n << 40; }

// REQUIRES: alignment is a power of two; n + alignment does not overflow.
constexpr uint64_t AlignUp(uint64_t n, uint64_t alignment) { return (n + alignment - 1) & ~(alignment - 1); }
constexpr bool IsAligned(uint64_t n, uint64_t alignment) { return (n & (alignment - 1)) == 0; }

// "0", "4096", "128MB", "2.5 gb", "1t". Errors: kInvalidArgument (empty, bad unit, negative, over 2^63).
Result<uint64_t> ParseBytes(std::string_view text);
// 8.57 MiB, 512 B, 1.00 GiB.
std::string FormatBytes(uint64_t bytes);

}  // namespace mmc
