// Status, its one table of codes, and sizes as people write them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <set>
#include <string>

#include "common/base/bytes.h"
#include "common/base/clock.h"
#include "common/base/status.h"

namespace mmc {
namespace {

TEST(Status, OkHasNoTextAndNoRecovery) {
  const Status ok;
  EXPECT_TRUE(ok.ok());
  EXPECT_EQ(ok.code(), Code::kOk);
  EXPECT_EQ(ok.ToString(), "OK");
  EXPECT_EQ(ok.message(), "");
  EXPECT_TRUE(ok.Annotate("prefix").ok());
}

TEST(Status, SaysCodeMessageAndWhoPassedItOn) {
  const Status status(Code::kNoSpace, "pool dram of 3 nodes is full");
  EXPECT_FALSE(status.ok());
  EXPECT_EQ(status.ToString(), "NO_SPACE: pool dram of 3 nodes is full");
  EXPECT_EQ(status.recovery(), Recovery::kBackoff);
  EXPECT_EQ(status.Annotate("put block7").message(), "put block7: pool dram of 3 nodes is full");
  EXPECT_EQ(status.Annotate("put block7").code(), Code::kNoSpace);
}

TEST(Status, OfErrnoSaysWhatAndWhy) {
  const Status status = ErrnoStatus("open /nowhere", ENOENT);
  EXPECT_EQ(status.code(), Code::kIo);
  EXPECT_THAT(status.message(),
              testing::AllOf(testing::HasSubstr("open /nowhere"),
                             testing::HasSubstr("No such file"), testing::HasSubstr("2")));
}

TEST(StatusCodes, NumbersAndNamesAreUniqueAndEachHasAMeaning) {
  std::set<uint32_t> numbers;
  std::set<std::string_view> names;
  const CodeTable table = AllCodes();
  ASSERT_GT(table.end - table.begin, 20);
  for (const CodeInfo* info = table.begin; info != table.end; ++info) {
    EXPECT_TRUE(numbers.insert(static_cast<uint32_t>(info->code)).second) << info->name;
    EXPECT_TRUE(names.insert(CodeName(info->code)).second) << info->name;
    EXPECT_FALSE(CodeMeaning(info->code).empty()) << info->name;
    EXPECT_EQ(CodeFromWire(static_cast<uint32_t>(info->code)), info->code);
  }
}

TEST(StatusCodes, NumbersOfANewerPeerAreInternal) {
  EXPECT_EQ(CodeFromWire(987'654), Code::kInternal);
  EXPECT_EQ(CodeName(static_cast<Code>(987'654)), "UNKNOWN");
  EXPECT_EQ(RecoveryOf(static_cast<Code>(987'654)), Recovery::kNone);
}

TEST(StatusCodes, NumbersThatTravelDoNotChange) {
  EXPECT_EQ(static_cast<uint32_t>(Code::kOk), 0u);
  EXPECT_EQ(static_cast<uint32_t>(Code::kDeadline), 11u);
  EXPECT_EQ(static_cast<uint32_t>(Code::kMalformed), 103u);
  EXPECT_EQ(static_cast<uint32_t>(Code::kExists), 1000u);
  EXPECT_EQ(static_cast<uint32_t>(Code::kStaleRegion), 2000u);
  EXPECT_EQ(static_cast<uint32_t>(Code::kCorrupt), 3000u);
}

Result<int> Half(int n) {
  if (n % 2 != 0) return Status(Code::kInvalidArgument, "odd");
  return n / 2;
}

Result<int> Quarter(int n) {
  MMC_ASSIGN_OR_RETURN(const int half, Half(n));
  return Half(half);
}

TEST(Result, CarriesTheValueOrTheReason) {
  EXPECT_EQ(*Quarter(8), 2);
  EXPECT_EQ(Quarter(6).code(), Code::kInvalidArgument);
  EXPECT_EQ(Quarter(6).value_or(-1), -1);
  EXPECT_EQ(Result<int>(Status::Ok()).code(), Code::kInternal);
}

struct Size {
  const char* text;
  uint64_t bytes;
};

class GoodSize : public testing::TestWithParam<Size> {};

TEST_P(GoodSize, IsRead) {
  const Result<uint64_t> bytes = ParseBytes(GetParam().text);
  ASSERT_TRUE(bytes.ok()) << bytes.status().ToString();
  EXPECT_EQ(*bytes, GetParam().bytes);
}

INSTANTIATE_TEST_SUITE_P(All, GoodSize,
                         testing::Values(Size{"0", 0}, Size{"4096", 4096}, Size{"1024MB", 1_GiB},
                                         Size{"128mb", 128_MiB}, Size{"2.5GB", 5_GiB / 2},
                                         Size{"2.5 gb", 5_GiB / 2}, Size{"1t", 1_TiB},
                                         Size{"7B", 7}, Size{"3 k", 3072}, Size{"64GiB", 64_GiB},
                                         Size{"0.5KB", 512}));

class BadSize : public testing::TestWithParam<const char*> {};

TEST_P(BadSize, IsRefusedWithTheText) {
  const Result<uint64_t> bytes = ParseBytes(GetParam());
  ASSERT_FALSE(bytes.ok());
  EXPECT_EQ(bytes.code(), Code::kInvalidArgument);
  EXPECT_THAT(bytes.status().message(), testing::HasSubstr(GetParam()));
}

INSTANTIATE_TEST_SUITE_P(All, BadSize,
                         testing::Values("", "MB", "-1", "-1MB", "1.2.3GB", "10XB", "1e9", "0x10",
                                         "99999999TB", "18446744073709551616", "1 MB more", ".",
                                         "inf", "nan", "5 5"));

TEST(FormatBytes, PicksTheUnit) {
  EXPECT_EQ(FormatBytes(0), "0 B");
  EXPECT_EQ(FormatBytes(512), "512 B");
  EXPECT_EQ(FormatBytes(1_GiB), "1.00 GiB");
  EXPECT_EQ(FormatBytes(8986624), "8.57 MiB");
}

TEST(AlignUp, RoundsToTheNextMultiple) {
  EXPECT_EQ(AlignUp(0, 2_MiB), 0u);
  EXPECT_EQ(AlignUp(1, 2_MiB), 2_MiB);
  EXPECT_EQ(AlignUp(2_MiB, 2_MiB), 2_MiB);
  EXPECT_TRUE(IsAligned(4_MiB, 2_MiB));
  EXPECT_FALSE(IsAligned(4_MiB + 1, 2_MiB));
}

TEST(ManualClock, MovesOnlyByHand) {
  ManualClock clock;
  const TimePoint before = clock.Now();
  EXPECT_EQ(clock.Now(), before);
  clock.Advance(std::chrono::milliseconds(5));
  EXPECT_EQ(clock.Now() - before, std::chrono::milliseconds(5));
}

}  // namespace
}  // namespace mmc
