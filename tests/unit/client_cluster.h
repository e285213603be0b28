// A whole pool inside the test's process: a meta service on a port of its own, local services with small
// memories, and channels through which a test can lose, delay or refuse single calls.
//
// Thread safety: Cluster from one thread; a FaultyChannel's hook may be called from several.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "client_sdk/src/client_impl.h"
#include "common/base/mutex.h"
#include "local_service/local_service.h"
#include "meta_service/meta_service.h"
#include "proto/methods.h"
#include "tests/unit/held_port.h"
#include "tests/unit/temp_dir.h"

namespace mmc::test {

inline TimePoint In(std::chrono::milliseconds time) { return Clock::Real().Now() + time; }

// Bytes that tell from which key, version and place they are.
inline std::string Pattern(size_t size, uint64_t seed) {
  std::string out(size, '\0');
  uint64_t x = seed * 0x9E3779B97F4A7C15ull + 1;
  for (size_t i = 0; i < size; ++i) {
    if (i % 8 == 0) {
      x ^= x << 13;
      x ^= x >> 7;
      x ^= x << 17;
    }
    out[i] = static_cast<char>(x >> (i % 8 * 8));
  }
  return out;
}

// Passes calls on to another channel, with a hook before and one after each. A hook that returns a
// failure takes the place of the call, or of its answer.
class FaultyChannel final : public rpc::Channel {
 public:
  using Before =
      std::function<Status(uint16_t method, const google::protobuf::MessageLite& request)>;
  using After = std::function<Status(uint16_t method, google::protobuf::MessageLite* reply)>;

  explicit FaultyChannel(std::shared_ptr<rpc::Channel> to) : to_(std::move(to)) {}
  ~FaultyChannel() override {
    for (std::thread& answer : answers_) answer.join();
  }

  void SetBefore(Before before) {
    MutexLock lock(mutex_);
    before_ = std::make_shared<Before>(std::move(before));
  }
  void SetAfter(After after) {
    MutexLock lock(mutex_);
    after_ = std::make_shared<After>(std::move(after));
  }
  int calls(uint16_t method) const {
    MutexLock lock(mutex_);
    const auto it = calls_.find(method);
    return it == calls_.end() ? 0 : it->second;
  }

  Status CallRaw(uint16_t method, const google::protobuf::MessageLite& request,
                 google::protobuf::MessageLite* reply, TimePoint deadline) override {
    MMC_RETURN_IF_ERROR(RunBefore(method, request));
    MMC_RETURN_IF_ERROR(to_->CallRaw(method, request, reply, deadline));
    std::shared_ptr<After> after;
    {
      MutexLock lock(mutex_);
      after = after_;
    }
    return after ? (*after)(method, reply) : Status::Ok();
  }
  void CallRawAsync(uint16_t method, const google::protobuf::MessageLite& request,
                    google::protobuf::MessageLite* reply, TimePoint deadline,
                    std::function<void(Status)> done) override {
    Status status = RunBefore(method, request);
    if (status.ok()) {
      to_->CallRawAsync(method, request, reply, deadline, std::move(done));
    } else {
      // Never inside this call: the caller may hold locks.
      MutexLock lock(mutex_);
      answers_.emplace_back([done = std::move(done), status] { done(status); });
    }
  }
  void Close() override { to_->Close(); }
  uint64_t connection_epoch() const override { return to_->connection_epoch(); }

 private:
  Status RunBefore(uint16_t method, const google::protobuf::MessageLite& request) {
    std::shared_ptr<Before> before;
    {
      MutexLock lock(mutex_);
      ++calls_[method];
      before = before_;
    }
    return before ? (*before)(method, request) : Status::Ok();
  }

  const std::shared_ptr<rpc::Channel> to_;
  mutable Mutex mutex_;
  std::shared_ptr<Before> before_ MMC_GUARDED_BY(mutex_);
  std::shared_ptr<After> after_ MMC_GUARDED_BY(mutex_);
  std::map<uint16_t, int> calls_ MMC_GUARDED_BY(mutex_);
  std::vector<std::thread> answers_;
};

struct ClusterOptions {
  int nodes = 1;
  uint64_t dram_bytes = 64_MiB;
  meta::MetaOptions meta;
  // How long RestartMeta's service waits for the nodes that were there; it ends when all have
  // reported what they hold. 0: it does not wait.
  std::chrono::milliseconds restart_recovery{0};
  std::function<void(local::LocalOptions* node)> tune_node;  // null: nothing to change
};

class Cluster {
 public:
  explicit Cluster(ClusterOptions options = {}) : options_(std::move(options)) {
    StartMeta();
    for (int i = 0; i < options_.nodes; ++i) StartNode(i);
  }
  ~Cluster() {
    for (size_t i = 0; i < nodes_.size(); ++i) StopNode(i);
    nodes_.clear();
    node_channels_.clear();
    StopMeta();
  }

  std::string url() const { return port_.url(); }
  meta::MetaService& meta() { return *meta_; }
  local::LocalService& node(size_t i) { return *nodes_[i]; }
  // Between node i and the meta service.
  FaultyChannel& node_channel(size_t i) { return *node_channels_[i]; }

  ClientOptions Options() const {
    ClientOptions out;
    out.meta_url = url();
    out.timeout = std::chrono::seconds(30);
    return out;
  }
  std::unique_ptr<Client> Connect(const ClientOptions& options) {
    auto client = Client::Connect(options);
    EXPECT_TRUE(client.ok()) << client.status().ToString();
    return client.ok() ? std::move(client).value() : nullptr;
  }
  std::unique_ptr<Client> Connect() { return Connect(Options()); }
  // A client whose calls go through `*faults`.
  std::unique_ptr<Client> ConnectFaulty(const ClientOptions& options,
                                        std::shared_ptr<FaultyChannel>* faults) {
    *faults = std::make_shared<FaultyChannel>(RawChannel());
    auto client = client::ConnectOver(options, {{url(), *faults}});
    EXPECT_TRUE(client.ok()) << client.status().ToString();
    return client.ok() ? std::move(client).value() : nullptr;
  }
  std::shared_ptr<rpc::Channel> RawChannel() const {
    rpc::ChannelOptions channel;
    channel.url = url();
    auto made = rpc::MakeTcpChannel(channel);
    EXPECT_TRUE(made.ok()) << made.status().ToString();
    return std::move(made).value();
  }

  // Leaves the pool in order.
  void StopNode(size_t i) {
    if (nodes_[i] != nullptr) nodes_[i]->Stop(In(std::chrono::seconds(30)));
  }
  // Gone without a word: the meta service goes on believing in it until its grace period is over.
  void KillNode(size_t i) {
    node_channels_[i]->SetBefore([](uint16_t, const google::protobuf::MessageLite&) {
      return Status(Code::kUnavailable, "the node is dead");
    });
    nodes_[i]->Stop(In(std::chrono::milliseconds(0)));
  }
  void StopMeta() { meta_->Stop(In(std::chrono::seconds(2))); }
  // Another meta service at the same address.
  void RestartMeta() {
    StopMeta();
    meta_.reset();
    options_.meta.recovery = options_.restart_recovery;
    StartMeta();
  }

 private:
  void StartMeta() {
    meta::MetaOptions options = options_.meta;
    options.url = url();
    options.metrics_url.clear();
    if (options_.restart_recovery.count() > 0) options.state_path = directory_.path();
    auto meta = meta::MetaService::Create(options);
    ASSERT_TRUE(meta.ok()) << meta.status().ToString();
    meta_ = std::move(meta).value();
    const Status started = meta_->Start();
    ASSERT_TRUE(started.ok()) << started.ToString();
  }
  void StartNode(int number) {
    local::LocalOptions options;
    options.meta_url = url();
    options.name = "node" + std::to_string(number);
    options.dram_bytes = options_.dram_bytes;
    options.prefault = false;
    options.hugepages = false;
    options.data_url = "tcp://127.0.0.1:0";
    options.data_url_set = true;
    options.shm_directory = directory_.path();
    options.catalog_directory = directory_.path();
    if (options_.tune_node != nullptr) options_.tune_node(&options);
    node_channels_.push_back(std::make_shared<FaultyChannel>(RawChannel()));
    auto node = local::LocalService::Create(options, node_channels_.back());
    ASSERT_TRUE(node.ok()) << node.status().ToString();
    nodes_.push_back(std::move(node).value());
    const Status started = nodes_.back()->Start();
    ASSERT_TRUE(started.ok()) << started.ToString();
  }

  ClusterOptions options_;
  TempDir directory_;
  const HeldPort port_;  // of the meta service
  std::unique_ptr<meta::MetaService> meta_;
  std::vector<std::shared_ptr<FaultyChannel>> node_channels_;
  std::vector<std::unique_ptr<local::LocalService>> nodes_;
};

// One value in one buffer.
inline Status PutOne(Client& client, std::string_view key, std::string_view value,
                     const PutOptions& options = {}) {
  const ConstBuffer buffer{value.data(), value.size()};
  const PutItem item{key, std::span(&buffer, 1)};
  return client.Put(std::span(&item, 1), options).front();
}
inline Result<std::string> GetOne(Client& client, std::string_view key) {
  return client.Get(std::span(&key, 1)).front();
}
inline ObjectInfo StatOne(Client& client, std::string_view key) {
  auto infos = client.Stat(std::span(&key, 1));
  EXPECT_TRUE(infos.ok()) << infos.status().ToString();
  return infos.ok() ? infos->front() : ObjectInfo{};
}

}  // namespace mmc::test
