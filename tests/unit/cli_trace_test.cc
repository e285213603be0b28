// Goal: traces are read whole, wrong lines are refused with file and line. Method: lines and files
// by hand.
#include "client_sdk/cli/trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace mmc::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr char kLine[] =
    R"({"timestamp": 12, "input_length": 700, "output_length": 5, "hash_ids": [0, 7]})";

class CliTraceFile : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/mmc-trace-XXXXXX";
    const int fd = mkstemp(name);
    ASSERT_GE(fd, 0);
    close(fd);
    path_ = name;
  }
  void TearDown() override { std::filesystem::remove(path_); }
  TraceReader Write(const std::string& text) {
    std::ofstream(path_, std::ios::binary) << text;
    return TraceReader::Open(path_).value();
  }
  std::string path_;
};

TEST(CliTrace, ReadsARequest) {
  const auto request = ParseTraceLine(kLine);
  ASSERT_TRUE(request.ok()) << request.status().ToString();
  EXPECT_EQ(request->timestamp_ms, 12u);
  EXPECT_EQ(request->input_length, 700u);
  EXPECT_EQ(request->output_length, 5u);
  EXPECT_THAT(request->hash_ids, ElementsAre(0, 7));
}

TEST(CliTrace, TakesOtherFieldsFractionsOfMillisecondsAndBigIds) {
  const auto request = ParseTraceLine(
      R"({"type": "chat", "timestamp": 12.75, "input_length": 0, "output_length": 0, )"
      R"("hash_ids": [18446744073709551615]})");
  ASSERT_TRUE(request.ok()) << request.status().ToString();
  EXPECT_EQ(request->timestamp_ms, 12u);
  EXPECT_THAT(request->hash_ids, ElementsAre(UINT64_MAX));
}

TEST(CliTrace, RefusesWhatIsNotARequest) {
  const char* wrong[] = {
      "",
      "[]",
      "null",
      "{}",
      R"({"timestamp": 1})",
      R"({"timestamp": -1, "input_length": 1, "output_length": 1, "hash_ids": []})",
      R"({"timestamp": "1", "input_length": 1, "output_length": 1, "hash_ids": []})",
      R"({"timestamp": 1, "input_length": 1e300, "output_length": 1, "hash_ids": []})",
      R"({"timestamp": 1, "input_length": 1, "output_length": 1, "hash_ids": 5})",
      R"({"timestamp": 1, "input_length": 1, "output_length": 1, "hash_ids": [-1]})",
      R"({"timestamp": 1, "input_length": 1, "output_length": 1, "hash_ids": [1.5]})",
      R"({"timestamp": 1, "input_length": 1, "output_length": 1, "hash_ids": ["a"]})",
      R"({"timestamp": 1, "input_length": 1, "output_length": 1, "hash_ids": []} trailing)",
      R"({"timestamp": 1, "input_length": 1, "output_length": 1, "hash_ids": [1, 2})",
      R"({"timestamp": 1, "input_length": 1, "output_length": 1, "hash_ids": [], "x": [[[[[[[[[[]]]]]]]]]]})",
  };
  for (const char* line : wrong) EXPECT_EQ(ParseTraceLine(line).code(), Code::kMalformed) << line;
}

TEST(CliTrace, LimitsOfLineAndBlocks) {
  const auto with_blocks = [](size_t n) {
    std::string line = R"({"timestamp": 1, "input_length": 1, "output_length": 1, "hash_ids": [1)";
    for (size_t i = 1; i < n; ++i) line += ",1";
    return line + "]}";
  };
  EXPECT_TRUE(ParseTraceLine(with_blocks(kMaxTraceBlocks)).ok());
  EXPECT_THAT(ParseTraceLine(with_blocks(kMaxTraceBlocks + 1)).status().message(),
              HasSubstr("at most 16384"));
  std::string line(kLine);
  line.resize(kMaxTraceLine, ' ');
  EXPECT_TRUE(ParseTraceLine(line).ok());
  EXPECT_EQ(ParseTraceLine(line + " ").code(), Code::kMalformed);
}

TEST_F(CliTraceFile, ReadsLinesToTheEnd) {
  TraceReader reader = Write(std::string(kLine) + "\r\n\n  \n" + kLine);
  int requests = 0;
  while (true) {
    const auto next = reader.Next();
    ASSERT_TRUE(next.ok()) << next.status().ToString();
    if (!next->has_value()) break;
    ++requests;
  }
  EXPECT_EQ(requests, 2);
  EXPECT_EQ(reader.line(), 4u);
  EXPECT_EQ(reader.bytes_read(), reader.bytes_total());
}

TEST_F(CliTraceFile, ErrorsNameFileAndLine) {
  TraceReader reader = Write(std::string(kLine) + "\n{\"timestamp\": 1}\n");
  ASSERT_TRUE(reader.Next().ok());
  const auto second = reader.Next();
  EXPECT_EQ(second.code(), Code::kMalformed);
  EXPECT_THAT(second.status().message(), HasSubstr(path_ + ":2: field 'input_length' is missing"));
}

TEST_F(CliTraceFile, AnEndlessLineIsRefusedWithoutReadingItAll) {
  TraceReader reader = Write(std::string(8 << 20, '['));
  EXPECT_EQ(reader.Next().code(), Code::kMalformed);
  EXPECT_LE(reader.bytes_read(), kMaxTraceLine + 1);
}

TEST_F(CliTraceFile, ZeroBytesAreContentNotAnEnd) {
  TraceReader reader = Write(std::string("\0\n", 2) + kLine + "\n");
  EXPECT_EQ(reader.Next().code(), Code::kMalformed);
  EXPECT_TRUE(reader.Next().ok());
}

TEST(CliTrace, FilesThatCannotBeRead) {
  EXPECT_EQ(TraceReader::Open("/nonexistent/trace").code(), Code::kIo);
  EXPECT_EQ(TraceReader::Open("/tmp").code(), Code::kIo);
}

}  // namespace
}  // namespace mmc::cli
