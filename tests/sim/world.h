// World: one simulated run. A meta service, nodes and clients, each the product's own code in a process of its own;
// what they do, what is done to them, and what must hold at the end.
//
// Thread safety: none needed. Ownership: owns everything; a run ends with its (real) process.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "client_sdk/include/mmc/client.h"
#include "local_service/local_service.h"
#include "meta_service/meta_service.h"
#include "tests/sim/blocks.h"
#include "tests/sim/data_plane.h"
#include "tests/sim/history.h"
#include "tests/sim/network.h"
#include "tests/sim/scheduler.h"

namespace mmc::sim {

struct RunOptions {
  uint64_t seed = 1;
  uint64_t steps = 0;  // faults; 0: the seed decides
  Mutation mutation = Mutation::kNone;
  bool trace = false;
  std::string directory;  // of catalogs, segments and the members file; of this run alone
};

struct RunResult {
  std::string invariant;  // empty: all held
  std::string what;
  Nanos when = 0;
  std::string figures;  // one line
};

class World {
 public:
  explicit World(const RunOptions& options);
  RunResult Run();

 private:
  struct Node {
    std::string name;
    ProcessPtr process;
    std::unique_ptr<local::LocalService> service;
    bool up = false;      // its process is there
    bool busy = false;    // starting or stopping
    bool warm = false;    // its memory outlives it
    bool leaves = false;  // ends by SIGTERM: leaves the pool
    bool cold_next = false;
    bool draining = false;
    uint64_t bytes = 0;
  };
  struct ClientProcess {
    std::string name;
    ProcessPtr process;
    std::unique_ptr<Client> client;
    uint64_t life = 0;
    bool up = false;
    bool same_host = true, cache = false;
    Integrity integrity = Integrity::kPut;
    uint32_t workers = 1;
  };
  // What the seed decides before anything runs.
  struct Plan {
    bool durable = false, members = false, evicting = false;
    uint32_t nodes = 1, clients = 1, keys = 8, faults = 10;
    uint64_t max_value = 1;
    Nanos lease = 0, grace = 0, recovery = 0, pause = 0;
    double cut = 0, slow = 0, data_cut = 0, data_slow = 0;
  };

  void MakePlan();
  void Violate(const char* invariant, const std::string& what);
  void Trace(const std::string& line);
  void Direct();
  void AfterStep();

  // ---- processes (world_processes.cc)
  void StartMeta();
  void StopMeta(bool killed);
  void StartNode(Node& node);
  void StopNode(Node& node);  // kill -9, or SIGTERM when it leaves
  void StartClient(ClientProcess& client);
  void KillClient(ClientProcess& client);
  Result<std::unique_ptr<Client>> Connect(const ProcessPtr& process, bool same_host, bool cache, Integrity integrity,
                                          std::chrono::milliseconds retry);

  // ---- what clients do (world_workload.cc)
  void Work(ClientProcess& client, uint64_t life, std::shared_ptr<Client> shared);
  void OneCall(Client& client, ClientProcess& process, Dice& dice);
  void Put(Client& client, Dice& dice);
  void Get(Client& client, Dice& dice, bool cached);
  void Remove(Client& client, Dice& dice);
  void LookIn(Client& client, Dice& dice);
  std::string Key(Dice& dice);

  // ---- what is done to them (world_faults.cc)
  void Faults();
  void OneFault();
  // To the moment, or to the message: between any two of them.
  void Pause(Nanos longest);
  void MetaFault();
  void NodeFault();
  void ClientFault();
  void NetworkFault();
  void WorkFault();
  void Heal();
  Node& AnyNode();
  ClientProcess& AnyClient();

  // ---- what must hold (world_checks.cc)
  void CheckBooks();
  bool Rest();
  void CheckQuiet();
  void CheckKeys(Client& client);
  void CheckEmpty(Client& client);
  bool Settled(std::string* why);

  const RunOptions options_;
  Scheduler scheduler_;
  Dice dice_;  // of what is done; apart from the order of steps
  Plan plan_;
  RunResult result_;
  std::shared_ptr<Network> network_;
  DataPlane plane_;
  History history_;
  Blocks blocks_;

  ProcessPtr director_, meta_process_;
  std::unique_ptr<meta::MetaService> meta_;
  bool meta_busy_ = false;
  uint64_t evicted_before_ = 0;  // by earlier meta services
  uint64_t metas_ = 0, node_starts_ = 0, client_starts_ = 0, calls_ = 0;
  std::vector<std::unique_ptr<Node>> nodes_;
  std::vector<std::unique_ptr<ClientProcess>> clients_;
  bool ending_ = false;
  uint64_t wake_at_call_ = UINT64_MAX, wake_at_piece_ = UINT64_MAX;  // the one who does the faults
};

}  // namespace mmc::sim
