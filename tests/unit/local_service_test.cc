// Goal: a node keeps the promises of local_service.h towards writers, readers and the meta service.
// Method: a real meta service and real local services in this process; bytes move over real shm and
// tcp links.
#include "local_service/local_service.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <thread>

#include "fabric/tcp/frame.h"
#include "fabric/transport.h"
#include "local_service/catalog_reader.h"
#include "local_service/meta_agent.h"
#include "meta_service/meta_service.h"
#include "proto/key_list.h"
#include "proto/methods.h"
#include "tests/unit/flaky_channel.h"
#include "tests/unit/held_port.h"
#include "tests/unit/temp_dir.h"

namespace mmc::local {
namespace {

using fabric::Direction;
using testing::HasSubstr;

TimePoint Soon() { return Clock::Real().Now() + std::chrono::seconds(30); }

// What a client knows of one replica.
struct Place {
  uint64_t grant = 0;
  fabric::RegionRef region;
  std::vector<CatalogExtent> extents;
};

std::string Value(size_t bytes, uint64_t seed) {
  std::string value(bytes, '\0');
  for (size_t i = 0; i < bytes; ++i)
    value[i] = static_cast<char>((i * 2654435761u + seed * 40503u) >> 7);
  return value;
}

class LocalServiceTest : public testing::Test {
 protected:
  void SetUp() override { StartMeta(); }

  void StartMeta() {
    meta::MetaOptions options;
    options.url = port_.url();
    options.io_threads = 1;
    options.heartbeat = std::chrono::milliseconds(20);
    // Nobody is given up because the machine is busy.
    options.session_expiry = options.node_suspect = std::chrono::minutes(5);
    options.node_grace = std::chrono::minutes(10);
    Result<std::unique_ptr<meta::MetaService>> meta = meta::MetaService::Create(options);
    ASSERT_TRUE(meta.ok()) << meta.status().ToString();
    meta_ = *std::move(meta);
    const Status status = meta_->Start();
    ASSERT_TRUE(status.ok()) << status.ToString();
    rpc_ = meta_->InProcessChannel();
    session_ = OpenSession();
  }
  // As after kill -9: the new one knows nothing, and listens where the old one did.
  void RestartMeta() {
    rpc_->Close();
    rpc_.reset();
    meta_->Stop(Clock::Real().Now());
    meta_.reset();
    StartMeta();
  }
  std::shared_ptr<rpc::Channel> TcpChannel() const {
    rpc::ChannelOptions options;
    options.url = port_.url();
    return *rpc::MakeTcpChannel(options);
  }
  LocalOptions Options(const std::string& name = "node-a") const {
    LocalOptions options;
    options.name = name;
    options.dram_bytes = 8u << 20;
    options.hugepages = false;
    options.prefault = false;
    options.data_url = "tcp://127.0.0.1:0";
    options.shm_directory = dir_.path();
    options.catalog_directory = dir_.path();
    options.join_timeout = std::chrono::seconds(30);
    return options;
  }
  std::unique_ptr<LocalService> StartNode(const LocalOptions& options,
                                          std::shared_ptr<rpc::Channel> channel) {
    Result<std::unique_ptr<LocalService>> node = LocalService::Create(options, std::move(channel));
    EXPECT_TRUE(node.ok()) << node.status().ToString();
    const Status status = (*node)->Start();
    EXPECT_TRUE(status.ok()) << status.ToString();
    return *std::move(node);
  }
  std::unique_ptr<LocalService> StartNode() { return StartNode(Options(), TcpChannel()); }

  uint64_t OpenSession() {
    proto::OpenSessionRequest request;
    request.set_client_name("test");
    proto::OpenSessionReply reply;
    EXPECT_TRUE(rpc_->Call(proto::kOpenSession, request, &reply, Soon()).ok());
    return reply.session();
  }
  static std::shared_ptr<fabric::Link> Connect(const LocalService& node,
                                               const std::string& transport, uint64_t session) {
    for (const fabric::Endpoint& endpoint : node.endpoints()) {
      if (endpoint.transport != transport) continue;
      fabric::LinkOptions options;
      options.session = session;
      auto link = fabric::FindTransport(transport)->Connect(endpoint.address, options, Soon());
      return link.ok() ? *link : nullptr;
    }
    ADD_FAILURE() << "no endpoint for " << transport;
    return nullptr;
  }
  static Place PlaceOf(const proto::ReplicaColumns& columns) {
    Place place;
    EXPECT_EQ(columns.node_size(), 1);
    if (columns.node_size() != 1) return place;
    place.region = {.segment = columns.segment(0), .epoch = columns.epoch(0)};
    for (int i = 0; i < columns.extent_offset_size(); ++i) {
      place.extents.push_back({columns.extent_offset(i), columns.extent_length(i)});
    }
    return place;
  }
  Place Grant(const std::string& key, uint64_t size, uint64_t session) {
    proto::PutStartRequest request;
    request.set_session(session);
    proto::AppendKey(key, request.mutable_keys());
    request.add_sizes(size);
    proto::PutStartReply reply;
    const Status status = rpc_->Call(proto::kPutStart, request, &reply, Soon());
    EXPECT_TRUE(status.ok()) << status.ToString();
    if (reply.status_size() != 1 || reply.status(0) != 0) {
      ADD_FAILURE() << "no grant for " << key << ": "
                    << (reply.status_size() == 1 ? CodeName(CodeFromWire(reply.status(0)))
                                                 : "no row");
      return {};
    }
    Place place = PlaceOf(reply.replicas());
    place.grant = reply.grant(0);
    return place;
  }
  static Status Move(fabric::Link& link, Direction direction, const Place& place, char* data) {
    std::vector<fabric::Op> ops;
    for (const CatalogExtent& extent : place.extents) {
      ops.push_back({.local = reinterpret_cast<std::byte*>(data),
                     .remote = place.region,
                     .remote_offset = extent.offset,
                     .length = extent.length});
      data += extent.length;
    }
    return link.Execute(direction, ops, Soon());
  }
  void Put(const std::string& key, std::string value, fabric::Link& link) {
    const Place place = Grant(key, value.size(), session_);
    const Status moved = Move(link, Direction::kWrite, place, value.data());
    ASSERT_TRUE(moved.ok()) << moved.ToString();
    proto::PutCommitRequest request;
    request.set_session(session_);
    request.add_grant(place.grant);
    request.add_checksum(4711);
    proto::PutCommitReply reply;
    ASSERT_TRUE(rpc_->Call(proto::kPutCommit, request, &reply, Soon()).ok());
    ASSERT_EQ(reply.status(0), 0u);
  }
  Code Lookup(const std::string& key, Place* place) {
    proto::LookupRequest request;
    proto::AppendKey(key, request.mutable_keys());
    proto::LookupReply reply;
    EXPECT_TRUE(rpc_->Call(proto::kLookup, request, &reply, Soon()).ok());
    const Code code = CodeFromWire(reply.status(0));
    if (code == Code::kOk) *place = PlaceOf(reply.replicas());
    return code;
  }
  void ExpectReads(const std::string& key, const std::string& value, fabric::Link& link) {
    Place place;
    ASSERT_EQ(Lookup(key, &place), Code::kOk);
    std::string got(value.size(), '\0');
    const Status moved = Move(link, Direction::kRead, place, got.data());
    ASSERT_TRUE(moved.ok()) << moved.ToString();
    EXPECT_TRUE(got == value) << key;
  }
  // Asks until the answer holds: the meta service has no event to wait for.
  template <typename Holds>
  ::testing::AssertionResult Until(Holds holds) {
    const TimePoint deadline = Soon();
    while (Clock::Real().Now() < deadline) {
      proto::ClusterStatusReply reply;
      const Status status =
          rpc_->Call(proto::kClusterStatus, proto::ClusterStatusRequest(), &reply, deadline);
      if (!status.ok()) return ::testing::AssertionFailure() << status.ToString();
      if (holds(reply)) return ::testing::AssertionSuccess();
      std::this_thread::yield();
    }
    return ::testing::AssertionFailure() << "it did not come to that";
  }

  test::TempDir dir_;
  const test::HeldPort port_;  // of the meta service
  std::unique_ptr<meta::MetaService> meta_;
  std::shared_ptr<rpc::Channel> rpc_;
  uint64_t session_ = 0;
};

TEST_F(LocalServiceTest, ServesWritersAndReadersAndKeepsTheCatalog) {
  const auto node = StartNode();
  EXPECT_EQ(node->name(), "node-a");
  EXPECT_EQ(node->stats().joins, 1u);
  for (const char* transport : {"shm", "tcp"}) {
    const auto link = Connect(*node, transport, session_);
    ASSERT_NE(link, nullptr) << transport;
    const std::string key = std::string("key over ") + transport;
    const std::string value = Value(300'001, 5);
    Put(key, value, *link);
    ExpectReads(key, value, *link);
  }
  ASSERT_TRUE(node->agent().WaitApplied(2, Soon()));
  const Result<CatalogImage> image = CatalogReader::Open(node->catalog_path());
  ASSERT_TRUE(image.ok()) << image.status().ToString();
  EXPECT_EQ(image->identity.node, "node-a");
  EXPECT_EQ(image->identity.incarnation, node->incarnation());
  ASSERT_EQ(image->records.size(), 2u);
  EXPECT_EQ(image->records[0].key, "key over shm");
  EXPECT_EQ(image->records[0].size, 300'001u);
  EXPECT_EQ(image->records[0].checksum, 4711u);
  Place place;
  ASSERT_EQ(Lookup("key over shm", &place), Code::kOk);
  EXPECT_EQ(image->records[0].epoch, place.region.epoch);
  ASSERT_EQ(image->records[0].extents.size(), place.extents.size());
  EXPECT_EQ(image->records[0].extents[0].offset, place.extents[0].offset);
}

TEST_F(LocalServiceTest, ForgetsWhatIsRemoved) {
  const auto node = StartNode();
  const auto link = Connect(*node, "shm", session_);
  ASSERT_NE(link, nullptr);
  Put("a", Value(100, 1), *link);
  Put("b", Value(100, 2), *link);
  proto::RemoveRequest request;
  proto::AppendKey("a", request.mutable_keys());
  proto::RemoveReply reply;
  ASSERT_TRUE(rpc_->Call(proto::kRemove, request, &reply, Soon()).ok());
  ASSERT_TRUE(node->agent().WaitApplied(3, Soon()));
  const Result<CatalogImage> image = CatalogReader::Open(node->catalog_path());
  ASSERT_TRUE(image.ok());
  ASSERT_EQ(image->records.size(), 1u);
  EXPECT_EQ(image->records[0].key, "b");
  EXPECT_EQ(node->stats().objects, 1u);
}

class LocalServiceFenceTest : public LocalServiceTest,
                              public testing::WithParamInterface<const char*> {};

TEST_P(LocalServiceFenceTest, AFencedSessionWritesNoMore) {
  const auto node = StartNode();
  const uint64_t bad = OpenSession();
  const auto bad_link = Connect(*node, GetParam(), bad);
  const auto good_link = Connect(*node, GetParam(), session_);
  ASSERT_TRUE(bad_link != nullptr && good_link != nullptr);
  std::string value = Value(4096, 1);
  const Place place = Grant("stuck", value.size(), bad);
  ASSERT_TRUE(Move(*bad_link, Direction::kWrite, place, value.data()).ok());

  proto::PutAbortRequest request;
  request.set_session(bad);
  request.add_grant(place.grant);
  request.set_unconfirmed(true);
  proto::PutAbortReply reply;
  ASSERT_TRUE(rpc_->Call(proto::kPutAbort, request, &reply, Soon()).ok());
  // Its space comes back only once the node has fenced the session.
  EXPECT_TRUE(Until([](const proto::ClusterStatusReply& s) { return s.used_bytes() == 0; }));
  EXPECT_FALSE(Move(*bad_link, Direction::kWrite, place, value.data()).ok());
  EXPECT_EQ(Connect(*node, GetParam(), bad), nullptr);
  Put("fine", Value(5000, 9), *good_link);
  ExpectReads("fine", Value(5000, 9), *good_link);
}

INSTANTIATE_TEST_SUITE_P(Transports, LocalServiceFenceTest, testing::Values("shm", "tcp"));

TEST_F(LocalServiceTest, LeavesWithNothingLeftBehind) {
  auto node = StartNode();
  const auto link = Connect(*node, "tcp", session_);
  ASSERT_NE(link, nullptr);
  Put("a", Value(100, 1), *link);
  link->Close();
  const std::string catalog = node->catalog_path();
  node->Stop(Soon());
  Place place;
  EXPECT_EQ(Lookup("a", &place), Code::kNotFound);
  EXPECT_TRUE(Until([](const proto::ClusterStatusReply& s) {
    return s.capacity_bytes() == 0 && s.objects() == 0;
  }));
  node->Stop(Soon());
  node.reset();
  EXPECT_NE(access(catalog.c_str(), F_OK), 0);
  EXPECT_TRUE(std::filesystem::is_empty(dir_.path()));
  // The name is free again.
  node = StartNode();
  EXPECT_TRUE(node->stats().joined);
}

// Sends and receives whole structures of the data protocol, as a client that reads slowly.
class SlowReader {
 public:
  explicit SlowReader(const std::string& address) : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
    const int small = 64 << 10;
    setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    to.sin_port = htons(static_cast<uint16_t>(std::stoi(address.substr(address.rfind(':') + 1))));
    EXPECT_EQ(connect(fd_, reinterpret_cast<sockaddr*>(&to), sizeof to), 0);
  }
  ~SlowReader() { close(fd_); }
  SlowReader(const SlowReader&) = delete;
  SlowReader& operator=(const SlowReader&) = delete;

  template <typename T>
  void Send(const T& value) const {
    ASSERT_EQ(send(fd_, &value, sizeof value, MSG_NOSIGNAL), ssize_t{sizeof value});
  }
  bool Receive(void* to, size_t bytes) const {
    return recv(fd_, to, bytes, MSG_WAITALL) == static_cast<ssize_t>(bytes);
  }

 private:
  const int fd_;
};

TEST_F(LocalServiceTest, AReadThatRunsWhenTheNodeLeavesIsFinished) {
  const auto node = StartNode();
  const std::string value = Value(7u << 20, 3);  // more than the sockets in between can hold
  std::string address;
  {
    const auto link = Connect(*node, "tcp", session_);
    ASSERT_NE(link, nullptr);
    Put("big", value, *link);
    link->Close();
  }
  for (const fabric::Endpoint& endpoint : node->endpoints()) {
    if (endpoint.transport == "tcp") address = endpoint.address;
  }
  Place place;
  ASSERT_EQ(Lookup("big", &place), Code::kOk);
  const SlowReader reader(address);
  reader.Send(fabric::tcp::Hello{.session = session_});
  fabric::tcp::HelloReply hello;
  ASSERT_TRUE(reader.Receive(&hello, sizeof hello));
  reader.Send(fabric::tcp::RequestHead{.op_count = static_cast<uint32_t>(place.extents.size()),
                                       .total = value.size(),
                                       .request = 1});
  for (const CatalogExtent& extent : place.extents) {
    reader.Send(fabric::tcp::WireOp{.segment = place.region.segment,
                                    .epoch = place.region.epoch,
                                    .offset = extent.offset,
                                    .length = extent.length});
  }
  fabric::tcp::ResponseHead head;
  ASSERT_TRUE(reader.Receive(&head, sizeof head));
  ASSERT_EQ(head.code, 0u);

  std::thread stopper([&] { node->Stop(Soon()); });
  EXPECT_TRUE(Until([](const proto::ClusterStatusReply& s) { return s.capacity_bytes() == 0; }));
  std::string got(value.size(), '\0');
  EXPECT_TRUE(reader.Receive(got.data(), got.size()));
  EXPECT_TRUE(got == value);
  stopper.join();
}

TEST_F(LocalServiceTest, ALostConnectionLosesNothing) {
  auto channel = std::make_shared<test::FlakyChannel>(TcpChannel());
  const auto node = StartNode(Options(), channel);
  const uint64_t incarnation = node->incarnation();
  const auto link = Connect(*node, "shm", session_);
  ASSERT_NE(link, nullptr);
  Put("before", Value(9000, 1), *link);
  channel->broken = true;
  while (channel->cut_calls < 4) std::this_thread::yield();
  Put("meanwhile", Value(9000, 2), *link);
  channel->broken = false;
  ASSERT_TRUE(node->agent().WaitApplied(2, Soon()));
  EXPECT_EQ(node->incarnation(), incarnation);
  EXPECT_EQ(node->stats().joins, 1u);
  EXPECT_EQ(node->stats().objects, 2u);
  ExpectReads("before", Value(9000, 1), *link);
  ExpectReads("meanwhile", Value(9000, 2), *link);
}

TEST_F(LocalServiceTest, AMetaServiceThatForgotItGetsItsObjectsBackAndItsOldWritersAreShutOut) {
  const auto node = StartNode();
  const uint64_t incarnation = node->incarnation();
  const auto old_tcp = Connect(*node, "tcp", session_);
  const auto old_shm = Connect(*node, "shm", session_);
  ASSERT_TRUE(old_tcp != nullptr && old_shm != nullptr);
  Put("old", Value(9000, 1), *old_tcp);
  ASSERT_TRUE(node->agent().WaitApplied(1, Soon()));
  std::string buffer(9000, 'x');
  const Place place = Grant("never committed", buffer.size(), session_);
  const uint64_t old_session = session_;

  RestartMeta();
  EXPECT_TRUE(Until([&](const proto::ClusterStatusReply& s) {
    return s.objects() == 1 && node->agent().settled();
  }));
  EXPECT_EQ(node->incarnation(), incarnation);
  EXPECT_EQ(node->stats().objects, 1u);

  // The old grant is nobody's: by old links and new ones it leads nowhere.
  EXPECT_FALSE(Move(*old_tcp, Direction::kWrite, place, buffer.data()).ok());
  EXPECT_FALSE(Move(*old_shm, Direction::kWrite, place, buffer.data()).ok());
  for (const char* transport : {"tcp", "shm"}) {
    EXPECT_EQ(Connect(*node, transport, old_session), nullptr) << transport;
    const auto link = Connect(*node, transport, session_);
    ASSERT_NE(link, nullptr);
    ExpectReads("old", Value(9000, 1), *link);
    Put(std::string("new ") + transport, Value(9000, 3), *link);
    ExpectReads(std::string("new ") + transport, Value(9000, 3), *link);
  }
  ASSERT_TRUE(Until([&](const proto::ClusterStatusReply&) { return node->stats().objects == 3; }));
  EXPECT_EQ(CatalogReader::Open(node->catalog_path())->records.size(), 3u);
}

TEST_F(LocalServiceTest, AnotherProcessOfTheNodeGoesOnWithItsObjects) {
  LocalOptions options = Options();
  options.warm_restart = options.keep_on_stop = true;
  const test::TempDir memory("/dev/shm");
  options.segment_directory = memory.path();
  uint64_t incarnation = 0;
  {
    const auto node = StartNode(options, TcpChannel());
    incarnation = node->incarnation();
    const auto link = Connect(*node, "shm", session_);
    ASSERT_NE(link, nullptr);
    Put("a", Value(9000, 1), *link);
    ASSERT_TRUE(node->agent().WaitApplied(1, Soon()));
  }
  for (const bool meta_too : {false, true}) {
    if (meta_too) RestartMeta();
    const auto node = StartNode(options, TcpChannel());
    EXPECT_EQ(node->incarnation(), incarnation);
    const auto link = Connect(*node, "shm", session_);
    ASSERT_NE(link, nullptr);
    ExpectReads("a", Value(9000, 1), *link);
    const std::string key = meta_too ? "c" : "b";
    Put(key, Value(5000, 2), *link);
    ASSERT_TRUE(node->agent().WaitApplied(1, Soon()));
  }
  options.keep_on_stop = false;
  StartNode(options, TcpChannel())->Stop(Soon());
  EXPECT_TRUE(std::filesystem::is_empty(memory.path()));
}

TEST_F(LocalServiceTest, AClientOfAnEarlierProcessKeepsFreeSpaceFromBeingUsed) {
  LocalOptions options = Options();
  options.warm_restart = options.keep_on_stop = true;
  const test::TempDir memory("/dev/shm");
  options.segment_directory = memory.path();
  int client = -1;
  {
    const auto node = StartNode(options, TcpChannel());
    const auto link = Connect(*node, "tcp", session_);
    ASSERT_NE(link, nullptr);
    Put("a", Value(9000, 1), *link);
    ASSERT_TRUE(node->agent().WaitApplied(1, Soon()));
    // What a client over shared memory holds, here by hand: it survives the service.
    for (const auto& file : std::filesystem::directory_iterator(memory.path())) {
      if (file.path().string().find("presence-") == std::string::npos) continue;
      client = open(file.path().c_str(), O_RDONLY | O_CLOEXEC);
    }
    ASSERT_EQ(flock(client, LOCK_SH | LOCK_NB), 0);
  }
  RestartMeta();
  const auto node = StartNode(options, TcpChannel());
  EXPECT_FALSE(node->agent().settled());
  const auto link = Connect(*node, "tcp", session_);
  ASSERT_NE(link, nullptr);
  ExpectReads("a", Value(9000, 1), *link);
  close(client);
  EXPECT_TRUE(Until([&](const proto::ClusterStatusReply&) { return node->agent().settled(); }));
  Put("b", Value(9000, 1), *link);
}

TEST_F(LocalServiceTest, TwoOfOneNameCannotLiveOnOneHost) {
  const auto node = StartNode();
  auto second = LocalService::Create(Options(), TcpChannel());
  ASSERT_TRUE(second.ok());
  const Status status = (*second)->Start();
  EXPECT_EQ(status.code(), Code::kExists) << status.ToString();
  EXPECT_THAT(status.message(), HasSubstr("another local service of this name"));
  const auto link = Connect(*node, "shm", session_);
  ASSERT_NE(link, nullptr);
  Put("a", Value(10, 1), *link);
}

TEST_F(LocalServiceTest, SeveralWithoutANameLiveSideBySide) {
  LocalOptions options = Options("");
  const auto a = StartNode(options, TcpChannel());
  const auto b = StartNode(options, TcpChannel());
  EXPECT_NE(a->name(), b->name());
  EXPECT_TRUE(
      Until([](const proto::ClusterStatusReply& s) { return s.capacity_bytes() == 16u << 20; }));
}

TEST_F(LocalServiceTest, ATakenDataPortIsAnErrorOnlyWhenItWasAskedFor) {
  const auto first = StartNode();
  std::string address;
  for (const fabric::Endpoint& endpoint : first->endpoints()) {
    if (endpoint.transport == "tcp") address = endpoint.address;
  }
  LocalOptions options = Options("node-b");
  options.data_url = "tcp://" + address;
  options.data_url_set = true;
  auto second = LocalService::Create(options, TcpChannel());
  ASSERT_TRUE(second.ok());
  const Status status = (*second)->Start();
  EXPECT_EQ(status.code(), Code::kIo);
  EXPECT_THAT(status.message(), HasSubstr(address));
  EXPECT_THAT(status.message(), HasSubstr("ock.mmc.local_service.hcom_url"));
  options.data_url_set = false;
  EXPECT_TRUE(StartNode(options, TcpChannel())->stats().joined);
}

TEST_F(LocalServiceTest, APreferredTransportThatIsMissingIsAnErrorOnlyWhenStrict) {
  LocalOptions options = Options();
  options.protocol = "host_rdma";
  options.transport = "roce";
  EXPECT_TRUE(StartNode(options, TcpChannel())->stats().joined);
  options.protocol_strict = true;
  auto strict = LocalService::Create(options, TcpChannel());
  ASSERT_TRUE(strict.ok());
  const Status status = (*strict)->Start();
  EXPECT_EQ(status.code(), Code::kUnsupported);
  EXPECT_THAT(status.message(), HasSubstr("ock.mmc.local_service.protocol = host_rdma"));
  EXPECT_TRUE(std::filesystem::is_empty(dir_.path()));

  LocalOptions device = Options();
  device.hbm_bytes = 2u << 20;
  EXPECT_TRUE(LocalService::Create(device, TcpChannel()).ok());
  device.protocol_strict = true;
  EXPECT_FALSE(LocalService::Create(device, TcpChannel()).ok());
  device.protocol_strict = false;
  device.dram_bytes = 0;
  EXPECT_EQ(LocalService::Create(device, TcpChannel()).code(), Code::kConfig);
}

TEST_F(LocalServiceTest, WithoutAMetaServiceItSaysSoAndCleansUp) {
  rpc::ChannelOptions nowhere;
  nowhere.url = port_.url();
  rpc_.reset();
  meta_.reset();
  LocalOptions options = Options();
  options.meta_url = nowhere.url;
  options.join_timeout = std::chrono::milliseconds(30);
  auto node = LocalService::Create(options, *rpc::MakeTcpChannel(nowhere));
  ASSERT_TRUE(node.ok());
  const Status status = (*node)->Start();
  EXPECT_EQ(status.code(), Code::kUnavailable);
  EXPECT_THAT(status.message(), HasSubstr(nowhere.url));
  EXPECT_THAT(status.message(), HasSubstr("ock.mmc.meta_service_url"));
  EXPECT_TRUE(std::filesystem::is_empty(dir_.path()));

  // Without a limit it goes on trying, until it is stopped.
  options.join_timeout = std::chrono::milliseconds(0);
  node = LocalService::Create(options, *rpc::MakeTcpChannel(nowhere));
  ASSERT_TRUE(node.ok());
  Status stopped;
  std::thread starter([&] { stopped = (*node)->Start(); });
  (*node)->Stop(Soon());
  starter.join();
  EXPECT_EQ(stopped.code(), Code::kCancelled);
}

}  // namespace
}  // namespace mmc::local
