// Goal: who was fenced stays out, also of the next process of the node that takes up its memory. Method: the catalog's
// note of it, kept, overflowing and garbled; then a real meta service and two processes' worth of a node after another.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <iterator>
#include <thread>

#include "fabric/transport.h"
#include "local_service/catalog.h"
#include "local_service/catalog_reader.h"
#include "local_service/local_service.h"
#include "meta_service/meta_service.h"
#include "meta_service/state/meta_state.h"
#include "proto/key_list.h"
#include "proto/methods.h"
#include "tests/unit/temp_dir.h"

namespace mmc::local {
namespace {

using test::TempDir;

CatalogIdentity SomeIdentity(uint64_t incarnation = 77) {
  return {.node = "n", .incarnation = incarnation, .segments = {{.id = 1, .epoch = 9, .size = 2_MiB}}};
}

bool Refuses(const CatalogFences& fences, uint64_t session) {
  return session < fences.refused_below ||
         std::find(std::begin(fences.sessions), std::end(fences.sessions), session) != std::end(fences.sessions);
}

TEST(CatalogFences, AreKeptForTheNextOwnerAndEndWithTheIncarnation) {
  const TempDir dir;
  const std::string path = dir.File("a.catalog");
  {
    auto catalog = Catalog::Create(path, SomeIdentity());
    ASSERT_TRUE(catalog.ok());
    (*catalog)->NoteFenced(0);
    (*catalog)->NoteFenced(70);
    (*catalog)->NoteFenced(90);
    (*catalog)->NoteRefusedBelow(50);
    (*catalog)->NoteRefusedBelow(40);  // of an answer that comes late
  }
  auto catalog = Catalog::Hold(path);
  ASSERT_TRUE(catalog.ok());
  const auto image = (*catalog)->Read();
  ASSERT_TRUE(image.ok());
  ASSERT_TRUE((*catalog)->Resume(*image).ok());
  for (const uint64_t session : {1, 49, 70, 90}) EXPECT_TRUE(Refuses((*catalog)->fences(), session)) << session;
  for (const uint64_t session : {50, 69, 80, 91}) EXPECT_FALSE(Refuses((*catalog)->fences(), session)) << session;
  ASSERT_TRUE((*catalog)->Reset(SomeIdentity(78)).ok());
  EXPECT_FALSE(Refuses((*catalog)->fences(), 70));
  EXPECT_FALSE(Refuses((*catalog)->Read()->fences, 70));
}

TEST(CatalogFences, AreBoundedAndForgetNobodyWhoWasFenced) {
  const TempDir dir;
  auto catalog = Catalog::Create(dir.File("a.catalog"), SomeIdentity());
  ASSERT_TRUE(catalog.ok());
  constexpr uint64_t kSessions = 10 * kCatalogFences;
  for (uint64_t session = 2; session <= kSessions; session += 2) (*catalog)->NoteFenced(session);
  const CatalogFences fences = (*catalog)->Read()->fences;
  for (uint64_t session = 2; session <= kSessions; session += 2) ASSERT_TRUE(Refuses(fences, session)) << session;
  EXPECT_FALSE(Refuses(fences, kSessions - 1)) << "the youngest are told apart";
  EXPECT_FALSE(Refuses(fences, kSessions + 1));
  (*catalog)->NoteRefusedBelow(kSessions + 1);
  for (uint64_t session = 1; session <= kCatalogFences; ++session) (*catalog)->NoteFenced(kSessions + 2 * session);
  EXPECT_EQ((*catalog)->fences().refused_below, kSessions + 1) << "those below need no place";
}

TEST(CatalogFences, BytesThatDoNotCheckOutSayNothing) {
  const TempDir dir;
  const std::string path = dir.File("a.catalog");
  auto catalog = Catalog::Create(path, SomeIdentity());
  ASSERT_TRUE(catalog.ok());
  EXPECT_EQ((*catalog)->Read()->fences.refused_below, 0u);
  (*catalog)->NoteFenced(70);
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(static_cast<std::streamoff>(offsetof(CatalogHeader, fences) + offsetof(CatalogFences, refused_below)));
  file.put('\xff');
  file.close();
  EXPECT_FALSE(Refuses((*catalog)->Read()->fences, 70));
  EXPECT_FALSE(Refuses((*catalog)->Read()->fences, 1));
}

TimePoint Soon() { return Clock::Real().Now() + std::chrono::seconds(30); }

class FencedNode : public testing::Test {
 protected:
  void SetUp() override {
    meta::MetaOptions options;
    options.url.clear();
    options.metrics_url.clear();
    options.heartbeat = std::chrono::milliseconds(20);
    options.session_expiry = std::chrono::hours(1);
    auto meta = meta::MetaService::Create(options);
    ASSERT_TRUE(meta.ok()) << meta.status().ToString();
    meta_ = *std::move(meta);
    ASSERT_TRUE(meta_->Start().ok());
    rpc_ = meta_->InProcessChannel();
  }
  void TearDown() override {
    rpc_.reset();
    meta_->Stop(Soon());
  }
  std::unique_ptr<LocalService> StartNode() {
    LocalOptions options;
    options.name = "n";
    options.dram_bytes = 8u << 20;
    options.hugepages = options.prefault = false;
    options.data_url = "tcp://127.0.0.1:0";
    options.shm_directory = options.catalog_directory = dir_.path();
    options.segment_directory = memory_.path();
    options.warm_restart = options.keep_on_stop = true;
    options.join_timeout = std::chrono::seconds(30);
    auto node = LocalService::Create(options, meta_->InProcessChannel());
    EXPECT_TRUE(node.ok()) << node.status().ToString();
    EXPECT_TRUE((*node)->Start().ok());
    return *std::move(node);
  }
  uint64_t OpenSession() {
    proto::OpenSessionReply reply;
    EXPECT_TRUE(rpc_->Call(proto::kOpenSession, proto::OpenSessionRequest(), &reply, Soon()).ok());
    return reply.session();
  }
  // A writer that has a grant on the node and has not begun to write.
  void Grant(uint64_t session) {
    proto::PutStartRequest request;
    request.set_session(session);
    proto::AppendKey("k", request.mutable_keys());
    request.add_sizes(5000);
    proto::PutStartReply reply;
    const Status started = rpc_->Call(proto::kPutStart, request, &reply, Soon());
    ASSERT_TRUE(started.ok()) << started.ToString();
    ASSERT_EQ(reply.status(0), 0u);
  }
  static Code Connect(const LocalService& node, const std::string& transport, uint64_t session) {
    for (const fabric::Endpoint& endpoint : node.endpoints()) {
      if (endpoint.transport != transport) continue;
      fabric::LinkOptions options;
      options.session = session;
      return fabric::FindTransport(transport)->Connect(endpoint.address, options, Soon()).code();
    }
    return Code::kNotFound;
  }
  bool FencesAreOver() {
    for (const TimePoint until = Soon(); Clock::Real().Now() < until;) {
      if (meta_->state().figures().fences_waiting == 0) return true;
      std::this_thread::yield();
    }
    return false;
  }

  const TempDir dir_;
  const TempDir memory_{"/dev/shm"};
  std::unique_ptr<meta::MetaService> meta_;
  std::shared_ptr<rpc::Channel> rpc_;
};

TEST_F(FencedNode, StaysClosedToThemAfterARestart) {
  const uint64_t old = OpenSession();  // stays, so that the others are not simply older than all there are
  const uint64_t dead = OpenSession();
  {
    const auto node = StartNode();
    Grant(dead);
    proto::CloseSessionRequest close;
    close.set_session(dead);
    proto::Empty none;
    ASSERT_TRUE(rpc_->Call(proto::kCloseSession, close, &none, Soon()).ok());
    ASSERT_TRUE(FencesAreOver());
    EXPECT_EQ(Connect(*node, "tcp", dead), Code::kPermission);
  }
  const auto node = StartNode();
  for (const char* transport : {"tcp", "shm"}) {
    EXPECT_EQ(Connect(*node, transport, dead), Code::kPermission) << transport;
    EXPECT_EQ(Connect(*node, transport, old), Code::kOk) << transport;
    EXPECT_EQ(Connect(*node, transport, OpenSession()), Code::kOk) << transport;
  }
}

}  // namespace
}  // namespace mmc::local
