// Starting and ending the processes of a run.
#include <utility>

#include "client_sdk/src/client_impl.h"
#include "meta_service/state/meta_state.h"
#include "tests/sim/world.h"

namespace mmc::sim {

using std::chrono::milliseconds;

namespace {

milliseconds Millis(Nanos time) { return milliseconds(time / kMilli); }

}  // namespace

// Runs on a fiber of the caller's; the service's threads are of its own process.
void World::StartMeta() {
  meta_busy_ = true;
  ++metas_;
  meta_process_ = std::make_shared<Process>();
  meta_process_->name = "meta" + std::to_string(metas_);
  network_->next_server_process = meta_process_;
  bool started = false;
  scheduler_.Spawn(meta_process_, [this, &started] {
    meta::MetaOptions options;
    options.url.clear();
    options.metrics_url.clear();
    options.heartbeat = milliseconds(300);
    options.lease = Millis(plan_.lease);
    options.grant = milliseconds(6000);
    options.session_expiry = milliseconds(2000);
    options.node_suspect = milliseconds(1000);
    options.node_grace = Millis(plan_.grace);
    options.recovery = metas_ == 1 && !plan_.members ? milliseconds(0) : Millis(plan_.recovery);
    options.commit_durable = plan_.durable;
    if (plan_.members) options.state_path = options_.directory;
    auto made = meta::MetaService::Create(std::move(options));
    if (!made.ok()) return Violate("start", "the meta service: " + made.status().ToString());
    meta_ = *std::move(made);
    blocks_.SetState(&meta_->state());
    const Status status = meta_->Start();
    if (!status.ok()) return Violate("start", "the meta service: " + status.ToString());
    started = true;
    scheduler_.WakeAll(&started);
  });
  while (!started) scheduler_.Wait(&started);
  meta_busy_ = false;
  Trace("a meta service runs, term " + std::to_string(meta_->term()));
}

// Killed: nothing that it does on its way down gets out.
void World::StopMeta(bool killed) {
  meta_busy_ = true;
  scheduler_.Thaw(meta_process_);
  if (killed) {
    blocks_.MetaDied(plan_.durable, plan_.members);
    network_->DetachNow();
  }
  bool stopped = false;
  scheduler_.Spawn(meta_process_, [this, killed, &stopped] {
    meta_->Stop(Clock::Real().Now() + milliseconds(500));
    if (!killed) blocks_.MetaDied(plan_.durable, plan_.members);
    for (const uint64_t bytes : meta_->state().figures().evicted_bytes) evicted_before_ += bytes;
    blocks_.SetState(nullptr);
    meta_.reset();
    stopped = true;
    scheduler_.WakeAll(&stopped);
  });
  while (!stopped) scheduler_.Wait(&stopped);
  meta_busy_ = false;
  Trace(killed ? "the meta service was killed" : "the meta service has stopped");
}

void World::StartNode(Node& node) {
  ++node_starts_;
  node.up = true;
  node.busy = true;
  node.leaves = dice_.Chance(0.15);
  node.process = std::make_shared<Process>();
  node.process->name = node.name;
  plane_.SetNode(node.process, node.name);
  local::LocalOptions options;
  options.meta_url = "sim";
  options.name = node.name;
  options.join_timeout = milliseconds(0);
  options.dram_bytes = node.bytes;
  options.hugepages = false;
  options.prefault = false;
  options.data_url = "tcp://127.0.0.1:0";
  options.shm_directory = options_.directory + "/sockets";
  options.catalog_directory = options_.directory;
  options.segment_directory = options_.directory;
  options.warm_restart = node.warm;
  options.cold = std::exchange(node.cold_next, false);
  options.keep_on_stop = node.warm && !node.leaves;
  auto made = local::LocalService::Create(std::move(options), network_->ChannelOf(node.process));
  if (!made.ok()) return Violate("start", "node " + node.name + ": " + made.status().ToString());
  node.service = *std::move(made);
  Trace("node " + node.name + " starts" + (node.warm ? ", keeps its memory" : ""));
  scheduler_.Spawn(node.process, [this, &node, raw = node.service.get()] {
    node.busy = false;
    const Status status = raw->Start();
    if (!status.ok() && status.code() != Code::kCancelled) {
      Violate("start", "node " + node.name + ": " + status.ToString());
    }
  });
}

void World::StopNode(Node& node) {
  node.busy = true;
  scheduler_.Thaw(node.process);
  if (!node.leaves) {
    node.process->offline = true;
    plane_.Kill(node.process);
    network_->Disconnect(node.process);
  }
  Trace("node " + node.name + (node.leaves ? " leaves" : " was killed"));
  // As its own process: what it still does is its own, and nobody hears of it.
  scheduler_.Spawn(node.process, [this, &node] {
    node.service->Stop(Clock::Real().Now() + milliseconds(node.leaves ? 2000 : 0));
    node.service.reset();
    plane_.Kill(node.process);
    node.up = false;
    node.busy = false;
  });
}

Result<std::unique_ptr<Client>> World::Connect(const ProcessPtr& process, bool same_host, bool cache,
                                               Integrity integrity, milliseconds retry) {
  ClientOptions options;
  options.meta_url = "sim";
  options.name = process->name;
  options.timeout = milliseconds(4000);
  options.connect_retry = retry;
  options.location_cache = cache;
  options.same_host = same_host;
  options.async_threads = 1;
  options.integrity = integrity;
  std::vector<client::MetaRoute> routes;
  routes.push_back({"sim", network_->ChannelOf(process)});
  return client::ConnectOver(options, std::move(routes));
}

void World::StartClient(ClientProcess& client) {
  ++client_starts_;
  ++client.life;
  client.up = true;
  client.process = std::make_shared<Process>();
  client.process->name = client.name + "." + std::to_string(client.life);
  scheduler_.Spawn(client.process, [this, &client, life = client.life] {
    auto made = Connect(client.process, client.same_host, client.cache, client.integrity, milliseconds(600'000));
    if (!made.ok()) return history_.Saw("connect", client.name, made.status());
    std::shared_ptr<Client> shared = *std::move(made);
    for (uint32_t i = 0; i < client.workers; ++i) {
      scheduler_.Spawn(client.process, [this, &client, life, shared] { Work(client, life, shared); });
    }
  });
}

// Its fibers never run again; the kernel closes what it had open.
void World::KillClient(ClientProcess& client) {
  Trace("client " + client.process->name + " was killed");
  client.up = false;
  network_->Disconnect(client.process);
  scheduler_.Kill(client.process);
  plane_.Kill(client.process);
}

}  // namespace mmc::sim
