// The nodes of the pool as the client knows them: how to reach each, which share this host. A
// snapshot by version.
//
// Thread safety: a Directory is immutable once built; it is shared by shared_ptr.
#pragma once

#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "fabric/types.h"
#include "proto/meta.pb.h"

namespace mmc::client {

struct DirectoryNode {
  uint32_t id = 0;
  std::string name;
  std::string peer;  // node id and incarnation: names the link to it
  std::vector<fabric::Endpoint> endpoints;
  bool same_host = false;
  proto::NodeState state = proto::NODE_SERVING;
  uint64_t capacity_bytes = 0;
  std::vector<std::pair<uint32_t, proto::Medium>> segments;  // {id, medium}

  proto::Medium MediumOf(uint32_t segment) const {
    for (const auto& [number, medium] : segments) {
      if (number == segment) return medium;
    }
    return proto::MEDIUM_DRAM;
  }
};

struct Directory {
  uint64_t term = 0;  // of the meta service that counts these versions and gave these node ids
  uint64_t version = 0;
  std::unordered_map<uint32_t, DirectoryNode> nodes;
  uint64_t capacity_bytes = 0;  // of all serving nodes

  const DirectoryNode* Find(uint32_t node) const {
    const auto it = nodes.find(node);
    return it == nodes.end() ? nullptr : &it->second;
  }
  const DirectoryNode* FindByName(std::string_view name) const {
    for (const auto& [id, node] : nodes) {
      if (node.name == name) return &node;
    }
    return nullptr;
  }
};

// `host_id` is this process's; an empty one matches no node.
std::shared_ptr<const Directory> MakeDirectory(const proto::DirectoryReply& reply,
                                               const std::string& host_id);

}  // namespace mmc::client
