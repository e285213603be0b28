// Every metric of the meta service beside those that the RPC server keeps per method, declared in
// one place.
//
// Thread safety: RegisterMetrics once; the rows are read at exposition, from any thread. Ownership:
// `state` and `clock` outlive `registry`'s last exposition.
#pragma once

#include "common/base/clock.h"
#include "common/obs/metrics.h"
#include "meta_service/state/meta_state.h"

namespace mmc::meta {

void RegisterMetrics(obs::Registry& registry, const MetaState& state, const Clock& clock);

}  // namespace mmc::meta
