// Figures of the mover for /metrics.
//
// Thread safety: pure function. Ownership: the mover outlives the registry.
#pragma once

#include "common/obs/metrics.h"
#include "meta_service/mover/mover.h"

namespace mmc::meta {

void RegisterMoverMetrics(obs::Registry& registry, const Mover& mover);

}  // namespace mmc::meta
