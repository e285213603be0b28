#include "meta_service/metrics.h"

#include <string>
#include <utility>
#include <vector>

namespace mmc::meta {

namespace {

using Rows = std::vector<obs::Registry::Row>;

struct FigureMetric {
  const char* name;
  const char* help;
  uint64_t Figures::*figure;
};

constexpr FigureMetric kGauges[] = {
    {"mmc_meta_objects", "Committed objects.", &Figures::objects},
    {"mmc_meta_value_bytes", "Sum of the sizes of all committed objects.", &Figures::value_bytes},
    {"mmc_meta_sessions", "Open client sessions.", &Figures::sessions},
    {"mmc_meta_grants", "Writes that were granted and have not ended.", &Figures::grants},
    {"mmc_meta_pins", "Pins that are held.", &Figures::pins},
    {"mmc_meta_soft_pinned_objects", "Objects that are evicted after all others.", &Figures::soft_pinned},
    {"mmc_meta_hard_pinned_objects", "Objects that are never evicted.", &Figures::hard_pinned},
    {"mmc_meta_waiting_to_free_bytes",
     "Bytes given up that still wait for leases, pins, fences or catalog acknowledgements.",
     &Figures::waiting_bytes},
    {"mmc_meta_fences_waiting", "Sessions that nodes have still to fence.",
     &Figures::fences_waiting},
    {"mmc_meta_recovering", "1 while nodes still report what they held before this start.",
     &Figures::recovering},
    {"mmc_meta_catalog_queue_records", "Catalog records that nodes have not acknowledged.",
     &Figures::feed_records},
};

constexpr FigureMetric kCounters[] = {
    {"mmc_meta_hits_total", "Keys that a lookup found.", &Figures::hits},
    {"mmc_meta_misses_total", "Keys that a lookup did not find.", &Figures::misses},
    {"mmc_meta_puts_total", "Objects committed.", &Figures::puts},
    {"mmc_meta_gets_total", "Keys looked up to be read.", &Figures::gets},
    {"mmc_meta_removes_total", "Objects removed by clients.", &Figures::removes},
    {"mmc_meta_adopted_objects_total", "Replicas taken over from what nodes reported.",
     &Figures::adopted},
};

const char* CauseName(int cause) {
  return static_cast<EvictCause>(cause) == EvictCause::kInline ? "inline" : "background";
}

// One row per tenant; those past the first hundred are added up under "*", which is nobody's name.
Rows TenantRows(const MetaState& state, uint64_t TenantFigures::*figure) {
  constexpr size_t kMostRows = 100;
  Rows rows;
  for (const TenantFigures& tenant : state.TenantUse()) {
    const double value = static_cast<double>(tenant.*figure);
    if (rows.size() < kMostRows) {
      rows.push_back({{{"tenant", std::string(TenantShown(tenant.name))}}, value});
    } else if (rows.size() == kMostRows) {
      rows.push_back({{{"tenant", "*"}}, value});
    } else {
      rows.back().second += value;
    }
  }
  return rows;
}

struct TenantMetric {
  const char* name;
  const char* help;
  uint64_t TenantFigures::*figure;
};

constexpr TenantMetric kTenantGauges[] = {
    {"mmc_meta_tenant_objects", "Committed objects, by tenant.", &TenantFigures::objects},
    {"mmc_meta_tenant_used_bytes", "Bytes of replicas, writes under way and what waits to be freed, by tenant.",
     &TenantFigures::used_bytes},
    {"mmc_meta_tenant_quota_bytes", "Quota, by tenant; 0: none.", &TenantFigures::quota_bytes},
    {"mmc_meta_tenant_sessions", "Open client sessions, by tenant.", &TenantFigures::sessions},
    {"mmc_meta_tenant_grants", "Writes under way, by tenant.", &TenantFigures::grants},
    {"mmc_meta_tenant_pins", "Pins that are held, by tenant.", &TenantFigures::pins},
};

constexpr TenantMetric kTenantCounters[] = {
    {"mmc_meta_tenant_evictions_total", "Objects evicted, by tenant.", &TenantFigures::evicted_objects},
    {"mmc_meta_tenant_evicted_bytes_total", "Bytes of replicas evicted, by tenant.", &TenantFigures::evicted_bytes},
};

void RegisterTenants(obs::Registry& registry, const MetaState& state) {
  for (const TenantMetric& metric : kTenantGauges)
    registry.AddGauge(metric.name, metric.help, [&state, &metric] { return TenantRows(state, metric.figure); });
  for (const TenantMetric& metric : kTenantCounters)
    registry.AddCounterFn(metric.name, metric.help, [&state, &metric] { return TenantRows(state, metric.figure); });
}

template <typename Value>
Rows SegmentRows(const MetaState& state, const Clock& clock, Value value) {
  uint64_t version = 0;
  Rows rows;
  for (const NodeInfo& node : state.Directory(clock.Now(), &version)) {
    for (size_t i = 0; i < node.segments.size(); ++i) {
      rows.push_back({{{"node", node.name},
                       {"medium", MediumName(node.segments[i].medium)},
                       {"segment", std::to_string(node.segments[i].id)}},
                      static_cast<double>(value(node, i))});
    }
  }
  return rows;
}

void RegisterNodes(obs::Registry& registry, const MetaState& state, const Clock& clock) {
  registry.AddGauge("mmc_meta_segment_used_bytes", "Allocated bytes, by node, medium and segment.",
                    [&state, &clock] {
                      return SegmentRows(state, clock, [](const NodeInfo& node, size_t i) {
                        return node.used_bytes[i];
                      });
                    });
  registry.AddGauge(
      "mmc_meta_segment_capacity_bytes", "Size, by node, medium and segment.", [&state, &clock] {
        return SegmentRows(state, clock,
                           [](const NodeInfo& node, size_t i) { return node.segments[i].size; });
      });
  registry.AddGauge("mmc_meta_nodes", "Nodes by state.", [&state, &clock] {
    double counts[kNodeHealths] = {};
    uint64_t version = 0;
    for (const NodeInfo& node : state.Directory(clock.Now(), &version))
      ++counts[static_cast<int>(node.health)];
    Rows rows;
    for (int i = 0; i < kNodeHealths; ++i) {
      rows.push_back({{{"state", NodeHealthName(static_cast<NodeHealth>(i))}}, counts[i]});
    }
    return rows;
  });
}

}  // namespace

void RegisterMetrics(obs::Registry& registry, const MetaState& state, const Clock& clock) {
  const auto read = [&state](uint64_t Figures::*figure) {
    return [&state, figure] { return Rows{{{}, static_cast<double>(state.figures().*figure)}}; };
  };
  for (const FigureMetric& metric : kGauges)
    registry.AddGauge(metric.name, metric.help, read(metric.figure));
  for (const FigureMetric& metric : kCounters)
    registry.AddCounterFn(metric.name, metric.help, read(metric.figure));
  const auto by_cause = [&state](const uint64_t(Figures::*figure)[kEvictCauses]) {
    return [&state, figure] {
      const Figures figures = state.figures();
      Rows rows;
      for (int cause = 0; cause < kEvictCauses; ++cause) {
        rows.push_back(
            {{{"cause", CauseName(cause)}}, static_cast<double>((figures.*figure)[cause])});
      }
      return rows;
    };
  };
  registry.AddCounterFn("mmc_meta_evictions_total", "Objects evicted, by cause.",
                        by_cause(&Figures::evicted_objects));
  registry.AddCounterFn("mmc_meta_evicted_bytes_total", "Bytes of replicas evicted, by cause.",
                        by_cause(&Figures::evicted_bytes));
  registry.AddCounterFn(
      "mmc_meta_recovery_conflicts_total",
      "Replicas that nodes reported and that were dropped, by kind.", [&state] {
        const Figures figures = state.figures();
        Rows rows;
        for (int kind = 0; kind < kConflictKinds; ++kind) {
          rows.push_back({{{"kind", ConflictName(static_cast<ConflictKind>(kind))}},
                          static_cast<double>(figures.conflicts[kind])});
        }
        return rows;
      });
  RegisterNodes(registry, state, clock);
  RegisterTenants(registry, state);
}

}  // namespace mmc::meta
