#include "meta_service/http/pool_view.h"

#include "proto/key_list.h"
#include "proto/methods.h"

namespace mmc::meta::http {
namespace {

constexpr std::chrono::seconds kDeadline{5};

TimePoint Deadline() { return Clock::Real().Now() + kDeadline; }

}  // namespace

Status RpcPoolView::Cluster(proto::ClusterStatusReply* out) {
  return channel_->Call(proto::kClusterStatus, proto::ClusterStatusRequest(), out, Deadline());
}

Status RpcPoolView::Stat(const std::string& tenant, std::span<const std::string_view> keys, proto::StatReply* out) {
  proto::StatRequest request;
  request.set_tenant(tenant);
  proto::EncodeKeys(keys, request.mutable_keys());
  return channel_->Call(proto::kStat, request, out, Deadline());
}

Status RpcPoolView::List(const std::string& tenant, const std::string& prefix, const std::string& page_token,
                         uint32_t limit, proto::ListReply* out) {
  proto::ListRequest request;
  request.set_tenant(tenant);
  request.set_prefix(prefix);
  request.set_page_token(page_token);
  request.set_limit(limit);
  return channel_->Call(proto::kList, request, out, Deadline());
}

Status RpcPoolView::Drain(const std::string& node, bool cancel) {
  proto::DrainRequest request;
  request.set_node(node);
  request.set_cancel(cancel);
  proto::Empty reply;
  return channel_->Call(proto::kDrain, request, &reply, Deadline());
}

}  // namespace mmc::meta::http
