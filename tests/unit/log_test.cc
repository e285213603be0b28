// Log files: rotation by size and by count, sharing a folder, and silence in processes that never
// asked for logs.
#include "common/obs/log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "common/obs/rotating_file.h"
#include "tests/unit/temp_dir.h"

namespace mmc::obs {
namespace {

using testing::ElementsAre;

std::set<std::string> LogFiles(const std::string& directory) {
  std::set<std::string> out;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    const std::string name = entry.path().filename().string();
    if (name[0] != '.') out.insert(name);
  }
  return out;
}

std::unique_ptr<RotatingFile> Open(const std::string& directory, uint64_t bytes, int count) {
  Result<std::unique_ptr<RotatingFile>> file = RotatingFile::Open(directory, "svc", bytes, count);
  EXPECT_TRUE(file.ok()) << file.status().ToString();
  return file.ok() ? std::move(*file) : nullptr;
}

TEST(RotatingFile, KeepsSoManyFilesOfSoManyBytes) {
  const test::TempDir dir;
  const std::unique_ptr<RotatingFile> file = Open(dir.path(), 100, 3);
  ASSERT_NE(file, nullptr);
  for (int i = 0; i < 20; ++i) file->Write(std::string(39, static_cast<char>('a' + i)) + "\n");
  EXPECT_THAT(LogFiles(dir.path()), ElementsAre("svc.log", "svc.log.1", "svc.log.2"));
  // Two lines of 40 bytes fit into 100: the newest are in svc.log, those before in svc.log.1, and
  // so on.
  EXPECT_EQ(test::ReadFile(dir.File("svc.log")),
            std::string(39, 's') + "\n" + std::string(39, 't') + "\n");
  EXPECT_EQ(test::ReadFile(dir.File("svc.log.1")),
            std::string(39, 'q') + "\n" + std::string(39, 'r') + "\n");
  EXPECT_EQ(test::ReadFile(dir.File("svc.log.2")),
            std::string(39, 'o') + "\n" + std::string(39, 'p') + "\n");
}

TEST(RotatingFile, CountOfOneKeepsOnlyTheCurrent) {
  const test::TempDir dir;
  const std::unique_ptr<RotatingFile> file = Open(dir.path(), 10, 1);
  ASSERT_NE(file, nullptr);
  for (const char* line : {"12345678\n", "abcdefgh\n"}) file->Write(line);
  EXPECT_THAT(LogFiles(dir.path()), ElementsAre("svc.log"));
  EXPECT_EQ(test::ReadFile(dir.File("svc.log")), "abcdefgh\n");
}

TEST(RotatingFile, LineLongerThanAFileIsWrittenWhole) {
  const test::TempDir dir;
  const std::unique_ptr<RotatingFile> file = Open(dir.path(), 10, 2);
  ASSERT_NE(file, nullptr);
  file->Write("this line is longer than ten bytes\n");
  EXPECT_EQ(test::ReadFile(dir.File("svc.log")), "this line is longer than ten bytes\n");
}

TEST(RotatingFile, GoesOnWhereTheLastProcessStopped) {
  const test::TempDir dir;
  Open(dir.path(), 100, 3)->Write("first\n");
  Open(dir.path(), 100, 3)->Write("second\n");
  EXPECT_EQ(test::ReadFile(dir.File("svc.log")), "first\nsecond\n");
}

TEST(RotatingFile, SmallerCountRemovesWhatTheLargerOneLeftAndNothingElse) {
  const test::TempDir dir;
  for (const char* name : {"svc.log.1", "svc.log.2", "svc.log.7", "svc.log.49", "svc.log.x",
                           "other.log.49", "svc.log.9x"}) {
    dir.Write(name, "old\n");
  }
  const std::unique_ptr<RotatingFile> file = Open(dir.path(), 100, 3);
  EXPECT_THAT(LogFiles(dir.path()), ElementsAre("other.log.49", "svc.log", "svc.log.1", "svc.log.2",
                                                "svc.log.9x", "svc.log.x"));
}

TEST(RotatingFile, TwoOfOneNameDoNotShareAFile) {
  const test::TempDir dir;
  const std::unique_ptr<RotatingFile> first = Open(dir.path(), 100, 3);
  const std::unique_ptr<RotatingFile> second = Open(dir.path(), 100, 3);
  ASSERT_NE(first, nullptr);
  ASSERT_NE(second, nullptr);
  EXPECT_EQ(first->path(), dir.File("svc.log"));
  EXPECT_EQ(second->path(), dir.File("svc-2.log"));
}

TEST(RotatingFile, MakesTheFolderAndRefusesALinkInPlaceOfTheFile) {
  const test::TempDir dir;
  EXPECT_NE(Open(dir.File("a/b/c"), 100, 3), nullptr);
  ASSERT_EQ(symlink(dir.Write("precious", "").c_str(), dir.File("svc.log").c_str()), 0);
  const Result<std::unique_ptr<RotatingFile>> refused =
      RotatingFile::Open(dir.path(), "svc", 100, 3);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.code(), Code::kConfig);
  EXPECT_THAT(refused.status().message(), testing::HasSubstr(dir.File("svc.log")));
}

TEST(RotatingFile, LinesOfManyThreadsStayWhole) {
  const test::TempDir dir;
  {
    const std::unique_ptr<RotatingFile> file = Open(dir.path(), 2000, 50);
    ASSERT_NE(file, nullptr);
    std::vector<std::thread> threads;
    for (char c : {'a', 'b', 'c', 'd'}) {
      threads.emplace_back([&file, c] {
        for (int i = 0; i < 100; ++i) file->Write(std::string(19, c) + "\n");
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
  size_t lines = 0;
  for (const std::string& name : LogFiles(dir.path())) {
    std::istringstream text(test::ReadFile(dir.File(name)));
    for (std::string line; std::getline(text, line); ++lines)
      EXPECT_EQ(line, std::string(19, line[0]));
  }
  EXPECT_EQ(lines, 400u);
}

TEST(LogDirectory, RelativePathsStartAboveTheProgram) {
  EXPECT_EQ(LogDirectory(""), "");
  EXPECT_EQ(LogDirectory("/var/log/mmc"), "/var/log/mmc/logs");
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe");
  EXPECT_EQ(LogDirectory("."), (program.parent_path().parent_path() / "logs").string());
}

// First in this process: nobody has called InitLogging yet. glog alone would write to stderr here.
TEST(LogMacros, AreSilentUntilSomebodySetsUpLogs) {
  ASSERT_FALSE(g_logs_on.load());
  testing::internal::CaptureStderr();
  int evaluated = 0;
  MMC_LOG(ERROR) << "nobody asked for this " << ++evaluated;
  MMC_LOG_DEBUG() << "nor for this " << ++evaluated;
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
  EXPECT_EQ(evaluated, 0) << "a message that is not written costs nothing";
}

TEST(LogMacros, WriteLevelsIntoTheFileAfterwards) {
  const test::TempDir dir;
  ASSERT_TRUE(InitLogging({.name = "svc", .level = "debug", .directory = dir.path()}).ok());
  testing::internal::CaptureStderr();
  MMC_LOG(INFO) << "an information";
  MMC_LOG(WARNING) << "a warning";
  MMC_LOG(ERROR) << "an error";
  MMC_LOG_DEBUG() << "a detail";
  VLOG(1) << "a verbose line";
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
  const std::string log = test::ReadFile(dir.File("svc.log"));
  for (const char* text :
       {"an information", "a warning", "an error", "a detail", "a verbose line"}) {
    const size_t first = log.find(text);
    ASSERT_NE(first, std::string::npos) << text;
    EXPECT_EQ(log.find(text, first + 1), std::string::npos) << text << " was written twice";
  }
}

}  // namespace
}  // namespace mmc::obs
