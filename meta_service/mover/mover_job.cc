#include "meta_service/mover/mover_job.h"

namespace mmc::meta {

void Moving::Tick(TimePoint now) { mover_.Tick(now); }

}  // namespace mmc::meta
