// Goal: a catalog file says what its node holds, whatever happens to the node or to the file.
// Method: random records against a model, read back; then files that are cut, garbled, overlapping,
// locked, killed.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <map>
#include <random>

#include "local_service/catalog.h"
#include "local_service/catalog_reader.h"
#include "tests/unit/temp_dir.h"

namespace mmc::local {
namespace {

using test::TempDir;

constexpr uint64_t kUnit = 4096;

CatalogIdentity SomeIdentity(uint64_t incarnation = 77) {
  return {.node = "host-a:7000",
          .incarnation = incarnation,
          .segments = {{.id = 1, .epoch = 9, .medium = 0, .numa_node = -1, .size = 1_TiB},
                       {.id = 3, .epoch = 4, .medium = 0, .numa_node = 0, .size = 2_MiB}}};
}

struct Object {
  std::string key;
  uint64_t generation = 0;
  uint32_t segment = 1;
  uint64_t size = 0;
  uint64_t checksum = 0;
  uint8_t replicas = 0;
  bool hard_pinned = false;
  std::vector<CatalogExtent> extents;

  CatalogRecordView View() const {
    return {.key = key,
            .generation = generation,
            .segment = segment,
            .size = size,
            .checksum = checksum,
            .replicas = replicas,
            .hard_pinned = hard_pinned,
            .extents = extents};
  }
};

// Everything about an object follows from its generation; objects of different generations never
// overlap.
Object MakeObject(uint64_t generation) {
  std::mt19937_64 random(generation);
  Object object;
  object.generation = generation;
  object.key.resize(1 + random() % (generation % 5 == 0 ? kMaxKeyBytes : 40));
  for (char& c : object.key) c = static_cast<char>(random());
  const uint64_t pieces = generation % 17 == 0 ? 300 : 1 + random() % 3;
  for (uint64_t i = 0; i < pieces; ++i) {
    object.extents.push_back({.offset = (generation * 512 + i) * kUnit, .length = kUnit});
  }
  object.size = pieces * kUnit - random() % kUnit;
  object.checksum = random();
  object.replicas = static_cast<uint8_t>(random() % 9);
  object.hard_pinned = random() % 2 == 0;
  return object;
}

void ExpectSame(const CatalogImage::Record& record, const Object& object) {
  EXPECT_EQ(record.key, object.key);
  EXPECT_EQ(record.generation, object.generation);
  EXPECT_EQ(record.replicas, object.replicas);
  EXPECT_EQ(record.hard_pinned, object.hard_pinned);
  EXPECT_EQ(record.segment, object.segment);
  EXPECT_EQ(record.size, object.size);
  EXPECT_EQ(record.checksum, object.checksum);
  EXPECT_EQ(record.extents, object.extents);
}

void ExpectHolds(const std::string& path, const std::map<uint64_t, Object>& model) {
  const Result<CatalogImage> image = CatalogReader::Open(path);
  ASSERT_TRUE(image.ok()) << image.status().ToString();
  EXPECT_EQ(image->torn_records, 0u);
  EXPECT_EQ(image->overlapping_records, 0u);
  EXPECT_EQ(image->garbled_bytes, 0u);
  ASSERT_EQ(image->records.size(), model.size());
  for (const CatalogImage::Record& record : image->records) {
    const auto it = model.find(record.generation);
    ASSERT_NE(it, model.end()) << "generation " << record.generation;
    ExpectSame(record, it->second);
    EXPECT_EQ(record.epoch, 9u);
  }
}

std::vector<std::byte> Bytes(const std::string& path) {
  const std::string text = test::ReadFile(path);
  std::vector<std::byte> bytes(text.size());
  std::memcpy(bytes.data(), text.data(), text.size());
  return bytes;
}

TEST(CatalogTest, HoldsWhatAModelHoldsThroughRandomWork) {
  TempDir dir;
  const std::string path = dir.File("a.catalog");
  auto catalog = Catalog::Create(path, SomeIdentity());
  ASSERT_TRUE(catalog.ok()) << catalog.status().ToString();
  std::map<uint64_t, Object> model;
  std::mt19937_64 random(4);
  uint64_t next = 1;
  for (int step = 0; step < 6000; ++step) {
    if (model.empty() || random() % 5 < 3) {
      Object object = MakeObject(next++);
      ASSERT_TRUE((*catalog)->Add(object.View()).ok());
      model.emplace(object.generation, std::move(object));
    } else {
      auto it = model.lower_bound(random() % next);
      if (it == model.end()) it = model.begin();
      EXPECT_TRUE((*catalog)->Forget(1, it->first));
      EXPECT_FALSE((*catalog)->Forget(1, it->first));
      EXPECT_FALSE((*catalog)->Forget(3, it->first));
      model.erase(it);
    }
    EXPECT_EQ((*catalog)->objects(), model.size());
    if (step % 1500 == 1499) ExpectHolds(path, model);
  }
  (*catalog)->SetApplied(6000);
  const Result<CatalogImage> image = CatalogReader::Open(path);
  ASSERT_TRUE(image.ok());
  EXPECT_EQ(image->applied_seq, 6000u);
  EXPECT_EQ(image->identity.node, "host-a:7000");
  EXPECT_EQ(image->identity.incarnation, 77u);
  ASSERT_EQ(image->identity.segments.size(), 2u);
  EXPECT_EQ(image->identity.segments[1].id, 3u);
  EXPECT_EQ(image->identity.segments[1].epoch, 4u);
  EXPECT_EQ(image->identity.segments[1].size, 2_MiB);
}

TEST(CatalogTest, ForgottenSlotsAreUsedAgain) {
  TempDir dir;
  auto catalog = Catalog::Create(dir.File("a.catalog"), SomeIdentity());
  ASSERT_TRUE(catalog.ok());
  uint64_t generation = 1;
  const auto add = [&](uint64_t g) {
    const std::string key = "layer-block-" + std::to_string(1'000'000 + g);
    const CatalogExtent extent{.offset = g * kUnit, .length = kUnit};
    ASSERT_TRUE(
        (*catalog)
            ->Add({.key = key, .generation = g, .segment = 1, .size = 100, .extents = {&extent, 1}})
            .ok());
  };
  for (; generation <= 20'000; ++generation) add(generation);
  const uint64_t bytes = (*catalog)->file_bytes();
  for (uint64_t old = 1; old <= 100'000; ++old, ++generation) {
    ASSERT_TRUE((*catalog)->Forget(1, old));
    add(generation);
  }
  EXPECT_EQ((*catalog)->file_bytes(), bytes);
  EXPECT_EQ((*catalog)->objects(), 20'000u);
}

TEST(CatalogTest, AddingTheSameAgainReplacesIt) {
  TempDir dir;
  const std::string path = dir.File("a.catalog");
  auto catalog = Catalog::Create(path, SomeIdentity());
  ASSERT_TRUE(catalog.ok());
  Object object = MakeObject(5);
  ASSERT_TRUE((*catalog)->Add(object.View()).ok());
  object.checksum = 123;
  ASSERT_TRUE((*catalog)->Add(object.View()).ok());
  ExpectHolds(path, {{5, object}});
}

TEST(CatalogTest, RecordsThatCannotBeAreRefused) {
  TempDir dir;
  auto catalog = Catalog::Create(dir.File("a.catalog"), SomeIdentity());
  ASSERT_TRUE(catalog.ok());
  const auto code = [&](void (*spoil)(Object&)) {
    Object object = MakeObject(1);
    spoil(object);
    return (*catalog)->Add(object.View()).code();
  };
  EXPECT_EQ(code([](Object& o) { o.key.clear(); }), Code::kInvalidArgument);
  EXPECT_EQ(code([](Object& o) { o.key.assign(kMaxStoredKeyBytes + 1, 'k'); }), Code::kInvalidArgument);
  EXPECT_EQ(code([](Object& o) { o.size = 0; }), Code::kInvalidArgument);
  EXPECT_EQ(code([](Object& o) { o.size = kMaxValueBytes + 1; }), Code::kInvalidArgument);
  EXPECT_EQ(code([](Object& o) { o.size += kMaxValueBytes / 2; }), Code::kInvalidArgument);
  EXPECT_EQ(code([](Object& o) { o.segment = 2; }), Code::kInvalidArgument);
  EXPECT_EQ(code([](Object& o) { o.extents.clear(); }), Code::kInvalidArgument);
  EXPECT_EQ(code([](Object& o) { o.extents[0].offset = 1_TiB; }), Code::kInvalidArgument);
  EXPECT_EQ(code([](Object& o) { o.extents[0].offset = UINT64_MAX; }), Code::kInvalidArgument);
  EXPECT_EQ(code([](Object& o) { o.extents[0].length = 0; }), Code::kInvalidArgument);
  EXPECT_EQ((*catalog)->objects(), 0u);
}

TEST(CatalogTest, ResetStartsAgainForAnotherIncarnation) {
  TempDir dir;
  const std::string path = dir.File("a.catalog");
  auto catalog = Catalog::Create(path, SomeIdentity(1));
  ASSERT_TRUE(catalog.ok());
  for (uint64_t g = 1; g < 3000; ++g) ASSERT_TRUE((*catalog)->Add(MakeObject(g).View()).ok());
  ASSERT_TRUE((*catalog)->Reset(SomeIdentity(2)).ok());
  EXPECT_EQ((*catalog)->objects(), 0u);
  EXPECT_FALSE((*catalog)->Forget(1, 1));
  ExpectHolds(path, {});
  const Object object = MakeObject(1);
  ASSERT_TRUE((*catalog)->Add(object.View()).ok());
  ExpectHolds(path, {{1, object}});
  EXPECT_EQ(CatalogReader::Open(path)->identity.incarnation, 2u);
}

TEST(CatalogTest, OneProcessHoldsAFileAndNobodyElseCanReadIt) {
  TempDir dir;
  const std::string path = dir.File("a.catalog");
  {
    auto first = Catalog::Create(path, SomeIdentity());
    ASSERT_TRUE(first.ok());
    struct stat info {};
    ASSERT_EQ(stat(path.c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 07777, 0600u);
    const auto second = Catalog::Create(path, SomeIdentity());
    EXPECT_EQ(second.code(), Code::kExists);
    EXPECT_NE(second.status().message().find(path), std::string::npos);
    ASSERT_TRUE((*first)->Add(MakeObject(1).View()).ok());
  }
  // What a dead process left behind is read, until the next one of that name takes it.
  EXPECT_EQ(CatalogReader::Open(path)->records.size(), 1u);
  auto next = Catalog::Create(path, SomeIdentity(78));
  ASSERT_TRUE(next.ok());
  EXPECT_EQ(CatalogReader::Open(path)->records.size(), 0u);
  (*next)->Remove();
  EXPECT_EQ(access(path.c_str(), F_OK), -1);
  EXPECT_EQ(CatalogReader::Open(path).code(), Code::kNotFound);
}

// As the next process of the node would.
std::unique_ptr<Catalog> TakeUp(const std::string& path) {
  Result<std::unique_ptr<Catalog>> catalog = Catalog::Hold(path);
  EXPECT_TRUE(catalog.ok()) << catalog.status().ToString();
  const Result<CatalogImage> image = (*catalog)->Read();
  EXPECT_TRUE(image.ok()) << image.status().ToString();
  const Status status = (*catalog)->Resume(*image);
  EXPECT_TRUE(status.ok()) << status.ToString();
  return *std::move(catalog);
}

TEST(CatalogTest, TakenUpAgainItGoesOnAsIfNothingHadBeen) {
  TempDir dir;
  const std::string path = dir.File("a.catalog");
  ASSERT_TRUE(Catalog::Create(path, SomeIdentity()).ok());
  std::map<uint64_t, Object> model;
  std::mt19937_64 random(8);
  uint64_t next = 1;
  uint64_t bytes = 0;
  for (int round = 0; round < 12; ++round) {
    const auto catalog = TakeUp(path);
    EXPECT_EQ(catalog->objects(), model.size());
    EXPECT_EQ(catalog->identity().incarnation, 77u);
    for (int step = 0; step < 400; ++step) {
      if (model.size() < 300) {
        Object object = MakeObject(next++);
        ASSERT_TRUE(catalog->Add(object.View()).ok());
        model.emplace(object.generation, std::move(object));
      } else {
        const auto it = std::next(model.begin(), static_cast<long>(random() % model.size()));
        ASSERT_TRUE(catalog->Forget(1, it->first));
        model.erase(it);
      }
    }
    catalog->SetApplied(static_cast<uint64_t>(round));
    catalog->SetTerm(static_cast<uint64_t>(round) * 10);
    ExpectHolds(path, model);
    if (round == 5) bytes = catalog->file_bytes();
    if (round > 5) {
      EXPECT_LE(catalog->file_bytes(), 2 * bytes) << "slots that are free are used";
    }
  }
  EXPECT_EQ(CatalogReader::Open(path)->applied_seq, 11u);
  EXPECT_EQ(CatalogReader::Open(path)->term, 110u);
}

TEST(CatalogTest, TornRecordsAndACutFileDoNotHarmWhatComesLater) {
  TempDir dir;
  const std::string path = dir.File("a.catalog");
  std::mt19937_64 random(21);
  for (int round = 0; round < 60; ++round) {
    std::map<uint64_t, Object> model;
    {
      auto catalog = Catalog::Create(path, SomeIdentity());
      ASSERT_TRUE(catalog.ok());
      for (uint64_t g = 1; g <= 40; ++g) {
        ASSERT_TRUE((*catalog)->Add(MakeObject(g).View()).ok());
        model.emplace(g, MakeObject(g));
      }
    }
    std::vector<std::byte> bytes = Bytes(path);
    const size_t area = 24_KiB;
    if (round % 2 == 0) {
      for (int i = 0; i < 64; ++i) {
        bytes[kCatalogHeaderBytes + random() % area] = static_cast<std::byte>(random());
      }
    } else {
      bytes.resize(kCatalogHeaderBytes + random() % area);
    }
    dir.Write("a.catalog", {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
    const auto catalog = TakeUp(path);
    for (auto it = model.begin(); it != model.end();) {
      it = catalog->Forget(1, it->first) ? std::next(it) : model.erase(it);
    }
    for (auto& [generation, object] : model) ASSERT_TRUE(catalog->Add(object.View()).ok());
    for (uint64_t g = 100; g < 160; ++g) {
      ASSERT_TRUE(catalog->Add(MakeObject(g).View()).ok());
      model.emplace(g, MakeObject(g));
    }
    const Result<CatalogImage> image = CatalogReader::Open(path);
    ASSERT_TRUE(image.ok());
    EXPECT_EQ(image->records.size(), model.size()) << "round " << round;
    for (const CatalogImage::Record& record : image->records) {
      ASSERT_EQ(model.count(record.generation), 1u) << record.generation;
      ExpectSame(record, model.at(record.generation));
    }
  }
}

TEST(CatalogTest, AScanGivesEachRecordOnceInAsManyStepsAsOneLikes) {
  TempDir dir;
  auto catalog = Catalog::Create(dir.File("a.catalog"), SomeIdentity());
  ASSERT_TRUE(catalog.ok());
  std::map<uint64_t, Object> model;
  for (uint64_t g = 1; g <= 100; ++g) {
    ASSERT_TRUE((*catalog)->Add(MakeObject(g).View()).ok());
    if (g % 3 != 0) model.emplace(g, MakeObject(g));
  }
  for (uint64_t g = 3; g <= 100; g += 3) ASSERT_TRUE((*catalog)->Forget(1, g));
  uint64_t cursor = 0;
  do {
    int taken = 0;
    cursor = (*catalog)->Scan(cursor, [&](const CatalogRecordView& record) {
      if (taken == 7) return false;
      ++taken;
      const auto it = model.find(record.generation);
      EXPECT_NE(it, model.end()) << record.generation;
      if (it == model.end()) return true;
      EXPECT_EQ(record.key, it->second.key);
      EXPECT_TRUE(std::equal(record.extents.begin(), record.extents.end(),
                             it->second.extents.begin(), it->second.extents.end()));
      model.erase(it);
      return true;
    });
  } while (cursor != 0);
  EXPECT_TRUE(model.empty());
}

TEST(CatalogTest, LinksAndFoldersAreNotCatalogs) {
  TempDir dir;
  const std::string target = dir.Write("precious", "precious");
  ASSERT_EQ(symlink(target.c_str(), dir.File("link").c_str()), 0);
  EXPECT_FALSE(Catalog::Create(dir.File("link"), SomeIdentity()).ok());
  EXPECT_FALSE(CatalogReader::Open(dir.File("link")).ok());
  EXPECT_EQ(test::ReadFile(target), "precious");
  EXPECT_FALSE(Catalog::Create(dir.path(), SomeIdentity()).ok());
  EXPECT_FALSE(CatalogReader::Open(dir.path()).ok());
  ASSERT_EQ(mkfifo(dir.File("pipe").c_str(), 0600), 0);
  EXPECT_FALSE(CatalogReader::Open(dir.File("pipe")).ok());
}

// A file of ten objects, some forgotten, for the tests that spoil it.
struct Sample {
  std::vector<std::byte> bytes;
  std::map<uint64_t, Object> objects;
};

Sample MakeSample() {
  TempDir dir;
  Sample sample;
  auto catalog = Catalog::Create(dir.File("a.catalog"), SomeIdentity());
  for (uint64_t g = 1; g <= 14; ++g) {
    Object object = MakeObject(g);
    EXPECT_TRUE((*catalog)->Add(object.View()).ok());
    sample.objects.emplace(g, std::move(object));
  }
  for (const uint64_t g : {2, 7, 9, 14}) {
    EXPECT_TRUE((*catalog)->Forget(1, g));
    sample.objects.erase(g);
  }
  sample.bytes = Bytes(dir.File("a.catalog"));
  return sample;
}

// Every record that is found must be one of the sample's, whole.
size_t CheckSubset(const CatalogImage& image, const Sample& sample) {
  for (const CatalogImage::Record& record : image.records) {
    const auto it = sample.objects.find(record.generation);
    if (it == sample.objects.end()) {
      ADD_FAILURE() << "a record out of nothing: generation " << record.generation;
      continue;
    }
    ExpectSame(record, it->second);
  }
  return image.records.size();
}

TEST(CatalogReaderTest, ACutFileGivesTheRecordsThatAreWhole) {
  const Sample sample = MakeSample();
  size_t last = 0;
  const size_t interesting = std::min(sample.bytes.size(), kCatalogHeaderBytes + 48_KiB);
  for (size_t size = 0; size <= interesting; size += size < kCatalogHeaderBytes ? 61 : 8) {
    const Result<CatalogImage> image = CatalogReader::Parse({sample.bytes.data(), size});
    if (size < kCatalogHeaderBytes) {
      EXPECT_FALSE(image.ok()) << size;
      continue;
    }
    ASSERT_TRUE(image.ok()) << size;
    const size_t found = CheckSubset(*image, sample);
    EXPECT_GE(found, last) << size;
    EXPECT_LE(image->torn_records, 1u);
    last = found;
  }
  EXPECT_EQ(last, sample.objects.size());
}

TEST(CatalogReaderTest, AFlippedBitCostsAtMostTheRecordItIsIn) {
  Sample sample = MakeSample();
  size_t end = sample.bytes.size();
  while (end > 0 && sample.bytes[end - 1] == std::byte{0}) --end;
  std::mt19937 random(3);
  uint64_t dropped = 0;
  for (size_t at = 0; at < end + 128; ++at) {
    const std::byte before = sample.bytes[at];
    sample.bytes[at] ^= static_cast<std::byte>(1u << (random() % 8));
    const Result<CatalogImage> image = CatalogReader::Parse(sample.bytes);
    const size_t checked_header = offsetof(CatalogHeader, area_bytes);
    if (at < checked_header) {
      EXPECT_FALSE(image.ok()) << "byte " << at;
    } else {
      ASSERT_TRUE(image.ok()) << "byte " << at;
      const size_t found = CheckSubset(*image, sample);
      EXPECT_GE(found + 1, sample.objects.size()) << "byte " << at;
      dropped += sample.objects.size() - found;
    }
    sample.bytes[at] = before;
  }
  EXPECT_GT(dropped, 1000u);  // keys, extents and heads of ten records: most flips must be seen
}

TEST(CatalogReaderTest, GarbageOverALengthIsRefusedOrDropped) {
  const Sample sample = MakeSample();
  std::mt19937_64 random(11);
  for (int round = 0; round < 3000; ++round) {
    std::vector<std::byte> bytes(sample.bytes.begin(),
                                 sample.bytes.begin() + kCatalogHeaderBytes + 32_KiB);
    const size_t at = random() % bytes.size();
    const size_t length = std::min<size_t>(bytes.size() - at, 1 + random() % 600);
    for (size_t i = 0; i < length; ++i) bytes[at + i] = static_cast<std::byte>(random());
    const Result<CatalogImage> image = CatalogReader::Parse(bytes);
    if (image.ok()) CheckSubset(*image, sample);
  }
}

TEST(CatalogReaderTest, ForeignFilesAreNamed) {
  EXPECT_EQ(CatalogReader::Parse({}).code(), Code::kNotFound);
  std::vector<std::byte> bytes(8192);
  EXPECT_EQ(CatalogReader::Parse(bytes).code(), Code::kNotFound);  // made, not finished
  bytes[0] = std::byte{1};
  EXPECT_EQ(CatalogReader::Parse(bytes).code(), Code::kMalformed);
  Sample sample = MakeSample();
  sample.bytes[offsetof(CatalogHeader, version)] = std::byte{1};
  EXPECT_EQ(CatalogReader::Parse(sample.bytes).code(), Code::kBadVersion);
  sample.bytes[offsetof(CatalogHeader, version)] = std::byte{2};  // the one before is read
  EXPECT_EQ(CatalogReader::Parse(sample.bytes)->records.size(), sample.objects.size());
}

TEST(CatalogReaderTest, BytesThatTwoRecordsClaimBelongToNeither) {
  TempDir dir;
  const std::string path = dir.File("a.catalog");
  auto catalog = Catalog::Create(path, SomeIdentity());
  ASSERT_TRUE(catalog.ok());
  const auto add = [&](uint64_t generation, uint32_t segment, std::vector<CatalogExtent> extents) {
    ASSERT_TRUE((*catalog)
                    ->Add({.key = "k",
                           .generation = generation,
                           .segment = segment,
                           .size = 1,
                           .extents = extents})
                    .ok());
  };
  add(1, 1, {{0, kUnit}});
  add(2, 1, {{10 * kUnit, 10 * kUnit}});
  add(3, 1, {{kUnit, kUnit}, {19 * kUnit, kUnit}});  // the last unit of 2
  add(4, 1, {{20 * kUnit, kUnit}});
  add(5, 3, {{0, kUnit}});  // the place of 1, in another segment
  const Result<CatalogImage> image = CatalogReader::Open(path);
  ASSERT_TRUE(image.ok());
  EXPECT_EQ(image->overlapping_records, 2u);
  std::vector<uint64_t> left;
  for (const auto& record : image->records) left.push_back(record.generation);
  EXPECT_EQ(left, (std::vector<uint64_t>{1, 4, 5}));
}

TEST(CatalogTest, AFullFileSystemCostsRecordsNotTheProcess) {
  TempDir dir;
  const std::string path = dir.File("a.catalog");
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto old_handler = signal(SIGXFSZ, SIG_IGN);
  const rlimit tight{.rlim_cur = 3u << 20, .rlim_max = before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &tight), 0);
  auto catalog = Catalog::Create(path, SomeIdentity());
  std::map<uint64_t, Object> model;
  Status status;
  uint64_t generation = 1;
  for (; status.ok() && generation < 100'000; ++generation) {
    Object object = MakeObject(generation);
    status = (*catalog)->Add(object.View());
    if (status.ok()) model.emplace(generation, std::move(object));
  }
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  signal(SIGXFSZ, old_handler);
  EXPECT_EQ(status.code(), Code::kIo);
  EXPECT_EQ((*catalog)->missing(), 1u);
  ExpectHolds(path, model);
  EXPECT_EQ(CatalogReader::Open(path)->missing, 1u);
}

// Works on the catalog until it is killed; a byte on `progress` every hundred steps.
[[noreturn]] void WorkForEver(const std::string& path, int progress) {
  auto catalog = Catalog::Create(path, SomeIdentity());
  if (!catalog.ok()) _exit(1);
  std::mt19937_64 random(getpid());
  std::vector<uint64_t> live;
  uint64_t next = 1;
  for (uint64_t step = 1;; ++step) {
    if (live.size() < 50 || random() % 2 == 0) {
      if (!(*catalog)->Add(MakeObject(next).View()).ok()) _exit(2);
      live.push_back(next++);
    } else {
      const size_t pick = random() % live.size();
      (*catalog)->Forget(1, live[pick]);
      live[pick] = live.back();
      live.pop_back();
    }
    if (step % 100 == 0 && write(progress, "x", 1) != 1) _exit(3);
  }
}

TEST(CatalogTest, AKilledWriterLeavesWholeRecords) {
  TempDir dir;
  const std::string path = dir.File("a.catalog");
  for (int round = 0; round < 25; ++round) {
    int pipe_fds[2];
    ASSERT_EQ(pipe(pipe_fds), 0);
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      close(pipe_fds[0]);
      WorkForEver(path, pipe_fds[1]);
    }
    close(pipe_fds[1]);
    char c;
    for (int i = 0; i <= round; ++i) ASSERT_EQ(read(pipe_fds[0], &c, 1), 1);
    ASSERT_EQ(kill(child, SIGKILL), 0);
    ASSERT_EQ(waitpid(child, nullptr, 0), child);
    close(pipe_fds[0]);

    const Result<CatalogImage> image = CatalogReader::Open(path);
    ASSERT_TRUE(image.ok()) << image.status().ToString();
    EXPECT_EQ(image->torn_records, 0u);
    EXPECT_EQ(image->overlapping_records, 0u);
    EXPECT_GE(image->records.size(), 20u);
    for (const CatalogImage::Record& record : image->records)
      ExpectSame(record, MakeObject(record.generation));
  }
}

TEST(ServiceFilePathTest, KeepsNamesApartAndInTheirFolder) {
  const std::string uid = std::to_string(geteuid());
  EXPECT_EQ(ServiceFilePath("/dev/shm", "node-1", "catalog"),
            "/dev/shm/mmc-node-1-" + uid + ".catalog");
  const std::string a = ServiceFilePath("/d", "host:7000", "sock");
  const std::string b = ServiceFilePath("/d", "host/7000", "sock");
  EXPECT_NE(a, b);
  EXPECT_EQ(b.find('/', 3), std::string::npos) << b;
  const std::string long_a = ServiceFilePath("/d", std::string(255, 'x') + "a", "sock");
  const std::string long_b = ServiceFilePath("/d", std::string(255, 'x') + "b", "sock");
  EXPECT_NE(long_a, long_b);
  EXPECT_LT(long_a.size(), 80u);
}

}  // namespace
}  // namespace mmc::local
