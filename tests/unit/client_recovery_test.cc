// A meta service that ends and starts anew under running clients: what was put is there again,
// calls wait inside their deadlines, and nothing of the term before is used.
#include <gmock/gmock.h>

#include <functional>
#include <future>
#include <set>

#include "tests/unit/client_cluster.h"

namespace mmc::test {
namespace {

using google::protobuf::MessageLite;
using std::chrono::milliseconds;
using std::chrono::seconds;

// A pool whose meta service takes a commit for done when it cannot be lost any more.
ClusterOptions Pool(int nodes) {
  ClusterOptions options;
  options.nodes = nodes;
  options.dram_bytes = 256_MiB;
  options.meta.heartbeat = milliseconds(50);
  options.meta.commit_durable = true;
  options.restart_recovery = seconds(60);
  return options;
}

ClusterOptions RecoveringAtFirst(milliseconds recovery) {
  ClusterOptions options;
  options.meta.recovery = recovery;
  return options;
}

class WhileRecovering : public testing::Test {
 protected:
  // A service that will not be done before the test is.
  WhileRecovering() : cluster_(RecoveringAtFirst(seconds(3600))) {
    ClientOptions options = cluster_.Options();
    options.timeout = seconds(3);
    client_ = cluster_.Connect(options);
  }
  // Side by side: each call asks until its deadline.
  void ExpectRecovering(const std::vector<std::function<Code(Client&)>>& calls) {
    std::vector<std::future<Code>> codes;
    for (const auto& call : calls)
      codes.push_back(std::async(std::launch::async, [this, &call] { return call(*client_); }));
    for (size_t i = 0; i < codes.size(); ++i) EXPECT_EQ(codes[i].get(), Code::kRecovering) << i;
  }
  Cluster cluster_;
  std::unique_ptr<Client> client_;
};

TEST_F(WhileRecovering, WhatIsNotKnownYetIsNeverAMiss) {
  static constexpr std::string_view kKey = "k";
  ExpectRecovering({[](Client& client) { return GetOne(client, kKey).code(); },
                    [](Client& client) { return PutOne(client, kKey, "value").code(); },
                    [](Client& client) { return client.MakeView(kKey).code(); },
                    [](Client& client) { return StatOne(client, kKey).status.code(); },
                    [](Client& client) { return client.Exists(std::span(&kKey, 1)).code(); },
                    [](Client& client) { return client.Prefix(std::span(&kKey, 1)).code(); },
                    [](Client& client) { return client.Remove(std::span(&kKey, 1)).code(); }});
}

TEST_F(WhileRecovering, EachKeyOfABatchHasItsOwnAnswer) {
  const std::vector<std::string_view> keys = {"k", "", "l"};
  const auto got = client_->Get(keys);
  EXPECT_EQ(got[0].code(), Code::kRecovering);
  EXPECT_EQ(got[1].code(), Code::kInvalidArgument);
  EXPECT_EQ(got[2].code(), Code::kRecovering);
}

TEST(Recovery, CallsWaitForItsEnd) {
  Cluster cluster(RecoveringAtFirst(milliseconds(400)));
  auto client = cluster.Connect();
  EXPECT_EQ(GetOne(*client, "k").code(), Code::kNotFound);
  EXPECT_EQ(PutOne(*client, "k", "value"), Status::Ok());
  EXPECT_EQ(GetOne(*client, "k").value_or(""), "value");
}

TEST(Recovery, ALookupThatIsUnknownYetIsAskedAgainAloneAndTheOthersRead) {
  Cluster cluster;
  std::shared_ptr<FaultyChannel> calls;
  auto client = cluster.ConnectFaulty(cluster.Options(), &calls);
  for (const char* key : {"a", "b"}) ASSERT_EQ(PutOne(*client, key, key), Status::Ok());
  std::vector<int> asked;
  calls->SetAfter([&](uint16_t method, MessageLite* message) {
    if (method != proto::kLookup.id) return Status::Ok();
    auto* reply = static_cast<proto::LookupReply*>(message);
    asked.push_back(reply->status_size());
    if (asked.size() > 3) return Status::Ok();
    // The row of the last key becomes one that has no answer yet.
    const int last = reply->status_size() - 1;
    proto::ReplicaColumns* columns = reply->mutable_replicas();
    reply->set_status(last, static_cast<uint32_t>(Code::kRecovering));
    columns->set_replica_counts(last, 0);
    return Status::Ok();
  });
  const std::vector<std::string_view> keys = {"a", "b"};
  const auto got = client->Get(keys);
  EXPECT_EQ(got[0].value_or(""), "a");
  EXPECT_EQ(got[1].value_or(""), "b");
  EXPECT_THAT(asked, testing::ElementsAre(2, 1, 1, 1));
}

TEST(Recovery, EveryObjectIsThereAgain) {
  Cluster cluster(Pool(2));
  auto client = cluster.Connect();
  PutOptions two;
  two.replicas = 2;
  std::vector<ObjectInfo> before;
  for (int i = 0; i < 50; ++i) {
    const std::string key = "k" + std::to_string(i);
    ASSERT_EQ(
        PutOne(*client, key, Pattern(10'000, static_cast<uint64_t>(i)), i % 2 ? two : PutOptions()),
        Status::Ok());
    before.push_back(StatOne(*client, key));
  }
  cluster.RestartMeta();
  for (int i = 0; i < 50; ++i) {
    const std::string key = "k" + std::to_string(i);
    const auto got = GetOne(*client, key);
    ASSERT_TRUE(got.ok()) << key << ": " << got.status().ToString();
    EXPECT_TRUE(*got == Pattern(10'000, static_cast<uint64_t>(i))) << key;
  }
  // The second replica may come with a node that reports later.
  EXPECT_EQ(GetOne(*client, "not there").code(), Code::kNotFound);
  for (int i = 0; i < 50; ++i) {
    const ObjectInfo now = StatOne(*client, "k" + std::to_string(i));
    EXPECT_EQ(now.generation, before[i].generation);
    EXPECT_EQ(now.checksum, before[i].checksum);
    EXPECT_EQ(now.size, before[i].size);
    EXPECT_EQ(now.replicas.size(), before[i].replicas.size());
  }
  EXPECT_EQ(PutOne(*client, "new", "value"), Status::Ok());
  EXPECT_EQ(GetOne(*client, "new").value_or(""), "value");
}

TEST(Recovery, NothingIsReadUnderTheNodeNumbersOfTheTermBefore) {
  ClusterOptions pool = Pool(2);
  pool.meta.lease = seconds(60);
  Cluster cluster(pool);
  ClientOptions options = cluster.Options();
  options.location_cache = true;
  auto client = cluster.Connect(options);
  PutOptions at;
  std::map<std::string, std::string> values;
  for (int i = 0; i < 20; ++i) {
    const std::string key = "k" + std::to_string(i);
    values[key] = Pattern(9'000, static_cast<uint64_t>(i));
    at.preferred_nodes = {"node" + std::to_string(i % 2)};
    ASSERT_EQ(PutOne(*client, key, values[key], at), Status::Ok());
    ASSERT_TRUE(GetOne(*client, key).value_or("") == values[key]);
  }
  ASSERT_EQ(GetOne(*client, "k0").code(), Code::kOk);
  ASSERT_GT(client->stats().location_cache_hits, 0U);
  // Node 1 comes first, and gets the number that node 0 had.
  const int reports = cluster.node_channel(1).calls(proto::kCatalogReport.id);
  cluster.node_channel(0).SetBefore([&cluster, reports](uint16_t method, const MessageLite&) {
    const bool first = cluster.node_channel(1).calls(proto::kCatalogReport.id) > reports;
    return method == proto::kJoin.id && !first ? Status(Code::kUnavailable, "test: not yet")
                                               : Status::Ok();
  });
  cluster.RestartMeta();
  for (int round = 0; round < 3; ++round) {
    for (const auto& [key, value] : values) {
      const auto got = GetOne(*client, key);
      ASSERT_TRUE(got.ok()) << key << ": " << got.status().ToString();
      EXPECT_TRUE(*got == value) << key;
    }
  }
}

TEST(Recovery, APutThatIsUnderWayStartsAgain) {
  Cluster cluster(Pool(1));
  std::shared_ptr<FaultyChannel> calls;
  auto client = cluster.ConnectFaulty(cluster.Options(), &calls);
  int starts = 0;
  calls->SetBefore([&](uint16_t method, const MessageLite&) {
    if (method == proto::kPutCommit.id && starts == 0) {
      starts = calls->calls(proto::kPutStart.id);
      cluster.RestartMeta();
    }
    return Status::Ok();
  });
  const std::string value = Pattern(1'000'000, 8);
  EXPECT_EQ(PutOne(*client, "k", value), Status::Ok());
  EXPECT_EQ(starts, 1);
  EXPECT_GT(calls->calls(proto::kPutStart.id), starts);
  EXPECT_TRUE(GetOne(*client, "k").value_or("") == value);
}

TEST(Recovery, ACommitWhoseAnswerWasLostIsFoundAgain) {
  for (const Integrity integrity : {Integrity::kPut, Integrity::kOff}) {
    Cluster cluster(Pool(1));
    std::shared_ptr<FaultyChannel> calls;
    ClientOptions options = cluster.Options();
    options.integrity = integrity;
    auto client = cluster.ConnectFaulty(options, &calls);
    calls->SetAfter([&, done = false](uint16_t method, MessageLite*) mutable {
      if (method != proto::kPutCommit.id || done) return Status::Ok();
      done = true;
      cluster.RestartMeta();
      return Status(Code::kConnectionLost, "test: the answer is lost");
    });
    // Without a checksum it cannot tell its value from another writer's.
    EXPECT_EQ(PutOne(*client, "k", "value").code(),
              integrity == Integrity::kPut ? Code::kOk : Code::kExists);
    EXPECT_EQ(calls->calls(proto::kPutStart.id), 1);
    EXPECT_EQ(GetOne(*client, "k").value_or(""), "value");
  }
}

TEST(Recovery, ARemovalWhoseAnswerWasLostIsMadeAgain) {
  Cluster cluster(Pool(1));
  std::shared_ptr<FaultyChannel> calls;
  auto client = cluster.ConnectFaulty(cluster.Options(), &calls);
  for (const char* key : {"a", "b", "p/1"}) ASSERT_EQ(PutOne(*client, key, "value"), Status::Ok());
  calls->SetAfter([lost = std::set<uint16_t>()](uint16_t method, MessageLite*) mutable {
    const bool removal = method == proto::kRemove.id || method == proto::kRemoveByPrefix.id ||
                         method == proto::kRemoveAll.id;
    if (!removal || !lost.insert(method).second) return Status::Ok();
    return Status(Code::kConnectionLost, "test: the answer is lost");
  });
  const std::string_view keys[] = {"a"};
  const auto removed = client->Remove(keys);
  ASSERT_TRUE(removed.ok()) << removed.status().ToString();
  EXPECT_EQ(removed->front(), Status::Ok());
  EXPECT_EQ(calls->calls(proto::kRemove.id), 2);
  // An answer that comes says what was there.
  EXPECT_EQ(client->Remove(keys)->front().code(), Code::kNotFound);
  EXPECT_TRUE(client->RemoveByPrefix("p/").ok());
  EXPECT_TRUE(client->RemoveAll().ok());
  EXPECT_EQ(calls->calls(proto::kRemoveAll.id), 2);
  EXPECT_EQ(GetOne(*client, "b").code(), Code::kNotFound);
}

// The first attempt does not get there, and comes long after the second was answered.
template <typename M>
class LateRemoval {
 public:
  // The client calls on when this is gone.
  LateRemoval(FaultyChannel& calls, const M& method) : method_(method), held_(std::make_shared<Held>()) {
    calls.SetBefore([&method, held = held_](uint16_t id, const MessageLite& request) {
      if (id != method.id || held->yes) return Status::Ok();
      held->yes = true;
      held->request = static_cast<const typename M::Request&>(request);
      return Status(Code::kConnectionLost, "test: it is on its way");
    });
  }
  Status Arrive(Cluster& cluster) {
    typename M::Reply reply;
    return cluster.RawChannel()->Call(method_, held_->request, &reply, In(seconds(30)));
  }
  bool held() const { return held_->yes; }

 private:
  struct Held {
    bool yes = false;
    typename M::Request request;
  };
  const M& method_;
  const std::shared_ptr<Held> held_;
};

TEST(Recovery, ALateRemovalTakesNothingThatWasPutSince) {
  Cluster cluster(Pool(1));
  std::shared_ptr<FaultyChannel> calls;
  auto client = cluster.ConnectFaulty(cluster.Options(), &calls);
  const std::string_view key = "p/k";
  const auto check = [&](const auto& method, const auto& remove) {
    ASSERT_EQ(PutOne(*client, key, "old"), Status::Ok());
    LateRemoval late(*calls, method);
    ASSERT_TRUE(remove());
    ASSERT_TRUE(late.held());
    ASSERT_EQ(PutOne(*client, key, "new"), Status::Ok());
    EXPECT_EQ(late.Arrive(cluster), Status::Ok());
    EXPECT_EQ(GetOne(*client, key).value_or(""), "new");
    calls->SetBefore([](uint16_t, const MessageLite&) { return Status::Ok(); });
    ASSERT_TRUE(client->Remove(std::span(&key, 1)).ok());
  };
  check(proto::kRemove, [&] { return client->Remove(std::span(&key, 1)).ok(); });
  check(proto::kRemoveByPrefix, [&] { return client->RemoveByPrefix("p/").ok(); });
  check(proto::kRemoveAll, [&] { return client->RemoveAll().ok(); });
}

TEST(Recovery, ARemovalOfBeforeARestartIsNotCarriedOutAfterIt) {
  Cluster cluster(Pool(1));
  std::shared_ptr<FaultyChannel> calls;
  auto client = cluster.ConnectFaulty(cluster.Options(), &calls);
  const std::string_view key = "k";
  ASSERT_EQ(PutOne(*client, key, "old"), Status::Ok());
  LateRemoval late(*calls, proto::kRemove);
  ASSERT_TRUE(client->Remove(std::span(&key, 1)).ok());
  cluster.RestartMeta();
  ASSERT_EQ(PutOne(*client, key, "new"), Status::Ok());
  EXPECT_EQ(late.Arrive(cluster).code(), Code::kSessionLost);
  EXPECT_EQ(GetOne(*client, key).value_or(""), "new");
}

// The meta service dies the moment it has answered: the removal is in the catalogs.
TEST(Recovery, ADurableRemovalOutlivesTheMetaService) {
  Cluster cluster(Pool(2));
  auto client = cluster.Connect();
  PutOptions two;
  two.replicas = 2;
  std::vector<std::string> keys;
  for (int i = 0; i < 20; ++i) keys.push_back("k" + std::to_string(i));
  const std::vector<std::string_view> views(keys.begin(), keys.end());
  for (const std::string& key : keys) ASSERT_EQ(PutOne(*client, key, "value", two), Status::Ok());
  const auto removed = client->Remove(std::span(views).first(10));
  ASSERT_TRUE(removed.ok());
  for (size_t i = 0; i < 2; ++i) EXPECT_EQ(cluster.node(i).stats().objects, 10U);
  ASSERT_TRUE(client->RemoveByPrefix("k").ok());
  for (size_t i = 0; i < 2; ++i) EXPECT_EQ(cluster.node(i).stats().objects, 0U);
  cluster.RestartMeta();
  EXPECT_THAT(*client->Exists(views), testing::Each(0));
}

TEST(Recovery, PutsAndGetsRideThroughRestarts) {
  Cluster cluster(Pool(2));
  constexpr int kWriters = 4;
  constexpr int kRestarts = 5;
  std::atomic<bool> stop{false};
  std::atomic<int> rounds{0};
  std::vector<std::thread> writers;
  for (int w = 0; w < kWriters; ++w) {
    writers.emplace_back([&, w] {
      ClientOptions options = cluster.Options();
      options.same_host = w % 2 == 0;
      options.location_cache = w / 2 == 0;
      options.integrity = w == 3 ? Integrity::kVerify : Integrity::kPut;
      auto client = cluster.Connect(options);
      PutOptions copies;
      copies.replicas = static_cast<uint32_t>(1 + w % 2);
      for (uint64_t i = 0; !stop || i == 0; ++i, ++rounds) {
        const std::string key = std::to_string(w) + "-" + std::to_string(i);
        const Status put = PutOne(*client, key, Pattern(20'000, i), copies);
        ASSERT_TRUE(put.ok()) << key << ": " << put.ToString();
        for (const uint64_t earlier : {i, i / 2, i / 7}) {
          const auto got = GetOne(*client, std::to_string(w) + "-" + std::to_string(earlier));
          ASSERT_TRUE(got.ok()) << w << "-" << earlier << ": " << got.status().ToString();
          ASSERT_TRUE(*got == Pattern(20'000, earlier)) << w << "-" << earlier;
        }
      }
    });
  }
  const auto wait_for_rounds = [&](int more) {
    const int until = rounds + more;
    const TimePoint deadline = In(seconds(60));
    while (rounds < until && Clock::Real().Now() < deadline) std::this_thread::yield();
    EXPECT_GE(rounds.load(), until);
  };
  for (int n = 0; n < kRestarts && !testing::Test::HasFailure(); ++n) {
    wait_for_rounds(50);
    cluster.RestartMeta();
  }
  wait_for_rounds(50);
  stop = true;
  for (std::thread& writer : writers) writer.join();
}

}  // namespace
}  // namespace mmc::test
