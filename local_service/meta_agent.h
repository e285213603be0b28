// MetaAgent: what a node says to the meta service, and when. Two threads: one joins and sends
// heartbeats, one takes catalog records and fences by long polls. It decides; a NodeBody does.
//
//   join     again after every answer "unknown node", with pauses that grow up to two seconds
//   renew    when the meta service may have forgotten what this incarnation holds (it did not
//            resume it, an earlier join may have reached another one, records are missing): the
//            body becomes a new node, then joins
//   beat     every heartbeat_ms of the join's answer; a lost connection changes nothing, the next
//            beat goes on
//   catalog  records are applied in order and acknowledged by the next poll
//   fence    the body is asked once per session; the poll after its answer reports it
//
// Thread safety: Start and Stop from one thread, the rest from any. Ownership: shares the channel,
// does not close it; the body must outlive the agent.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <thread>

#include "common/base/clock.h"
#include "common/base/mutex.h"
#include "common/base/status.h"
#include "common/rpc/channel.h"
#include "proto/meta.pb.h"

namespace mmc::local {

// The node that a MetaAgent speaks for. Called on the agent's threads; Describe, Renew and Apply
// never at the same time.
class NodeBody {
 public:
  virtual ~NodeBody() = default;
  // Name, incarnation, host, endpoints and segments as they are now.
  virtual proto::JoinRequest Describe() = 0;
  // Becomes a new node: no access that the old one allowed is possible any more when it returns OK.
  // Asks `give_up` while it waits.
  virtual Status Renew(const std::function<bool()>& give_up) = 0;
  // Makes the record part of the catalog, or says why it never will be; it counts as applied in
  // either case.
  virtual Status Apply(const proto::CatalogRecord& record) = 0;
  // Closes that session's data connections; `done` runs once, on any thread, when no access of it
  // can happen any more.
  virtual void Fence(uint64_t session, std::function<void()> done) = 0;
};

struct AgentTimes {
  std::chrono::milliseconds call{5000};       // deadline of a join or heartbeat
  std::chrono::milliseconds poll_wait{2000};  // how long the meta service may hold a poll
  std::chrono::milliseconds backoff_min{50};
  std::chrono::milliseconds backoff_max{2000};
  std::chrono::milliseconds log_every{5000};  // lines about one and the same trouble
  std::chrono::milliseconds leave{2000};      // deadline of the farewell
};

class MetaAgent {
 public:
  MetaAgent(std::shared_ptr<rpc::Channel> meta, NodeBody& body, AgentTimes times = {});
  ~MetaAgent();  // Stop(now)
  MetaAgent(const MetaAgent&) = delete;
  MetaAgent& operator=(const MetaAgent&) = delete;

  void Start();
  // OK when joined. Errors: kUnavailable (what stood in the way until `deadline`), kCancelled
  // (Interrupt or Stop).
  Status WaitJoined(TimePoint deadline);
  // Makes waits end, from any thread; nothing is joined afterwards.
  void Interrupt();
  // Ends the threads, then tells the meta service that the node leaves. Idempotent.
  void Stop(TimePoint deadline);

  bool joined() const;
  uint32_t node() const;         // as the meta service numbers it; 0 before the first join
  uint64_t applied_seq() const;  // of this incarnation
  uint64_t joins() const;        // that were answered and kept
  // Waits until the catalog is at `seq` at least; for tests.
  bool WaitApplied(uint64_t seq, TimePoint deadline);

 private:
  struct Core;     // what callbacks may touch after this object is gone
  struct Trouble;  // one line each few seconds about what goes on failing
  struct Membership {
    uint32_t node = 0;
    uint64_t incarnation = 0;
    uint64_t serial = 0;
  };

  template <typename Method, typename Request, typename Reply>
  Status Call(const Method& method, const Request& request, Reply* reply,
              std::chrono::milliseconds timeout);
  bool Sleep(std::chrono::milliseconds time);  // false: interrupted
  void BeatLoop();
  void CatalogLoop();
  // One attempt to become a member.
  Status Join();
  void Lose(uint64_t serial, const std::string& why, bool renew);
  Status Poll(const Membership& member, std::chrono::milliseconds wait,
              std::set<uint64_t>* to_fence);
  void StartFences(const std::set<uint64_t>& sessions);
  // False: a record is missing in between.
  bool ApplyAll(const Membership& member, const proto::CatalogSyncReply& reply);

  const std::shared_ptr<rpc::Channel> meta_;
  NodeBody& body_;
  const AgentTimes times_;
  const std::shared_ptr<Core> core_;
  Mutex body_mutex_;  // held while the body changes; taken before core_'s
  TimePoint next_record_line_ MMC_GUARDED_BY(body_mutex_);
  std::thread beat_thread_;
  std::thread catalog_thread_;
};

}  // namespace mmc::local
