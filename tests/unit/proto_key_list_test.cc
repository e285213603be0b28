#include "proto/key_list.h"

#include <gtest/gtest.h>

#include "common/base/limits.h"

namespace mmc::proto {
namespace {

TEST(ProtoKeyList, ComesBack) {
  const std::string binary("a\0b\xFF", 4);
  const std::vector<std::string_view> keys = {"one", "", binary, "one"};
  KeyList list;
  EncodeKeys(keys, &list);
  AppendKey("last", &list);
  KeyList parsed;
  ASSERT_TRUE(parsed.ParseFromString(list.SerializeAsString()));
  const auto decoded = DecodeKeys(parsed);
  ASSERT_TRUE(decoded.ok()) << decoded.status().ToString();
  EXPECT_EQ(*decoded, (std::vector<std::string_view>{"one", "", binary, "one", "last"}));
}

TEST(ProtoKeyList, Empty) {
  const auto decoded = DecodeKeys(KeyList());
  ASSERT_TRUE(decoded.ok());
  EXPECT_TRUE(decoded->empty());
}

TEST(ProtoKeyList, LengthsAndDataMustAgree) {
  KeyList list;
  AppendKey("abc", &list);
  list.add_lengths(1);
  EXPECT_EQ(DecodeKeys(list).code(), Code::kMalformed);
  list.set_data("abcde");
  EXPECT_EQ(DecodeKeys(list).code(), Code::kMalformed);
  list.set_data("abcd");
  EXPECT_TRUE(DecodeKeys(list).ok());
  // Lengths whose sum wraps around.
  list.clear_lengths();
  for (int i = 0; i < 5; ++i) list.add_lengths(0xFFFFFFFF);
  EXPECT_EQ(DecodeKeys(list).code(), Code::kMalformed);
}

TEST(ProtoKeyList, BatchLimit) {
  KeyList list;
  for (uint32_t i = 0; i < kMaxBatch; ++i) AppendKey("k", &list);
  EXPECT_TRUE(DecodeKeys(list).ok());
  AppendKey("k", &list);
  EXPECT_EQ(DecodeKeys(list).code(), Code::kTooLarge);
}

TEST(ProtoKeyList, LongKeysAreNotJudgedHere) {
  KeyList list;
  AppendKey(std::string(kMaxKeyBytes + 1, 'x'), &list);
  EXPECT_TRUE(DecodeKeys(list).ok());
}

}  // namespace
}  // namespace mmc::proto
