// Goal: a value that was mixed up in any way does not pass the check. Method: fill, damage, count.
#include "client_sdk/cli/value.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "client_sdk/cli/layout.h"

namespace mmc::cli {
namespace {

std::vector<std::byte> Whole(uint64_t seed, size_t size) {
  std::vector<std::byte> value(size);
  FillValue(seed, 0, value);
  return value;
}

TEST(CliValue, PiecesOfAnySplitMakeTheSameValue) {
  std::mt19937 random(3);
  const std::vector<std::byte> whole = Whole(42, 300'007);
  EXPECT_EQ(CountWrongBytes(42, 0, whole), 0u);
  for (int round = 0; round < 50; ++round) {
    std::vector<std::byte> pieces(whole.size());
    for (size_t at = 0; at < pieces.size();) {
      const size_t n =
          std::min<size_t>(pieces.size() - at, 1 + random() % (round < 25 ? 20 : 100'000));
      FillValue(42, at, {pieces.data() + at, n});
      ASSERT_EQ(CountWrongBytes(42, at, {whole.data() + at, n}), 0u);
      at += n;
    }
    ASSERT_EQ(pieces, whole);
  }
}

TEST(CliValue, EveryFlippedByteIsCounted) {
  std::vector<std::byte> value =
      Whole(7, 70'001);  // ends in an odd byte, spans two rounds of the table
  for (const size_t at : {size_t{0}, size_t{1}, size_t{8}, size_t{65'527}, size_t{65'528},
                          size_t{69'999}, size_t{70'000}}) {
    value[at] ^= std::byte{1};
  }
  EXPECT_EQ(CountWrongBytes(7, 0, value), 7u);
}

TEST(CliValue, OtherKeysVersionsAndPositionsDoNotPass) {
  const std::vector<std::byte> value = Whole(ValueSeed("a", 1), 4096);
  EXPECT_EQ(CountWrongBytes(ValueSeed("a", 1), 0, value), 0u);
  EXPECT_GT(CountWrongBytes(ValueSeed("a", 2), 0, value), 4000u);
  EXPECT_GT(CountWrongBytes(ValueSeed("b", 1), 0, value), 4000u);
  for (const uint64_t shift : {8u, 4096u, 65'528u, 131'072u, 1u << 20}) {
    EXPECT_GT(CountWrongBytes(ValueSeed("a", 1), shift, value), 4000u)
        << "a block from position " << shift;
  }
}

TEST(CliLayout, EvenPiecesAddUp) {
  const Layout layout = Layout::Even(1001, 10).value();
  size_t sum = 0;
  for (const size_t piece : layout.pieces) {
    EXPECT_TRUE(piece == 100 || piece == 101);
    sum += piece;
  }
  EXPECT_EQ(layout.pieces.size(), 10u);
  EXPECT_EQ(sum, 1001u);
  EXPECT_EQ(Layout::Even(0, 1).code(), Code::kInvalidArgument);
  EXPECT_EQ(Layout::Even(5, 6).code(), Code::kInvalidArgument);
  EXPECT_EQ(Layout::Even(uint64_t{1} << 31, 1).code(), Code::kInvalidArgument);
}

TEST(CliLayout, DeepSeekHas122Pieces) {
  const Layout layout = Layout::DeepSeek();
  EXPECT_EQ(layout.pieces.size(), 122u);
  EXPECT_EQ(layout.bytes, 61u * (128 + 16) * 1024);
}

TEST(CliLayout, SlotsDoNotOverlapAndChecksSeeDamage) {
  const Layout layout = Layout::Even(10'001, 7).value();
  const Arena arena = Arena::Create(layout, 3).value();
  for (uint32_t slot = 0; slot < 3; ++slot) arena.Fill(slot, slot + 1);
  for (uint32_t slot = 0; slot < 3; ++slot) {
    EXPECT_EQ(arena.CountWrong(slot, slot + 1), 0u);
    EXPECT_GT(arena.CountWrong(slot, slot + 2), 9000u);
  }
  static_cast<std::byte*>(arena.Buffers(1)[3].data)[5] ^= std::byte{4};
  EXPECT_EQ(arena.CountWrong(1, 2), 1u);
  EXPECT_EQ(arena.CountWrong(0, 1), 0u);
}

TEST(CliLayout, AStampIsReadBackAcrossTinyPieces) {
  const Arena arena = Arena::Create(Layout::Even(16, 16).value(), 1).value();
  arena.Fill(0, 9);
  arena.Stamp(0, 0x0102030405060708);
  EXPECT_EQ(arena.ReadStamp(0), 0x0102030405060708u);
  EXPECT_EQ(arena.CountWrongBehindStamp(0, 9), 0u);
  static_cast<std::byte*>(arena.Buffers(0)[8].data)[0] ^= std::byte{1};
  EXPECT_EQ(arena.CountWrongBehindStamp(0, 9), 1u);
}

}  // namespace
}  // namespace mmc::cli
