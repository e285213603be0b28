#include "tests/sim/world.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstdio>

#include "local_service/catalog.h"
#include "meta_service/state/meta_state.h"

namespace mmc::sim {

World::World(const RunOptions& options)
    : options_(options),
      scheduler_(options.seed * 2 + 1, (1 + Dice(options.seed ^ 0x5151).Below(25)) * kMilli),
      dice_(options.seed),
      network_(std::make_shared<Network>(scheduler_)),
      plane_(scheduler_),
      history_(scheduler_, [this](const char* invariant, const std::string& what) { Violate(invariant, what); }),
      blocks_(scheduler_, history_, plane_,
              [this](const char* invariant, const std::string& what) { Violate(invariant, what); }) {
  MakePlan();
}

void World::MakePlan() {
  Plan& p = plan_;
  p.durable = dice_.Chance(0.5);
  p.members = dice_.Chance(0.7);
  p.evicting = dice_.Chance(0.35);
  p.nodes = static_cast<uint32_t>(dice_.Between(1, 4));
  p.clients = static_cast<uint32_t>(dice_.Between(1, 4));
  p.keys = static_cast<uint32_t>(dice_.Between(2, 16));
  p.faults = options_.steps != 0 ? static_cast<uint32_t>(options_.steps) : static_cast<uint32_t>(dice_.Between(4, 20));
  p.max_value = p.evicting ? (512 << 10) : (48 << 10);
  p.lease = dice_.Between(100, 2000) * kMilli;
  p.grace = dice_.Between(2, 8) * kSecond;
  p.recovery = dice_.Between(500, 3000) * kMilli;
  p.pause = dice_.Between(50, 1500) * kMilli;
  const double rough = dice_.Chance(0.3) ? 0 : 0.002 * static_cast<double>(1 << dice_.Below(6));
  p.cut = rough;
  p.slow = dice_.Chance(0.5) ? 0.02 : 0;
  p.data_cut = dice_.Chance(0.5) ? rough * 2 : 0;
  p.data_slow = dice_.Chance(0.5) ? 0.02 : 0;
  if (options_.mutation == Mutation::kLongLeases) {  // else it seldom matters
    p.lease = 100 * kMilli;
    p.data_slow = 0.3;
    p.evicting = true;
    p.max_value = 512 << 10;
  }
  if (options_.mutation == Mutation::kForgetCalls || options_.mutation == Mutation::kForgetJoins) p.cut = 0.1;
  if (options_.mutation == Mutation::kAnswerEarly) p.durable = p.members = true;
  scheduler_.SetPreemption(dice_.Chance(0.5) ? 0.03 : 0);
}

void World::Violate(const char* invariant, const std::string& what) {
  if (!result_.invariant.empty()) return;
  result_.invariant = invariant;
  result_.what = what;
  result_.when = scheduler_.now();
  Trace(std::string("VIOLATED ") + invariant + ": " + what);
  scheduler_.Stop();
}

void World::Trace(const std::string& line) {
  if (!options_.trace) return;
  const Nanos now = scheduler_.now();
  const ProcessPtr process = scheduler_.process();
  std::fprintf(stderr, "%4lld.%06lld %-10s %s\n", static_cast<long long>(now / kSecond),
               static_cast<long long>(now % kSecond / kMicro), process == nullptr ? "-" : process->name.c_str(),
               line.c_str());
}

RunResult World::Run() {
  director_ = std::make_shared<Process>();
  director_->name = "director";
  history_.is_member = [this](const Holder& holder) { return blocks_.IsMember(holder); };
  history_.evicted_bytes = [this] {
    uint64_t sum = evicted_before_;
    if (meta_ != nullptr) {
      const meta::Figures figures = meta_->state().figures();
      for (const uint64_t bytes : figures.evicted_bytes) sum += bytes;
    }
    return sum;
  };
  blocks_.mutation = options_.mutation;
  blocks_.session_expiry = 2 * kSecond;
  blocks_.catalog_path = [this](const std::string& node) {
    return local::ServiceFilePath(options_.directory, node, "catalog");
  };
  if (options_.trace) blocks_.trace = [this](const std::string& line) { Trace(line); };
  network_->observer = &blocks_;
  plane_.on_write = [this](const Place& place, uint64_t session) { blocks_.OnWrite(place, session); };
  plane_.faults.fence_lies = options_.mutation == Mutation::kFenceNothing;
  plane_.faults.beside = options_.mutation == Mutation::kWriteBeside;
  scheduler_.SetAfterStep([this] { AfterStep(); });
  scheduler_.Spawn(director_, [this] { Direct(); });
  constexpr uint64_t kMaxSteps = 3'000'000;
  if (!scheduler_.Run(kMaxSteps)) Violate("progress", "the run does not end");
  if (result_.invariant.empty() && !ending_) Violate("progress", "nothing is left that could go on");
  char line[256];
  std::snprintf(line, sizeof line,
                "%.1f s, %llu steps, %llu calls, %llu puts, %llu hits, %llu misses, %llu metas, %llu node starts, "
                "%llu client starts",
                static_cast<double>(scheduler_.now()) / kSecond, static_cast<unsigned long long>(scheduler_.steps()),
                static_cast<unsigned long long>(network_->calls), static_cast<unsigned long long>(history_.puts_ok),
                static_cast<unsigned long long>(history_.hits), static_cast<unsigned long long>(history_.misses),
                static_cast<unsigned long long>(metas_), static_cast<unsigned long long>(node_starts_),
                static_cast<unsigned long long>(client_starts_));
  result_.figures = line;
  return result_;
}

void World::AfterStep() {
  network_->Poll();
  if (network_->calls >= wake_at_call_ || plane_.pieces >= wake_at_piece_) {
    wake_at_call_ = wake_at_piece_ = UINT64_MAX;
    scheduler_.WakeAll(&wake_at_call_);
  }
  constexpr uint64_t kEvery = 512;
  if (scheduler_.steps() % kEvery == 0) CheckBooks();
}

// The order of a run.
void World::Direct() {
  Trace("plan: " + std::to_string(plan_.nodes) + " nodes, " + std::to_string(plan_.clients) + " clients, " +
        std::to_string(plan_.keys) + " keys, " + (plan_.durable ? "durable" : "asynchronous") + " commits, " +
        (plan_.members ? "members known" : "members not known") + (plan_.evicting ? ", evicting" : ""));
  StartMeta();
  for (uint32_t i = 0; i < plan_.nodes; ++i) {
    auto node = std::make_unique<Node>();
    node->name = "n" + std::to_string(i);
    node->warm = dice_.Chance(0.6);
    node->bytes = plan_.evicting ? 2u << 20 : 8u << 20;
    nodes_.push_back(std::move(node));
    StartNode(*nodes_.back());
  }
  for (uint32_t i = 0; i < plan_.clients; ++i) {
    auto client = std::make_unique<ClientProcess>();
    client->name = "c" + std::to_string(i);
    client->same_host = dice_.Chance(0.5);
    client->cache = dice_.Chance(0.3);
    client->integrity = dice_.Chance(0.5) ? Integrity::kPut : Integrity::kVerify;
    client->workers = static_cast<uint32_t>(dice_.Between(1, 3));
    clients_.push_back(std::move(client));
    StartClient(*clients_.back());
  }
  scheduler_.Sleep(500 * kMilli);
  Faults();
  Heal();
  CheckQuiet();
  ending_ = true;
  scheduler_.Stop();
}

}  // namespace mmc::sim
