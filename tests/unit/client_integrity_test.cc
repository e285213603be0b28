// Checksums of values: taken by puts, compared by reads that verify, over every way to a node.
#include <gmock/gmock.h>
#include <xxhash.h>

#include "fabric/transport.h"
#include "proto/key_list.h"
#include "tests/unit/client_cluster.h"

namespace mmc::test {
namespace {

using google::protobuf::MessageLite;

uint64_t SumOf(const std::string& value) { return XXH3_64bits(value.data(), value.size()); }

// Changes one byte of a replica in its node's memory, behind everyone's back.
class Vandal {
 public:
  explicit Vandal(Cluster& cluster) : channel_(cluster.RawChannel()) {
    proto::OpenSessionReply reply;
    EXPECT_EQ(channel_->Call(proto::kOpenSession, proto::OpenSessionRequest(), &reply, Soon()),
              Status::Ok());
    session_ = reply.session();
  }

  void Flip(std::string_view key, int replica, uint64_t at) {
    proto::LookupRequest request;
    request.set_session(session_);
    proto::AppendKey(key, request.mutable_keys());
    proto::LookupReply reply;
    ASSERT_EQ(channel_->Call(proto::kLookup, request, &reply, Soon()), Status::Ok());
    const proto::ReplicaColumns& columns = reply.replicas();
    ASSERT_LT(replica, columns.node_size());
    int extent = 0;
    for (int r = 0; r < replica; ++r) extent += static_cast<int>(columns.extent_counts(r));
    while (at >= columns.extent_length(extent)) at -= columns.extent_length(extent++);

    auto link = LinkTo(columns.node(replica));
    ASSERT_NE(link, nullptr);
    std::byte byte{};
    fabric::Op op;
    op.local = &byte;
    op.remote = {columns.segment(replica), columns.epoch(replica)};
    op.remote_offset = columns.extent_offset(extent) + at;
    op.length = 1;
    ASSERT_EQ(link->Execute(fabric::Direction::kRead, {&op, 1}, Soon()), Status::Ok());
    byte ^= std::byte{0x40};
    ASSERT_EQ(link->Execute(fabric::Direction::kWrite, {&op, 1}, Soon()), Status::Ok());
  }

 private:
  static TimePoint Soon() { return In(std::chrono::seconds(30)); }
  std::shared_ptr<fabric::Link> LinkTo(uint32_t node) {
    proto::DirectoryReply directory;
    EXPECT_EQ(channel_->Call(proto::kDirectory, proto::DirectoryRequest(), &directory, Soon()),
              Status::Ok());
    fabric::LinkOptions options;
    options.session = session_;
    for (const proto::Node& one : directory.nodes()) {
      for (const proto::Endpoint& endpoint : one.endpoints()) {
        if (one.id() != node || endpoint.transport() != "tcp") continue;
        auto link = fabric::FindTransport("tcp")->Connect(endpoint.address(), options, Soon());
        EXPECT_TRUE(link.ok()) << link.status().ToString();
        return link.ok() ? *link : nullptr;
      }
    }
    return nullptr;
  }

  const std::shared_ptr<rpc::Channel> channel_;
  uint64_t session_ = 0;
};

class IntegrityTest : public testing::TestWithParam<bool> {  // same host: shared memory, else TCP
 protected:
  ClientOptions Options(const Cluster& cluster, Integrity integrity) const {
    ClientOptions options = cluster.Options();
    options.same_host = GetParam();
    options.integrity = integrity;
    return options;
  }
};
INSTANTIATE_TEST_SUITE_P(Transports, IntegrityTest, testing::Bool(),
                         [](const auto& p) { return std::string(p.param ? "shm" : "tcp"); });

TEST_P(IntegrityTest, APutKeepsTheChecksumOfTheValueHoweverItIsCut) {
  Cluster cluster({.nodes = 2, .dram_bytes = 64_MiB, .meta = {}});
  auto client = cluster.Connect(Options(cluster, Integrity::kPut));
  PutOptions options;
  for (const size_t size : {size_t{1}, size_t{100}, size_t{256 << 10}, size_t{3'000'001}}) {
    for (const size_t cut : {size_t{7'777}, size_t{1} << 30}) {
      options.replicas = options.replicas % 2 + 1;
      const std::string key = std::to_string(size) + "/" + std::to_string(cut);
      const std::string value = Pattern(size, size);
      std::vector<ConstBuffer> pieces;
      for (size_t at = 0; at < size; at += cut)
        pieces.push_back({value.data() + at, std::min(cut, size - at)});
      const PutItem item{key, pieces};
      ASSERT_EQ(client->Put(std::span(&item, 1), options).front(), Status::Ok());
      EXPECT_EQ(StatOne(*client, key).checksum, SumOf(value)) << key;
    }
  }
}

TEST_P(IntegrityTest, EachValueOfABatchHasItsOwn) {
  Cluster cluster({.nodes = 2, .dram_bytes = 64_MiB, .meta = {}});
  auto client = cluster.Connect(Options(cluster, Integrity::kVerify));
  constexpr size_t kItems = 300;
  std::vector<std::string> keys, values;
  std::vector<ConstBuffer> buffers;
  for (size_t i = 0; i < kItems; ++i) {
    keys.push_back("key-" + std::to_string(i));
    values.push_back(Pattern(1 + i * 131 % 40'000, i));
  }
  std::vector<PutItem> puts;
  for (const std::string& value : values) buffers.push_back({value.data(), value.size()});
  for (size_t i = 0; i < kItems; ++i) puts.push_back({keys[i], std::span(&buffers[i], 1)});
  PutOptions two;
  two.replicas = 2;
  for (const Status& status : client->Put(puts, two)) ASSERT_EQ(status, Status::Ok());
  const std::vector<std::string_view> names(keys.begin(), keys.end());
  const auto infos = client->Stat(names);
  ASSERT_TRUE(infos.ok());
  const auto got = client->Get(names);
  for (size_t i = 0; i < kItems; ++i) {
    EXPECT_EQ((*infos)[i].checksum, SumOf(values[i])) << i;
    EXPECT_TRUE(got[i].ok() && *got[i] == values[i]) << i;
  }
  EXPECT_EQ(client->stats().corrupt_reads, 0U);
}

TEST_P(IntegrityTest, ABadReplicaIsReportedAndTheOtherOneRead) {
  Cluster cluster({.nodes = 2, .dram_bytes = 64_MiB, .meta = {}});
  std::shared_ptr<FaultyChannel> calls;
  auto client = cluster.ConnectFaulty(Options(cluster, Integrity::kVerify), &calls);
  Mutex mutex;
  std::vector<proto::ReportReplicaRequest> reports;
  calls->SetBefore([&](uint16_t method, const MessageLite& request) {
    if (method != proto::kReportReplica.id) return Status::Ok();
    MutexLock lock(mutex);
    reports.push_back(static_cast<const proto::ReportReplicaRequest&>(request));
    return Status(Code::kUnavailable, "test: the report goes no further");
  });
  PutOptions two;
  two.replicas = 2;
  Vandal vandal(cluster);
  std::map<std::string, uint64_t> generations;
  for (int i = 0; i < 8; ++i) {
    const std::string key = "k" + std::to_string(i);
    const std::string value = Pattern(700'000, static_cast<uint64_t>(i));
    ASSERT_EQ(PutOne(*client, key, value, two), Status::Ok());
    generations[key] = StatOne(*client, key).generation;
    vandal.Flip(key, i / 2 % 2, static_cast<uint64_t>(i) * 99'999);
    for (int again = 0; again < 2; ++again) {
      const auto got = GetOne(*client, key);
      ASSERT_TRUE(got.ok()) << got.status().ToString();
      EXPECT_TRUE(*got == value) << key;
    }
  }
  // The first choice goes round the replicas from value to value; some were the bad one.
  const ClientStats stats = client->stats();
  EXPECT_GT(stats.corrupt_reads, 0U);
  EXPECT_EQ(stats.failovers, stats.corrupt_reads);
  MutexLock lock(mutex);
  EXPECT_EQ(reports.size(), stats.corrupt_reads);
  for (const proto::ReportReplicaRequest& report : reports) {
    EXPECT_EQ(CodeFromWire(report.status()), Code::kCorrupt);
    EXPECT_EQ(report.generation(), generations[report.key()]);
  }
}

TEST_P(IntegrityTest, TheLastReplicaIsAClearStatusAndNeverWrongBytes) {
  Cluster cluster;
  auto client = cluster.Connect(Options(cluster, Integrity::kVerify));
  Vandal vandal(cluster);
  const std::string value = Pattern(2'000'000, 4);
  for (const char* key : {"a", "b", "fine"}) ASSERT_EQ(PutOne(*client, key, value), Status::Ok());
  vandal.Flip("a", 0, 0);
  vandal.Flip("b", 0, value.size() - 1);
  const std::vector<std::string_view> keys = {"a", "fine", "b"};
  const auto got = client->Get(keys);
  EXPECT_EQ(got[0].code(), Code::kCorrupt) << got[0].status().ToString();
  EXPECT_THAT(got[0].status().message(), testing::HasSubstr("node0"));
  EXPECT_TRUE(got[1].ok() && *got[1] == value);
  EXPECT_EQ(got[2].code(), Code::kCorrupt) << got[2].status().ToString();
  EXPECT_EQ(client->stats().corrupt_reads, 2U);
}

TEST_P(IntegrityTest, OnlyReadsThatVerifyAndValuesThatHaveAChecksumAreChecked) {
  Cluster cluster;
  auto off = cluster.Connect(Options(cluster, Integrity::kOff));
  auto put = cluster.Connect(Options(cluster, Integrity::kPut));
  auto verify = cluster.Connect(Options(cluster, Integrity::kVerify));
  const std::string value = Pattern(50'000, 6);
  ASSERT_EQ(PutOne(*off, "none", value), Status::Ok());
  ASSERT_EQ(PutOne(*put, "sum", value), Status::Ok());
  EXPECT_EQ(StatOne(*put, "none").checksum, 0U);
  EXPECT_TRUE(GetOne(*verify, "sum").value_or("") == value);
  Vandal vandal(cluster);
  for (const char* key : {"none", "sum"}) vandal.Flip(key, 0, 100);
  std::string bad = value;
  bad[100] = static_cast<char>(bad[100] ^ 0x40);
  EXPECT_TRUE(GetOne(*verify, "none").value_or("") == bad);
  EXPECT_TRUE(GetOne(*put, "sum").value_or("") == bad);
  EXPECT_TRUE(GetOne(*off, "sum").value_or("") == bad);

  // A part of a value has no checksum; all of it has, also as the short read of a larger buffer.
  std::string memory(value.size() + 10, '\0');
  const Buffer part{memory.data(), 1000}, rest{memory.data(), memory.size()};
  const std::vector<GetItem> items = {{"sum", std::span(&part, 1), 0, true},
                                      {"sum", std::span(&part, 1), 50, false}};
  for (const GetResult& result : verify->GetInto(items)) EXPECT_EQ(result.status, Status::Ok());
  const GetItem all{"sum", std::span(&rest, 1), 0, true};
  EXPECT_EQ(verify->GetInto(std::span(&all, 1)).front().status.code(), Code::kCorrupt);
  EXPECT_EQ(verify->stats().corrupt_reads, 1U);
}

TEST_P(IntegrityTest, ACachedLocationIsCheckedToo) {
  Cluster cluster;
  ClientOptions options = Options(cluster, Integrity::kVerify);
  options.location_cache = true;
  auto client = cluster.Connect(options);
  ASSERT_EQ(PutOne(*client, "k", "value"), Status::Ok());
  ASSERT_EQ(GetOne(*client, "k").value_or(""), "value");
  Vandal vandal(cluster);
  vandal.Flip("k", 0, 2);
  EXPECT_EQ(GetOne(*client, "k").code(), Code::kCorrupt);
  EXPECT_EQ(client->stats().location_cache_hits, 1U);
}

TEST(IntegrityOption, IsOneOfThree) {
  EXPECT_EQ(IntegrityFrom("off").value_or(Integrity::kPut), Integrity::kOff);
  EXPECT_EQ(IntegrityFrom("put").value_or(Integrity::kOff), Integrity::kPut);
  EXPECT_EQ(IntegrityFrom("verify").value_or(Integrity::kOff), Integrity::kVerify);
  EXPECT_EQ(IntegrityFrom("Verify").code(), Code::kInvalidArgument);
  ClientOptions options;
  options.integrity = static_cast<Integrity>(3);
  EXPECT_EQ(Client::Connect(options).code(), Code::kInvalidArgument);
}

}  // namespace
}  // namespace mmc::test
