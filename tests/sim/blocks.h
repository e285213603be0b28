// Blocks: whose every unit of every segment is, as the answers of the meta service say, and whether it was free to be
// given (promise 3): no lease and no pin on it, no catalog that claims it, no write under way that could touch it; and
// whether every write is of him whose grant it is, while it is one (promise 4). And whether a node is known as its
// newest process has said.
//
// It looks at the calls where they are carried out (CallObserver), and is told of every write by the data plane.
//
// Thread safety: none needed. Ownership: refers to the run's other parts.
#pragma once

#include <google/protobuf/message_lite.h>

#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "local_service/catalog_reader.h"
#include "meta_service/state/meta_state.h"
#include "proto/methods.h"
#include "tests/sim/data_plane.h"
#include "tests/sim/history.h"
#include "tests/sim/network.h"

namespace mmc::sim {

// One deliberate fault, to see that somebody notices.
enum class Mutation : uint8_t {
  kNone,
  kForgetNothing,  // FORGET records are acknowledged, but do not reach the catalog
  kFenceNothing,   // fences are acknowledged at once, connections stay
  kLongLeases,     // clients are told longer leases than the meta service keeps
  kCommitNothing,  // some commits are answered and not carried out
  kLoseRecords,    // ADD records are acknowledged, but do not reach the catalog
  kRemoveNothing,  // some removals are answered and not carried out
  kLoseFences,     // nodes are not told which sessions to fence
  kWriteBeside,    // some writes go to the unit beside the right one
  kForgetCalls,    // a removal that comes again is taken for another one
  kAnswerEarly,    // removals are answered before the catalogs have forgotten
  kForgetJoins,    // a join, a poll or a report of before is taken for one of now
};
inline constexpr int kMutations = 12;
const char* MutationName(Mutation mutation);
// The invariants that it breaks, separated by spaces.
const char* BrokenBy(Mutation mutation);

class Blocks final : public CallObserver {
 public:
  Blocks(Scheduler& scheduler, History& history, DataPlane& plane, Violated violated)
      : scheduler_(scheduler), history_(history), plane_(plane), violated_(std::move(violated)) {}

  // Of the meta service that runs now; null while there is none.
  void SetState(meta::MetaState* state) {
    state_ = state;
    version_ = 0;
    leases_.clear();
    pins_.clear();
    grants_.clear();
    joins_.clear();
  }
  std::function<std::string(const std::string& node)> catalog_path;
  std::function<void(const std::string& line)> trace;  // null: nobody listens
  Mutation mutation = Mutation::kNone;
  Nanos session_expiry = 0;

  bool Before(uint16_t method, google::protobuf::MessageLite* request,
              google::protobuf::MessageLite* reply) override;
  void After(uint16_t method, const google::protobuf::MessageLite& request, google::protobuf::MessageLite* reply,
             const Status& status) override;
  void OnWrite(const Place& place, uint64_t session);

  // The catalog of that node, when it is of this incarnation.
  Result<local::CatalogImage> Catalog(const Holder& holder) const;
  bool IsMember(const Holder& holder);
  // What the catalogs had when the meta service died. `members`: the next one knows who was there.
  void MetaDied(bool durable, bool members);

 private:
  struct Node {
    std::string name;
    uint64_t incarnation = 0;
    bool gone = false;
  };
  struct Grant {
    std::string key;
    uint64_t session = 0;
    std::vector<std::pair<Holder, std::vector<Place>>> replicas;  // as it was given: commits may come late
  };
  struct Lease {
    Place place;
    Nanos until = 0;
  };
  struct Pin {
    std::vector<Place> places;
    uint64_t session = 0;
  };
  struct Unit {
    uint64_t session = 0;
    uint64_t grant = 0;
    bool committed = false;
    std::string key;
  };
  // The newest of a node that was taken.
  struct Joined {
    uint64_t number = 0;
    uint64_t incarnation = 0;
    std::vector<std::string> endpoints;
  };
  using SegmentKey = std::tuple<std::string, uint32_t, uint32_t>;  // node, segment, epoch

  const Node* FindNode(uint32_t id);
  void Heard(uint64_t session);
  bool Alive(uint64_t session) const;
  // Calls `take` with node id and extents of each replica of row after row.
  template <typename Take>
  void EachReplica(const proto::ReplicaColumns& columns, Take take);
  void Given(const Place& place, const Node& node, const std::string& key, uint64_t session, uint64_t grant);
  void CheckFree(const Place& place, const Node& node, const std::string& key);
  void AfterPutStart(const proto::PutStartRequest& request, const proto::PutStartReply& reply);
  void BeforeCommit(const proto::PutCommitRequest& request);
  void AfterExists(const proto::ExistsRequest& request, const proto::ExistsReply& reply);
  void AfterLookup(const proto::LookupRequest& request, proto::LookupReply* reply);
  void AfterUnpin(const proto::UnpinRequest& request, const proto::UnpinReply& reply);
  void AfterJoin(const proto::JoinRequest& request, const proto::JoinReply& reply);
  void AfterSync(const proto::CatalogSyncRequest& request, proto::CatalogSyncReply* reply);
  void RemoveMany(uint16_t method);
  bool PlayTrick(uint16_t method, google::protobuf::MessageLite* request, google::protobuf::MessageLite* reply);
  bool Tricked(double chance);

  Scheduler& scheduler_;
  History& history_;
  DataPlane& plane_;
  const Violated violated_;
  meta::MetaState* state_ = nullptr;
  uint64_t version_ = 0;
  std::map<uint32_t, Node> nodes_;
  std::map<uint64_t, Grant> grants_;
  std::map<uint64_t, Nanos> heard_;  // sessions that are open, as far as can be seen
  std::vector<Lease> leases_;
  std::multimap<uint64_t, Pin> pins_;  // by generation
  std::map<std::string, Joined> joins_;
  std::map<const google::protobuf::MessageLite*, uint64_t> join_numbers_;  // of calls that are carried out now
  std::map<uint64_t, uint64_t> copies_;  // id -> checksum
  std::map<SegmentKey, std::vector<Unit>> units_;
};

}  // namespace mmc::sim
