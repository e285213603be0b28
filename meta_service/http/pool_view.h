// PoolView: all that the pages know of the pool. RpcPoolView asks a meta service over a channel
// within the process.
//
// Thread safety: all methods from any thread. Ownership: RpcPoolView shares its channel; the
// registry must outlive it.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "common/base/status.h"
#include "common/obs/metrics.h"
#include "common/rpc/channel.h"
#include "proto/meta.pb.h"

namespace mmc::meta::http {

class PoolView {
 public:
  virtual ~PoolView() = default;
  virtual Status Cluster(proto::ClusterStatusReply* out) = 0;
  // Of keys of one tenant; "": the default one.
  virtual Status Stat(const std::string& tenant, std::span<const std::string_view> keys, proto::StatReply* out) = 0;
  virtual Status List(const std::string& tenant, const std::string& prefix, const std::string& page_token,
                      uint32_t limit, proto::ListReply* out) = 0;
  virtual Status Drain(const std::string& node, bool cancel) = 0;
  virtual std::string Metrics() = 0;  // Prometheus text
  virtual bool Ready() = 0;
  virtual bool Recovering() = 0;  // not ready, but soon
};

class RpcPoolView final : public PoolView {
 public:
  RpcPoolView(std::shared_ptr<rpc::Channel> channel, const obs::Registry& metrics,
              std::function<bool()> ready, std::function<bool()> recovering)
      : channel_(std::move(channel)),
        metrics_(metrics),
        ready_(std::move(ready)),
        recovering_(std::move(recovering)) {}

  Status Cluster(proto::ClusterStatusReply* out) override;
  Status Stat(const std::string& tenant, std::span<const std::string_view> keys, proto::StatReply* out) override;
  Status List(const std::string& tenant, const std::string& prefix, const std::string& page_token, uint32_t limit,
              proto::ListReply* out) override;
  Status Drain(const std::string& node, bool cancel) override;
  std::string Metrics() override { return metrics_.Expose(); }
  bool Ready() override { return ready_(); }
  bool Recovering() override { return recovering_(); }

 private:
  const std::shared_ptr<rpc::Channel> channel_;
  const obs::Registry& metrics_;
  const std::function<bool()> ready_, recovering_;
};

}  // namespace mmc::meta::http
