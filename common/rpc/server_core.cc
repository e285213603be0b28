#include "common/rpc/server_core.h"

#include "common/obs/log.h"

namespace mmc::rpc {
namespace {

constexpr char kBadFramesName[] = "mmc_rpc_bad_frames_total";
constexpr char kBadFramesHelp[] = "Frames that were refused, by reason.";

}  // namespace

void Gate::Leave() {
  if (count_.fetch_sub(1) != 1 || !waited_for_.load()) return;
  MutexLock lock(mutex_);
  emptied_.NotifyAll();
}

bool Gate::WaitEmpty(TimePoint deadline) {
  MutexLock lock(mutex_);
  waited_for_.store(true);
  while (count_.load() != 0) {
    if (!emptied_.WaitUntil(mutex_, deadline)) return count_.load() == 0;
  }
  return true;
}

bool LogLimit::Allow(TimePoint now, uint64_t* left_out) {
  const int64_t nanos = now.time_since_epoch().count();
  int64_t next = next_nanos_.load(std::memory_order_relaxed);
  if (nanos < next || !next_nanos_.compare_exchange_strong(next, nanos + 1'000'000'000)) {
    left_out_.fetch_add(1, std::memory_order_relaxed);
    return false;
  }
  *left_out = left_out_.exchange(0, std::memory_order_relaxed);
  return true;
}

ServerCore::ServerCore(const ServerOptions& server_options)
    : options(server_options),
      own_registry_(server_options.metrics == nullptr ? std::make_unique<obs::Registry>() : nullptr),
      registry(server_options.metrics == nullptr ? *own_registry_ : *server_options.metrics),
      methods(registry) {
  // The registry may outlive the server: the callback shares what it reads.
  registry.AddGauge("mmc_rpc_connections", "Open connections of callers.", [count = connection_count] {
    return std::vector<obs::Registry::Row>{{obs::Labels{}, static_cast<double>(count->load())}};
  });
  // Counters whose rows come with the first event: declared now, so that the pages name them from the start.
  const auto no_rows = [] { return std::vector<obs::Registry::Row>(); };
  registry.AddCounterFn(MethodTable::kFailuresName, MethodTable::kFailuresHelp, no_rows);
  registry.AddCounterFn(kBadFramesName, kBadFramesHelp, no_rows);
}

Status ServerCore::OverfullStatus() const {
  return Status(Code::kQueueFull, "requests and answers of all callers hold more than " +
                                      std::to_string(options.max_buffer_bytes) +
                                      " bytes here: send less at a time, or later");
}

void ServerCore::BadFrame(std::string_view peer, const char* reason, const Status& status) {
  registry.AddCounter(kBadFramesName, kBadFramesHelp, {{"reason", reason}}).Add();
  uint64_t left_out = 0;
  if (!bad_frame_log_.Allow(std::chrono::steady_clock::now(), &left_out)) return;
  MMC_LOG(WARNING) << "bad frame from " << peer << ": " << status.ToString()
                   << (left_out > 0 ? " (" + std::to_string(left_out) + " more were not logged)" : std::string());
}

}  // namespace mmc::rpc
