// Puts and gets against real services: scattered buffers, batches, ranges, replicas, and sources
// that die on the way.
#include <gmock/gmock.h>

#include <numeric>

#include "tests/unit/client_cluster.h"

namespace mmc::test {
namespace {

// Cuts `size` bytes into pieces of changing, uneven sizes.
std::vector<size_t> Split(size_t size, size_t step) {
  std::vector<size_t> out;
  for (size_t n = step; size > 0; n = n * 5 % (3 * step) + 1) {
    out.push_back(std::min(n, size));
    size -= out.back();
  }
  return out;
}

std::vector<ConstBuffer> ConstPieces(const std::string& bytes, const std::vector<size_t>& sizes) {
  std::vector<ConstBuffer> out;
  size_t at = 0;
  for (const size_t n : sizes) {
    out.push_back({bytes.data() + at, n});
    at += n;
  }
  return out;
}

// Pieces of a buffer in reverse order of memory, so that nothing merges by chance.
struct Scattered {
  std::vector<std::string> memory;
  std::vector<Buffer> pieces;
  explicit Scattered(const std::vector<size_t>& sizes) {
    for (const size_t n : sizes) memory.emplace_back(n, '\xEE');
    for (std::string& m : memory) pieces.push_back({m.data(), m.size()});
  }
  std::string Joined() const {
    std::string out;
    for (const std::string& m : memory) out += m;
    return out;
  }
};

GetResult GetInto(Client& client, std::string_view key, std::span<const Buffer> buffers,
                  uint64_t offset = 0, bool allow_short = false) {
  const GetItem item{key, buffers, offset, allow_short};
  return client.GetInto(std::span(&item, 1)).front();
}

class PutGet : public testing::TestWithParam<bool> {  // same host: shared memory, else TCP
 protected:
  std::unique_ptr<Client> Connect(Cluster& cluster) {
    ClientOptions options = cluster.Options();
    options.same_host = GetParam();
    return cluster.Connect(options);
  }
};
INSTANTIATE_TEST_SUITE_P(Transports, PutGet, testing::Bool(),
                         [](const auto& p) { return std::string(p.param ? "shm" : "tcp"); });

TEST_P(PutGet, AValueIsReadWithAnotherSplitThanItWasWrittenWith) {
  Cluster cluster;
  auto client = Connect(cluster);
  for (const size_t size : {size_t{1}, size_t{4096}, size_t{65'537}, size_t{3'000'001}}) {
    const std::string key = "k" + std::to_string(size);
    const std::string value = Pattern(size, size);
    const auto pieces = ConstPieces(value, Split(size, 1 + size / 37));
    const PutItem put{key, pieces};
    ASSERT_EQ(client->Put(std::span(&put, 1)).front(), Status::Ok());
    Scattered into(Split(size, 1 + size / 11));
    const GetResult got = GetInto(*client, key, into.pieces);
    ASSERT_TRUE(got.status.ok()) << got.status.ToString();
    EXPECT_EQ(got.bytes, size);
    EXPECT_EQ(got.size, size);
    EXPECT_TRUE(into.Joined() == value) << size;
  }
  const ClientStats stats = client->stats();
  EXPECT_EQ(stats.put_bytes, stats.get_bytes);
  EXPECT_EQ(GetParam() ? stats.shm_bytes : stats.tcp_bytes, 2 * stats.put_bytes);
}

TEST_P(PutGet, ABlockOf122LayerBuffers) {
  Cluster cluster;
  auto client = Connect(cluster);
  std::vector<size_t> sizes(61, 128 * 1024);
  sizes.insert(sizes.end(), 61, 16 * 1024);
  const size_t size = std::accumulate(sizes.begin(), sizes.end(), size_t{0});
  const std::string value = Pattern(size, 7);
  const auto pieces = ConstPieces(value, sizes);
  const PutItem put{"block", pieces};
  ASSERT_EQ(client->Put(std::span(&put, 1)).front(), Status::Ok());
  Scattered into(sizes);
  ASSERT_TRUE(GetInto(*client, "block", into.pieces).status.ok());
  EXPECT_TRUE(into.Joined() == value);
}

TEST_P(PutGet, OneBadItemOfABatchFailsAlone) {
  Cluster cluster;
  auto client = Connect(cluster);
  constexpr size_t kItems = 500;
  std::vector<std::string> keys, values;
  std::vector<ConstBuffer> buffers(kItems);
  std::vector<PutItem> puts;
  for (size_t i = 0; i < kItems; ++i) {
    keys.push_back("key-" + std::to_string(i));
    values.push_back(Pattern(1000 + i, i));
  }
  keys[17] = "";
  keys[18] = std::string(2049, 'x');
  keys[19] = std::string("\0\xFF\xC3\x28", 4) + "not utf-8";
  for (size_t i = 0; i < kItems; ++i) {
    buffers[i] = {values[i].data(), values[i].size()};
    puts.push_back({keys[i], std::span(&buffers[i], 1)});
  }
  buffers[20].size = 0;
  const auto statuses = client->Put(puts);
  ASSERT_EQ(statuses.size(), kItems);
  std::vector<std::string_view> names(keys.begin(), keys.end());
  const auto got = client->Get(names);
  for (size_t i = 0; i < kItems; ++i) {
    const Code expected = i == 17 || i == 20 ? Code::kInvalidArgument
                          : i == 18          ? Code::kTooLarge
                                             : Code::kOk;
    EXPECT_EQ(statuses[i].code(), expected) << i << statuses[i].ToString();
    const Code expected_get = i == 17   ? Code::kInvalidArgument
                              : i == 18 ? Code::kTooLarge
                              : i == 20 ? Code::kNotFound
                                        : Code::kOk;
    EXPECT_EQ(got[i].code(), expected_get) << i << got[i].status().ToString();
    if (got[i].ok()) {
      EXPECT_TRUE(*got[i] == values[i]) << i;
    }
  }
}

TEST_P(PutGet, ASecondPutLeavesTheOldValue) {
  Cluster cluster;
  auto client = Connect(cluster);
  ASSERT_EQ(PutOne(*client, "k", "first"), Status::Ok());
  EXPECT_EQ(PutOne(*client, "k", "second!").code(), Code::kExists);
  EXPECT_EQ(GetOne(*client, "k").value_or(""), "first");
}

TEST_P(PutGet, AKeyTwiceInOneBatchIsPutOnce) {
  Cluster cluster;
  auto client = Connect(cluster);
  const std::string a = "aaaa", b = "bb";
  const ConstBuffer of_a{a.data(), a.size()}, of_b{b.data(), b.size()};
  const std::vector<PutItem> items = {{"twice", std::span(&of_a, 1)},
                                      {"once", std::span(&of_b, 1)},
                                      {"twice", std::span(&of_b, 1)}};
  const auto statuses = client->Put(items);
  EXPECT_EQ(statuses[0].code(), Code::kOk);
  EXPECT_EQ(statuses[1].code(), Code::kOk);
  EXPECT_EQ(statuses[2].code(), Code::kExists);
  EXPECT_EQ(GetOne(*client, "twice").value_or(""), "aaaa");
  // Reading one key twice in a batch is two reads.
  const std::vector<std::string_view> keys = {"twice", "twice"};
  for (const auto& value : client->Get(keys)) EXPECT_EQ(value.value_or(""), "aaaa");
}

TEST_P(PutGet, RangesAndShortReads) {
  Cluster cluster;
  auto client = Connect(cluster);
  const std::string value = Pattern(10'000, 3);
  ASSERT_EQ(PutOne(*client, "k", value), Status::Ok());
  std::string memory(20'000, '\0');
  const auto read = [&](size_t room, uint64_t offset, bool allow_short) {
    const Buffer buffer{memory.data(), room};
    return GetInto(*client, "k", std::span(&buffer, 1), offset, allow_short);
  };
  // A whole read must fit exactly; the size is told in any case.
  EXPECT_EQ(read(9'999, 0, false).status.code(), Code::kSizeMismatch);
  EXPECT_EQ(read(10'001, 0, false).status.code(), Code::kSizeMismatch);
  EXPECT_EQ(read(1, 0, false).size, 10'000U);
  EXPECT_EQ(read(10'000, 0, false).bytes, 10'000U);
  // Ranged and short ones read what there is.
  EXPECT_EQ(read(20'000, 0, true).bytes, 10'000U);
  EXPECT_EQ(read(100, 0, true).bytes, 100U);
  const GetResult middle = read(5'000, 2'500, false);
  EXPECT_EQ(middle.bytes, 5'000U);
  EXPECT_TRUE(memory.substr(0, 5'000) == value.substr(2'500, 5'000));
  const GetResult tail = read(5'000, 9'999, false);
  EXPECT_EQ(tail.bytes, 1U);
  EXPECT_EQ(memory[0], value[9'999]);
  EXPECT_EQ(read(1, 10'000, false).status.code(), Code::kOutOfRange);
  EXPECT_EQ(read(1, UINT64_MAX, true).status.code(), Code::kOutOfRange);
}

TEST_P(PutGet, ABatchGreaterThanThePoolMakesProgress) {
  Cluster cluster({.nodes = 1, .dram_bytes = 16_MiB, .meta = {}});
  auto client = Connect(cluster);
  constexpr size_t kItems = 40;
  std::vector<std::string> keys, values;
  std::vector<ConstBuffer> buffers(kItems);
  std::vector<PutItem> puts;
  for (size_t i = 0; i < kItems; ++i) {
    keys.push_back("key-" + std::to_string(i));
    values.push_back(Pattern(1'000'000, i));
    buffers[i] = {values[i].data(), values[i].size()};
  }
  for (size_t i = 0; i < kItems; ++i) puts.push_back({keys[i], std::span(&buffers[i], 1)});
  for (const Status& status : client->Put(puts)) EXPECT_TRUE(status.ok()) << status.ToString();
  // The last ones are there, and what is there is right.
  EXPECT_TRUE(GetOne(*client, keys.back()).value_or("") == values.back());
  for (size_t i = 0; i < kItems; ++i) {
    const auto value = GetOne(*client, keys[i]);
    EXPECT_TRUE(value.ok() ? *value == values[i] : value.code() == Code::kNotFound) << i;
  }
}

TEST(Replicas, AreOnDistinctNodesAndAGetFailsOverWhenOneDies) {
  Cluster cluster({.nodes = 2, .dram_bytes = 64_MiB, .meta = {}});
  std::shared_ptr<FaultyChannel> faults;
  ClientOptions options = cluster.Options();
  options.same_host = false;
  auto client = cluster.ConnectFaulty(options, &faults);
  const std::string value = Pattern(2'000'000, 1);
  PutOptions two;
  two.replicas = 2;
  for (int i = 0; i < 8; ++i) {
    ASSERT_EQ(PutOne(*client, "k" + std::to_string(i), value, two), Status::Ok());
  }
  const ObjectInfo info = StatOne(*client, "k0");
  ASSERT_EQ(info.replicas.size(), 2U);
  EXPECT_NE(info.replicas[0].node, info.replicas[1].node);

  // The node dies between the lookup and the read.
  bool killed = false;
  faults->SetAfter([&](uint16_t method, google::protobuf::MessageLite*) {
    if (method == proto::kLookup.id && !killed) {
      killed = true;
      cluster.KillNode(0);
    }
    return Status::Ok();
  });
  for (int i = 0; i < 8; ++i) {
    const auto got = GetOne(*client, "k" + std::to_string(i));
    ASSERT_TRUE(got.ok()) << got.status().ToString();
    EXPECT_TRUE(*got == value);
  }
  EXPECT_TRUE(killed);
  EXPECT_GT(client->stats().failovers, 0U);
  EXPECT_GT(faults->calls(proto::kReportReplica.id), 0);
}

class LastReplica : public testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(Transports, LastReplica, testing::Bool(),
                         [](const auto& p) { return std::string(p.param ? "shm" : "tcp"); });

TEST_P(LastReplica, GoneIsAClearStatus) {
  Cluster cluster({.nodes = 1, .dram_bytes = 64_MiB, .meta = {}});
  std::shared_ptr<FaultyChannel> faults;
  ClientOptions options = cluster.Options();
  options.same_host = GetParam();
  auto client = cluster.ConnectFaulty(options, &faults);
  ASSERT_EQ(PutOne(*client, "k", "value"), Status::Ok());
  faults->SetAfter([&, killed = false](uint16_t method, google::protobuf::MessageLite*) mutable {
    if (method == proto::kLookup.id && !killed) {
      killed = true;
      cluster.KillNode(0);
    }
    return Status::Ok();
  });
  const auto got = GetOne(*client, "k");
  EXPECT_EQ(got.code(), Code::kReplicasLost) << got.status().ToString();
  EXPECT_THAT(got.status().message(), testing::HasSubstr("node0"));
}

TEST(Replicas, ANodeThatLeftTakesItsObjectsAlong) {
  Cluster cluster({.nodes = 1, .dram_bytes = 64_MiB, .meta = {}});
  auto client = cluster.Connect();
  ASSERT_EQ(PutOne(*client, "k", "value"), Status::Ok());
  cluster.StopNode(0);
  EXPECT_EQ(GetOne(*client, "k").code(), Code::kNotFound);
}

TEST(Replicas, APutWithOneDeadNodeKeepsTheOtherReplica) {
  Cluster cluster({.nodes = 2, .dram_bytes = 64_MiB, .meta = {}});
  std::shared_ptr<FaultyChannel> faults;
  auto client = cluster.ConnectFaulty(cluster.Options(), &faults);
  faults->SetAfter([&, killed = false](uint16_t method, google::protobuf::MessageLite*) mutable {
    if (method == proto::kPutStart.id && !killed) {
      killed = true;
      cluster.KillNode(1);
    }
    return Status::Ok();
  });
  PutOptions two;
  two.replicas = 2;
  const std::string value = Pattern(1'000'000, 5);
  ASSERT_EQ(PutOne(*client, "k", value, two), Status::Ok());
  const ObjectInfo info = StatOne(*client, "k");
  ASSERT_EQ(info.replicas.size(), 1U);
  EXPECT_EQ(info.replicas[0].node, "node0");
  EXPECT_TRUE(GetOne(*client, "k").value_or("") == value);
}

TEST(Replicas, APutWhoseOnlyNodeIsDeadSaysSo) {
  Cluster cluster({.nodes = 1, .dram_bytes = 64_MiB, .meta = {}});
  std::shared_ptr<FaultyChannel> faults;
  auto client = cluster.ConnectFaulty(cluster.Options(), &faults);
  faults->SetAfter([&, killed = false](uint16_t method, google::protobuf::MessageLite*) mutable {
    if (method == proto::kPutStart.id && !killed) {
      killed = true;
      cluster.KillNode(0);
    }
    return Status::Ok();
  });
  PutOptions soon;
  soon.timeout = std::chrono::seconds(3);
  const Status status = PutOne(*client, "k", "value", soon);
  EXPECT_THAT(status.code(),
              testing::AnyOf(Code::kPeerUnreachable, Code::kNoNode, Code::kUnconfirmed))
      << status.ToString();
  const std::string_view key = "k";
  const auto present = client->Exists(std::span(&key, 1));
  ASSERT_TRUE(present.ok());
  EXPECT_EQ((*present)[0], 0);
}

TEST(Lease, AReadThatOutlivesItIsDoneAgain) {
  Cluster cluster({.nodes = 1, .dram_bytes = 256_MiB, .meta = {}});
  ClientOptions options = cluster.Options();
  options.lease = std::chrono::milliseconds(1);
  options.same_host = false;
  auto client = cluster.Connect(options);
  const std::string value =
      Pattern(128'000'000, 9);  // takes longer than a millisecond on any machine
  ASSERT_EQ(PutOne(*client, "k", value), Status::Ok());
  const auto got = GetOne(*client, "k");
  ASSERT_TRUE(got.ok()) << got.status().ToString();
  EXPECT_TRUE(*got == value);
  EXPECT_GT(client->stats().expired_reads, 0U);
}

TEST(Queries, ExistsPrefixStatListRemove) {
  Cluster cluster;
  auto client = cluster.Connect();
  std::vector<std::string> keys;
  for (int i = 0; i < 20; ++i) keys.push_back("q/" + std::to_string(100 + i));
  for (int i = 0; i < 15; ++i) ASSERT_EQ(PutOne(*client, keys[i], "value"), Status::Ok());
  const std::vector<std::string_view> names(keys.begin(), keys.end());
  const auto present = client->Exists(names);
  ASSERT_TRUE(present.ok());
  for (int i = 0; i < 20; ++i) EXPECT_EQ((*present)[i], i < 15 ? 1 : 0);
  EXPECT_EQ(client->Prefix(names).value_or(0), 15U);
  const auto removed = client->Remove(std::span(names).subspan(3, 14));
  ASSERT_TRUE(removed.ok());
  EXPECT_EQ((*removed)[0].code(), Code::kOk);
  EXPECT_EQ((*removed)[13].code(), Code::kNotFound);
  EXPECT_EQ(client->Prefix(names).value_or(0), 3U);
  std::vector<std::string> listed;
  std::string token;
  do {
    const auto page = client->List("q/", token, 2);
    ASSERT_TRUE(page.ok()) << page.status().ToString();
    listed.insert(listed.end(), page->keys.begin(), page->keys.end());
    token = page->next_page_token;
  } while (!token.empty());
  EXPECT_THAT(listed, testing::UnorderedElementsAre("q/100", "q/101", "q/102"));
  EXPECT_EQ(client->RemoveByPrefix("q/").value_or(0), 3U);
  EXPECT_EQ(client->RemoveByPrefix("").status().code(), Code::kInvalidArgument);
  ASSERT_EQ(PutOne(*client, "other", "value"), Status::Ok());
  EXPECT_EQ(client->RemoveAll().value_or(0), 1U);
  const auto status = client->Cluster();
  ASSERT_TRUE(status.ok());
  EXPECT_EQ(status->objects, 0U);
  ASSERT_EQ(status->nodes.size(), 1U);
  EXPECT_EQ(status->nodes[0].state, "serving");
  EXPECT_EQ(status->nodes[0].capacity_bytes, 64_MiB);
}

TEST(Threads, ManyUseOneClient) {
  Cluster cluster;
  auto client = cluster.Connect();
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 50; ++i) {
        const std::string key =
            "k" + std::to_string(t % 2) + "-" + std::to_string(i);  // two threads per key
        const std::string value = Pattern(20'000, static_cast<uint64_t>(i));
        const Code put = PutOne(*client, key, value).code();
        if (put != Code::kOk && put != Code::kExists) ++wrong;
        const auto got = GetOne(*client, key);
        if (!got.ok() || *got != value) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong.load(), 0);
}

}  // namespace
}  // namespace mmc::test
