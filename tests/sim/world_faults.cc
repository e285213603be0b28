// What is done to a run: one fault after the other, some of them together.
#include "tests/sim/world.h"

namespace mmc::sim {

World::Node& World::AnyNode() { return *nodes_[dice_.Below(nodes_.size())]; }
World::ClientProcess& World::AnyClient() { return *clients_[dice_.Below(clients_.size())]; }

void World::Faults() {
  network_->faults = {.cut = plan_.cut, .slow = plan_.slow, .slow_up_to = 2 * kSecond, .late_up_to = 6 * kSecond};
  plane_.faults.cut = plan_.data_cut;
  plane_.faults.slow = plan_.data_slow;
  plane_.faults.slow_up_to = 3 * kSecond;
  plane_.faults.late_up_to = 8 * kSecond;
  for (uint32_t i = 0; i < plan_.faults; ++i) {
    OneFault();
    Pause(2 * plan_.pause);
  }
}

void World::Pause(Nanos longest) {
  const uint64_t kind = dice_.Below(3);
  if (kind == 1) wake_at_call_ = network_->calls + 1 + dice_.Below(60);
  if (kind == 2) wake_at_piece_ = plane_.pieces + 1 + dice_.Below(30);
  // One of an earlier pause may end this one: no matter.
  scheduler_.After(dice_.Skewed(kMilli, longest), [this] { scheduler_.WakeAll(&wake_at_call_); });
  scheduler_.Wait(&wake_at_call_);
}

void World::OneFault() {
  const uint64_t roll = dice_.Below(100);
  if (roll < 25) return MetaFault();
  if (roll < 55) return NodeFault();
  if (roll < 72) return ClientFault();
  if (roll < 93) return NetworkFault();
  WorkFault();
}

// Killed or stopped; often again while it recovers.
void World::MetaFault() {
  if (meta_ == nullptr || meta_busy_) return;
  if (dice_.Chance(0.2)) {
    Trace("the meta service is frozen");
    scheduler_.Freeze(meta_process_);
    scheduler_.Sleep(dice_.Skewed(50 * kMilli, 5 * kSecond));
    scheduler_.Thaw(meta_process_);
    return;
  }
  const int64_t times = dice_.Chance(0.3) ? dice_.Between(2, 3) : 1;
  for (int64_t i = 0; i < times; ++i) {
    StopMeta(dice_.Chance(0.8));
    scheduler_.Sleep(dice_.Skewed(kMilli, 3 * kSecond));
    StartMeta();
    if (i + 1 < times) Pause(plan_.recovery);
  }
}

void World::NodeFault() {
  Node& node = AnyNode();
  if (node.busy) return;
  if (!node.up) return StartNode(node);
  const Nanos away = dice_.Skewed(20 * kMilli, plan_.grace * 2);
  if (dice_.Chance(0.35)) {
    Trace("node " + node.name + " is frozen");
    const ProcessPtr process = node.process;
    scheduler_.Freeze(process);
    scheduler_.After(away, [this, process] { scheduler_.Thaw(process); });
    return;
  }
  node.cold_next = dice_.Chance(0.15);
  StopNode(node);
  scheduler_.Spawn(director_, [this, &node, away] {
    scheduler_.Sleep(away);
    while (node.busy) scheduler_.Sleep(20 * kMilli);
    if (!node.up) StartNode(node);
  });
}

void World::ClientFault() {
  ClientProcess& client = AnyClient();
  if (client.up && dice_.Chance(0.5)) {
    Trace("client " + client.process->name + " is frozen");
    const ProcessPtr process = client.process;
    scheduler_.Freeze(process);
    // Often for longer than its session lasts.
    scheduler_.After(dice_.Skewed(50 * kMilli, 8 * kSecond), [this, process] { scheduler_.Thaw(process); });
    return;
  }
  if (client.up) KillClient(client);
  scheduler_.Spawn(director_, [this, &client, life = client.life, wait = dice_.Skewed(kMilli, 3 * kSecond)] {
    scheduler_.Sleep(wait);
    if (!client.up && client.life == life) StartClient(client);
  });
}

void World::NetworkFault() {
  const Nanos time = dice_.Skewed(20 * kMilli, 2 * plan_.grace);
  const uint64_t roll = dice_.Below(5);
  if (roll == 0) {
    Trace("connections to node " + AnyNode().name + " break");
    return plane_.Cut(AnyNode().name);
  }
  if (roll == 1 && AnyClient().up) {
    const ProcessPtr process = AnyClient().process;
    const std::string node = AnyNode().name;
    Trace(process->name + " does not reach node " + node);
    plane_.Partition(process, node, true);
    scheduler_.After(time, [this, process, node] { plane_.Partition(process, node, false); });
    return;
  }
  const ProcessPtr process = dice_.Chance(0.5) ? AnyNode().process : AnyClient().process;
  if (roll == 2) {
    Trace("the connection of " + process->name + " to the meta service breaks");
    return network_->Cut(process);
  }
  Trace(process->name + " does not reach the meta service");
  network_->Partition(process, true);
  scheduler_.After(time, [this, process] { network_->Partition(process, false); });
}

// Drains and checks.
void World::WorkFault() {
  const ProcessPtr process = std::make_shared<Process>();
  process->name = "admin";
  Node& node = AnyNode();
  const bool drain = dice_.Chance(0.7);
  if (drain) node.draining = !node.draining;
  history_.drains |= drain;
  scheduler_.Spawn(process, [this, process, drain, name = node.name, cancel = !node.draining] {
    auto client = Connect(process, false, false, Integrity::kPut, std::chrono::milliseconds(2000));
    if (!client.ok()) return;
    const Status status = drain ? (*client)->Drain(name, cancel) : (*client)->Scrub("", 0).status();
    Trace((drain ? (cancel ? "end drain of " : "drain ") + name : std::string("scrub")) + ": " + status.ToString());
    (*client)->Close();
  });
}

// Everything works again from here on.
void World::Heal() {
  Trace("no more faults");
  network_->faults = {};
  const DataFaults before = plane_.faults;
  plane_.faults = {};
  plane_.faults.fence_lies = before.fence_lies;
  plane_.faults.beside = before.beside;
  network_->HealAll();
  plane_.HealAll();
  while (meta_busy_) scheduler_.Sleep(20 * kMilli);
  scheduler_.Thaw(meta_process_);
  for (const auto& node : nodes_) {
    scheduler_.Thaw(node->process);
    while (node->busy) scheduler_.Sleep(20 * kMilli);
    if (!node->up) StartNode(*node);
  }
  // The last of them are killed, so that their sessions, grants and pins have to be collected.
  for (const auto& client : clients_) {
    ++client->life;
    scheduler_.Thaw(client->process);
    if (client->up && dice_.Chance(0.5)) KillClient(*client);
  }
  // What was begun before has ended by then.
  scheduler_.Sleep(8 * kSecond);
}

}  // namespace mmc::sim
