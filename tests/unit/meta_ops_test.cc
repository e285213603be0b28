// The meta service over its in-process channel, with a fake node that takes its catalog records: every method, every
// limit, and the calls that wait.
#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/limits.h"
#include "meta_service/meta_service.h"
#include "proto/key_list.h"
#include "proto/methods.h"

namespace mmc::meta {
namespace {

using namespace std::chrono_literals;

uint32_t Number(Code code) { return static_cast<uint32_t>(code); }

void FillKeys(const std::vector<std::string>& keys, proto::KeyList* out) {
  for (const std::string& key : keys) proto::AppendKey(key, out);
}

// Polls like a local service: acknowledges what it was told, at once.
class FakeNode {
 public:
  FakeNode(std::shared_ptr<rpc::Channel> channel, const std::string& name, uint64_t bytes)
      : channel_(std::move(channel)) {
    proto::JoinRequest join;
    join.set_name(name);
    join.set_incarnation(1);
    join.set_host_id("host");
    auto* endpoint = join.add_endpoints();
    endpoint->set_transport("tcp");
    endpoint->set_address("127.0.0.1:1");
    auto* segment = join.add_segments();
    segment->set_id(1);
    segment->set_epoch(1);
    segment->set_size(bytes);
    proto::JoinReply reply;
    const Status joined = channel_->Call(proto::kJoin, join, &reply, Clock::Real().Now() + 5s);
    EXPECT_TRUE(joined.ok()) << joined.ToString();
    id_ = reply.node();
  }
  ~FakeNode() { Stop(); }

  void Start() {
    thread_ = std::thread([this] { Loop(); });
  }
  void Stop() {
    stop_.store(true);
    if (thread_.joinable()) thread_.join();
  }
  uint32_t id() const { return id_; }

 private:
  void Loop() {
    proto::CatalogSyncRequest request;
    request.set_node(id_);
    request.set_incarnation(1);
    request.set_wait_ms(20);
    while (!stop_.load()) {
      proto::CatalogSyncReply reply;
      if (!channel_->Call(proto::kCatalogSync, request, &reply, Clock::Real().Now() + 5s).ok()) return;
      for (const auto& record : reply.records()) request.set_acked_seq(record.seq());
      *request.mutable_fenced_sessions() = reply.fence_sessions();
    }
  }

  std::shared_ptr<rpc::Channel> channel_;
  uint32_t id_ = 0;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

class MetaOps : public ::testing::Test {
 protected:
  void SetUp() override {
    MetaOptions options;
    options.url.clear();
    options.metrics_url.clear();
    options.session_expiry = 600ms;
    options.evict_threshold_high = 100;  // a full pool stays full until a put wants room
    options.evict_threshold_low = 99;
    auto service = MetaService::Create(options);
    ASSERT_TRUE(service.ok()) << service.status().ToString();
    service_ = std::move(*service);
    ASSERT_TRUE(service_->Start().ok());
    channel_ = service_->InProcessChannel();
    session_ = OpenSession();
  }
  void TearDown() override {
    node_.reset();
    channel_.reset();
    service_->Stop(Clock::Real().Now() + 2s);
  }
  void StartNode(uint64_t bytes) {
    node_ = std::make_unique<FakeNode>(channel_, "n", bytes);
    node_->Start();
  }

  template <typename Method>
  Status Call(const Method& method, const typename Method::Request& request, typename Method::Reply* reply,
              Duration within = 5s) {
    return channel_->Call(method, request, reply, Clock::Real().Now() + within);
  }

  uint64_t OpenSession() {
    proto::OpenSessionReply reply;
    EXPECT_TRUE(Call(proto::kOpenSession, {}, &reply).ok());
    EXPECT_GT(reply.heartbeat_ms(), 0u);
    EXPECT_GT(reply.expiry_ms(), 0u);
    EXPECT_GT(reply.lease_ms(), 0u);
    return reply.session();
  }
  proto::PutStartRequest PutRequest(const std::vector<std::string>& keys, uint64_t size, uint64_t session = 0) {
    proto::PutStartRequest request;
    request.set_session(session != 0 ? session : session_);
    FillKeys(keys, request.mutable_keys());
    for (size_t i = 0; i < keys.size(); ++i) request.add_sizes(size);
    return request;
  }
  Status Commit(const proto::PutStartReply& started, uint64_t session, proto::PutCommitReply* reply) {
    proto::PutCommitRequest request;
    request.set_session(session);
    for (uint64_t grant : started.grant()) {
      request.add_grant(grant);
      request.add_checksum(grant * 3);
    }
    return Call(proto::kPutCommit, request, reply);
  }
  // All of them, with one size; EXPECTs success.
  void Put(const std::vector<std::string>& keys, uint64_t size) {
    proto::PutStartReply started;
    const Status status = Call(proto::kPutStart, PutRequest(keys, size), &started);
    ASSERT_TRUE(status.ok()) << status.ToString();
    proto::PutCommitReply committed;
    ASSERT_TRUE(Commit(started, session_, &committed).ok());
    for (uint32_t code : committed.status()) ASSERT_EQ(code, Number(Code::kOk));
  }
  std::string Exists(const std::vector<std::string>& keys) {
    proto::ExistsRequest request;
    FillKeys(keys, request.mutable_keys());
    proto::ExistsReply reply;
    EXPECT_TRUE(Call(proto::kExists, request, &reply).ok());
    return reply.present();
  }
  proto::ClusterStatusReply ClusterStatus() {
    proto::ClusterStatusReply reply;
    EXPECT_TRUE(Call(proto::kClusterStatus, {}, &reply).ok());
    return reply;
  }

  std::unique_ptr<MetaService> service_;
  std::shared_ptr<rpc::Channel> channel_;
  std::unique_ptr<FakeNode> node_;
  uint64_t session_ = 0;
};

TEST_F(MetaOps, PutLookupStatRemove) {
  StartNode(64_MiB);
  Put({"a", "b", "c"}, 10'000);
  EXPECT_EQ(Exists({"a", "x", "c"}), std::string("\1\0\1", 3));

  proto::LookupRequest lookup;
  FillKeys({"b", "x", ""}, lookup.mutable_keys());
  lookup.set_session(session_);
  lookup.set_lease_ms(7000);
  lookup.set_pin(true);
  proto::LookupReply found;
  ASSERT_TRUE(Call(proto::kLookup, lookup, &found).ok());
  EXPECT_EQ(found.status(0), Number(Code::kOk));
  EXPECT_EQ(found.status(1), Number(Code::kNotFound));
  EXPECT_EQ(found.status(2), Number(Code::kInvalidArgument));
  EXPECT_EQ(found.size(0), 10'000u);
  EXPECT_EQ(found.lease_ms(), 7000u);
  ASSERT_EQ(found.replicas().replica_counts_size(), 3);
  EXPECT_EQ(found.replicas().replica_counts(0), 1u);
  EXPECT_EQ(found.replicas().replica_counts(1), 0u);
  EXPECT_EQ(found.replicas().node(0), node_->id());
  EXPECT_EQ(found.replicas().segment(0), 1u);
  EXPECT_EQ(found.replicas().extent_length(0), 10'000u);

  proto::StatRequest stat;
  FillKeys({"b", "x"}, stat.mutable_keys());
  proto::StatReply stats;
  ASSERT_TRUE(Call(proto::kStat, stat, &stats).ok());
  EXPECT_EQ(stats.status(0), Number(Code::kOk));
  EXPECT_EQ(stats.checksum(0), found.checksum(0));
  EXPECT_EQ(stats.pins(0), 1u);
  EXPECT_GT(stats.lease_left_ms(0), 5000u);
  EXPECT_EQ(stats.status(1), Number(Code::kNotFound));

  proto::UnpinRequest unpin;
  unpin.set_session(session_);
  FillKeys({"b"}, unpin.mutable_keys());
  unpin.add_generation(found.generation(0));
  proto::UnpinReply unpinned;
  ASSERT_TRUE(Call(proto::kUnpin, unpin, &unpinned).ok());
  EXPECT_EQ(unpinned.status(0), Number(Code::kOk));

  proto::RemoveRequest remove;
  FillKeys({"a", "x", ""}, remove.mutable_keys());
  proto::RemoveReply removed;
  ASSERT_TRUE(Call(proto::kRemove, remove, &removed).ok());
  EXPECT_EQ(removed.status(0), Number(Code::kOk));
  EXPECT_EQ(removed.status(1), Number(Code::kNotFound));
  EXPECT_EQ(removed.status(2), Number(Code::kInvalidArgument));
  EXPECT_EQ(Exists({"a"}), std::string("\0", 1));
}

TEST_F(MetaOps, PrefixListAndRemoveMany) {
  StartNode(64_MiB);
  std::vector<std::string> keys;
  for (int i = 0; i < 3000; ++i) keys.push_back((i % 2 == 0 ? "even/" : "odd/") + std::to_string(i));
  Put(keys, 4096);

  proto::LookupPrefixRequest prefix;
  FillKeys({"even/0", "odd/1", "missing", "even/2"}, prefix.mutable_keys());
  proto::LookupPrefixReply present;
  ASSERT_TRUE(Call(proto::kLookupPrefix, prefix, &present).ok());
  EXPECT_EQ(present.present(), 2u);

  std::multiset<std::string> listed;
  proto::ListRequest list;
  list.set_prefix("odd/");
  list.set_limit(100);
  int pages = 0;
  for (bool more = true; more && pages < 1000; ++pages) {
    proto::ListReply page;
    ASSERT_TRUE(Call(proto::kList, list, &page).ok());
    const auto decoded = proto::DecodeKeys(page.keys());
    ASSERT_TRUE(decoded.ok());
    ASSERT_LE(decoded->size(), 100u);
    for (std::string_view key : *decoded) listed.insert(std::string(key));
    list.set_page_token(page.next_page_token());
    more = !page.next_page_token().empty();
  }
  EXPECT_EQ(listed.size(), 1500u);
  EXPECT_EQ(std::set<std::string>(listed.begin(), listed.end()).size(), 1500u) << "each key once";

  proto::RemoveByPrefixRequest by_prefix;
  by_prefix.set_prefix("odd/");
  proto::RemoveManyReply removed;
  ASSERT_TRUE(Call(proto::kRemoveByPrefix, by_prefix, &removed).ok());
  EXPECT_EQ(removed.removed(), 1500u);
  ASSERT_TRUE(Call(proto::kRemoveAll, {}, &removed).ok());
  EXPECT_EQ(removed.removed(), 1500u);
  EXPECT_EQ(ClusterStatus().objects(), 0u);
}

TEST_F(MetaOps, LimitsOfKeysSizesAndBatches) {
  StartNode(64_MiB);
  proto::PutStartRequest request;
  request.set_session(session_);
  const std::vector<std::string> keys{"", std::string(kMaxKeyBytes + 1, 'k'), std::string(kMaxKeyBytes, 'k'), "zero",
                                      "big", std::string("\xff\xfe\0binary", 9)};
  FillKeys(keys, request.mutable_keys());
  for (uint64_t size : {uint64_t{1}, uint64_t{1}, uint64_t{1}, uint64_t{0}, kMaxValueBytes + 1, uint64_t{1}}) {
    request.add_sizes(size);
  }
  proto::PutStartReply reply;
  ASSERT_TRUE(Call(proto::kPutStart, request, &reply).ok());
  EXPECT_EQ(reply.status(0), Number(Code::kInvalidArgument));
  EXPECT_EQ(reply.status(1), Number(Code::kTooLarge));
  EXPECT_EQ(reply.status(2), Number(Code::kOk));
  EXPECT_EQ(reply.status(3), Number(Code::kInvalidArgument));
  EXPECT_EQ(reply.status(4), Number(Code::kTooLarge));
  EXPECT_EQ(reply.status(5), Number(Code::kOk));

  request.add_sizes(1);
  EXPECT_EQ(Call(proto::kPutStart, request, &reply).code(), Code::kInvalidArgument) << "more sizes than keys";
  auto nine = PutRequest({"r"}, 1);
  nine.set_replicas(9);
  EXPECT_EQ(Call(proto::kPutStart, nine, &reply).code(), Code::kInvalidArgument);
  auto medium = PutRequest({"r"}, 1);
  medium.set_medium(static_cast<proto::Medium>(17));
  EXPECT_EQ(Call(proto::kPutStart, medium, &reply).code(), Code::kInvalidArgument);

  const std::vector<std::string> many(kMaxBatch + 1, "k");
  EXPECT_EQ(Call(proto::kPutStart, PutRequest(many, 1), &reply).code(), Code::kTooLarge);
  proto::ExistsRequest exists;
  FillKeys(many, exists.mutable_keys());
  proto::ExistsReply exist;
  EXPECT_EQ(Call(proto::kExists, exists, &exist).code(), Code::kTooLarge);
  proto::PutCommitRequest commit;
  commit.set_session(session_);
  for (uint32_t i = 0; i <= kMaxBatch; ++i) commit.add_grant(1);
  proto::PutCommitReply committed;
  EXPECT_EQ(Call(proto::kPutCommit, commit, &committed).code(), Code::kTooLarge);
}

TEST_F(MetaOps, MalformedListsAreRefused) {
  proto::LookupRequest lookup;
  lookup.mutable_keys()->add_lengths(10);
  lookup.mutable_keys()->set_data("short");
  proto::LookupReply found;
  EXPECT_EQ(Call(proto::kLookup, lookup, &found).code(), Code::kMalformed);
  proto::PutCommitRequest commit;
  commit.set_session(session_);
  commit.add_grant(1);
  commit.add_grant(2);
  commit.add_checksum(1);
  proto::PutCommitReply committed;
  EXPECT_EQ(Call(proto::kPutCommit, commit, &committed).code(), Code::kInvalidArgument);
  commit.clear_checksum();
  commit.add_failed_replicas(1);
  EXPECT_EQ(Call(proto::kPutCommit, commit, &committed).code(), Code::kInvalidArgument);
  proto::ListRequest list;
  list.set_page_token("nonsense");
  proto::ListReply page;
  EXPECT_EQ(Call(proto::kList, list, &page).code(), Code::kInvalidArgument);
  list.set_page_token(std::string(12, '\xff'));
  EXPECT_EQ(Call(proto::kList, list, &page).code(), Code::kInvalidArgument);
  proto::RemoveByPrefixRequest everything;
  proto::RemoveManyReply removed;
  EXPECT_EQ(Call(proto::kRemoveByPrefix, everything, &removed).code(), Code::kInvalidArgument);
  proto::UnpinRequest unpin;
  unpin.set_session(session_);
  FillKeys({"a"}, unpin.mutable_keys());
  proto::UnpinReply unpinned;
  EXPECT_EQ(Call(proto::kUnpin, unpin, &unpinned).code(), Code::kInvalidArgument);
}

TEST_F(MetaOps, JoinIsChecked) {
  const auto join = [this](auto change) {
    proto::JoinRequest request;
    request.set_name("x");
    request.set_incarnation(1);
    auto* segment = request.add_segments();
    segment->set_id(1);
    segment->set_size(2_MiB);
    change(request);
    proto::JoinReply reply;
    return Call(proto::kJoin, request, &reply).code();
  };
  const auto set = [](auto change) { return [change](proto::JoinRequest& r) { change(*r.mutable_segments(0)); }; };
  EXPECT_EQ(join([](auto& r) { r.clear_name(); }), Code::kInvalidArgument);
  EXPECT_EQ(join([](auto& r) { r.set_name(std::string(256, 'n')); }), Code::kInvalidArgument);
  EXPECT_EQ(join([](auto& r) { r.set_incarnation(0); }), Code::kInvalidArgument);
  EXPECT_EQ(join([](auto& r) { *r.add_segments() = r.segments(0); }), Code::kInvalidArgument);
  EXPECT_EQ(join([](auto& r) { r.add_endpoints(); }), Code::kInvalidArgument);
  EXPECT_EQ(join(set([](auto& s) { s.set_id(0); })), Code::kInvalidArgument);
  EXPECT_EQ(join(set([](auto& s) { s.set_size(4096); })), Code::kInvalidArgument);
  EXPECT_EQ(join(set([](auto& s) { s.set_size(2 * kMaxSegmentBytes); })), Code::kInvalidArgument);
  EXPECT_EQ(join([](auto&) {}), Code::kOk);
}

TEST_F(MetaOps, NodesSessionsAndStatus) {
  StartNode(64_MiB);
  Put({"a"}, 4096);
  proto::NodeHeartbeatRequest beat;
  beat.set_node(node_->id());
  beat.set_incarnation(1);
  proto::NodeHeartbeatReply beaten;
  ASSERT_TRUE(Call(proto::kNodeHeartbeat, beat, &beaten).ok());
  EXPECT_EQ(beaten.state(), proto::NODE_SERVING);
  beat.set_incarnation(2);
  EXPECT_EQ(Call(proto::kNodeHeartbeat, beat, &beaten).code(), Code::kStaleNode);

  proto::ReportReplicaRequest report;
  report.set_session(session_);
  report.set_node(node_->id());
  report.set_status(Number(Code::kPeerUnreachable));
  proto::Empty empty;
  ASSERT_TRUE(Call(proto::kReportReplica, report, &empty).ok());
  proto::DirectoryReply directory;
  ASSERT_TRUE(Call(proto::kDirectory, {}, &directory).ok());
  ASSERT_EQ(directory.nodes_size(), 1);
  EXPECT_EQ(directory.nodes(0).name(), "n");
  EXPECT_EQ(directory.nodes(0).state(), proto::NODE_SUSPECT);
  EXPECT_EQ(directory.nodes(0).used_bytes(0), 4096u);
  EXPECT_EQ(directory.nodes(0).objects(), 1u);
  proto::PutStartReply started;
  const Status none = Call(proto::kPutStart, PutRequest({"b"}, 4096), &started);
  EXPECT_EQ(none.code(), Code::kNoNode) << none.ToString();

  const auto status = ClusterStatus();
  EXPECT_EQ(status.objects(), 1u);
  EXPECT_EQ(status.capacity_bytes(), 64_MiB);
  EXPECT_EQ(status.sessions(), 1u);
  EXPECT_EQ(status.evict_threshold_high(), 100u);
  EXPECT_FALSE(status.version().empty());
  const std::string text = service_->metrics().Expose();
  for (const char* name : {"mmc_meta_objects", "mmc_meta_hits_total", "mmc_meta_misses_total", "mmc_meta_sessions",
                           "mmc_meta_evictions_total", "mmc_meta_segment_used_bytes", "mmc_meta_grants",
                           "mmc_meta_waiting_to_free_bytes", "mmc_meta_pins"}) {
    EXPECT_NE(text.find(std::string("# HELP ") + name + " "), std::string::npos) << name;
  }

  proto::NodeLeaveRequest leave;
  leave.set_node(node_->id());
  leave.set_incarnation(1);
  ASSERT_TRUE(Call(proto::kNodeLeave, leave, &empty).ok());
  EXPECT_EQ(Exists({"a"}), std::string("\0", 1));
  proto::SessionHeartbeatRequest alive;
  alive.set_session(session_);
  proto::SessionHeartbeatReply heard;
  ASSERT_TRUE(Call(proto::kSessionHeartbeat, alive, &heard).ok());
  EXPECT_GT(heard.directory_version(), directory.version());
  proto::CloseSessionRequest close;
  close.set_session(session_);
  ASSERT_TRUE(Call(proto::kCloseSession, close, &empty).ok());
  EXPECT_EQ(Call(proto::kSessionHeartbeat, alive, &heard).code(), Code::kSessionLost);
}

TEST_F(MetaOps, AFullLeasedPoolSaysSoBeforeTheDeadlineAndLosesNothing) {
  StartNode(4_MiB);
  Put({"a", "b"}, 2_MiB);
  proto::LookupRequest lookup;
  FillKeys({"a", "b"}, lookup.mutable_keys());
  lookup.set_lease_ms(600'000);
  proto::LookupReply found;
  ASSERT_TRUE(Call(proto::kLookup, lookup, &found).ok());
  proto::PutStartReply started;
  const Status full = Call(proto::kPutStart, PutRequest({"c"}, 4096), &started, 400ms);
  EXPECT_EQ(full.code(), Code::kNoSpace) << full.ToString();
  EXPECT_NE(full.message().find("leased"), std::string::npos) << full.message();
  EXPECT_EQ(Exists({"a", "b"}), std::string("\1\1", 2));
}

TEST_F(MetaOps, AFullPoolMakesRoomWithinTheCall) {
  StartNode(4_MiB);
  for (int i = 0; i < 50; ++i) Put({"k" + std::to_string(i), "l" + std::to_string(i)}, 2_MiB);
  EXPECT_EQ(Exists({"k49", "l49"}), std::string("\1\1", 2));
  EXPECT_GT(ClusterStatus().evicted_objects(), 90u);
}

TEST_F(MetaOps, ASecondPutWaitsForTheFirstOnesCommit) {
  StartNode(64_MiB);
  proto::PutStartReply first;
  ASSERT_TRUE(Call(proto::kPutStart, PutRequest({"a"}, 4096), &first).ok());
  auto second = std::async(std::launch::async, [this] {
    proto::PutStartReply reply;
    const Status status = Call(proto::kPutStart, PutRequest({"a"}, 4096, OpenSession()), &reply, 30s);
    EXPECT_TRUE(status.ok()) << status.ToString();
    return reply.status(0);
  });
  EXPECT_EQ(second.wait_for(50ms), std::future_status::timeout) << "it waits for the outcome";
  proto::PutCommitReply committed;
  ASSERT_TRUE(Commit(first, session_, &committed).ok());
  EXPECT_EQ(second.get(), Number(Code::kExists));
}

TEST_F(MetaOps, ASecondPutTakesOverFromADeadWriter) {
  StartNode(64_MiB);
  const uint64_t dead = OpenSession();  // never heard again; sessions expire after 600 ms here
  proto::PutStartReply first;
  ASSERT_TRUE(Call(proto::kPutStart, PutRequest({"a"}, 4096, dead), &first).ok());
  const uint64_t alive = OpenSession();
  auto second = std::async(std::launch::async, [this, alive] {
    proto::PutStartReply reply;
    const Status status = Call(proto::kPutStart, PutRequest({"a"}, 4096, alive), &reply, 30s);
    EXPECT_TRUE(status.ok()) << status.ToString();
    return status.ok() ? reply.status(0) : Number(status.code());
  });
  proto::SessionHeartbeatRequest beat;
  beat.set_session(alive);
  proto::SessionHeartbeatReply beaten;
  do {
    ASSERT_TRUE(Call(proto::kSessionHeartbeat, beat, &beaten).ok());
  } while (second.wait_for(50ms) == std::future_status::timeout);
  EXPECT_EQ(second.get(), Number(Code::kOk));
  proto::PutCommitReply committed;
  EXPECT_EQ(Commit(first, dead, &committed).code(), Code::kSessionLost);
}

TEST_F(MetaOps, AWriterThatNeverEndsIsReportedAtTheDeadline) {
  StartNode(64_MiB);
  proto::PutStartReply first, second;
  ASSERT_TRUE(Call(proto::kPutStart, PutRequest({"a"}, 4096), &first).ok());
  ASSERT_TRUE(Call(proto::kPutStart, PutRequest({"a"}, 4096), &second, 300ms).ok());
  EXPECT_EQ(second.status(0), Number(Code::kBeingWritten));
  ASSERT_TRUE(Call(proto::kPutStart, PutRequest({"b", "a"}, 4096), &second, 30s).ok());
  EXPECT_EQ(second.status(0), Number(Code::kOk));
  EXPECT_EQ(second.status(1), Number(Code::kBeingWritten)) << "a call that holds grants does not wait for others";
  proto::PutAbortRequest abort;
  abort.set_session(session_);
  abort.add_grant(first.grant(0));
  abort.add_grant(12345);
  proto::PutAbortReply aborted;
  ASSERT_TRUE(Call(proto::kPutAbort, abort, &aborted).ok());
  EXPECT_EQ(aborted.status(0), Number(Code::kOk));
  EXPECT_EQ(aborted.status(1), Number(Code::kGrantLost));
}

TEST_F(MetaOps, OfManyWritersOfOneKeyOneWrites) {
  StartNode(64_MiB);
  constexpr int kWriters = 8;
  std::vector<std::future<uint32_t>> writers;
  for (int i = 0; i < kWriters; ++i) {
    writers.push_back(std::async(std::launch::async, [this] {
      const uint64_t session = OpenSession();
      proto::PutStartReply started;
      EXPECT_TRUE(Call(proto::kPutStart, PutRequest({"same"}, 4096, session), &started, 30s).ok());
      if (started.status(0) != Number(Code::kOk)) return started.status(0);
      proto::PutCommitReply committed;
      EXPECT_TRUE(Commit(started, session, &committed).ok());
      return committed.status(0);
    }));
  }
  int ok = 0, exists = 0;
  for (auto& writer : writers) {
    const uint32_t code = writer.get();
    ok += code == Number(Code::kOk);
    exists += code == Number(Code::kExists);
  }
  EXPECT_EQ(ok, 1);
  EXPECT_EQ(exists, kWriters - 1);
}

TEST_F(MetaOps, CatalogSyncWaitsAndIsWokenByACommit) {
  FakeNode quiet(channel_, "q", 64_MiB);  // its thread is not started: this test polls
  proto::CatalogSyncRequest poll;
  poll.set_node(quiet.id());
  poll.set_incarnation(1);
  poll.set_wait_ms(30'000);
  auto polled = std::async(std::launch::async, [&] {
    proto::CatalogSyncReply reply;
    EXPECT_TRUE(Call(proto::kCatalogSync, poll, &reply, 30s).ok());
    return reply;
  });
  Put({"a"}, 5000);
  const auto reply = polled.get();
  ASSERT_EQ(reply.records_size(), 1);
  EXPECT_EQ(reply.records(0).seq(), 1u);
  EXPECT_EQ(reply.records(0).key(), "a");
  EXPECT_EQ(reply.records(0).op(), proto::CATALOG_ADD);
  EXPECT_EQ(reply.records(0).extent_length(0), 5000u);
  poll.set_acked_seq(1);
  poll.set_wait_ms(1);
  proto::CatalogSyncReply nothing;
  ASSERT_TRUE(Call(proto::kCatalogSync, poll, &nothing).ok());
  EXPECT_EQ(nothing.records_size(), 0);
  poll.set_acked_seq(2);
  EXPECT_EQ(Call(proto::kCatalogSync, poll, &nothing).code(), Code::kInvalidArgument);
}

TEST_F(MetaOps, StopEndsWaitingCalls) {
  FakeNode quiet(channel_, "q", 64_MiB);
  proto::CatalogSyncRequest poll;
  poll.set_node(quiet.id());
  poll.set_incarnation(1);
  poll.set_wait_ms(30'000);
  auto polled = std::async(std::launch::async, [&] {
    proto::CatalogSyncReply reply;
    return Call(proto::kCatalogSync, poll, &reply, 60s);
  });
  service_->Stop(Clock::Real().Now() + 10s);
  const Status ended = polled.get();
  EXPECT_TRUE(ended.ok() || ended.recovery() == Recovery::kReconnect || ended.code() == Code::kCancelled)
      << ended.ToString();
  EXPECT_FALSE(service_->ready());
}

TEST(MetaServiceCreate, WrongOptionsAreRefused) {
  MetaOptions options;
  options.url.clear();
  options.evict_threshold_low = 90;
  options.evict_threshold_high = 90;
  EXPECT_EQ(MetaService::Create(options).code(), Code::kInvalidArgument);
  options.evict_threshold_low = 80;
  options.evict_policy = "arc?";
  EXPECT_EQ(MetaService::Create(options).code(), Code::kInvalidArgument);
}

}  // namespace
}  // namespace mmc::meta
