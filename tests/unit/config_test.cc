// The grammar of conf files, and what each wrong line is told.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>

#include "common/config/common_settings.h"
#include "common/config/nearest.h"
#include "common/config/schema.h"
#include "tests/unit/temp_dir.h"

namespace mmc::config {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

Schema MakeSchema() {
  Setting url = Url("srv.url", "tcp://127.0.0.1:5000", "tcp", "Where it listens.");
  url.free_port = true;
  Setting metrics = Url("srv.metrics", "http://127.0.0.1:8000", "http", "Metrics.");
  metrics.may_be_empty = true;
  Setting protocol = Enum("srv.protocol", "host_tcp", {"host_tcp", "host_rdma"}, "How bytes move.");
  protocol.old_values = {{"roce", "host_rdma"}};
  Setting store = Url("srv.store_url", "tcp://127.0.0.1:6000", "tcp", "Store.");
  store.names.push_back("srv.old_store_url");
  std::vector<Setting> settings = {
      url,
      metrics,
      protocol,
      store,
      Int("srv.high", "90", 1, 99, "High."),
      Int("srv.low", "80", -5, 98, "Low."),
      Bool("srv.on", "false", "On."),
      Bytes("srv.size", "128MB", 4096, 1ull << 40, "Size."),
      Text("srv.name", "", 8, "Name."),
      WithoutEffect(Int("srv.world", "256", 1, 1024, "World."), "there is none.")};
  const auto order = [](const Values& values) {
    if (values.GetInt("srv.high") > values.GetInt("srv.low")) return Status::Ok();
    return Status(Code::kConfig, "srv.high must be above srv.low");
  };
  return Schema("test_service", std::move(settings), {order});
}

Result<Values> Parse(std::string_view text, const std::vector<std::string>& overrides = {}) {
  return MakeSchema().Parse(text, "a.conf", overrides);
}

Values Good(std::string_view text, const std::vector<std::string>& overrides = {}) {
  Result<Values> values = Parse(text, overrides);
  EXPECT_TRUE(values.ok()) << values.status().ToString();
  return values.ok() ? *values : *Parse("");
}

TEST(ConfGrammar, NothingMeansDefaults) {
  const Values values = Good("");
  EXPECT_EQ(values.GetString("srv.url"), "tcp://127.0.0.1:5000");
  EXPECT_EQ(values.GetInt("srv.high"), 90);
  EXPECT_EQ(values.GetBytes("srv.size"), 128u << 20);
  EXPECT_FALSE(values.GetBool("srv.on"));
  EXPECT_FALSE(values.IsSet("srv.high"));
  EXPECT_THAT(values.warnings(), IsEmpty());
}

TEST(ConfGrammar, BlanksCommentsAndLineEndsOfAnyKind) {
  const Values values = Good(
      "\xEF\xBB\xBF# first\r\n\r\n   \t \n  # indented\n\tsrv.high =95   # why\r\n"
      "srv.low=  7\t# after a tab\nsrv.name = a#b\nsrv.on = TRUE");
  EXPECT_EQ(values.GetInt("srv.high"), 95);
  EXPECT_EQ(values.GetInt("srv.low"), 7);
  EXPECT_EQ(values.GetString("srv.name"), "a#b") << "a '#' inside a word is part of the value";
  EXPECT_TRUE(values.GetBool("srv.on"));
  EXPECT_TRUE(values.IsSet("srv.high"));
  EXPECT_THAT(values.warnings(), IsEmpty());
}

TEST(ConfGrammar, CommentThatHidesTheWholeValue) {
  EXPECT_EQ(Good("srv.name = # nothing").GetString("srv.name"), "");
  EXPECT_EQ(Good("srv.metrics =").GetString("srv.metrics"), "") << "empty turns it off";
}

TEST(ConfGrammar, ValueMayHoldEqualsSigns) {
  EXPECT_EQ(Good("srv.name = a=b").GetString("srv.name"), "a=b");
}

TEST(ConfGrammar, LineWithoutEqualsIsSkippedAndTold) {
  const Values values = Good("srv.high = 91\nwhat is this\n");
  ASSERT_EQ(values.warnings().size(), 1u);
  EXPECT_EQ(values.warnings()[0].text, "a.conf:2: 'what is this' has no '='; the line is ignored");
}

TEST(ConfGrammar, UnknownKeyIsAWarningWithTheNearestName) {
  const Values values = Good("\nsrv.hihg = 91\nsomething.else.entirely = 1\n");
  ASSERT_EQ(values.warnings().size(), 2u);
  EXPECT_EQ(values.warnings()[0].text,
            "a.conf:2: unknown key 'srv.hihg'; did you mean 'srv.high'?");
  EXPECT_EQ(values.warnings()[1].text,
            "a.conf:3: unknown key 'something.else.entirely'; it is ignored");
  EXPECT_EQ(values.GetInt("srv.high"), 90);
}

TEST(ConfGrammar, WarningsAreBounded) {
  std::string text;
  for (int i = 0; i < 9'000; ++i) text += "srv.wrong" + std::to_string(i) + " = 1\n";
  EXPECT_LE(Good(text).warnings().size(), 100u);
}

TEST(ConfGrammar, MoreThanAHundredItemsAreFine) {
  std::string text;
  for (int i = 0; i < 150; ++i) text += "other.key" + std::to_string(i) + " = 1\n";
  EXPECT_EQ(Good(text + "srv.high = 92\n").GetInt("srv.high"), 92);
}

TEST(ConfGrammar, AliasesAndOldSpellingsAndCase) {
  const Values values = Good("srv.old_store_url = tcp://[::1]:6001\nsrv.protocol = RoCE\n");
  EXPECT_EQ(values.GetString("srv.store_url"), "tcp://[::1]:6001");
  EXPECT_TRUE(values.IsSet("srv.store_url"));
  EXPECT_EQ(values.GetString("srv.protocol"), "host_rdma");
  EXPECT_EQ(Good("srv.protocol = HOST_TCP").GetString("srv.protocol"), "host_tcp");
}

TEST(ConfGrammar, KeyWithoutEffectSaysSoUnlessItIsTheDefault) {
  EXPECT_THAT(Good("srv.world = 256").warnings(), IsEmpty());
  const Values values = Good("srv.world = 16");
  ASSERT_EQ(values.warnings().size(), 1u);
  EXPECT_EQ(values.warnings()[0].text,
            "a.conf:1: srv.world = 16 is accepted, without effect: there is none.");
}

TEST(ConfGrammar, PortZeroOnlyWhereAFreeOneMakesSense) {
  EXPECT_EQ(Good("srv.url = tcp://127.0.0.1:0").GetString("srv.url"), "tcp://127.0.0.1:0");
  EXPECT_FALSE(Parse("srv.store_url = tcp://127.0.0.1:0").ok());
}

TEST(ConfGrammar, SizesAsPeopleWriteThem) {
  EXPECT_EQ(Good("srv.size = 1024MB").GetBytes("srv.size"), 1ull << 30);
  EXPECT_EQ(Good("srv.size = 2.5GB # half").GetBytes("srv.size"), 5ull << 29);
  EXPECT_EQ(Good("srv.size = 5000").GetBytes("srv.size"), 5000u);
  EXPECT_EQ(Good("srv.size = 1 tb").GetBytes("srv.size"), 1ull << 40);
}

TEST(ConfGrammar, OverridesWinAndTheLastOfThemWins) {
  const Values values = Good("srv.high = 91", {"srv.high=92", " srv.high = 93 ", "srv.name=x # y"});
  EXPECT_EQ(values.GetInt("srv.high"), 93);
  EXPECT_EQ(values.GetString("srv.name"), "x # y") << "the shell has comments of its own";
}

struct Wrong {
  std::string text;
  std::string message;
};

class WrongConf : public testing::TestWithParam<Wrong> {};

TEST_P(WrongConf, IsOneLineThatNamesTheFields) {
  const Result<Values> values = Parse(GetParam().text);
  ASSERT_FALSE(values.ok());
  EXPECT_EQ(values.code(), Code::kConfig);
  EXPECT_EQ(values.status().message(), GetParam().message);
  EXPECT_EQ(values.status().message().find('\n'), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(
    All, WrongConf,
    testing::Values(
        Wrong{"\nsrv.high = 120", "a.conf:2: srv.high = 120: must be a whole number from 1 to 99"},
        Wrong{"srv.high = 0", "a.conf:1: srv.high = 0: must be a whole number from 1 to 99"},
        Wrong{"srv.high = 9x", "a.conf:1: srv.high = 9x: must be a whole number from 1 to 99"},
        Wrong{"srv.high = 9.5", "a.conf:1: srv.high = 9.5: must be a whole number from 1 to 99"},
        Wrong{"srv.high =", "a.conf:1: srv.high = : must be a whole number from 1 to 99"},
        Wrong{"srv.high = 99999999999999999999",
              "a.conf:1: srv.high = 99999999999999999999: must be a whole number from 1 to 99"},
        Wrong{"srv.low = -6", "a.conf:1: srv.low = -6: must be a whole number from -5 to 98"},
        Wrong{"srv.on = yes", "a.conf:1: srv.on = yes: must be one of true, false, 1, 0"},
        Wrong{"srv.protocol = pigeon",
              "a.conf:1: srv.protocol = pigeon: must be one of host_tcp, host_rdma, roce"},
        Wrong{"srv.size = 10XB",
              "a.conf:1: srv.size = 10XB: must be a size from 4KB to 1TB (bytes, or a number with "
              "KB, MB, GB or TB)"},
        Wrong{"srv.size = 2TB",
              "a.conf:1: srv.size = 2TB: must be a size from 4KB to 1TB (bytes, or a number with "
              "KB, MB, GB or TB)"},
        Wrong{"srv.url = 127.0.0.1:5000",
              "a.conf:1: srv.url = 127.0.0.1:5000: must be a URL tcp://host:port, port 1025 to "
              "65535, or 0 for a free "
              "one"},
        Wrong{"srv.url = http://127.0.0.1:5000",
              "a.conf:1: srv.url = http://127.0.0.1:5000: must be a URL tcp://host:port, port 1025 "
              "to 65535, or 0 for a "
              "free one"},
        Wrong{"srv.store_url = tcp://127.0.0.1:80",
              "a.conf:1: srv.store_url = tcp://127.0.0.1:80: must be a URL tcp://host:port, port "
              "1025 to 65535"},
        Wrong{"srv.old_store_url = tcp://a",
              "a.conf:1: srv.old_store_url = tcp://a: must be a URL tcp://host:port, port 1025 to "
              "65535"},
        Wrong{"srv.metrics = http://a:1",
              "a.conf:1: srv.metrics = http://a:1: must be a URL http://host:port, port 1025 to "
              "65535; or empty for none"},
        Wrong{"srv.name = 123456789",
              "a.conf:1: srv.name = 123456789: must be text of at most 8 bytes"},
        Wrong{"srv.name = a\x01z", "a.conf:1: srv.name = a?z: must not have control characters"},
        Wrong{" = 5", "a.conf:1: '= 5' has no key before '='"},
        Wrong{"srv.high = 91\n\nsrv.high = 92",
              "a.conf:3: srv.high = 92: the key was set at a.conf:1 already; keep one of the two"},
        Wrong{"srv.store_url = tcp://a:6000\nsrv.old_store_url = tcp://a:6000",
              "a.conf:2: srv.old_store_url = tcp://a:6000: the key was set at a.conf:1 already, as "
              "srv.store_url or "
              "another of its names; keep one of the two"},
        Wrong{"srv.high = 50", "a.conf: srv.high must be above srv.low"}));

TEST(WrongOverride, IsToldAsSuch) {
  EXPECT_EQ(Parse("", {"srv.high=0"}).status().message(),
            "--set: srv.high = 0: must be a whole number from 1 to 99");
  EXPECT_EQ(Parse("", {"srv.high"}).status().message(), "--set srv.high: write it as key=value");
  EXPECT_EQ(Parse("", {"srv.hgih=91"}).status().message(),
            "--set: unknown key 'srv.hgih'; did you mean 'srv.high'?");
  EXPECT_EQ(Parse("", {"other=1"}).status().message(),
            "--set: unknown key 'other'; --dump-conf prints all there are");
}

TEST(ConfLimits, LongLinesManyLinesLongMessages) {
  EXPECT_TRUE(Parse("# " + std::string(4094, 'x')).ok());
  EXPECT_EQ(Parse("\n# " + std::string(4095, 'x')).status().message(),
            "a.conf:2: the line has 4097 bytes, at most 4096 are allowed");
  EXPECT_TRUE(Parse(std::string(10'000, '\n')).ok());
  EXPECT_EQ(Parse(std::string(10'001, '\n')).status().message(), "a.conf: more than 10000 lines");
  EXPECT_LT(Parse("srv.name = " + std::string(4000, 'x')).status().message().size(), 300u);
}

TEST(ConfFile, IsReadFromDisk) {
  const test::TempDir dir;
  const Result<Values> values =
      MakeSchema().Load(dir.Write("x.conf", "srv.high = 93\n"), {"srv.low=1"});
  ASSERT_TRUE(values.ok()) << values.status().ToString();
  EXPECT_EQ(values->GetInt("srv.high"), 93);
  EXPECT_EQ(values->GetInt("srv.low"), 1);
}

TEST(ConfFile, NoPathMeansDefaults) {
  EXPECT_EQ(MakeSchema().Load("", {"srv.high=94"})->GetInt("srv.high"), 94);
}

TEST(ConfFile, MissingSaysThePath) {
  const test::TempDir dir;
  const Status status = MakeSchema().Load(dir.File("none.conf"), {}).status();
  EXPECT_EQ(status.code(), Code::kConfig);
  EXPECT_EQ(
      status.message(),
      dir.File("none.conf") + ": cannot open the configuration file: No such file or directory");
}

TEST(ConfFile, SymbolicLinkIsRefused) {
  const test::TempDir dir;
  ASSERT_EQ(symlink(dir.Write("x.conf", "").c_str(), dir.File("link.conf").c_str()), 0);
  EXPECT_EQ(MakeSchema().Load(dir.File("link.conf"), {}).status().message(),
            dir.File("link.conf") + ": is a symbolic link; name the file itself");
}

TEST(ConfFile, OnlyRegularFilesAndNoWaitingOnPipes) {
  const test::TempDir dir;
  EXPECT_EQ(MakeSchema().Load(dir.path(), {}).status().message(),
            dir.path() + ": is not a regular file");
  ASSERT_EQ(mkfifo(dir.File("pipe").c_str(), 0600), 0);
  EXPECT_EQ(MakeSchema().Load(dir.File("pipe"), {}).status().message(),
            dir.File("pipe") + ": is not a regular file");
}

TEST(ConfFile, OverTenMegabytesIsRefused) {
  const test::TempDir dir;
  const std::string path = dir.Write("big.conf", std::string((10u << 20) + 1, '\n'));
  EXPECT_EQ(MakeSchema().Load(path, {}).status().message(), path + ": has more than 10 MB");
}

TEST(Dump, ConfOfDefaultsLoadsAsDefaultsWithoutAWarning) {
  const Schema schema = MakeSchema();
  const Result<Values> values = schema.Parse(schema.DumpConf(), "dump", {});
  ASSERT_TRUE(values.ok()) << values.status().ToString();
  EXPECT_THAT(values->warnings(), IsEmpty());
  const Values defaults = Good("");
  for (const Setting& setting : schema.settings()) {
    EXPECT_EQ(values->GetString(setting.names[0]), defaults.GetString(setting.names[0]))
        << setting.names[0];
    EXPECT_TRUE(values->IsSet(setting.names[0])) << setting.names[0];
  }
}

TEST(Dump, DocNamesKeyRangeDefaultAliasAndNote) {
  const std::string doc = MakeSchema().DumpDoc();
  EXPECT_THAT(doc, HasSubstr("| `srv.high` | a whole number from 1 to 99 | `90` | High. |"));
  EXPECT_THAT(doc, HasSubstr("`srv.old_store_url`"));
  EXPECT_THAT(doc, HasSubstr("Accepted, without effect: there is none."));
}

TEST(NearestName, FindsSwapsMissesAndExtras) {
  const std::vector<std::string> known = {"ock.mmc.evict_threshold_high",
                                          "ock.mmc.evict_threshold_low", "ock.mmc.log_path"};
  EXPECT_EQ(NearestName("ock.mmc.evict_treshold_high", known), "ock.mmc.evict_threshold_high");
  EXPECT_EQ(NearestName("ock.mmc.evict_threshold_lwo", known), "ock.mmc.evict_threshold_low");
  EXPECT_EQ(NearestName("mmc.log_path", known), "ock.mmc.log_path");
  EXPECT_EQ(NearestName("completely.different", known), "");
  EXPECT_EQ(NearestName(std::string(5000, 'x'), known), "");
}

}  // namespace
}  // namespace mmc::config
