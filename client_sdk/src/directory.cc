#include "client_sdk/src/directory.h"

namespace mmc::client {

std::shared_ptr<const Directory> MakeDirectory(const proto::DirectoryReply& reply,
                                               const std::string& host_id) {
  auto directory = std::make_shared<Directory>();
  directory->term = reply.term();
  directory->version = reply.version();
  for (const proto::Node& node : reply.nodes()) {
    DirectoryNode out;
    out.id = node.id();
    out.name = node.name();
    out.peer = std::to_string(node.id()) + ":" + std::to_string(node.incarnation());
    for (const proto::Endpoint& endpoint : node.endpoints()) {
      out.endpoints.push_back({endpoint.transport(), endpoint.address()});
    }
    out.same_host = !host_id.empty() && node.host_id() == host_id;
    out.state = node.state();
    for (const proto::Segment& segment : node.segments()) {
      out.capacity_bytes += segment.size();
      out.segments.emplace_back(segment.id(), segment.medium());
    }
    if (node.state() == proto::NODE_SERVING) directory->capacity_bytes += out.capacity_bytes;
    directory->nodes.emplace(node.id(), std::move(out));
  }
  return directory;
}

}  // namespace mmc::client
