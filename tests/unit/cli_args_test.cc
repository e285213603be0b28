// Goal: the flag tables accept what they say and refuse the rest by name. Method: parse lines
// against a small table.
#include "client_sdk/cli/args.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace mmc::cli {
namespace {

using std::chrono::milliseconds;
using testing::ElementsAre;
using testing::HasSubstr;

const Flag kGlobals[] = {
    {"meta", "URL", "", "where"}, {"json", "", "", "as JSON"}, {"help", "", "", "help", 'h'}};

Command TestCommand() {
  return {.name = "fly",
          .operands = "FROM TO",
          .summary = "goes places",
          .min_operands = 1,
          .max_operands = 2,
          .flags = {{"speed", "N", "10", "how fast", 's'},
                    {"size", "BYTES", "1KB", "how big"},
                    {"safe", "", "", "slowly"}}};
}

Result<Arguments> Parse(std::vector<std::string> words) {
  const Command command = TestCommand();
  return Arguments::Parse(command, kGlobals, words);
}

TEST(CliArgs, FlagsAndOperandsInAnyOrder) {
  const auto args = Parse({"here", "--speed", "12", "--safe", "there", "--meta=tcp://a:1"});
  ASSERT_TRUE(args.ok()) << args.status().ToString();
  EXPECT_THAT(args->operands(), ElementsAre("here", "there"));
  EXPECT_EQ(args->Int("speed", 0, 100).value(), 12);
  EXPECT_TRUE(args->Switch("safe"));
  EXPECT_FALSE(args->Switch("json"));
  EXPECT_EQ(args->Text("meta"), "tcp://a:1");
}

TEST(CliArgs, AbsentFlagsHaveTheirFallback) {
  const auto args = Parse({"here"});
  ASSERT_TRUE(args.ok());
  EXPECT_FALSE(args->Has("speed"));
  EXPECT_EQ(args->Int("speed", 0, 100).value(), 10);
  EXPECT_EQ(args->Bytes("size", 1, 1 << 20).value(), 1024u);
  EXPECT_EQ(args->Text("meta"), "");
}

TEST(CliArgs, DashesEndFlagsAndADashIsAnOperand) {
  const auto args = Parse({"-", "--", "--speed"});
  ASSERT_TRUE(args.ok());
  EXPECT_THAT(args->operands(), ElementsAre("-", "--speed"));
  const auto letter = Parse({"x", "-s", "3"});
  ASSERT_TRUE(letter.ok());
  EXPECT_EQ(letter->Int("speed", 0, 5).value(), 3);
}

TEST(CliArgs, RefusalsNameTheWord) {
  EXPECT_THAT(Parse({"x", "--spead", "1"}).status().message(), HasSubstr("did you mean --speed?"));
  EXPECT_THAT(Parse({"x", "--zzzzzzzz"}).status().message(), HasSubstr("see mmc fly --help"));
  EXPECT_THAT(Parse({"x", "-z"}).status().message(), HasSubstr("'-z'"));
  EXPECT_THAT(Parse({"x", "--speed"}).status().message(), HasSubstr("--speed needs a value"));
  EXPECT_THAT(Parse({"x", "--safe=yes"}).status().message(), HasSubstr("--safe takes no value"));
  EXPECT_THAT(Parse({}).status().message(), HasSubstr("usage: mmc fly FROM TO"));
  EXPECT_THAT(Parse({"a", "b", "c"}).status().message(), HasSubstr("too many operands (3 given)"));
  EXPECT_TRUE(Parse({"--help"}).ok()) << "help needs no operands";
}

TEST(CliArgs, NumbersOutOfRangeAreRefusedWithTheRange) {
  const auto args = Parse({"x", "--speed", "1000", "--size", "3XB"});
  ASSERT_TRUE(args.ok());
  EXPECT_THAT(args->Int("speed", 1, 99).status().message(),
              HasSubstr("--speed '1000' is not a whole number from 1 to 99"));
  EXPECT_EQ(args->Bytes("size", 1, 99).code(), Code::kInvalidArgument);
  for (const char* text : {"", "1.5", "12x", "99999999999999999999", "0x10"}) {
    EXPECT_FALSE(Parse({"x", "--speed", text})->Int("speed", INT64_MIN, INT64_MAX).ok()) << text;
  }
  for (const char* text : {"nan", "inf", "1e400", "one"}) {
    EXPECT_FALSE(Parse({"x", "--speed", text})->Real("speed", -1e300, 1e300).ok()) << text;
  }
  EXPECT_DOUBLE_EQ(Parse({"x", "--speed", "2.5"})->Real("speed", 0, 3).value(), 2.5);
}

TEST(CliArgs, Times) {
  EXPECT_EQ(ParseTime("250ms").value(), milliseconds(250));
  EXPECT_EQ(ParseTime("1.5").value(), milliseconds(1500));
  EXPECT_EQ(ParseTime("2m").value(), milliseconds(120'000));
  EXPECT_EQ(ParseTime("1h").value(), milliseconds(3'600'000));
  for (const char* text : {"", "ms", "-1s", "1 s", "5d", "1.2.3s", "99999999999999999999h"}) {
    EXPECT_FALSE(ParseTime(text).ok()) << text;
  }
}

TEST(CliArgs, TheCommandIsTheFirstWordThatIsNoGlobalFlag) {
  std::vector<std::string> words = {"--meta", "tcp://a:1", "--json", "fly", "x", "--speed", "3"};
  EXPECT_EQ(TakeCommand(kGlobals, words), "fly");
  EXPECT_THAT(words, ElementsAre("--meta", "tcp://a:1", "--json", "x", "--speed", "3"));
  words = {"--json"};
  EXPECT_EQ(TakeCommand(kGlobals, words), "");
}

TEST(CliArgs, HelpShowsEveryFlagWithItsFallback) {
  const std::string help = CommandHelp(TestCommand(), kGlobals);
  EXPECT_THAT(help, HasSubstr("usage: mmc fly FROM TO [flags]"));
  EXPECT_THAT(help, HasSubstr("-s, --speed N"));
  EXPECT_THAT(help, HasSubstr("how fast (default 10)"));
  EXPECT_THAT(help, HasSubstr("--meta URL"));
}

}  // namespace
}  // namespace mmc::cli
