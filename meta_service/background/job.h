// A periodic job: one class each, no thread and no clock inside. Whoever owns it calls Tick(now)
// about every period(); a tick is short (it must not stall the calls that share the state's locks).
//
// Thread safety: Tick from one thread at a time. Ownership: refers to the state, which outlives it.
#pragma once

#include <memory>
#include <vector>

#include "common/base/clock.h"
#include "meta_service/state/meta_state.h"

namespace mmc::meta {

class Job {
 public:
  virtual ~Job() = default;
  virtual const char* name() const = 0;
  virtual Duration period() const = 0;
  virtual void Tick(TimePoint now) = 0;
};

// Ends client sessions that are silent or sit on a grant for too long.
class SessionExpiry final : public Job {
 public:
  explicit SessionExpiry(MetaState& state) : state_(state) {}
  const char* name() const override { return "session expiry"; }
  Duration period() const override { return std::chrono::milliseconds(250); }
  void Tick(TimePoint now) override;

 private:
  MetaState& state_;
};

// Makes silent nodes suspect, then dead.
class NodeLiveness final : public Job {
 public:
  explicit NodeLiveness(MetaState& state) : state_(state) {}
  const char* name() const override { return "node liveness"; }
  Duration period() const override { return std::chrono::milliseconds(250); }
  void Tick(TimePoint now) override;

 private:
  MetaState& state_;
};

// Ends the recovery when it is time.
class Recovery final : public Job {
 public:
  explicit Recovery(MetaState& state) : state_(state) {}
  const char* name() const override { return "recovery"; }
  Duration period() const override { return std::chrono::milliseconds(20); }
  void Tick(TimePoint now) override;

 private:
  MetaState& state_;
  bool was_ = false;
};

// Frees what has waited for its leases.
class LeaseReaper final : public Job {
 public:
  explicit LeaseReaper(MetaState& state) : state_(state) {}
  const char* name() const override { return "lease reaper"; }
  Duration period() const override { return std::chrono::milliseconds(20); }
  void Tick(TimePoint now) override;

 private:
  MetaState& state_;
};

// Keeps segments between the eviction thresholds, a bounded number of objects per tick.
class Evictor final : public Job {
 public:
  explicit Evictor(MetaState& state) : state_(state) {}
  const char* name() const override { return "evictor"; }
  Duration period() const override { return std::chrono::milliseconds(10); }
  void Tick(TimePoint now) override;

 private:
  static constexpr uint32_t kStepsPerTick = 4096;  // 400,000 objects a second
  MetaState& state_;
};

std::vector<std::unique_ptr<Job>> AllJobs(MetaState& state);

}  // namespace mmc::meta
