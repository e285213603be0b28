// Goal: a node that starts again goes on with its objects exactly when the files are its own, whole
// and of this machine's start; and knows when nobody of earlier can write to them any more.
// Method: Storage opened, left as a kill would leave it, spoiled, opened again.
#include "local_service/storage.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <fstream>

#include "common/base/bytes.h"
#include "local_service/catalog_reader.h"
#include "tests/unit/temp_dir.h"

namespace mmc::local {
namespace {

using testing::HasSubstr;

class StorageTest : public testing::Test {
 protected:
  StorageTest() {
    options_.dram_bytes = 4_MiB;
    options_.warm_restart = true;
    options_.prefault = false;
    options_.segment_directory = options_.catalog_directory = dir_.path();
  }
  std::unique_ptr<Storage> Open() {
    Result<std::unique_ptr<Storage>> storage = Storage::Open(options_, "node");
    EXPECT_TRUE(storage.ok()) << storage.status().ToString();
    return storage.ok() ? *std::move(storage) : nullptr;
  }
  // One object in the pool; the storage is left as a kill leaves it.
  void Fill() {
    const auto storage = Open();
    ASSERT_NE(storage, nullptr);
    const CatalogExtent extent{.offset = 4096, .length = 4096};
    ASSERT_TRUE(storage->catalog()
                    .Add({.key = "key", .generation = 3, .segment = 1, .size = 5,
                          .extents = {&extent, 1}})
                    .ok());
    storage->catalog().SetApplied(17);
    storage->catalog().SetTerm(4);
    std::memcpy(storage->memory()->data() + 4096, "value", 5);
    incarnation_ = storage->identity().incarnation;
    region_ = storage->region();
  }
  void ExpectStartsEmpty() {
    const auto storage = Open();
    ASSERT_NE(storage, nullptr);
    EXPECT_FALSE(storage->warm());
    EXPECT_EQ(storage->catalog().objects(), 0u);
    EXPECT_NE(storage->identity().incarnation, incarnation_);
    EXPECT_EQ(storage->applied_seq(), 0u);
    EXPECT_EQ(storage->memory()->data()[4096], std::byte{0});
    EXPECT_EQ(storage->memory()->size(), options_.dram_bytes);
    storage->Remove();
    EXPECT_TRUE(std::filesystem::is_empty(dir_.path()));
  }
  std::string Path(const char* suffix) const { return ServiceFilePath(dir_.path(), "node", suffix); }
  // Gives the catalog another identity, records and all.
  void Rewrite(void (*change)(CatalogIdentity&)) {
    auto catalog = Catalog::Hold(Path("catalog"));
    ASSERT_TRUE(catalog.ok());
    CatalogIdentity identity = (*catalog)->Read()->identity;
    change(identity);
    ASSERT_TRUE((*catalog)->Reset(identity).ok());
  }

  test::TempDir dir_{"/dev/shm"};
  LocalOptions options_;
  uint64_t incarnation_ = 0;
  fabric::RegionRef region_;
};

TEST_F(StorageTest, GoesOnWhereAKilledOneWas) {
  Fill();
  for (int run = 0; run < 3; ++run) {
    const auto storage = Open();
    ASSERT_NE(storage, nullptr);
    EXPECT_TRUE(storage->warm());
    EXPECT_EQ(storage->identity().incarnation, incarnation_);
    EXPECT_EQ(storage->region(), region_);
    EXPECT_EQ(storage->applied_seq(), 17u);
    EXPECT_EQ(storage->term(), 4u);
    EXPECT_EQ(storage->catalog().objects(), 1u);
    EXPECT_EQ(std::memcmp(storage->memory()->data() + 4096, "value", 5), 0);
    EXPECT_EQ(storage->presence()->earlier(), 0u);
  }
  Open()->Remove();
  EXPECT_TRUE(std::filesystem::is_empty(dir_.path()));
}

TEST_F(StorageTest, StartsEmptyWhenToldTo) {
  Fill();
  options_.cold = true;
  ExpectStartsEmpty();
}

TEST_F(StorageTest, StartsEmptyWithAnotherSize) {
  Fill();
  options_.dram_bytes = 6_MiB;
  ExpectStartsEmpty();
}

TEST_F(StorageTest, StartsEmptyAfterTheMachineDid) {
  Fill();
  Rewrite([](CatalogIdentity& identity) { identity.boot_id = "another"; });
  ExpectStartsEmpty();
}

TEST_F(StorageTest, StartsEmptyWithTheFilesOfAnotherNode) {
  Fill();
  Rewrite([](CatalogIdentity& identity) { identity.node = "neighbour"; });
  ExpectStartsEmpty();
}

TEST_F(StorageTest, StartsEmptyWithoutItsMemory) {
  Fill();
  ASSERT_EQ(unlink(Path("segment").c_str()), 0);
  ExpectStartsEmpty();
}

TEST_F(StorageTest, StartsEmptyWithOtherMemoryOfTheSameName) {
  Fill();
  const std::string other = dir_.Write("other", std::string(4_MiB, 'x'));
  ASSERT_EQ(rename(other.c_str(), Path("segment").c_str()), 0);
  ExpectStartsEmpty();
}

TEST_F(StorageTest, StartsEmptyWithAGarbledCatalog) {
  Fill();
  std::string bytes = test::ReadFile(Path("catalog"));
  bytes[30] = static_cast<char>(bytes[30] + 1);
  dir_.Write(std::filesystem::path(Path("catalog")).filename(), bytes);
  ExpectStartsEmpty();
}

TEST_F(StorageTest, StartsEmptyWithMemoryAndNoCatalog) {
  Fill();
  ASSERT_EQ(unlink(Path("catalog").c_str()), 0);
  ExpectStartsEmpty();
}

TEST_F(StorageTest, WithoutWarmRestartNothingOutlivesIt) {
  Fill();
  options_.warm_restart = false;
  const auto storage = Open();
  ASSERT_NE(storage, nullptr);
  EXPECT_FALSE(storage->warm());
  EXPECT_EQ(storage->presence(), nullptr);
  EXPECT_NE(access(Path("segment").c_str(), F_OK), 0) << "the older memory is given back";
}

TEST_F(StorageTest, WhatIsNotOursIsNotTouched) {
  const std::string precious = dir_.Write("precious", "precious");
  ASSERT_EQ(symlink(precious.c_str(), Path("segment").c_str()), 0);
  const auto storage = Storage::Open(options_, "node");
  EXPECT_EQ(storage.code(), Code::kPermission);
  EXPECT_THAT(storage.status().message(), HasSubstr(Path("segment")));
  EXPECT_EQ(test::ReadFile(precious), "precious");
}

TEST_F(StorageTest, ARenewedOneIsANewNodeOnTheSameMemory) {
  Fill();
  {
    const auto storage = Open();
    ASSERT_NE(storage, nullptr);
    ASSERT_TRUE(storage->Renew().ok());
    EXPECT_NE(storage->identity().incarnation, incarnation_);
    EXPECT_EQ(storage->region().epoch, region_.epoch + 1);
    incarnation_ = storage->identity().incarnation;
  }
  const auto storage = Open();
  EXPECT_TRUE(storage->warm());
  EXPECT_EQ(storage->identity().incarnation, incarnation_);
  EXPECT_EQ(storage->catalog().objects(), 0u);
}

// What a listener gives to a client, and the client keeps.
int HoldPresence(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  EXPECT_EQ(flock(fd, LOCK_SH | LOCK_NB), 0);
  return fd;
}

struct Gone {
  Mutex mutex;
  CondVar changed;
  bool gone MMC_GUARDED_BY(mutex) = false;
  void Set() {
    MutexLock lock(mutex);
    gone = true;
    changed.NotifyAll();
  }
  bool now() {
    MutexLock lock(mutex);
    return gone;
  }
  void Wait() {
    MutexLock lock(mutex);
    while (!gone) changed.Wait(mutex);
  }
};

TEST_F(StorageTest, ClientsOfEveryEarlierRunAreWaitedFor) {
  Fill();
  std::vector<int> clients;
  for (int run = 0; run < 3; ++run) {
    const auto storage = Open();
    ASSERT_TRUE(storage != nullptr && storage->warm());
    EXPECT_EQ(storage->presence()->earlier(), clients.size());
    clients.push_back(HoldPresence(storage->presence()->path()));
  }
  const auto storage = Open();
  ASSERT_TRUE(storage != nullptr && storage->warm());
  const int own = HoldPresence(storage->presence()->path());  // one of this run does not count
  Gone gone;
  storage->presence()->WhenEarlierGone([&] { gone.Set(); });
  close(clients[0]);
  close(clients[2]);
  EXPECT_FALSE(gone.now());
  EXPECT_GE(storage->presence()->earlier(), 1u);
  close(clients[1]);
  gone.Wait();
  EXPECT_EQ(storage->presence()->earlier(), 0u);
  Gone again;
  storage->presence()->WhenEarlierGone([&] { again.Set(); });
  EXPECT_TRUE(again.now());
  close(own);
}

TEST_F(StorageTest, ClientsOfMemoryThatIsNotUsedAgainAreNotWaitedFor) {
  Fill();
  int client;
  {
    const auto storage = Open();
    client = HoldPresence(storage->presence()->path());
  }
  options_.cold = true;
  const auto storage = Open();
  EXPECT_EQ(storage->presence()->earlier(), 0u);
  close(client);
}

TEST_F(StorageTest, ACatalogOfTheVersionBeforeGoesOnAsOneOfThisVersion) {
  Fill();
  std::fstream file(Path("catalog"), std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(offsetof(CatalogHeader, version));
  file.put(2);
  file.close();
  const auto storage = Open();
  ASSERT_NE(storage, nullptr);
  EXPECT_TRUE(storage->warm());
  EXPECT_EQ(storage->catalog().objects(), 1u);
  std::ifstream again(Path("catalog"), std::ios::binary);
  again.seekg(offsetof(CatalogHeader, version));
  EXPECT_EQ(again.get(), static_cast<int>(kCatalogVersion)) << "a program of before must not take it up";
  storage->Remove();
}

TEST_F(StorageTest, WhatKilledNodesWithoutNamedMemoryLeftIsSwept) {
  Fill();  // named memory: it may come back
  options_.warm_restart = false;
  const auto lives = Storage::Open(options_, "lives");
  ASSERT_TRUE(lives.ok());
  ASSERT_TRUE(Storage::Open(options_, "killed").ok());  // gone without Remove()
  const std::string left = ServiceFilePath(dir_.path(), "killed", "catalog");
  ASSERT_TRUE(std::filesystem::exists(left));
  const auto next = Storage::Open(options_, "next");
  ASSERT_TRUE(next.ok());
  EXPECT_FALSE(std::filesystem::exists(left));
  EXPECT_TRUE(std::filesystem::exists(ServiceFilePath(dir_.path(), "lives", "catalog")));
  EXPECT_TRUE(std::filesystem::exists(Path("catalog")));
  EXPECT_TRUE(std::filesystem::exists(Path("segment")));
}

}  // namespace
}  // namespace mmc::local
