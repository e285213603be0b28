// The location cache by itself, and gets that need no lookup because of it.
#include <gmock/gmock.h>

#include "client_sdk/src/location_cache.h"
#include "tests/unit/client_cluster.h"

namespace mmc::test {
namespace {

using client::Location;
using client::LocationCache;
using std::chrono::milliseconds;

std::shared_ptr<const Location> Sized(uint64_t size) {
  auto location = std::make_shared<Location>();
  location->size = size;
  return location;
}

TEST(LocationCacheTest, ForgetsWhenTheLeaseIsNearlyOver) {
  ManualClock clock;
  LocationCache cache(100);
  const TimePoint end = clock.Now() + milliseconds(100);
  cache.Store("k", Sized(1), end);
  ASSERT_TRUE(cache.Find("k", clock.Now(), milliseconds(20)).has_value());
  EXPECT_EQ(cache.Find("k", clock.Now(), milliseconds(20))->lease_end, end);
  clock.Advance(milliseconds(80));
  EXPECT_FALSE(cache.Find("k", clock.Now(), milliseconds(20)).has_value());
  EXPECT_EQ(cache.size(), 0U);
}

TEST(LocationCacheTest, ReplacesAndDrops) {
  ManualClock clock;
  LocationCache cache(100);
  cache.Store("k", Sized(1), clock.Now() + milliseconds(100));
  cache.Store("k", Sized(2), clock.Now() + milliseconds(200));
  EXPECT_EQ(cache.size(), 1U);
  EXPECT_EQ(cache.Find("k", clock.Now(), {})->location->size, 2U);
  cache.Drop("k");
  cache.Drop("k");
  EXPECT_FALSE(cache.Find("k", clock.Now(), {}).has_value());
  cache.Store("a", Sized(1), clock.Now() + milliseconds(100));
  cache.Clear();
  EXPECT_EQ(cache.size(), 0U);
}

TEST(LocationCacheTest, IsBoundedAndKeepsWhatIsUsed) {
  ManualClock clock;
  LocationCache cache(160);  // ten per shard
  const TimePoint end = clock.Now() + milliseconds(100);
  cache.Store("used", Sized(1), end);
  for (int i = 0; i < 10'000; ++i) {
    cache.Store("k" + std::to_string(i), Sized(1), end);
    ASSERT_TRUE(cache.Find("used", clock.Now(), {}).has_value()) << i;
  }
  EXPECT_LE(cache.size(), 160U);
}

TEST(CachedGets, NeedNoLookup) {
  Cluster cluster;
  ClientOptions options = cluster.Options();
  options.location_cache = true;
  options.lease = std::chrono::minutes(5);
  std::shared_ptr<FaultyChannel> faults;
  auto client = cluster.ConnectFaulty(options, &faults);
  const std::string value = Pattern(100'000, 4);
  ASSERT_EQ(PutOne(*client, "k", value), Status::Ok());
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(GetOne(*client, "k").value_or("") == value);
  EXPECT_EQ(faults->calls(proto::kLookup.id), 1);
  EXPECT_EQ(client->stats().location_cache_hits, 4U);
  // What this client removes it does not find any more; a new value is looked up.
  const std::string_view key = "k";
  ASSERT_EQ(client->Remove(std::span(&key, 1))->front(), Status::Ok());
  EXPECT_EQ(GetOne(*client, "k").code(), Code::kNotFound);
  ASSERT_EQ(PutOne(*client, "k", "new"), Status::Ok());
  EXPECT_EQ(GetOne(*client, "k").value_or(""), "new");
}

TEST(CachedGets, ASizeThatDoesNotFitIsLookedUpAgain) {
  Cluster cluster;
  ClientOptions options = cluster.Options();
  options.location_cache = true;
  options.lease = std::chrono::minutes(5);
  auto cached = cluster.Connect(options);
  auto other = cluster.Connect();
  ASSERT_EQ(PutOne(*cached, "k", "old value"), Status::Ok());
  EXPECT_EQ(GetOne(*cached, "k").value_or(""), "old value");
  const std::string_view key = "k";
  ASSERT_EQ(other->Remove(std::span(&key, 1))->front(), Status::Ok());
  ASSERT_EQ(PutOne(*other, "k", "new"), Status::Ok());
  char room[3];
  const Buffer buffer{room, sizeof(room)};
  const GetItem item{"k", std::span(&buffer, 1)};
  EXPECT_EQ(cached->GetInto(std::span(&item, 1)).front().status, Status::Ok());
  EXPECT_EQ(std::string(room, 3), "new");
}

TEST(CachedGets, ADeadNodeIsNotedInTheCache) {
  Cluster cluster({.nodes = 2, .dram_bytes = 64_MiB, .meta = {}});
  ClientOptions options = cluster.Options();
  options.location_cache = true;
  options.lease = std::chrono::minutes(5);
  options.same_host = false;
  auto client = cluster.Connect(options);
  const std::string value = Pattern(100'000, 4);
  PutOptions two;
  two.replicas = 2;
  for (int i = 0; i < 6; ++i) {
    ASSERT_EQ(PutOne(*client, "k" + std::to_string(i), value, two), Status::Ok());
    ASSERT_TRUE(GetOne(*client, "k" + std::to_string(i)).ok());
  }
  cluster.KillNode(0);
  for (int i = 0; i < 6; ++i)
    EXPECT_TRUE(GetOne(*client, "k" + std::to_string(i)).value_or("") == value) << i;
  EXPECT_GT(client->stats().failovers, 0U);
}

}  // namespace
}  // namespace mmc::test
