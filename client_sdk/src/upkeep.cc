// The calls by which operators keep a pool in shape: emptying a node, checking what is stored.
#include "client_sdk/src/client_impl.h"

namespace mmc {

Status ClientImpl::Drain(std::string_view node, bool cancel) {
  proto::DrainRequest request;
  request.set_node(std::string(node));
  request.set_cancel(cancel);
  proto::Empty reply;
  return core_->session->Call(proto::kDrain, request, &reply, core_->DeadlineFor({}));
}

Result<uint64_t> ClientImpl::Scrub(std::string_view node, uint64_t bytes_per_second) {
  proto::ScrubRequest request;
  request.set_node(std::string(node));
  request.set_bytes_per_second(bytes_per_second);
  proto::ScrubReply reply;
  MMC_RETURN_IF_ERROR(core_->session->Call(proto::kScrub, request, &reply, core_->DeadlineFor({})));
  return reply.id();
}

Result<ScrubProgress> ClientImpl::ScrubStatus(uint64_t id) {
  proto::ScrubStatusRequest request;
  request.set_id(id);
  proto::ScrubStatusReply reply;
  MMC_RETURN_IF_ERROR(
      core_->session->Call(proto::kScrubStatus, request, &reply, core_->DeadlineFor({})));
  ScrubProgress out;
  out.nodes = reply.nodes();
  out.nodes_done = reply.nodes_done();
  out.checked_objects = reply.checked_objects();
  out.checked_bytes = reply.checked_bytes();
  out.skipped_objects = reply.skipped_objects();
  out.bad_replicas = reply.bad_replicas();
  return out;
}

}  // namespace mmc
