#include "meta_service/background/job.h"

#include <string>

#include "common/base/bytes.h"
#include "common/obs/log.h"

namespace mmc::meta {

void SessionExpiry::Tick(TimePoint now) {
  const size_t ended = state_.ExpireSessions(now);
  if (ended > 0)
    MMC_LOG(WARNING) << ended << " client sessions ended: silent, or holding a grant for too long";
}

void NodeLiveness::Tick(TimePoint now) { state_.CheckNodes(now); }

void Recovery::Tick(TimePoint now) {
  was_ |= state_.recovering();
  state_.Recover(now);
  if (!was_ || state_.recovering()) return;
  was_ = false;
  const Figures figures = state_.figures();
  MMC_LOG(INFO) << "recovered: " << figures.objects << " objects, "
                << FormatBytes(figures.used_bytes) << " of " << FormatBytes(figures.capacity_bytes)
                << " in use";
}

void LeaseReaper::Tick(TimePoint now) { state_.Reap(now); }

void Evictor::Tick(TimePoint now) {
  state_.EndSoftPins(now);
  const uint64_t bytes = state_.EvictBetweenThresholds(kStepsPerTick, now);
  if (bytes > 0) VLOG(1) << "evicted " << FormatBytes(bytes);
}

std::vector<std::unique_ptr<Job>> AllJobs(MetaState& state) {
  std::vector<std::unique_ptr<Job>> jobs;
  jobs.push_back(std::make_unique<SessionExpiry>(state));
  jobs.push_back(std::make_unique<NodeLiveness>(state));
  jobs.push_back(std::make_unique<Recovery>(state));
  jobs.push_back(std::make_unique<LeaseReaper>(state));
  jobs.push_back(std::make_unique<Evictor>(state));
  return jobs;
}

}  // namespace mmc::meta
