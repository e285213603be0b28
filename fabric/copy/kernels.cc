// The copy loops. Non-temporal stores bypass the cache: no read of the destination line, no eviction of other data.
#include <algorithm>
#include <atomic>
#include <cstring>

#include "fabric/copy/copy_engine.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define MMC_COPY_PLAIN 1
#endif
#endif
// ThreadSanitizer does not follow non-temporal stores; there it sees plain copies.
#if defined(__SANITIZE_THREAD__) || !defined(__x86_64__)
#define MMC_COPY_PLAIN 1
#endif

namespace mmc::fabric {
namespace {

// What is shown at a time. The reads of the observer and the stores of the copy overlap the better the smaller it is;
// below, the calls count.
constexpr uint64_t kShownBytes = 2 << 10;

#if !defined(MMC_COPY_PLAIN)

constexpr uint64_t kLine = 64;

using LineFn = void (*)(std::byte* to, const std::byte* from, uint64_t lines);

__attribute__((target("avx512f"))) void Lines512(std::byte* to, const std::byte* from, uint64_t lines) {
  for (; lines >= 4; lines -= 4, to += 4 * kLine, from += 4 * kLine) {
    const __m512i a = _mm512_loadu_si512(from);
    const __m512i b = _mm512_loadu_si512(from + kLine);
    const __m512i c = _mm512_loadu_si512(from + 2 * kLine);
    const __m512i d = _mm512_loadu_si512(from + 3 * kLine);
    _mm512_stream_si512(reinterpret_cast<__m512i*>(to), a);
    _mm512_stream_si512(reinterpret_cast<__m512i*>(to + kLine), b);
    _mm512_stream_si512(reinterpret_cast<__m512i*>(to + 2 * kLine), c);
    _mm512_stream_si512(reinterpret_cast<__m512i*>(to + 3 * kLine), d);
  }
  for (; lines > 0; --lines, to += kLine, from += kLine) {
    _mm512_stream_si512(reinterpret_cast<__m512i*>(to), _mm512_loadu_si512(from));
  }
}

__attribute__((target("avx2"))) inline void Line256(std::byte* to, const std::byte* from) {
  const __m256i a = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  const __m256i b = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + 32));
  _mm256_stream_si256(reinterpret_cast<__m256i*>(to), a);
  _mm256_stream_si256(reinterpret_cast<__m256i*>(to + 32), b);
}

__attribute__((target("avx2"))) void Lines256(std::byte* to, const std::byte* from, uint64_t lines) {
  for (; lines >= 4; lines -= 4, to += 4 * kLine, from += 4 * kLine) {
    Line256(to, from);
    Line256(to + kLine, from + kLine);
    Line256(to + 2 * kLine, from + 2 * kLine);
    Line256(to + 3 * kLine, from + 3 * kLine);
  }
  for (; lines > 0; --lines, to += kLine, from += kLine) Line256(to, from);
}

inline void Line128(std::byte* to, const std::byte* from) {
  for (int i = 0; i < 4; ++i) {
    _mm_stream_si128(reinterpret_cast<__m128i*>(to) + i,
                     _mm_loadu_si128(reinterpret_cast<const __m128i*>(from) + i));
  }
}

void Lines128(std::byte* to, const std::byte* from, uint64_t lines) {
  for (; lines > 0; --lines, to += kLine, from += kLine) Line128(to, from);
}

LineFn PickLines() {
  if (__builtin_cpu_supports("avx512f")) return Lines512;
  if (__builtin_cpu_supports("avx2")) return Lines256;
  return Lines128;
}

// Its stores are weakly ordered: Fence() before anybody is told.
void StreamUnfenced(std::byte* to, const std::byte* from, uint64_t n) {
  static const LineFn copy_lines = PickLines();
  const uint64_t head = (kLine - (reinterpret_cast<uintptr_t>(to) & (kLine - 1))) & (kLine - 1);
  if (n < head + kLine) {
    std::memcpy(to, from, n);
    return;
  }
  if (head > 0) {
    std::memcpy(to, from, head);
    to += head;
    from += head;
    n -= head;
  }
  const uint64_t lines = n / kLine;
  copy_lines(to, from, lines);
  if (const uint64_t tail = n % kLine; tail > 0) {
    std::memcpy(to + lines * kLine, from + lines * kLine, tail);
  }
}

// Without this a later flag could be seen before the data.
void Fence() { _mm_sfence(); }

void Stream(std::byte* to, const std::byte* from, uint64_t n) {
  StreamUnfenced(to, from, n);
  Fence();
}

// What the observer has read comes from the cache, and while it reads on, the stores are on their way to memory.
void StreamShown(const CopyPiece& piece, ByteObserver& observer) {
  // The first block ends where the destination begins a line, so that all others are whole lines.
  uint64_t block = kShownBytes - (reinterpret_cast<uintptr_t>(piece.to) & (kLine - 1));
  for (uint64_t at = 0; at < piece.length; block = kShownBytes) {
    block = std::min(block, piece.length - at);
    observer.See(piece.from + at, block);
    StreamUnfenced(piece.to + at, piece.from + at, block);
    at += block;
  }
  Fence();
}

void RepMovsb(void* to, const void* from, uint64_t n) {
  asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
}

#endif  // !MMC_COPY_PLAIN

bool IsWord(const void* to, const void* from) {
  return ((reinterpret_cast<uintptr_t>(to) | reinterpret_cast<uintptr_t>(from)) & 7) == 0;
}

}  // namespace

void CopyBytesWith(CopyMethod method, void* to, const void* from, uint64_t n) {
  if (n == 0) return;  // memcpy wants addresses even then
#if defined(MMC_COPY_PLAIN)
  static_cast<void>(method);
  std::memcpy(to, from, n);
#else
  switch (method) {
    case CopyMethod::kMemcpy:
      std::memcpy(to, from, n);
      return;
    case CopyMethod::kStream:
      Stream(static_cast<std::byte*>(to), static_cast<const std::byte*>(from), n);
      return;
    case CopyMethod::kRepMovsb:
      RepMovsb(to, from, n);
      return;
  }
#endif
}

void CopyShown(const CopyPiece& piece, const std::byte* shown, ByteObserver& observer) {
#if !defined(MMC_COPY_PLAIN)
  // Who sends a value puts it into memory that is cold: streaming wins from small pieces on.
  if (shown == piece.from && piece.length > kShownBytes) {
    StreamShown(piece, observer);
    return;
  }
#endif
  for (uint64_t at = 0; at < piece.length; at += kShownBytes) {
    const uint64_t block = std::min(kShownBytes, piece.length - at);
    std::memcpy(piece.to + at, piece.from + at, block);
    observer.See(shown + at, block);
  }
}

void CopyBytes(void* to, const void* from, uint64_t n) {
  if (n == sizeof(uint64_t) && IsWord(to, from)) {
    const uint64_t word = __atomic_load_n(static_cast<const uint64_t*>(from), __ATOMIC_ACQUIRE);
    __atomic_store_n(static_cast<uint64_t*>(to), word, __ATOMIC_RELEASE);
    return;
  }
  CopyBytesWith(n < kStreamThreshold ? CopyMethod::kMemcpy : CopyMethod::kStream, to, from, n);
}

}  // namespace mmc::fabric
