// A meta service in the process with its channel, a node that acknowledges by itself, and short
// forms of the methods.
//
// Thread safety: Call and OpenSession from any thread. Ownership: the fixture owns all.
#pragma once

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
#include "meta_service/state/meta_state.h"
#include "proto/key_list.h"
#include "proto/methods.h"

namespace mmc::meta {

using namespace std::chrono_literals;

inline uint32_t Number(Code code) { return static_cast<uint32_t>(code); }

inline void FillKeys(const std::vector<std::string>& keys, proto::KeyList* out) {
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
    const Status joined = channel_->Call(proto::kJoin, join, &reply, Clock::Real().Now() + 30s);
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
      if (!channel_->Call(proto::kCatalogSync, request, &reply, Clock::Real().Now() + 30s).ok())
        return;
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
  explicit MetaOps(std::chrono::milliseconds session_expiry = 10min) : session_expiry_(session_expiry) {}

  void SetUp() override {
    MetaOptions options;
    options.url.clear();
    options.metrics_url.clear();
    options.session_expiry = session_expiry_;
    options.node_suspect = options.node_grace = 10min;  // nobody is given up because the machine is busy
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
  Status Call(const Method& method, const typename Method::Request& request,
              typename Method::Reply* reply, Duration within = 30s) {
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
  proto::PutStartRequest PutRequest(const std::vector<std::string>& keys, uint64_t size,
                                    uint64_t session = 0) {
    proto::PutStartRequest request;
    request.set_session(session != 0 ? session : session_);
    FillKeys(keys, request.mutable_keys());
    for (size_t i = 0; i < keys.size(); ++i) request.add_sizes(size);
    return request;
  }
  Status Commit(const proto::PutStartReply& started, uint64_t session,
                proto::PutCommitReply* reply) {
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

  const std::chrono::milliseconds session_expiry_;
  std::unique_ptr<MetaService> service_;
  std::shared_ptr<rpc::Channel> channel_;
  std::unique_ptr<FakeNode> node_;
  uint64_t session_ = 0;
};

}  // namespace mmc::meta
