// The mover's place among the periodic jobs.
//
// Thread safety: as Job says. Ownership: the mover outlives it.
#pragma once

#include "meta_service/background/job.h"
#include "meta_service/mover/mover.h"

namespace mmc::meta {

class Moving final : public Job {
 public:
  explicit Moving(Mover& mover) : mover_(mover) {}
  const char* name() const override { return "mover"; }
  Duration period() const override { return std::chrono::milliseconds(10); }
  void Tick(TimePoint now) override;

 private:
  Mover& mover_;
};

}  // namespace mmc::meta
