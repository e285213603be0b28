// The allocator against a bitmap model that knows which unit is whose.
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <vector>

#include "meta_service/state/allocator.h"

namespace mmc::meta {
namespace {

class Model {
 public:
  explicit Model(uint32_t units) : owner_(units, 0) {}
  void Take(const std::vector<Extent>& extents, uint32_t id) {
    for (const Extent& extent : extents) {
      for (uint32_t i = extent.offset; i < extent.offset + extent.units; ++i) {
        ASSERT_LT(i, owner_.size());
        ASSERT_EQ(owner_[i], 0u) << "unit " << i << " was given twice";
        owner_[i] = id;
      }
    }
  }
  void Give(const std::vector<Extent>& extents) {
    for (const Extent& extent : extents) {
      for (uint32_t i = extent.offset; i < extent.offset + extent.units; ++i) owner_[i] = 0;
    }
  }

 private:
  std::vector<uint32_t> owner_;
};

uint32_t Sum(const std::vector<Extent>& extents) {
  uint32_t sum = 0;
  for (const Extent& extent : extents) sum += extent.units;
  return sum;
}

TEST(MetaAllocator, RandomWorkKeepsTheModelAndTheInvariants) {
  constexpr uint32_t kUnits = 5000;
  std::mt19937 random(7);
  Allocator allocator(kUnits);
  Model model(kUnits);
  std::map<uint32_t, std::vector<Extent>> held;
  for (uint32_t step = 1; step <= 20'000; ++step) {
    if (held.empty() || random() % 100 < 55) {
      const uint32_t units = 1 + (random() % 4 == 0 ? random() % 700 : random() % 20);
      std::vector<Extent> extents;
      const uint32_t free = allocator.free_units();
      const bool got = allocator.Allocate(units, &extents);
      ASSERT_EQ(got, units <= free)
          << "as long as enough units are free, fragmentation never fails a request";
      if (!got) {
        ASSERT_EQ(allocator.free_units(), free);
        continue;
      }
      ASSERT_EQ(Sum(extents), units);
      model.Take(extents, step);
      held[step] = extents;
    } else {
      auto it = held.lower_bound(random() % step);
      if (it == held.end()) it = held.begin();
      model.Give(it->second);
      for (const Extent& extent : it->second) allocator.Free(extent.block);
      held.erase(it);
    }
    if (step % 97 == 0) {
      ASSERT_TRUE(allocator.CheckInvariants()) << "step " << step;
    }
  }
  for (const auto& [id, extents] : held) {
    for (const Extent& extent : extents) allocator.Free(extent.block);
  }
  EXPECT_TRUE(allocator.CheckInvariants());
  EXPECT_EQ(allocator.free_units(), kUnits);
  EXPECT_EQ(allocator.holes(), 1u) << "all holes have merged";
}

TEST(MetaAllocator, OneBlockWhenAHoleFits) {
  Allocator allocator(100);
  std::vector<Extent> extents;
  ASSERT_TRUE(allocator.Allocate(100, &extents));
  EXPECT_EQ(extents.size(), 1u);
  EXPECT_EQ(allocator.free_units(), 0u);
  extents.clear();
  EXPECT_FALSE(allocator.Allocate(1, &extents));
  EXPECT_FALSE(allocator.Allocate(0, &extents));
}

TEST(MetaAllocator, SeveralExtentsWhenNoHoleFits) {
  Allocator allocator(100);
  std::vector<Extent> all(10);
  for (Extent& extent : all) ASSERT_TRUE(allocator.AllocateOne(10, &extent));
  for (int i : {1, 3, 5, 7}) allocator.Free(all[i].block);
  Extent one;
  EXPECT_FALSE(allocator.AllocateOne(35, &one));
  std::vector<Extent> extents;
  ASSERT_TRUE(allocator.Allocate(35, &extents));
  EXPECT_EQ(extents.size(), 4u);
  EXPECT_EQ(Sum(extents), 35u);
  EXPECT_EQ(allocator.free_units(), 5u);
  EXPECT_TRUE(allocator.CheckInvariants());
}

TEST(MetaAllocator, ReserveClaimsExactlyTheRange) {
  Allocator allocator(100);
  Extent a, b, c;
  ASSERT_TRUE(allocator.Reserve(10, 5, &a));
  ASSERT_TRUE(allocator.Reserve(15, 5, &b));
  ASSERT_TRUE(allocator.Reserve(90, 10, &c));
  EXPECT_EQ(a.offset, 10u);
  Extent none;
  EXPECT_FALSE(allocator.Reserve(12, 1, &none)) << "taken";
  EXPECT_FALSE(allocator.Reserve(5, 6, &none)) << "its end is taken";
  EXPECT_FALSE(allocator.Reserve(99, 2, &none)) << "outside";
  EXPECT_FALSE(allocator.Reserve(0xFFFFFFFF, 2, &none)) << "outside, with overflow";
  EXPECT_TRUE(allocator.Reserve(0, 10, &none)) << "before the last one";
  EXPECT_EQ(allocator.used_units(), 30u);
  EXPECT_TRUE(allocator.CheckInvariants());
  for (const Extent& extent : {a, b, c, none}) allocator.Free(extent.block);
  EXPECT_EQ(allocator.holes(), 1u);
}

}  // namespace
}  // namespace mmc::meta
