#include "meta_service/mover/mover_metrics.h"

#include <vector>

namespace mmc::meta {

namespace {
using Rows = std::vector<obs::Registry::Row>;
}  // namespace

void RegisterMoverMetrics(obs::Registry& registry, const Mover& mover) {
  const auto read = [&mover](uint64_t MoverFigures::*figure) {
    return [&mover, figure] { return Rows{{{}, static_cast<double>(mover.figures().*figure)}}; };
  };
  registry.AddGauge("mmc_meta_under_replicated_objects", "Objects with fewer replicas than their writer asked for.",
                    read(&MoverFigures::under_replicated));
  registry.AddGauge("mmc_meta_copies_in_flight", "Copies between nodes that are under way.",
                    read(&MoverFigures::in_flight));
  registry.AddCounterFn("mmc_meta_copied_objects_total", "Replicas copied from node to node.",
                        read(&MoverFigures::copied_objects));
  registry.AddCounterFn("mmc_meta_copied_bytes_total", "Bytes of replicas copied from node to node.",
                        read(&MoverFigures::copied_bytes));
  registry.AddCounterFn("mmc_meta_failed_copies_total", "Copies between nodes that came to nothing.",
                        read(&MoverFigures::failed));
  registry.AddCounterFn("mmc_meta_bad_replicas_total", "Replicas dropped because they did not match their checksum.",
                        read(&MoverFigures::bad_replicas));
}

}  // namespace mmc::meta
