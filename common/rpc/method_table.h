// The methods of one server, with their counters: every call of it, from wherever, is recorded here.
//
// Thread safety: Add() before the server starts; the rest from any thread. Ownership: owns the entries, not the
// registry.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <string>
#include <typeinfo>
#include <vector>

#include "common/obs/metrics.h"
#include "common/rpc/server.h"

namespace mmc::rpc {

struct MethodEntry {
  uint16_t id = 0;
  std::string name;
  Server::MakeMessage make_request = nullptr;
  Server::MakeMessage make_reply = nullptr;
  Server::SyncBody sync;  // one of the two is set
  Server::AsyncBody async;
  // The rest is filled in by Add().
  size_t index = 0;
  const std::type_info* request_type = nullptr;
  const std::type_info* reply_type = nullptr;
};

class MethodTable {
 public:
  static constexpr char kFailuresName[] = "mmc_rpc_failures_total";
  static constexpr char kFailuresHelp[] = "Calls that were answered with a failure, by method and code.";

  explicit MethodTable(obs::Registry& registry) : registry_(registry) {}

  void Add(MethodEntry entry);
  // Null when no such method was added.
  const MethodEntry* Find(uint16_t id) const { return id < by_id_.size() ? by_id_[id] : nullptr; }
  size_t size() const { return rows_.size(); }

  // One finished call.
  void Record(const MethodEntry& method, Code code, Duration latency);

  // Runs a sync body; what it throws becomes kInternal.
  static Status Run(const MethodEntry& method, const CallContext& context, const google::protobuf::MessageLite& request,
                    google::protobuf::MessageLite* reply);

 private:
  static constexpr size_t kMaxCodes = 64;
  struct Row {
    MethodEntry entry;
    obs::Counter* requests = nullptr;
    obs::Histogram* latency = nullptr;
    std::array<std::atomic<obs::Counter*>, kMaxCodes> failures{};  // by place in the code table; made at first use
  };

  obs::Registry& registry_;
  std::vector<std::unique_ptr<Row>> rows_;
  std::vector<const MethodEntry*> by_id_;
};

}  // namespace mmc::rpc
