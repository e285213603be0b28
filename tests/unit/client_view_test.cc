// Views: bytes in place, pinned while they live, safe to drop on any thread and after the client.
#include <gmock/gmock.h>

#include <optional>

#include "tests/unit/client_cluster.h"

namespace mmc::test {
namespace {

std::string Joined(const View& view) {
  std::string out;
  for (const ConstBuffer& piece : view.pieces())
    out.append(static_cast<const char*>(piece.data), piece.size);
  return out;
}

// Unpins travel on the client's own thread.
bool PinsBecome(Client& client, std::string_view key, uint32_t expected) {
  const TimePoint deadline = In(std::chrono::seconds(30));
  while (Clock::Real().Now() < deadline) {
    if (StatOne(client, key).pins == expected) return true;
    std::this_thread::yield();
  }
  return false;
}

TEST(ViewTest, ShowsTheBytesAndPinsThem) {
  Cluster cluster({.nodes = 1, .dram_bytes = 16_MiB, .meta = {}});
  auto client = cluster.Connect();
  const std::string value = Pattern(3_MiB, 1);
  ASSERT_EQ(PutOne(*client, "k", value), Status::Ok());
  {
    auto view = client->MakeView("k");
    ASSERT_TRUE(view.ok()) << view.status().ToString();
    EXPECT_EQ(view->size(), value.size());
    EXPECT_EQ(StatOne(*client, "k").pins, 1U);
    // The pool is written over twice; what is viewed stays.
    for (int i = 0; i < 10; ++i) {
      ASSERT_EQ(PutOne(*client, "other" + std::to_string(i), Pattern(3_MiB, 100 + i)),
                Status::Ok());
    }
    EXPECT_TRUE(Joined(*view) == value);
    // Removed is invisible, but its bytes are pinned still.
    const std::string_view key = "k";
    EXPECT_EQ(client->Remove(std::span(&key, 1))->front(), Status::Ok());
    for (int i = 0; i < 10; ++i) {
      ASSERT_EQ(PutOne(*client, "more" + std::to_string(i), Pattern(3_MiB, 200 + i)), Status::Ok());
    }
    EXPECT_TRUE(Joined(*view) == value);
  }
  EXPECT_EQ(client->MakeView("k").code(), Code::kNotFound);
}

TEST(ViewTest, IsReleasedOnce) {
  Cluster cluster;
  auto client = cluster.Connect();
  ASSERT_EQ(PutOne(*client, "k", "value"), Status::Ok());
  auto first = client->MakeView("k");
  auto second = client->MakeView("k");
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_EQ(StatOne(*client, "k").pins, 2U);
  // Moving keeps the pin, assigning over a view releases that one's.
  View moved = std::move(*first);
  EXPECT_EQ(Joined(moved), "value");
  EXPECT_EQ(first->size(), 0U);
  moved = std::move(*second);
  EXPECT_TRUE(PinsBecome(*client, "k", 1));
  EXPECT_EQ(Joined(moved), "value");
  std::thread([view = std::move(moved)]() mutable { View ends_here = std::move(view); }).join();
  EXPECT_TRUE(PinsBecome(*client, "k", 0));
}

TEST(ViewTest, OutlivesItsClient) {
  Cluster cluster;
  std::optional<View> view;
  {
    auto client = cluster.Connect();
    ASSERT_EQ(PutOne(*client, "k", "value"), Status::Ok());
    auto made = client->MakeView("k");
    ASSERT_TRUE(made.ok());
    view.emplace(std::move(*made));
    client->Close();
    EXPECT_EQ(Joined(*view), "value");
  }
  EXPECT_EQ(Joined(*view), "value");
  auto other = cluster.Connect();
  EXPECT_TRUE(PinsBecome(*other, "k", 0));  // the session took its pins along
  view.reset();
}

TEST(ViewTest, NeedsAReplicaOnThisHost) {
  Cluster cluster;
  ClientOptions options = cluster.Options();
  options.same_host = false;
  auto client = cluster.Connect(options);
  ASSERT_EQ(PutOne(*client, "k", "value"), Status::Ok());
  EXPECT_EQ(client->MakeView("k").code(), Code::kUnsupported);
  EXPECT_TRUE(PinsBecome(*client, "k", 0));
}

}  // namespace
}  // namespace mmc::test
