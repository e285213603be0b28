// Goal: a node copies what it is told, byte for byte, or says why not; it finds its own bad bytes; and a pool of
// real nodes makes lost replicas anew, empties a node, and drops what is bad. Method: copiers over loopback links,
// then real services in this process over shm and tcp.
#include "local_service/copier.h"

#include <gtest/gtest.h>
#include <xxhash.h>

#include <cstring>
#include <thread>

#include "fabric/transport.h"
#include "local_service/local_service.h"
#include "local_service/node_work.h"
#include "meta_service/meta_service.h"
#include "proto/key_list.h"
#include "proto/methods.h"
#include "tests/unit/temp_dir.h"

namespace mmc::local {
namespace {

TimePoint Soon() { return Clock::Real().Now() + std::chrono::seconds(30); }

std::string Value(size_t bytes, uint64_t seed) {
  std::string value(bytes, '\0');
  for (size_t i = 0; i < bytes; ++i) value[i] = static_cast<char>((i * 2654435761u + seed * 40503u) >> 7);
  return value;
}

uint64_t Sum(std::string_view value) { return XXH3_64bits(value.data(), value.size()); }

// Memory that is lent under (segment 1, epoch 5).
struct Lent {
  explicit Lent(size_t bytes) : memory(bytes, '\0') {
    fabric::Region region;
    region.ref = {.segment = 1, .epoch = 5};
    region.memory = {reinterpret_cast<std::byte*>(memory.data()), memory.size()};
    EXPECT_TRUE(regions.Add(std::move(region)).ok());
  }
  // In place: the region shows these very bytes.
  void Fill(uint64_t seed) {
    const std::string bytes = Value(memory.size(), seed);
    std::memcpy(memory.data(), bytes.data(), bytes.size());
  }
  std::string memory;
  fabric::RegionTable regions;
};

class CopierTest : public testing::Test {
 protected:
  CopierTest() {
    fabric::ListenOptions options;
    options.address = "copier-source";
    auto listener = fabric::FindTransport("loopback")->Listen(options, source_.regions);
    EXPECT_TRUE(listener.ok()) << listener.status().ToString();
    listener_ = *std::move(listener);
  }

  proto::CopyCommand Command(uint64_t id, std::vector<CatalogExtent> from, std::vector<CatalogExtent> to) {
    proto::CopyCommand command;
    command.set_id(id);
    command.set_key("k");
    command.set_source_name("source");
    command.set_source_incarnation(1);
    command.set_source_host_id("here");
    auto* endpoint = command.add_source_endpoints();
    endpoint->set_transport(listener_->endpoint().transport);
    endpoint->set_address(listener_->endpoint().address);
    command.set_source_segment(1);
    command.set_source_epoch(5);
    std::string value;
    for (const CatalogExtent& extent : from) {
      command.add_source_offset(extent.offset);
      command.add_source_length(extent.length);
      value += source_.memory.substr(extent.offset, extent.length);
    }
    command.set_segment(1);
    for (const CatalogExtent& extent : to) {
      command.add_offset(extent.offset);
      command.add_length(extent.length);
    }
    command.set_size(value.size());
    command.set_checksum(Sum(value));
    return command;
  }
  // The results of so many copies, by id. They stay unacknowledged.
  std::map<uint64_t, Code> Results(const Copier& copier, size_t count) {
    MutexLock lock(mutex_);
    for (;;) {
      proto::CatalogSyncRequest request;
      copier.Report(&request);
      std::map<uint64_t, Code> results;
      for (const auto& result : request.copy_results()) results[result.id()] = CodeFromWire(result.status());
      if (results.size() >= count) return results;
      if (!ready_.WaitUntil(mutex_, Soon())) {
        ADD_FAILURE() << "only " << results.size() << " of " << count << " results";
        return results;
      }
    }
  }
  std::function<void()> Ready() {
    return [this] {
      MutexLock lock(mutex_);
      ready_.NotifyAll();
    };
  }

  Lent source_{1 << 20}, destination_{1 << 20};
  std::unique_ptr<fabric::Listener> listener_;
  Mutex mutex_;
  CondVar ready_;
};

TEST_F(CopierTest, CopiesBetweenExtentsOfAnyCut) {
  source_.Fill(3);
  fabric::RegionTable none;
  Copier copier(destination_.regions, {.host_id = "here"}, Ready());
  const std::string before = destination_.memory;
  copier.Submit(Command(1, {{4096, 5000}, {100'000, 3000}, {200'000, 1}}, {{8192, 4096}, {50'000, 3905}}));
  EXPECT_EQ(Results(copier, 1)[1], Code::kOk);
  const std::string value =
      source_.memory.substr(4096, 5000) + source_.memory.substr(100'000, 3000) + source_.memory.substr(200'000, 1);
  EXPECT_TRUE(destination_.memory.substr(8192, 4096) + destination_.memory.substr(50'000, 3905) == value);
  std::string rest = destination_.memory;
  std::memset(rest.data() + 8192, 0, 4096);
  std::memset(rest.data() + 50'000, 0, 3905);
  EXPECT_TRUE(rest == before) << "nothing else may be touched";
}

TEST_F(CopierTest, SaysWhatStoodInTheWay) {
  source_.Fill(4);
  Copier copier(destination_.regions, {.host_id = "here"}, Ready());
  proto::CopyCommand corrupt = Command(1, {{0, 5000}}, {{0, 5000}});
  corrupt.set_checksum(corrupt.checksum() + 1);
  proto::CopyCommand stale = Command(2, {{0, 5000}}, {{8192, 5000}});
  stale.set_source_epoch(6);
  proto::CopyCommand outside = Command(3, {{0, 5000}}, {{(1 << 20) - 100, 5000}});
  proto::CopyCommand no_segment = Command(4, {{0, 5000}}, {{0, 5000}});
  no_segment.set_segment(9);
  proto::CopyCommand short_source = Command(5, {{0, 5000}}, {{0, 9000}});
  short_source.set_size(9000);
  proto::CopyCommand huge = Command(6, {{0, 5000}}, {{0, 5000}});
  huge.set_size(UINT64_MAX);
  proto::CopyCommand elsewhere = Command(7, {{0, 5000}}, {{16'384, 5000}});
  elsewhere.set_source_name("other");
  elsewhere.mutable_source_endpoints(0)->set_address("nobody-listens-here");
  proto::CopyCommand no_checksum = Command(8, {{0, 5000}}, {{32'768, 5000}});
  no_checksum.set_checksum(0);
  for (const auto& command : {corrupt, stale, outside, no_segment, short_source, huge, elsewhere, no_checksum}) {
    copier.Submit(command);
  }
  auto results = Results(copier, 8);
  EXPECT_EQ(results[1], Code::kCorrupt);
  EXPECT_EQ(results[2], Code::kStaleRegion);
  EXPECT_EQ(results[3], Code::kOutOfRange);
  EXPECT_EQ(results[4], Code::kStaleRegion);
  EXPECT_EQ(results[5], Code::kInvalidArgument);
  EXPECT_EQ(results[6], Code::kInvalidArgument);
  EXPECT_EQ(results[7], Code::kPeerUnreachable);
  EXPECT_EQ(results[8], Code::kOk);
}

TEST_F(CopierTest, TheSameCommandRunsOnceUntilItsResultIsTaken) {
  source_.Fill(5);
  Copier copier(destination_.regions, {.host_id = "here"}, Ready());
  const proto::CopyCommand command = Command(1, {{0, 5000}}, {{0, 5000}});
  copier.Submit(command);
  EXPECT_EQ(Results(copier, 1)[1], Code::kOk);
  // The space may be somebody else's as soon as the meta service has the result.
  const std::string other = Value(5000, 99);
  std::memcpy(destination_.memory.data(), other.data(), other.size());
  copier.Submit(command);
  const proto::CopyCommand next = Command(2, {{0, 5000}}, {{8192, 5000}});
  copier.Submit(next);
  EXPECT_EQ(Results(copier, 2)[2], Code::kOk);
  EXPECT_TRUE(destination_.memory.substr(0, 5000) == other);
  EXPECT_TRUE(copier.busy());
  proto::CatalogSyncRequest told;
  copier.Report(&told);
  ASSERT_EQ(told.copy_results_size(), 2);
  copier.Acknowledge(told);
  EXPECT_FALSE(copier.busy());
  proto::CatalogSyncRequest empty;
  copier.Report(&empty);
  EXPECT_EQ(empty.copy_results_size(), 0);
}

TEST_F(CopierTest, AnAbandonedCopierHasNothingToSay) {
  source_.Fill(6);
  Copier copier(destination_.regions, {.host_id = "here"}, Ready());
  for (uint64_t id = 1; id <= 50; ++id) copier.Submit(Command(id, {{0, 20'000}}, {{id * 20'480, 20'000}}));
  bool quiet = false;
  copier.Abandon([&] {
    MutexLock lock(mutex_);
    quiet = true;
    ready_.NotifyAll();
  });
  {
    MutexLock lock(mutex_);
    while (!quiet) ASSERT_TRUE(ready_.WaitUntil(mutex_, Soon()));
  }
  const std::string now = destination_.memory;
  proto::CatalogSyncRequest told;
  copier.Report(&told);
  EXPECT_EQ(told.copy_results_size(), 0);
  EXPECT_FALSE(copier.busy());
  copier.Stop();
  EXPECT_TRUE(destination_.memory == now);
}

// ---- real services ------------------------------------------------------------------------------------------------

class PoolTest : public testing::Test {
 protected:
  void SetUp() override {
    meta::MetaOptions options;
    options.url = "";
    options.io_threads = 1;
    options.heartbeat = std::chrono::milliseconds(20);
    // Nobody is given up because the machine is busy.
    options.session_expiry = options.node_suspect = std::chrono::minutes(5);
    options.node_grace = std::chrono::minutes(10);
    auto meta = meta::MetaService::Create(options);
    ASSERT_TRUE(meta.ok()) << meta.status().ToString();
    meta_ = *std::move(meta);
    ASSERT_TRUE(meta_->Start().ok());
    rpc_ = meta_->InProcessChannel();
    proto::OpenSessionRequest request;
    proto::OpenSessionReply reply;
    ASSERT_TRUE(rpc_->Call(proto::kOpenSession, request, &reply, Soon()).ok());
    session_ = reply.session();
  }
  void TearDown() override {
    for (auto& [name, node] : nodes_) node->Stop(Soon());
    nodes_.clear();
    rpc_.reset();
    if (meta_ != nullptr) meta_->Stop(Soon());
  }

  LocalService& Start(const std::string& name, const std::string& transport = "shm") {
    LocalOptions options;
    options.name = name;
    options.dram_bytes = 8u << 20;
    options.hugepages = false;
    options.prefault = false;
    options.data_url = "tcp://127.0.0.1:0";
    options.tcp_enable = transport == "tcp";
    options.shm_enable = transport == "shm";
    options.shm_directory = dir_.path();
    options.catalog_directory = dir_.path();
    options.join_timeout = std::chrono::seconds(30);
    auto node = LocalService::Create(options, meta_->InProcessChannel());
    EXPECT_TRUE(node.ok()) << node.status().ToString();
    const Status status = (*node)->Start();
    EXPECT_TRUE(status.ok()) << status.ToString();
    return *(nodes_[name] = *std::move(node));
  }
  std::shared_ptr<fabric::Link> LinkTo(LocalService& node) {
    const fabric::Endpoint endpoint = node.endpoints().at(0);
    fabric::LinkOptions options;
    options.session = session_;
    auto link = fabric::FindTransport(endpoint.transport)->Connect(endpoint.address, options, Soon());
    EXPECT_TRUE(link.ok()) << link.status().ToString();
    return link.ok() ? *link : nullptr;
  }
  struct Place {
    std::string node;
    fabric::RegionRef region;
    std::vector<CatalogExtent> extents;
  };
  std::vector<Place> PlacesOf(const proto::ReplicaColumns& columns) {
    std::map<uint32_t, std::string> names;
    proto::DirectoryReply directory;
    EXPECT_TRUE(rpc_->Call(proto::kDirectory, proto::DirectoryRequest(), &directory, Soon()).ok());
    for (const auto& node : directory.nodes()) names[node.id()] = node.name();
    std::vector<Place> places;
    int at = 0;
    for (int r = 0; r < columns.node_size(); ++r) {
      Place place{names[columns.node(r)], {columns.segment(r), columns.epoch(r)}, {}};
      for (uint32_t e = 0; e < columns.extent_counts(r); ++e, ++at) {
        place.extents.push_back({columns.extent_offset(at), columns.extent_length(at)});
      }
      places.push_back(std::move(place));
    }
    return places;
  }
  Status Move(fabric::Direction way, const Place& place, char* data) {
    const auto link = LinkTo(*nodes_.at(place.node));
    if (link == nullptr) return Code::kPeerUnreachable;
    std::vector<fabric::Op> ops;
    for (const CatalogExtent& extent : place.extents) {
      ops.push_back({.local = reinterpret_cast<std::byte*>(data),
                     .remote = place.region,
                     .remote_offset = extent.offset,
                     .length = extent.length});
      data += extent.length;
    }
    return link->Execute(way, ops, Soon());
  }
  void Put(const std::string& key, std::string value, uint32_t replicas, uint64_t checksum) {
    proto::PutStartRequest start;
    start.set_session(session_);
    proto::AppendKey(key, start.mutable_keys());
    start.add_sizes(value.size());
    start.set_replicas(replicas);
    proto::PutStartReply granted;
    ASSERT_TRUE(rpc_->Call(proto::kPutStart, start, &granted, Soon()).ok());
    ASSERT_EQ(granted.status(0), 0u);
    for (const Place& place : PlacesOf(granted.replicas())) {
      const Status moved = Move(fabric::Direction::kWrite, place, value.data());
      ASSERT_TRUE(moved.ok()) << moved.ToString();
    }
    proto::PutCommitRequest commit;
    commit.set_session(session_);
    commit.add_grant(granted.grant(0));
    commit.add_checksum(checksum);
    proto::PutCommitReply committed;
    ASSERT_TRUE(rpc_->Call(proto::kPutCommit, commit, &committed, Soon()).ok());
    ASSERT_EQ(committed.status(0), 0u);
  }
  std::vector<Place> Lookup(const std::string& key, uint64_t* generation = nullptr) {
    proto::LookupRequest request;
    proto::AppendKey(key, request.mutable_keys());
    request.set_lease_ms(1);
    proto::LookupReply reply;
    EXPECT_TRUE(rpc_->Call(proto::kLookup, request, &reply, Soon()).ok());
    if (generation != nullptr) *generation = reply.generation(0);
    return PlacesOf(reply.replicas());
  }
  void ExpectValue(const std::string& key, const std::string& value, size_t replicas) {
    const auto places = Lookup(key);
    EXPECT_EQ(places.size(), replicas) << key;
    for (const Place& place : places) {
      std::string got(value.size(), '\0');
      const Status moved = Move(fabric::Direction::kRead, place, got.data());
      ASSERT_TRUE(moved.ok()) << moved.ToString();
      EXPECT_TRUE(got == value) << key << " on " << place.node;
    }
  }
  template <typename Holds>
  ::testing::AssertionResult Until(Holds holds) {
    const TimePoint deadline = Soon();
    proto::ClusterStatusReply reply;
    while (Clock::Real().Now() < deadline) {
      reply.Clear();
      const Status status = rpc_->Call(proto::kClusterStatus, proto::ClusterStatusRequest(), &reply, deadline);
      if (!status.ok()) return ::testing::AssertionFailure() << status.ToString();
      if (holds(reply)) return ::testing::AssertionSuccess();
      std::this_thread::yield();
    }
    return ::testing::AssertionFailure() << "it did not come to that: " << reply.ShortDebugString();
  }
  static const proto::Node* Find(const proto::ClusterStatusReply& reply, const std::string& name) {
    for (const proto::Node& node : reply.nodes()) {
      if (node.name() == name) return &node;
    }
    return nullptr;
  }
  Status Drain(const std::string& node, bool cancel = false) {
    proto::DrainRequest request;
    request.set_node(node);
    request.set_cancel(cancel);
    proto::Empty reply;
    return rpc_->Call(proto::kDrain, request, &reply, Soon());
  }
  proto::ScrubStatusReply Scrub() {
    proto::ScrubRequest request;
    proto::ScrubReply reply;
    EXPECT_TRUE(rpc_->Call(proto::kScrub, request, &reply, Soon()).ok());
    proto::ScrubStatusRequest ask;
    ask.set_id(reply.id());
    proto::ScrubStatusReply status;
    EXPECT_TRUE(Until([&](const auto&) {
      EXPECT_TRUE(rpc_->Call(proto::kScrubStatus, ask, &status, Soon()).ok());
      return status.nodes() == status.nodes_done();
    }));
    return status;
  }

  const test::TempDir dir_;
  std::unique_ptr<meta::MetaService> meta_;
  std::shared_ptr<rpc::Channel> rpc_;
  uint64_t session_ = 0;
  std::map<std::string, std::unique_ptr<LocalService>> nodes_;
};

TEST_F(PoolTest, ADrainedNodeLeavesAndEveryByteIsThere) {
  Start("a");
  Start("b", "tcp");
  std::map<std::string, std::string> values;
  for (int i = 0; i < 60; ++i) {
    const std::string key = "key-" + std::to_string(i);
    values[key] = Value(1000 + static_cast<size_t>(i) * 1013, static_cast<uint64_t>(i));
    Put(key, values[key], 1, i % 3 == 0 ? 0 : Sum(values[key]));
  }
  Start("c");
  ASSERT_TRUE(Drain("a").ok());
  ASSERT_TRUE(Until([&](const auto& reply) {
    const proto::Node* node = Find(reply, "a");
    return node->state() == proto::NODE_DRAINING && node->drain_left_objects() == 0 && node->drain_left_bytes() == 0;
  }));
  EXPECT_TRUE(Until([&](const auto&) { return nodes_.at("a")->stats().objects == 0; }));
  nodes_.at("a")->Stop(Soon());
  for (const auto& [key, value] : values) ExpectValue(key, value, 1);
  EXPECT_TRUE(Until([&](const auto& reply) {
    return nodes_.at("b")->stats().objects + nodes_.at("c")->stats().objects == values.size() && reply.pins() == 0;
  })) << "their catalogs know what was copied";
  EXPECT_EQ(Drain("a").code(), Code::kNotFound);
}

TEST_F(PoolTest, ADrainOutlivesItsDestination) {
  Start("a");
  Start("b", "tcp");
  std::map<std::string, std::string> values;
  for (int i = 0; i < 100; ++i) {
    const std::string key = "key-" + std::to_string(i);
    values[key] = Value(20'000, static_cast<uint64_t>(i));
    Put(key, values[key], 2, Sum(values[key]));
  }
  Start("c");
  ASSERT_TRUE(Drain("a").ok());
  ASSERT_TRUE(Until([&](const auto&) { return nodes_.at("c")->stats().objects > 0; }));
  nodes_.at("c")->Stop(Soon());
  Start("d");
  ASSERT_TRUE(Until([&](const auto& reply) {
    const proto::Node* node = Find(reply, "a");
    return node->drain_left_objects() == 0 && node->drain_left_bytes() == 0 && reply.under_replicated() == 0 &&
           reply.copies_in_flight() == 0;
  }));
  for (const auto& [key, value] : values) ExpectValue(key, value, 2);
  EXPECT_TRUE(Until([&](const auto& reply) { return reply.waiting_to_free_bytes() == 0 && reply.pins() == 0; }));
}

TEST_F(PoolTest, ADeadNodesReplicasAreMadeAnew) {
  Start("a");
  Start("b", "tcp");
  const std::string value = Value(700'000, 8);
  Put("k", value, 2, Sum(value));
  Start("c", "tcp");
  nodes_.at("a")->Stop(Soon());
  ASSERT_TRUE(Until([&](const auto& reply) {
    return reply.under_replicated() == 0 && reply.copies_in_flight() == 0 && nodes_.at("c")->stats().objects == 1;
  }));
  ExpectValue("k", value, 2);
}

TEST_F(PoolTest, ACheckFindsBadBytesAndTheGoodReplicaIsCopied) {
  Start("a");
  Start("b");
  const std::string value = Value(100'000, 9), lone = Value(5000, 10), plain = Value(3000, 11);
  Put("k", value, 2, Sum(value));
  Put("lone", lone, 1, Sum(lone));
  Put("plain", plain, 1, 0);
  ASSERT_TRUE(Until([&](const auto&) {
    return nodes_.at("a")->stats().objects + nodes_.at("b")->stats().objects == 4;
  }));
  proto::ScrubStatusReply status = Scrub();
  EXPECT_EQ(status.nodes(), 2u);
  EXPECT_EQ(status.checked_objects(), 3u);
  EXPECT_EQ(status.checked_bytes(), 205'000u);
  EXPECT_EQ(status.skipped_objects(), 1u);
  EXPECT_EQ(status.bad_replicas(), 0u);

  std::string broken = value;
  broken[77'777] = static_cast<char>(broken[77'777] ^ 4);
  ASSERT_TRUE(Move(fabric::Direction::kWrite, Lookup("k")[0], broken.data()).ok());
  std::string gone = lone;
  gone[0] = static_cast<char>(gone[0] ^ 1);
  ASSERT_TRUE(Move(fabric::Direction::kWrite, Lookup("lone")[0], gone.data()).ok());
  status = Scrub();
  EXPECT_EQ(status.bad_replicas(), 2u);
  // The bad replica goes; a new one comes from the good one.
  ASSERT_TRUE(Until([&](const auto& reply) {
    return reply.objects() == 2 && reply.under_replicated() == 0 && reply.copies_in_flight() == 0;
  }));
  ExpectValue("k", value, 2);
  EXPECT_TRUE(Lookup("lone").empty()) << "better none than a wrong one";
  ExpectValue("plain", plain, 1);
}

TEST_F(PoolTest, AReplicaThatAClientFoundBadIsDropped) {
  Start("a");
  Start("b");
  const std::string value = Value(100'000, 12);
  Put("k", value, 2, Sum(value));
  uint64_t generation = 0;
  const std::vector<Place> places = Lookup("k", &generation);
  proto::DirectoryReply directory;
  ASSERT_TRUE(rpc_->Call(proto::kDirectory, proto::DirectoryRequest(), &directory, Soon()).ok());
  proto::ReportReplicaRequest request;
  request.set_session(session_);
  for (const auto& node : directory.nodes()) {
    if (node.name() == places[0].node) request.set_node(node.id());
  }
  request.set_status(static_cast<uint32_t>(Code::kCorrupt));
  request.set_key("k");
  request.set_generation(generation + 1);
  proto::Empty reply;
  ASSERT_TRUE(rpc_->Call(proto::kReportReplica, request, &reply, Soon()).ok());
  EXPECT_EQ(Lookup("k").size(), 2u) << "it was of another generation";
  EXPECT_EQ(meta_->metrics().Expose().find("mmc_meta_bad_replicas_total 1"), std::string::npos);
  request.set_generation(generation);
  ASSERT_TRUE(rpc_->Call(proto::kReportReplica, request, &reply, Soon()).ok());
  EXPECT_NE(meta_->metrics().Expose().find("mmc_meta_bad_replicas_total 1"), std::string::npos);
  ASSERT_TRUE(Until([&](const auto& status) { return status.under_replicated() == 0; }));
  ExpectValue("k", value, 2);
}

}  // namespace
}  // namespace mmc::local
