// The copy engine: every method, size and alignment copies exactly its bytes; split lists are complete.
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <thread>
#include <vector>

#include "fabric/copy/copy_engine.h"

namespace mmc::fabric {
namespace {

constexpr CopyMethod kMethods[] = {CopyMethod::kMemcpy, CopyMethod::kStream, CopyMethod::kRepMovsb};

std::vector<std::byte> Numbers(size_t size, uint32_t seed) {
  std::vector<std::byte> bytes(size);
  for (auto& byte : bytes) {
    seed = seed * 1664525 + 1013904223;
    byte = static_cast<std::byte>(seed >> 24);
  }
  return bytes;
}

// Copies `n` bytes and checks them and the bytes around.
template <typename Copy>
bool Exact(uint64_t n, uint64_t to_shift, uint64_t from_shift, const Copy& copy) {
  constexpr uint64_t kGuard = 128;
  const auto source = Numbers(n + from_shift, static_cast<uint32_t>(n));
  std::vector<std::byte> target(n + to_shift + 2 * kGuard, std::byte{0xee});
  std::byte* const at = target.data() + kGuard + to_shift;
  copy(at, source.data() + from_shift, n);
  for (const std::byte* p = target.data(); p < at; ++p) {
    if (*p != std::byte{0xee}) return false;
  }
  for (const std::byte* p = at + n; p < target.data() + target.size(); ++p) {
    if (*p != std::byte{0xee}) return false;
  }
  return n == 0 || std::memcmp(at, source.data() + from_shift, n) == 0;
}

TEST(CopyBytes, EveryMethodCopiesEverySizeUpTo600) {
  for (const CopyMethod method : kMethods) {
    for (uint64_t n = 0; n <= 600; ++n) {
      ASSERT_TRUE(Exact(n, n % 67, n % 13, [&](void* to, const void* from, uint64_t size) {
        CopyBytesWith(method, to, from, size);
      })) << static_cast<int>(method)
          << " " << n;
    }
  }
}

TEST(CopyBytes, EveryMethodCopiesAtEveryAlignment) {
  for (const CopyMethod method : kMethods) {
    for (uint64_t shift = 0; shift < 64; ++shift) {
      for (const uint64_t n : {4095ul, 16384ul, 16385ul, 40000ul}) {
        ASSERT_TRUE(Exact(n, shift, 63 - shift, [&](void* to, const void* from, uint64_t size) {
          CopyBytesWith(method, to, from, size);
        })) << static_cast<int>(method)
            << " " << n << " " << shift;
      }
    }
  }
}

TEST(CopyBytes, SizesAroundTheThresholdsAreExact) {
  for (const uint64_t around : {uint64_t{8}, kStreamThreshold, uint64_t{1} << 20, uint64_t{3} << 20}) {
    for (int64_t delta = -3; delta <= 3; ++delta) {
      const uint64_t n = around + static_cast<uint64_t>(delta);
      for (const uint64_t shift : {0ul, 1ul, 8ul, 63ul}) {
        ASSERT_TRUE(Exact(n, shift, shift / 2, CopyBytes)) << n << " " << shift;
      }
    }
  }
}

// Keeps what it is shown.
class Keeper final : public ByteObserver {
 public:
  void See(const std::byte* bytes, uint64_t length) override { seen.insert(seen.end(), bytes, bytes + length); }
  std::vector<std::byte> seen;
};

TEST(CopyShown, CopiesExactlyAndShowsEveryByteOnceInOrder) {
  for (const uint64_t n : {1ul, 8ul, 4095ul, 4096ul, 4097ul, 32767ul, 32768ul, 32769ul, 73'728ul, 300'001ul}) {
    for (const uint64_t shift : {0ul, 1ul, 32ul, 63ul}) {
      for (const bool source : {true, false}) {
        Keeper keeper;
        ASSERT_TRUE(Exact(n, shift, 63 - shift, [&](void* to, const void* from, uint64_t size) {
          const CopyPiece piece{static_cast<std::byte*>(to), static_cast<const std::byte*>(from), size};
          CopyShown(piece, source ? piece.from : piece.to, keeper);
          EXPECT_TRUE(keeper.seen == std::vector<std::byte>(piece.from, piece.from + size));
        })) << n << " " << shift << " " << source;
      }
    }
  }
}

TEST(CopyBytes, AnAlignedWordIsNeverSeenHalfWritten) {
  alignas(8) uint64_t word = 0;
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> torn{0};
  std::atomic<uint64_t> looks{0};
  std::thread reader([&] {
    while (!stop) {
      const uint64_t value = __atomic_load_n(&word, __ATOMIC_ACQUIRE);
      torn += (value >> 32) != (value & 0xffffffffu);
      ++looks;
    }
  });
  for (uint64_t i = 0; i < 200'000 || looks < 1000; ++i) {
    alignas(8) const uint64_t value = (i & 0xffffffffu) << 32 | (i & 0xffffffffu);
    CopyBytes(&word, &value, 8);
  }
  stop = true;
  reader.join();
  EXPECT_EQ(torn, 0u);
}

class CopyEngineHelpers : public testing::TestWithParam<int> {};

TEST_P(CopyEngineHelpers, CopiesEveryPieceOfAList) {
  CopyEngine engine(GetParam());
  for (int round = 0; round < 20; ++round) {
    std::vector<std::vector<std::byte>> sources;
    std::vector<std::vector<std::byte>> targets;
    std::vector<CopyPiece> pieces;
    uint64_t total = 0;
    for (uint32_t i = 0; i < 40; ++i) {
      const size_t size = i % 7 == 0 ? 300'000 + i : 1 + i * 1000;
      sources.push_back(Numbers(size, i));
      targets.emplace_back(size);
      total += size;
    }
    for (size_t i = 0; i < sources.size(); ++i) {
      pieces.push_back({targets[i].data(), sources[i].data(), sources[i].size()});
    }
    engine.Copy(pieces, total);
    ASSERT_EQ(targets, sources);
  }
}

TEST_P(CopyEngineHelpers, SeveralCallersAtOnceGetTheirOwnBytes) {
  CopyEngine engine(GetParam());
  std::atomic<int> wrong{0};
  std::vector<std::thread> callers;
  for (uint32_t t = 0; t < 4; ++t) {
    callers.emplace_back([&, t] {
      for (uint32_t i = 0; i < 10; ++i) {
        const auto source = Numbers(2'000'000, t * 100 + i);
        std::vector<std::byte> target(source.size());
        const CopyPiece piece{target.data(), source.data(), source.size()};
        engine.Copy({&piece, 1}, source.size());
        if (target != source) ++wrong;
      }
    });
  }
  for (auto& caller : callers) caller.join();
  EXPECT_EQ(wrong, 0);
}

TEST_P(CopyEngineHelpers, AnEmptyListAndAPieceOfWholeSharesAreFine) {
  CopyEngine engine(GetParam());
  engine.Copy({}, 0);
  const auto source = Numbers(4 << 20, 1);
  std::vector<std::byte> target(source.size());
  const CopyPiece piece{target.data(), source.data(), source.size()};
  engine.Copy({&piece, 1}, source.size());
  EXPECT_EQ(target, source);
}

INSTANTIATE_TEST_SUITE_P(Helpers, CopyEngineHelpers, testing::Values(0, 1, 3));

}  // namespace
}  // namespace mmc::fabric
