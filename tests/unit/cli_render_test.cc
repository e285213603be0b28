// Goal: what scripts and people read keeps its shape. Method: known answers in, JSON and text out.
#include "client_sdk/cli/render.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "client_sdk/cli/text.h"
#include "client_sdk/cli/workers.h"

namespace mmc::cli {
namespace {

using std::chrono::nanoseconds;
using testing::HasSubstr;

ClusterStatus SomeStatus() {
  ClusterStatus status;
  status.version = "0.1.0";
  status.uptime_ms = 90'000;
  status.objects = 3;
  status.capacity_bytes = 1 << 30;
  status.used_bytes = 1 << 29;
  status.lookups_hit = 30;
  status.lookups_missed = 10;
  status.puts = 100;
  status.nodes = {{.name = "node-a",
                   .state = "serving",
                   .host_id = "h1",
                   .endpoints = {"shm /run/mmc/a.sock", "tcp 127.0.0.1:7000"},
                   .capacity_bytes = 1 << 30,
                   .used_bytes = 1 << 29,
                   .objects = 3,
                   .silent_ms = 20}};
  return status;
}

TEST(CliRender, NodesJson) {
  EXPECT_EQ(boost::json::serialize(NodesJson(SomeStatus().nodes)),
            R"({"nodes":[{"name":"node-a","state":"serving","host":"h1",)"
            R"("endpoints":["shm /run/mmc/a.sock","tcp 127.0.0.1:7000"],)"
            R"("capacity_bytes":1073741824,"used_bytes":536870912,"objects":3,"silent_ms":20,)"
            R"("drain_left_objects":0,"drain_left_bytes":0}]})");
  EXPECT_EQ(boost::json::serialize(NodesJson({})), R"({"nodes":[]})");
}

TEST(CliRender, NodesText) {
  const std::string text = NodesText(SomeStatus().nodes);
  EXPECT_THAT(text, HasSubstr("node-a  serving  512.00 MiB"));
  EXPECT_THAT(text, HasSubstr("50.0%"));
  EXPECT_THAT(NodesText({}), HasSubstr("mmc_local_service"));
}

TEST(CliRender, StatusHasEveryCounter) {
  const boost::json::object status = StatusJson(SomeStatus());
  for (const char* field : {"version",
                            "term",
                            "uptime_ms",
                            "objects",
                            "value_bytes",
                            "capacity_bytes",
                            "used_bytes",
                            "waiting_to_free_bytes",
                            "sessions",
                            "grants",
                            "pins",
                            "lookups_hit",
                            "lookups_missed",
                            "puts",
                            "gets",
                            "removes",
                            "evicted_objects",
                            "evicted_bytes",
                            "evict_threshold_high",
                            "evict_threshold_low",
                            "nodes"}) {
    EXPECT_TRUE(status.contains(field)) << field;
  }
  EXPECT_THAT(StatusText(SomeStatus()), HasSubstr("75.0% hit"));
}

TEST(CliRender, StatusShowsTenantsWhereThereAreAny) {
  ClusterStatus status = SomeStatus();
  EXPECT_EQ(StatusText(status).find("TENANT"), std::string::npos);
  status.tenants = {{.name = "default", .objects = 3, .used_bytes = 1 << 20}};
  EXPECT_EQ(StatusText(status).find("TENANT"), std::string::npos) << "the one that is always there";
  status.tenants.push_back({.name = "team-a", .objects = 5, .used_bytes = 3 << 20, .quota_bytes = 4 << 20});
  EXPECT_THAT(StatusText(status), HasSubstr("team-a   3.00 MiB  4.00 MiB  75.0%"));
  const boost::json::object json = StatusJson(status);
  const boost::json::array& tenants = json.at("tenants").as_array();
  ASSERT_EQ(tenants.size(), 2u);
  EXPECT_EQ(tenants[1].at("name"), "team-a");
  EXPECT_EQ(tenants[1].at("quota_bytes"), 4 << 20);
}

TEST(CliRender, TopShowsRates) {
  ClusterStatus now = SomeStatus();
  now.puts = 300;
  now.lookups_hit += 3;
  now.lookups_missed += 1;
  const boost::json::object top = TopJson(SomeStatus(), now, 2);
  EXPECT_DOUBLE_EQ(top.at("puts_per_s").as_double(), 100);
  EXPECT_DOUBLE_EQ(top.at("gets_per_s").as_double(), 0);
  EXPECT_THAT(TopText(SomeStatus(), now, 2), HasSubstr("puts 100/s"));
  EXPECT_THAT(TopText(SomeStatus(), now, 2), HasSubstr("75.0% hit"));
  now.puts = 0;  // the service started again
  EXPECT_DOUBLE_EQ(TopJson(SomeStatus(), now, 2).at("puts_per_s").as_double(), 0);
}

TEST(CliRender, KeysThatAreNotUtf8AreShownAndRecoverable) {
  EXPECT_EQ(boost::json::serialize(KeyJson("plain/ключ")), R"({"key":"plain/ключ"})");
  EXPECT_EQ(boost::json::serialize(KeyJson(std::string_view("a\xff\0", 3))),
            R"({"key":"a\\xff\\x00","key_hex":"61ff00"})");
}

TEST(CliRender, ObjectJson) {
  ObjectInfo info;
  info.size = 10;
  info.replicas = {{"node-a", "dram", 10, 1}};
  EXPECT_EQ(
      boost::json::serialize(ObjectJson("k", info)),
      R"({"key":"k","status":"OK","present":true,"size":10,"generation":0,"lease_left_ms":0,"pins":0,)"
      R"("replicas":[{"node":"node-a","medium":"dram","bytes":10,"extents":1}]})");
  info.status = Code::kNotFound;
  EXPECT_EQ(boost::json::serialize(ObjectJson("k", info)),
            R"({"key":"k","status":"NOT_FOUND","present":false})");
}

TEST(CliText, Utf8) {
  for (const char* good : {"", "a", "é", "€", "😀"}) EXPECT_TRUE(IsUtf8(good)) << good;
  for (const char* bad : {"\x80", "\xc0\xaf", "\xc3", "\xe2\x82", "\xed\xa0\x80",
                          "\xf4\x90\x80\x80", "\xf0\x80\x80\x80", "\xff"}) {
    EXPECT_FALSE(IsUtf8(bad)) << Hex(bad);
  }
  EXPECT_EQ(PrintableKey("a\x1b[2J\\"), "a\\x1b[2J\\\\");
}

TEST(CliText, NumbersAndTimes) {
  EXPECT_EQ(FormatTime(nanoseconds(850)), "850 ns");
  EXPECT_EQ(FormatTime(nanoseconds(12'340)), "12.3 us");
  EXPECT_EQ(FormatTime(nanoseconds(4'560'000)), "4.56 ms");
  EXPECT_EQ(FormatTime(std::chrono::seconds(90)), "90.00 s");
  EXPECT_EQ(FormatSeconds(59), "59s");
  EXPECT_EQ(FormatSeconds(123), "2m03s");
  EXPECT_EQ(FormatSeconds(3 * 3600 + 240), "3h04m");
  EXPECT_EQ(FormatSeconds(5 * 86400 + 7200), "5d02h");
  EXPECT_EQ(FormatPercent(1, 0), "-");
  EXPECT_EQ(FormatPercent(1, 4), "25.0%");
}

TEST(CliText, TableAlignsNumbersRight) {
  Table table({"NAME", "N"});
  table.Add({"a", "5"});
  table.Add({"bcdef", "100"});
  EXPECT_EQ(table.Text(), "NAME   N\na        5\nbcdef  100\n");
}

TEST(CliText, ProgressShowsShareAndTimeLeft) {
  const std::string line = ProgressLine("replay", 0.25, 10, "3 GB/s");
  EXPECT_THAT(line, HasSubstr("[######..................]  25%  3 GB/s  ETA 30s"));
  EXPECT_EQ(ProgressLine("replay", -1, 10, "3 GB/s"), "replay  3 GB/s  10s");
}

}  // namespace
}  // namespace mmc::cli
