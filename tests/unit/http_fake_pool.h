// A pool for the pages to show: two nodes, and the keys that a test puts into it.
//
// Thread safety: fill it first; then all methods from any thread.
#pragma once

#include <algorithm>
#include <atomic>
#include <map>
#include <string>

#include "meta_service/http/pool_view.h"
#include "proto/key_list.h"

namespace mmc::meta::http {

class FakePool final : public PoolView {
 public:
  FakePool() {
    AddNode(1, "alpha:7000", 100 << 20, 40 << 20, proto::NODE_SERVING);
    AddNode(2, "beta", 200 << 20, 0, proto::NODE_SUSPECT);
    cluster_.set_term(3);
    auto* tenant = cluster_.add_tenants();
    tenant->set_name("team-a");
    tenant->set_used_bytes(4096);
    tenant->set_quota_bytes(1 << 20);
    cluster_.set_capacity_bytes(300 << 20);
    cluster_.set_used_bytes(40 << 20);
    cluster_.set_lookups_hit(3);
    cluster_.set_lookups_missed(1);
  }

  Status Cluster(proto::ClusterStatusReply* out) override {
    if (!down.ok()) return down;
    *out = cluster_;
    out->set_objects(keys.size());
    return Status::Ok();
  }

  // The replica of every key: its size at offset 4096 * size, on node 1.
  Status Stat(const std::string& tenant, std::span<const std::string_view> asked, proto::StatReply* out) override {
    ++key_questions;
    if (!down.ok()) return down;
    const std::map<std::string, uint64_t>& table = KeysOf(tenant);
    for (const std::string_view key : asked) {
      const auto it = table.find(std::string(key));
      const bool found = it != table.end();
      out->add_status(static_cast<uint32_t>(found ? Code::kOk : Code::kNotFound));
      out->add_size(found ? it->second : 0);
      out->mutable_replicas()->add_replica_counts(found ? 1 : 0);
      if (!found) continue;
      out->mutable_replicas()->add_node(1);
      out->mutable_replicas()->add_segment(1);
      out->mutable_replicas()->add_epoch(7);
      out->mutable_replicas()->add_extent_counts(1);
      out->mutable_replicas()->add_extent_offset(4096 * it->second);
      out->mutable_replicas()->add_extent_length(it->second);
    }
    return Status::Ok();
  }

  Status List(const std::string& tenant, const std::string& prefix, const std::string& page_token, uint32_t limit,
              proto::ListReply* out) override {
    ++key_questions;
    if (!down.ok()) return down;
    const std::map<std::string, uint64_t>& table = KeysOf(tenant);
    if (lists_left >= 0 && lists_left-- == 0)
      return Status(Code::kUnavailable, "gone in the middle");
    auto it = page_token.empty() ? table.begin() : table.upper_bound(page_token);
    uint32_t looked_at = 0;
    std::string last;
    // A page may be empty and not the last, as that of the meta service.
    for (; it != table.end() && looked_at < limit; ++it, ++looked_at) {
      last = it->first;
      if (it->first.compare(0, prefix.size(), prefix) == 0)
        proto::AppendKey(it->first, out->mutable_keys());
    }
    if (it != table.end()) out->set_next_page_token(last);
    return Status::Ok();
  }

  Status Drain(const std::string& node, bool cancel) override {
    ++drains;
    if (!down.ok()) return down;
    for (proto::Node& info : *cluster_.mutable_nodes()) {
      if (info.name() != node) continue;
      info.set_state(cancel ? proto::NODE_SERVING : proto::NODE_DRAINING);
      info.set_drain_left_objects(cancel ? 0 : drain_left);
      info.set_drain_left_bytes(cancel ? 0 : drain_left * 4096);
    }
    return Status::Ok();
  }

  std::string Metrics() override { return "# TYPE mmc_up gauge\nmmc_up 1\n"; }
  bool Ready() override { return ready; }
  bool Recovering() override { return recovering; }

  std::map<std::string, uint64_t> keys;  // -> size
  std::map<std::string, std::map<std::string, uint64_t>> others;  // the same of other tenants than the default one
  Status down;                           // what everything answers when it is not OK
  uint64_t drain_left = 3;               // objects on a node that is drained
  int lists_left = -1;                   // List calls until one fails; -1: never
  std::atomic<int> key_questions{0}, drains{0};  // calls that name keys, that change something
  bool recovering = false;
  bool ready = true;

 private:
  const std::map<std::string, uint64_t>& KeysOf(const std::string& tenant) {
    return tenant.empty() ? keys : others[tenant];
  }
  void AddNode(uint32_t id, const std::string& name, uint64_t size, uint64_t used,
               proto::NodeState state) {
    proto::Node* node = cluster_.add_nodes();
    node->set_id(id);
    node->set_name(name);
    node->set_state(state);
    node->add_endpoints()->set_transport("tcp");
    node->mutable_endpoints(0)->set_address("127.0.0.1:7000");
    proto::Segment* segment = node->add_segments();
    segment->set_id(1);
    segment->set_epoch(7);
    segment->set_size(size);
    node->add_used_bytes(used);
  }

  proto::ClusterStatusReply cluster_;
};

}  // namespace mmc::meta::http
