// The meta service alone: batches of 128 keys over its socket, many in flight, with a node that
// lends space but no bytes. Rates are per second of processor time that the service used, read from
// /proc.
#include "common/base/bytes.h"
#include "perf/driver/meta_load.h"

namespace mmc::perf {

// --meta URL --pid PID of the service --keys N --depth N --rounds N
Status RunMetaService(const Flags& flags, Series* out) {
  rpc::ChannelOptions options;
  options.url = flags.Text("meta", "tcp://127.0.0.1:5000");
  MMC_ASSIGN_OR_RETURN(const std::shared_ptr<rpc::Channel> node_channel,
                       rpc::MakeTcpChannel(options));
  MMC_ASSIGN_OR_RETURN(const std::shared_ptr<rpc::Channel> channel, rpc::MakeTcpChannel(options));
  const uint64_t keys = flags.Int("keys", 1 << 20);
  MMC_ASSIGN_OR_RETURN(const std::unique_ptr<IdleNode> node,
                       IdleNode::Join(node_channel, AlignUp(8 * keys * kValueBytes, 1_GiB)));
  proto::OpenSessionRequest open;
  open.set_client_name("compare");
  proto::OpenSessionReply session;
  MMC_RETURN_IF_ERROR(channel->Call(proto::kOpenSession, open, &session, Deadline()));
  MetaLoad load(channel, session.session(), flags.Int("pid", 0),
                static_cast<int>(flags.Int("depth", 16)));
  double rate = 0;
  for (uint64_t round = 0; round < flags.Int("rounds", 5); ++round) {
    const proto::SessionHeartbeatRequest alive = [&] {
      proto::SessionHeartbeatRequest request;
      request.set_session(session.session());
      return request;
    }();
    proto::SessionHeartbeatReply heard;
    MMC_RETURN_IF_ERROR(channel->Call(proto::kSessionHeartbeat, alive, &heard, Deadline()));
    MMC_ASSIGN_OR_RETURN(const double put, load.Put(0, keys, &rate));
    out->Add("put_per_core", put);
    out->Add("put_per_second", rate);
    MMC_ASSIGN_OR_RETURN(const double lookup,
                         load.Read(proto::kLookup, keys, kReadsPerKey * keys, &rate));
    out->Add("lookup_per_core", lookup);
    out->Add("lookup_per_second", rate);
    MMC_ASSIGN_OR_RETURN(const double exists,
                         load.Read(proto::kExists, keys, kReadsPerKey * keys, &rate));
    out->Add("exists_per_core", exists);
    out->Add("exists_per_second", rate);
    proto::RemoveManyReply removed;
    MMC_RETURN_IF_ERROR(
        channel->Call(proto::kRemoveAll, proto::RemoveAllRequest(), &removed, Deadline()));
  }
  return Status::Ok();
}

}  // namespace mmc::perf
