// DataPlane: the transports of a simulated run, under the names "tcp" and "shm" (fabric::FindTransport of this program
// knows these two and no others). Bytes move piece by piece, each piece a step of its own, through the real
// RegionTable of the node into its real segment memory.
//
//   tcp   each piece is checked by the far side when it arrives. A write whose connection breaks may answer
//         kUnconfirmed, and its pieces on the way arrive later, unless the node has closed the connection by then.
//   shm   one-sided: the range is checked when a transfer begins, then the client touches the memory without asking,
//         as long as it runs. A fence is through when the client's end is closed: after its running transfers, or with
//         its process. A node that is killed leaves the mapping; the presence lock of the client tells the next one.
//
// A frozen or killed client is one whose fibers do not run: it stops between two pieces, and goes on there.
//
// Thread safety: none needed. Ownership: owned by the run; links and listeners share it.
#pragma once

#include <functional>
#include <list>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "fabric/transport.h"
#include "tests/sim/scheduler.h"

namespace mmc::sim {

struct DataFaults {
  double cut = 0;       // per transfer: the connection breaks at some piece
  double slow = 0;      // per piece: takes up to `slow_up_to`
  Nanos slow_up_to = 0;
  Nanos late_up_to = 0;  // what was on its way in a broken connection arrives within this time
  bool fence_lies = false;  // mutation: says that a session is fenced when it is not
  bool beside = false;      // mutation: some writes go to the unit beside the right one
};

// Bytes of a segment of a node.
struct Place {
  std::string node;
  uint32_t segment = 0;
  uint32_t epoch = 0;
  uint64_t offset = 0;
  uint64_t length = 0;
};

class DataPlane {
 public:
  explicit DataPlane(Scheduler& scheduler);

  // The node whose listeners are made next by fibers of `process`.
  void SetNode(const ProcessPtr& process, const std::string& node) { nodes_[process.get()] = node; }
  // Nothing gets from this client process to that node, or back.
  void Partition(const ProcessPtr& client, const std::string& node, bool on);
  void HealAll() { partitioned_.clear(); }
  // All connections to this node break.
  void Cut(const std::string& node);
  // The process is gone. Of a node: nobody reaches it. Of a client: the kernel closes its sockets.
  void Kill(const ProcessPtr& process);

  DataFaults faults;
  // Called before bytes are written into a segment, with the session of the writer.
  std::function<void(const Place&, uint64_t session)> on_write;
  // Whether some write that has begun may still touch these bytes.
  bool WriteUnderWay(const Place& place) const;
  uint64_t pieces = 0;  // moved

  static DataPlane* Current() { return current_; }

  // ---- for links and listeners
  struct Hub;
  struct Connection;
  struct Flight {  // pieces of a write that may still be applied
    std::shared_ptr<Connection> connection;
    Place place;
    const std::byte* local = nullptr;
    bool late = false;  // the client has done with it
  };
  Result<std::shared_ptr<Hub>> FindHub(const std::string& address) const;
  Scheduler& scheduler() { return scheduler_; }
  bool Cannot(const Connection& connection) const;  // a partition is in the way
  Nanos Latency();
  void CloseFar(const std::shared_ptr<Connection>& connection);
  void CloseNear(Connection& connection);
  // It will arrive by itself, unless the node closes the connection before.
  void SendLate(const std::shared_ptr<Connection>& connection, const Place& place, const std::byte* local);
  static void FinishFences(Hub& hub);

  std::map<std::string, std::shared_ptr<Hub>> hubs;  // by address
  std::map<const Process*, std::string> nodes_;
  std::list<Flight> flights;
  std::list<std::weak_ptr<Connection>> all_connections;  // of all hubs, those that are gone too
  uint64_t next_port = 1;
  std::map<std::string, uint64_t> ports;

 private:
  static inline DataPlane* current_ = nullptr;
  Scheduler& scheduler_;
  std::set<std::pair<const Process*, std::string>> partitioned_;
};

}  // namespace mmc::sim
