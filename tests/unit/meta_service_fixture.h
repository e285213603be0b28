// A meta service whose clock a test turns, over its in-process channel, and the calls of nodes and clients in short.
//
// Thread safety: Call and what stands on it from any thread, the rest from one. Ownership: the fixture owns all.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "common/base/bytes.h"
#include "meta_service/meta_service.h"
#include "proto/key_list.h"
#include "proto/methods.h"

namespace mmc::meta {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

inline constexpr uint64_t kIncarnation = 41;

class Service : public ::testing::Test {
 protected:
  void StartService(MetaOptions options, Clock* clock = nullptr) {
    options.url.clear();
    options.metrics_url.clear();
    auto service = MetaService::Create(options, clock == nullptr ? clock_ : *clock);
    ASSERT_TRUE(service.ok()) << service.status().ToString();
    service_ = std::move(*service);
    ASSERT_TRUE(service_->Start().ok());
    channel_ = service_->InProcessChannel();
    proto::OpenSessionReply opened;
    ASSERT_TRUE(Call(proto::kOpenSession, {}, &opened).ok());
    session_ = opened.session();
  }
  void StopService() {
    channel_.reset();
    if (service_ != nullptr) service_->Stop(Clock::Real().Now() + 2s);
    service_.reset();
  }
  void TearDown() override { StopService(); }

  template <typename Method>
  Status Call(const Method& method, const typename Method::Request& request, typename Method::Reply* reply,
              Duration within = 10s) {
    return channel_->Call(method, request, reply, Clock::Real().Now() + within);
  }
  proto::JoinReply Join(const std::string& name, bool keeps_memory) {
    proto::JoinRequest join;
    join.set_name(name);
    join.set_incarnation(kIncarnation);
    join.set_host_id("host");
    join.set_keeps_memory(keeps_memory);
    auto* segment = join.add_segments();
    segment->set_id(1);
    segment->set_epoch(1);
    segment->set_size(2_MiB);
    proto::JoinReply reply;
    const Status joined = Call(proto::kJoin, join, &reply);
    EXPECT_TRUE(joined.ok()) << joined.ToString();
    return reply;
  }
  static void AddRecord(proto::CatalogReportRequest* report, const std::string& key, uint64_t generation, uint64_t unit,
                        uint64_t size) {
    auto* record = report->add_records();
    record->set_segment(1);
    record->set_generation(generation);
    record->set_key(key);
    record->set_size(size);
    record->add_extent_offset(unit * 4096);
    record->add_extent_length(size);
  }
  proto::CatalogReportRequest Report(uint32_t node, bool last) {
    proto::CatalogReportRequest report;
    report.set_node(node);
    report.set_incarnation(kIncarnation);
    report.set_last(last);
    return report;
  }
  // One poll that does not wait.
  proto::CatalogSyncReply Poll(uint32_t node, uint64_t acked, bool fenced_all = false) {
    return PollOfTerm(service_->term(), node, acked, fenced_all);
  }
  proto::CatalogSyncReply PollOfTerm(uint64_t term, uint32_t node, uint64_t acked, bool fenced_all) {
    proto::CatalogSyncRequest request;
    request.set_node(node);
    request.set_incarnation(kIncarnation);
    request.set_acked_seq(acked);
    request.set_fenced_all(fenced_all);
    request.set_term(term);
    proto::CatalogSyncReply reply;
    const Status polled = Call(proto::kCatalogSync, request, &reply);
    EXPECT_TRUE(polled.ok()) << polled.ToString();
    return reply;
  }
  template <typename Request>
  static Request Keys(const std::vector<std::string>& keys) {
    Request request;
    for (const std::string& key : keys) proto::AppendKey(key, request.mutable_keys());
    return request;
  }
  template <typename Method>
  Code CodeOf(const Method& method, const std::vector<std::string>& keys) {
    typename Method::Reply reply;
    return Call(method, Keys<typename Method::Request>(keys), &reply).code();
  }
  proto::PutStartReply PutStart(const std::string& key) {
    auto request = Keys<proto::PutStartRequest>({key});
    request.set_session(session_);
    request.add_sizes(100);
    proto::PutStartReply reply;
    const Status started = Call(proto::kPutStart, request, &reply);
    EXPECT_TRUE(started.ok()) << started.ToString();
    return reply;
  }
  Status Commit(const proto::PutStartReply& started, proto::PutCommitReply* reply, Duration within = 10s) {
    proto::PutCommitRequest request;
    request.set_session(session_);
    *request.mutable_grant() = started.grant();
    return Call(proto::kPutCommit, request, reply, within);
  }
  bool Recovering() {
    proto::ClusterStatusReply reply;
    EXPECT_TRUE(Call(proto::kClusterStatus, {}, &reply).ok());
    return reply.recovering();
  }
  void EndRecovery(Duration window) {
    clock_.Advance(window);
    service_->RunBackgroundNow();
    EXPECT_FALSE(service_->recovering());
  }

  ManualClock clock_;
  std::unique_ptr<MetaService> service_;
  std::shared_ptr<rpc::Channel> channel_;
  uint64_t session_ = 0;
};

}  // namespace mmc::meta
