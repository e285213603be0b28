// MetaAgent: what a node says to the meta service, and when. Two threads: one joins and sends
// heartbeats, one takes catalog records and fences by long polls. It decides; a NodeBody does.
//
//   join     again after every answer "unknown node", with pauses that grow up to two seconds; an
//            answer of an older term than the last one is not taken. Every attempt has a higher number
//            than those before, from process to process: an old one that comes late changes nothing
//   report   when the answer asks for it: the catalog, in batches, before the polls go on; after any
//            doubt whether a batch arrived the node joins again and starts over
//   renew    when this incarnation is over for the meta service (it was declared dead), or records
//            are missing: the body becomes a new node, then joins
//   beat     every heartbeat_ms of the join's answer; a lost connection changes nothing, the next
//            beat goes on
//   catalog  records are applied in order and acknowledged by the next poll; those of an older term
//            are refused, an answer of a newer one makes the node join again
//   fence    the body is asked once per session; the poll after its answer reports it. A join under
//            a new term, or one that asks for the catalog, fences all connections there are: until
//            that is done the polls say that it is not
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

// The node that a MetaAgent speaks for. Called on the agent's threads; Describe, Renew, Apply,
// Report and NoteTerm never at the same time.
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
  // The same for all connections there are; new ones of sessions below `first_session` are refused
  // from now on.
  virtual void FenceAll(uint64_t first_session, std::function<void()> done) = 0;
  // No session below this one is open any more. Must not wait.
  virtual void RefuseBelow(uint64_t) {}
  // Adds a batch of the catalog's records to `request`. `cursor` is 0 for the first batch, then
  // what was returned; 0 is returned when there are no more.
  virtual uint64_t Report(uint64_t cursor, proto::CatalogReportRequest* request) = 0;
  // What the node does besides its catalog (copies, checks): what is done goes into a poll, what its answer asks for is
  // begun. `told` is the request that was answered. TakeWork must not wait.
  virtual void TellWork(proto::CatalogSyncRequest*) {}
  virtual void TakeWork(const proto::CatalogSyncRequest&, const proto::CatalogSyncReply&) {}
  // How long a poll may be held while this work goes on; 0: something of it may end at any time.
  virtual std::chrono::milliseconds LongestPoll(std::chrono::milliseconds usual) { return usual; }
  // How requests of clients are judged (fabric/ticket.h); the answer is to a question that was sent at `asked`. Before
  // connections of the time before are closed, when the answer asks for that. Must not wait.
  virtual void LearnTickets(const proto::JoinReply&, TimePoint /*asked*/) {}
  virtual void LearnClock(uint64_t /*clock_ms*/, TimePoint /*asked*/) {}
  // The term of the meta service that was joined; older ones are not obeyed any more.
  virtual void NoteTerm(uint64_t term) = 0;
};

struct AgentTimes {
  std::chrono::milliseconds call{5000};       // deadline of a join or heartbeat
  std::chrono::milliseconds report{60'000};   // deadline of the end of a report: all is taken in then
  std::chrono::milliseconds poll_wait{2000};  // how long the meta service may hold a poll
  std::chrono::milliseconds work_wait{20};    // between polls while there is work
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

  // What an earlier process of this incarnation had applied, and the newest term it knew. Before
  // Start().
  void GoOnFrom(uint64_t applied_seq, uint64_t term);
  void Start();
  // OK when joined. Errors: kUnavailable (what stood in the way until `deadline`), kCancelled
  // (Interrupt or Stop).
  Status WaitJoined(TimePoint deadline);
  // Makes waits end, from any thread; nothing is joined afterwards.
  void Interrupt();
  // Ends the threads, then tells the meta service that the node leaves, unless it is to come back.
  // Idempotent.
  void Stop(TimePoint deadline, bool leave = true);

  // Some work of the body has ended: the next poll tells it.
  void WorkReady();

  bool joined() const;
  uint32_t node() const;         // as the meta service numbers it; 0 before the first join
  uint64_t applied_seq() const;  // of this incarnation
  uint64_t joins() const;        // that were answered and kept
  bool settled() const;          // joined, the catalog reported, all old connections fenced
  // Waits until the catalog is at `seq` at least; for tests.
  bool WaitApplied(uint64_t seq, TimePoint deadline);

 private:
  struct Core;     // what callbacks may touch after this object is gone
  struct Trouble;  // one line each few seconds about what goes on failing
  struct Membership {
    uint32_t node = 0;
    uint64_t incarnation = 0;
    uint64_t serial = 0;
    uint64_t term = 0;
    uint64_t join = 0;
  };

  template <typename Method, typename Request, typename Reply>
  Status Call(const Method& method, const Request& request, Reply* reply,
              std::chrono::milliseconds timeout);
  bool Sleep(std::chrono::milliseconds time);  // false: interrupted
  void BeatLoop();
  void CatalogLoop();
  // How long the next poll may be held; gives work that is about to end a moment to do so.
  std::chrono::milliseconds AwaitWork();
  // One attempt to become a member.
  Status Join();
  void Become(const proto::JoinRequest& request, const proto::JoinReply& reply);
  void Lose(uint64_t serial, const std::string& why, bool renew);
  Status Poll(const Membership& member, std::chrono::milliseconds wait,
              std::set<uint64_t>* to_fence);
  // Sends the catalog. An error means that the membership is over.
  Status Report(const Membership& member);
  Status ReportBatches(const Membership& member);
  void StartFences(const std::set<uint64_t>& sessions);
  void StartFenceAll(uint64_t first_session, uint64_t number);
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
