// What a client answers to wrong arguments and to a pool that is full, or not there. Nothing of it
// may hang or lose data.
#include <gmock/gmock.h>
#include <sys/mman.h>

#include "tests/unit/client_cluster.h"

namespace mmc::test {
namespace {

using testing::HasSubstr;

TEST(BadInput, Keys) {
  Cluster cluster;
  auto client = cluster.Connect();
  EXPECT_EQ(PutOne(*client, "", "v").code(), Code::kInvalidArgument);
  EXPECT_EQ(PutOne(*client, std::string(2049, 'k'), "v").code(), Code::kTooLarge);
  EXPECT_EQ(GetOne(*client, "").code(), Code::kInvalidArgument);
  EXPECT_EQ(GetOne(*client, std::string(2049, 'k')).code(), Code::kTooLarge);
  // The longest key, and bytes that are no text, are keys like others.
  const std::string longest(2048, '\xFF');
  EXPECT_EQ(PutOne(*client, longest, "long"), Status::Ok());
  EXPECT_EQ(GetOne(*client, longest).value_or(""), "long");
  const std::string odd("\0\xC0\xAF\n", 4);
  EXPECT_EQ(PutOne(*client, odd, "odd"), Status::Ok());
  EXPECT_EQ(GetOne(*client, odd).value_or(""), "odd");
  const std::string_view empty;
  EXPECT_EQ(client->Exists(std::span(&empty, 1)).code(), Code::kInvalidArgument);
  EXPECT_EQ(client->Prefix(std::span(&empty, 1)).code(), Code::kInvalidArgument);
  EXPECT_EQ(client->Stat(std::span(&empty, 1))->front().status.code(), Code::kInvalidArgument);
  EXPECT_EQ(client->Remove(std::span(&empty, 1))->front().code(), Code::kInvalidArgument);
  EXPECT_EQ(client->MakeView(empty).code(), Code::kInvalidArgument);
}

TEST(BadInput, Values) {
  Cluster cluster;
  auto client = cluster.Connect();
  const auto put = [&](std::vector<ConstBuffer> buffers) {
    const PutItem item{"k", buffers};
    return client->Put(std::span(&item, 1)).front().code();
  };
  char byte = 'x';
  EXPECT_EQ(put({}), Code::kInvalidArgument);
  EXPECT_EQ(put({{&byte, 0}}), Code::kInvalidArgument);
  EXPECT_EQ(put({{&byte, 1}, {nullptr, 1}}), Code::kInvalidArgument);
  EXPECT_EQ(put({{&byte, kMaxValueBytes + 1}}), Code::kTooLarge);
  EXPECT_EQ(put({{&byte, kMaxValueBytes}, {&byte, 1}}), Code::kTooLarge);
  EXPECT_EQ(put({{&byte, SIZE_MAX}, {&byte, 2}}), Code::kTooLarge);
  // In its limits, but no segment of this pool could ever hold it.
  void* room =
      mmap(nullptr, kMaxValueBytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  ASSERT_NE(room, MAP_FAILED);
  const ConstBuffer big{room, kMaxValueBytes};
  const PutItem item{"big", std::span(&big, 1)};
  PutOptions soon;
  soon.timeout = std::chrono::seconds(20);
  EXPECT_THAT(client->Put(std::span(&item, 1), soon).front().code(),
              testing::AnyOf(Code::kNoNode, Code::kNoSpace, Code::kTooLarge));
  munmap(room, kMaxValueBytes);
}

TEST(BadInput, Batches) {
  Cluster cluster;
  auto client = cluster.Connect();
  const ConstBuffer buffer{"v", 1};
  const std::vector<PutItem> puts(kMaxBatch + 1, PutItem{"k", std::span(&buffer, 1)});
  const auto statuses = client->Put(puts);
  ASSERT_EQ(statuses.size(), puts.size());
  for (const Status& status : statuses) ASSERT_EQ(status.code(), Code::kTooLarge);
  const std::vector<std::string_view> keys(kMaxBatch + 1, "k");
  EXPECT_EQ(client->Get(keys).back().code(), Code::kTooLarge);
  EXPECT_EQ(client->Exists(keys).code(), Code::kTooLarge);
  EXPECT_EQ(client->Prefix(keys).code(), Code::kTooLarge);
  EXPECT_EQ(client->Stat(keys).code(), Code::kTooLarge);
  EXPECT_EQ(client->Remove(keys).code(), Code::kTooLarge);
  // Nothing at all is fine.
  EXPECT_TRUE(client->Put({}).empty());
  EXPECT_TRUE(client->Get({}).empty());
  EXPECT_EQ(client->Prefix({}).value_or(1), 0U);
  EXPECT_TRUE(client->Remove({}).ok());
}

TEST(BadInput, TheLargestBatchIsOneCall) {
  Cluster cluster({.nodes = 1, .dram_bytes = 256_MiB, .meta = {}});
  std::shared_ptr<FaultyChannel> faults;
  auto client = cluster.ConnectFaulty(cluster.Options(), &faults);
  std::vector<std::string> keys;
  for (uint32_t i = 0; i < kMaxBatch; ++i) keys.push_back("key-" + std::to_string(i));
  std::vector<PutItem> puts;
  const ConstBuffer buffer{"value", 5};
  for (const std::string& key : keys) puts.push_back({key, std::span(&buffer, 1)});
  for (const Status& status : client->Put(puts)) ASSERT_TRUE(status.ok()) << status.ToString();
  EXPECT_EQ(faults->calls(proto::kPutStart.id), 1);
  const std::vector<std::string_view> names(keys.begin(), keys.end());
  for (const auto& value : client->Get(names)) ASSERT_EQ(value.value_or(""), "value");
  EXPECT_EQ(faults->calls(proto::kLookup.id), 1);
  EXPECT_EQ(client->Prefix(names).value_or(0), kMaxBatch);
}

TEST(BadInput, GetsThatDoNotFit) {
  Cluster cluster;
  auto client = cluster.Connect();
  ASSERT_EQ(PutOne(*client, "k", "value"), Status::Ok());
  char room[8] = {};
  const auto get = [&](std::vector<Buffer> buffers) {
    const GetItem item{"k", buffers};
    return client->GetInto(std::span(&item, 1)).front().status.code();
  };
  EXPECT_EQ(get({{room, 4}}), Code::kSizeMismatch);
  EXPECT_EQ(get({{room, 6}}), Code::kSizeMismatch);
  EXPECT_EQ(get({{room, 3}, {room + 3, 2}}), Code::kOk);
  EXPECT_EQ(get({}), Code::kInvalidArgument);
  EXPECT_EQ(get({{room, 0}}), Code::kInvalidArgument);
  EXPECT_EQ(get({{nullptr, 5}}), Code::kInvalidArgument);
  EXPECT_EQ(GetOne(*client, "unknown").code(), Code::kNotFound);
  EXPECT_EQ(StatOne(*client, "unknown").status.code(), Code::kNotFound);
  EXPECT_EQ(client->MakeView("unknown").code(), Code::kNotFound);
}

TEST(BadInput, Options) {
  Cluster cluster;
  auto client = cluster.Connect();
  PutOptions put;
  for (const uint32_t replicas : {0U, 9U}) {
    put.replicas = replicas;
    EXPECT_EQ(PutOne(*client, "k", "v", put).code(), Code::kInvalidArgument);
  }
  put.replicas = 1;
  put.preferred_nodes = {"nobody of this name"};  // a hint
  EXPECT_EQ(PutOne(*client, "k", "v", put), Status::Ok());
  ClientOptions options = cluster.Options();
  options.async_threads = 65;
  EXPECT_EQ(Client::Connect(options).code(), Code::kInvalidArgument);
  options = cluster.Options();
  options.timeout = std::chrono::milliseconds(0);
  EXPECT_EQ(Client::Connect(options).code(), Code::kInvalidArgument);
  options = cluster.Options();
  for (const char* url : {"", "nonsense", "tcp://", "http://127.0.0.1:1"}) {
    options.meta_url = url;
    EXPECT_EQ(Client::Connect(options).code(), Code::kInvalidArgument) << url;
  }
  // This test does not link mmc_embedded.
  options.meta_url = "local://?dram=1GB";
  const auto local = Client::Connect(options);
  EXPECT_EQ(local.code(), Code::kUnsupported);
  EXPECT_THAT(local.status().message(), HasSubstr("mmc_embedded"));
}

TEST(Full, EverythingLeasedIsNoSpaceAndNothingIsLost) {
  Cluster cluster({.nodes = 1, .dram_bytes = 16_MiB, .meta = {}});
  ClientOptions options = cluster.Options();
  options.lease = std::chrono::minutes(5);
  auto client = cluster.Connect(options);
  std::vector<std::string> keys, values;
  for (int i = 0; i < 14; ++i) {
    keys.push_back("k" + std::to_string(i));
    values.push_back(Pattern(1_MiB, static_cast<uint64_t>(i)));
    ASSERT_EQ(PutOne(*client, keys.back(), values.back()), Status::Ok());
    ASSERT_TRUE(GetOne(*client, keys.back()).ok());  // leased from here on
  }
  PutOptions soon;
  soon.timeout = std::chrono::milliseconds(2000);
  const Status status = PutOne(*client, "more", Pattern(4_MiB, 99), soon);
  EXPECT_EQ(status.code(), Code::kNoSpace) << status.ToString();
  // In a batch, what fits is put, the rest is refused.
  const std::string small = Pattern(4096, 1), large = Pattern(4_MiB, 2);
  const ConstBuffer of_small{small.data(), small.size()}, of_large{large.data(), large.size()};
  const std::vector<PutItem> items = {{"large", std::span(&of_large, 1)},
                                      {"small", std::span(&of_small, 1)}};
  const auto statuses = client->Put(items, soon);
  EXPECT_EQ(statuses[0].code(), Code::kNoSpace) << statuses[0].ToString();
  EXPECT_EQ(statuses[1].code(), Code::kOk) << statuses[1].ToString();
  for (size_t i = 0; i < keys.size(); ++i) {
    EXPECT_TRUE(GetOne(*client, keys[i]).value_or("") == values[i]) << i;
  }
  const auto cluster_status = client->Cluster();
  ASSERT_TRUE(cluster_status.ok());
  EXPECT_EQ(cluster_status->grants, 0U);
}

TEST(Unreachable, NoMetaService) {
  Cluster cluster;
  ClientOptions options = cluster.Options();
  const std::string good = options.meta_url;
  options.meta_url = "tcp://127.0.0.1:1";
  const auto refused = Client::Connect(options);
  EXPECT_EQ(refused.code(), Code::kUnavailable) << refused.status().ToString();
  EXPECT_THAT(refused.status().message(), HasSubstr("tcp://127.0.0.1:1"));
  // One of several is enough.
  options.meta_url = "tcp://127.0.0.1:1, " + good;
  auto client = cluster.Connect(options);
  EXPECT_EQ(PutOne(*client, "k", "v"), Status::Ok());
}

TEST(Unreachable, TheMetaServiceGoesAway) {
  Cluster cluster;
  ClientOptions options = cluster.Options();
  options.timeout = std::chrono::seconds(1);
  auto client = cluster.Connect(options);
  PutOptions unhurried;
  unhurried.timeout = std::chrono::seconds(30);
  ASSERT_EQ(PutOne(*client, "k", "v", unhurried), Status::Ok());
  cluster.StopMeta();
  // kDeadline: it came in the middle of an attempt.
  const auto is_clear = testing::AnyOf(Code::kUnavailable, Code::kShuttingDown,
                                       Code::kConnectionLost, Code::kDeadline);
  EXPECT_THAT(PutOne(*client, "l", "v").code(), is_clear);
  EXPECT_THAT(GetOne(*client, "k").code(), is_clear);
  const std::string_view key = "k";
  EXPECT_THAT(client->Exists(std::span(&key, 1)).code(), is_clear);
}

TEST(Closed, CallsAnswerSo) {
  Cluster cluster;
  auto client = cluster.Connect();
  client->Close();
  client->Close();
  EXPECT_EQ(PutOne(*client, "k", "v").code(), Code::kClosed);
  EXPECT_EQ(GetOne(*client, "k").code(), Code::kClosed);
  EXPECT_EQ(client->Cluster().code(), Code::kClosed);
  EXPECT_EQ(client->MakeView("k").code(), Code::kClosed);
  EXPECT_EQ(client->PutAsync({}, {}, [](std::vector<Status>) {}).code(), Code::kClosed);
}

}  // namespace
}  // namespace mmc::test
