// SegmentMemory and RegionTable: what can be made and mapped, what is refused, and what watchers see.
#include <gtest/gtest.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <thread>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/limits.h"
#include "fabric/fabric.h"
#include "fabric/memory.h"
#include "tests/unit/temp_dir.h"

namespace mmc::fabric {
namespace {

TEST(SegmentMemory, IsAlignedZeroedAndWritable) {
  auto memory = SegmentMemory::Create({.name = "unit", .size = 6_MiB});
  ASSERT_TRUE(memory.ok()) << memory.status().ToString();
  EXPECT_EQ((*memory)->size(), 6_MiB);
  EXPECT_EQ(reinterpret_cast<uint64_t>((*memory)->data()) % kSegmentAlignment, 0u);
  EXPECT_EQ((*memory)->data()[6_MiB - 1], std::byte{0});
  (*memory)->data()[6_MiB - 1] = std::byte{1};
  const std::string& kind = (*memory)->page_kind();
  EXPECT_TRUE(kind == "2 MiB hugetlb" || kind == "transparent huge pages" || kind == "4 KiB") << kind;
}

TEST(SegmentMemory, RefusesSizesThatCannotBe) {
  for (const uint64_t size : {uint64_t{0}, uint64_t{4096}, 2_MiB + 1, kMaxSegmentBytes + 2_MiB}) {
    EXPECT_EQ(SegmentMemory::Create({.size = size}).code(), Code::kInvalidArgument) << size;
  }
  EXPECT_EQ(SegmentMemory::Create({.size = kMaxSegmentBytes}).code(), Code::kIo) << "more than this machine has";
}

TEST(SegmentMemory, BindsToANumaNodeThatIsThereAndToNoOther) {
  EXPECT_TRUE(SegmentMemory::Create({.size = 2_MiB, .numa_node = 0}).ok());
  EXPECT_FALSE(SegmentMemory::Create({.size = 2_MiB, .numa_node = 900}).ok());
  EXPECT_EQ(SegmentMemory::Create({.size = 2_MiB, .numa_node = 5000}).code(), Code::kInvalidArgument);
}

TEST(SegmentMemory, CanNeitherShrinkNorGrowNorBeOpenedAgainForWriting) {
  auto memory = SegmentMemory::Create({.size = 2_MiB, .hugetlb = false});
  ASSERT_TRUE(memory.ok());
  EXPECT_EQ(ftruncate((*memory)->fd(), 4096), -1);
  EXPECT_EQ(ftruncate((*memory)->fd(), 4_MiB), -1);
  if (geteuid() == 0) GTEST_SKIP() << "root opens everything";
  EXPECT_EQ(open(("/proc/self/fd/" + std::to_string((*memory)->fd())).c_str(), O_RDWR), -1);
}

TEST(SegmentMemory, TwoMappingsShowTheSameBytes) {
  auto memory = SegmentMemory::Create({.size = 4_MiB});
  ASSERT_TRUE(memory.ok());
  for (const bool prefault : {false, true}) {
    auto writable = SegmentMemory::Map(dup((*memory)->fd()), 4_MiB, Access::kReadWrite, prefault);
    auto readable = SegmentMemory::Map(dup((*memory)->fd()), 4_MiB, Access::kReadOnly, prefault);
    ASSERT_TRUE(writable.ok() && readable.ok());
    (*writable)->data()[3_MiB] = std::byte{7};
    EXPECT_EQ((*readable)->data()[3_MiB], std::byte{7});
    EXPECT_EQ((*memory)->data()[3_MiB], std::byte{7});
    (*memory)->data()[3_MiB] = std::byte{0};
  }
}

TEST(SegmentMemory, AFileThatIsTooSmallOrCanShrinkIsNotMapped) {
  auto memory = SegmentMemory::Create({.size = 2_MiB, .hugetlb = false});
  ASSERT_TRUE(memory.ok());
  EXPECT_EQ(SegmentMemory::Map(dup((*memory)->fd()), 4_MiB, Access::kReadWrite, false).code(),
            Code::kInvalidArgument);
  EXPECT_EQ(SegmentMemory::Map(dup((*memory)->fd()), 0, Access::kReadWrite, false).code(), Code::kInvalidArgument);
  const int open_ended = memfd_create("open-ended", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  ASSERT_EQ(ftruncate(open_ended, 2_MiB), 0);
  EXPECT_EQ(SegmentMemory::Map(open_ended, 2_MiB, Access::kReadWrite, false).code(), Code::kInvalidArgument);
  EXPECT_EQ(SegmentMemory::Map(-1, 2_MiB, Access::kReadWrite, false).code(), Code::kIo);
}

TEST(SegmentMemory, MappingTakesTheFileEvenWhenItFails) {
  const int file = memfd_create("taken", MFD_CLOEXEC);
  EXPECT_FALSE(SegmentMemory::Map(file, 2_MiB, Access::kReadWrite, false).ok());
  EXPECT_EQ(fcntl(file, F_GETFD), -1);
}

class NamedSegment : public testing::Test {
 protected:
  test::TempDir dir_{"/dev/shm"};
  const std::string path_ = dir_.File("pool");
  const SegmentOptions options_{.size = 4_MiB};
};

TEST_F(NamedSegment, IsThereForTheNextOneWithWhatIsInIt) {
  FileIdentity file;
  {
    auto made = SegmentMemory::CreateNamed(path_, options_);
    ASSERT_TRUE(made.ok()) << made.status().ToString();
    EXPECT_EQ((*made)->backing(), Backing::kNamed);
    (*made)->data()[3_MiB] = std::byte{7};
    file = (*made)->file();
    EXPECT_NE(file, FileIdentity{});
    EXPECT_EQ(SegmentMemory::CreateNamed(path_, options_).code(), Code::kExists);
  }
  auto again = SegmentMemory::ReopenNamed(path_, options_);
  ASSERT_TRUE(again.ok()) << again.status().ToString();
  EXPECT_EQ((*again)->file(), file);
  EXPECT_EQ((*again)->data()[3_MiB], std::byte{7});
  (*again)->data()[0] = std::byte{8};
  auto seen = SegmentMemory::Map(dup((*again)->fd()), 4_MiB, Access::kReadOnly, false, Backing::kNamed);
  ASSERT_TRUE(seen.ok());
  EXPECT_EQ((*seen)->data()[0], std::byte{8});
  EXPECT_FALSE(SegmentMemory::Map(dup((*again)->fd()), 4_MiB, Access::kReadOnly, false).ok()) << "it is not sealed";
}

TEST_F(NamedSegment, AnythingElseAtItsPlaceIsRefused) {
  EXPECT_EQ(SegmentMemory::ReopenNamed(path_, options_).code(), Code::kNotFound);
  ASSERT_TRUE(SegmentMemory::CreateNamed(path_, {.size = 2_MiB}).ok());
  EXPECT_EQ(SegmentMemory::ReopenNamed(path_, options_).code(), Code::kInvalidArgument);
  ASSERT_EQ(symlink(path_.c_str(), dir_.File("link").c_str()), 0);
  EXPECT_FALSE(SegmentMemory::ReopenNamed(dir_.File("link"), {.size = 2_MiB}).ok());
  EXPECT_EQ(SegmentMemory::ReopenNamed(dir_.path(), options_).code(), Code::kPermission);
  EXPECT_EQ(SegmentMemory::CreateNamed(dir_.File("none/pool"), options_).code(), Code::kIo);
}

TEST_F(NamedSegment, WithoutRoomNothingIsLeftBehind) {
  const auto made = SegmentMemory::CreateNamed(path_, {.size = kMaxSegmentBytes});
  EXPECT_EQ(made.code(), Code::kNoSpace) << made.status().ToString();
  EXPECT_NE(access(path_.c_str(), F_OK), 0);
}

class RegionTableTest : public testing::Test {
 protected:
  Status Add(RegionRef ref, Access access = Access::kReadWrite, MemoryKind kind = MemoryKind::kHost) {
    return table_.Add({ref, memory_, access, kind, nullptr});
  }
  Code Resolve(RegionRef ref, uint64_t offset, uint64_t length, Direction direction = Direction::kRead) {
    return table_.Resolve(ref, offset, length, direction).code();
  }
  std::vector<std::byte> memory_ = std::vector<std::byte>(1000);
  RegionTable table_;
};

TEST_F(RegionTableTest, ChecksNameEpochRangeAndRight) {
  ASSERT_TRUE(Add({1, 5}).ok());
  ASSERT_TRUE(Add({2, 5}, Access::kReadOnly).ok());
  EXPECT_EQ(Resolve({1, 5}, 0, 1000), Code::kOk);
  EXPECT_EQ(Resolve({1, 5}, 1000, 0), Code::kOk);
  EXPECT_EQ(Resolve({1, 5}, 0, 1001), Code::kOutOfRange);
  EXPECT_EQ(Resolve({1, 5}, 1001, 0), Code::kOutOfRange);
  EXPECT_EQ(Resolve({1, 5}, UINT64_MAX, 2), Code::kOutOfRange);
  EXPECT_EQ(Resolve({1, 5}, 2, UINT64_MAX), Code::kOutOfRange);
  EXPECT_EQ(Resolve({1, 4}, 0, 1), Code::kStaleRegion);
  EXPECT_EQ(Resolve({3, 5}, 0, 1), Code::kStaleRegion);
  EXPECT_EQ(Resolve({2, 5}, 0, 1, Direction::kWrite), Code::kReadOnly);
  EXPECT_EQ(Resolve({2, 5}, 0, 1), Code::kOk);
}

TEST_F(RegionTableTest, ASegmentIsThereOnceAndRemovedByItsEpochOnly) {
  ASSERT_TRUE(Add({1, 1}).ok());
  EXPECT_EQ(Add({1, 2}).code(), Code::kExists);
  table_.Remove({1, 2});
  EXPECT_EQ(Resolve({1, 1}, 0, 1), Code::kOk);
  table_.Remove({1, 1});
  EXPECT_EQ(Resolve({1, 1}, 0, 1), Code::kStaleRegion);
  EXPECT_TRUE(Add({1, 2}).ok());
  EXPECT_EQ(table_.List().size(), 1u);
}

TEST_F(RegionTableTest, AWatcherSeesWhatIsThereAndEveryChange) {
  ASSERT_TRUE(Add({1, 1}).ok());
  std::vector<std::pair<uint32_t, bool>> seen;
  const uint64_t id = table_.Watch(
      [&](const std::shared_ptr<const Region>& region, bool added) { seen.emplace_back(region->ref.segment, added); });
  ASSERT_TRUE(Add({2, 1}).ok());
  table_.Remove({1, 1});
  table_.Unwatch(id);
  ASSERT_TRUE(Add({3, 1}).ok());
  EXPECT_EQ(seen, (std::vector<std::pair<uint32_t, bool>>{{1, true}, {2, true}, {1, false}}));
}

TEST_F(RegionTableTest, ACacheKeepsWhatItResolvedUntilItIsCleared) {
  ASSERT_TRUE(Add({1, 1}).ok());
  ASSERT_TRUE(Add({2, 1}).ok());
  RegionCache cache(table_);
  EXPECT_EQ(*cache.At({1, 1}, 10, 10, Direction::kRead), memory_.data() + 10);
  EXPECT_EQ(*cache.At({2, 1}, 20, 10, Direction::kRead), memory_.data() + 20);
  EXPECT_EQ(cache.At({1, 1}, 995, 10, Direction::kRead).code(), Code::kOutOfRange);
  table_.Remove({1, 1});
  EXPECT_TRUE(cache.At({1, 1}, 0, 1, Direction::kRead).ok()) << "a running request ends on what it has resolved";
  cache.Clear();
  EXPECT_EQ(cache.At({1, 1}, 0, 1, Direction::kRead).code(), Code::kStaleRegion);
}

TEST_F(RegionTableTest, DeviceMemoryIsNotForHostTransports) {
  ASSERT_TRUE(Add({1, 1}, Access::kReadWrite, MemoryKind::kDevice).ok());
  RegionCache cache(table_);
  EXPECT_EQ(cache.At({1, 1}, 0, 1, Direction::kRead).code(), Code::kUnsupported);
}

TEST(Registry, FindsTransportsByName) {
  for (const char* name : {"loopback", "shm", "tcp"}) {
    ASSERT_NE(FindTransport(name), nullptr);
    EXPECT_STREQ(FindTransport(name)->capabilities().name, name);
  }
  EXPECT_EQ(FindTransport("carrier-pigeon"), nullptr);
  EXPECT_EQ(AllTransports().size(), 3u);
}

TEST(HostIdTest, IsTheSameForAllThreadsOfAMachine) { EXPECT_EQ(HostId(), HostId()); }

}  // namespace
}  // namespace mmc::fabric
