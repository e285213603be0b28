// The meta service over its in-process channel, with a fake node that takes its catalog records:
// every method and every limit.
#include "tests/unit/meta_ops_fixture.h"

namespace mmc::meta {
namespace {

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
  for (int i = 0; i < 3000; ++i)
    keys.push_back((i % 2 == 0 ? "even/" : "odd/") + std::to_string(i));
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
  const std::vector<std::string> keys{
      "",    std::string(kMaxKeyBytes + 1, 'k'), std::string(kMaxKeyBytes, 'k'), "zero",
      "big", std::string("\xff\xfe\0binary", 9)};
  FillKeys(keys, request.mutable_keys());
  for (uint64_t size :
       {uint64_t{1}, uint64_t{1}, uint64_t{1}, uint64_t{0}, kMaxValueBytes + 1, uint64_t{1}}) {
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
  EXPECT_EQ(Call(proto::kPutStart, request, &reply).code(), Code::kInvalidArgument)
      << "more sizes than keys";
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
  commit.clear_failed_replicas();
  commit.add_group("one name for two grants");
  EXPECT_EQ(Call(proto::kPutCommit, commit, &committed).code(), Code::kInvalidArgument);
  commit.add_group(std::string(kMaxKeyBytes + 1, 'g'));
  EXPECT_EQ(Call(proto::kPutCommit, commit, &committed).code(), Code::kInvalidArgument);
  commit.clear_group();
  commit.set_retention(static_cast<proto::Retention>(3));
  EXPECT_EQ(Call(proto::kPutCommit, commit, &committed).code(), Code::kInvalidArgument);
  commit.set_retention(proto::RETENTION_SOFT);
  commit.set_soft_pin_ms(UINT64_MAX);
  EXPECT_TRUE(Call(proto::kPutCommit, commit, &committed).ok()) << "cut; the grants are lost";
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
  const auto set = [](auto change) {
    return [change](proto::JoinRequest& r) { change(*r.mutable_segments(0)); };
  };
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
  for (const char* name :
       {"mmc_meta_objects", "mmc_meta_hits_total", "mmc_meta_misses_total", "mmc_meta_sessions",
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

TEST(MetaBackground, JobsFollowTheServicesClock) {
  ManualClock clock;
  MetaOptions options;
  options.url.clear();
  options.metrics_url.clear();
  auto service = std::move(MetaService::Create(options, clock)).value();
  ASSERT_TRUE(service->Start().ok());
  FakeNode node(service->InProcessChannel(), "n", 2_MiB);
  const auto state_of_node = [&] {
    uint64_t version = 0;
    return service->state().Directory(clock.Now(), &version).at(0).health;
  };
  clock.Advance(options.node_suspect);
  service->RunBackgroundNow();
  EXPECT_EQ(state_of_node(), NodeHealth::kSuspect);
  clock.Advance(options.node_grace);
  service->RunBackgroundNow();
  EXPECT_EQ(state_of_node(), NodeHealth::kDead);
  service->Stop(Clock::Real().Now() + 5s);
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
