// The put flow of one batch: PutStart -> one transfer per node -> PutCommit, in chunks, with
// retries till the deadline.
//
// Thread safety: a PutBatch belongs to one thread. Ownership: the items and their buffers are the
// caller's and must outlive Run().
#pragma once

#include <span>
#include <vector>

#include "client_sdk/src/core.h"
#include "client_sdk/src/mover.h"

namespace mmc::client {

class PutBatch {
 public:
  PutBatch(Core& core, std::span<const PutItem> items, const PutOptions& options,
           TimePoint deadline);

  // One status per item, see Client::Put.
  std::vector<Status> Run();

 private:
  // One item with a grant.
  struct Granted {
    uint32_t item = 0;
    uint64_t grant = 0;
    Location location;
    uint32_t failed_replicas = 0;  // bit r: replica r was not written
    bool unconfirmed = false;
    uint64_t checksum = 0;  // of the value; 0: none
    Status failure;         // of the last failed replica
  };
  using Items = std::vector<uint32_t>;

  // Settles what needs no service; returns what is left to be put, in order.
  Items Validate();
  // Copies the outcome of a key's first occurrence to the later ones of the batch.
  void SettleDuplicates();
  // Bytes put before they are committed: an eighth of the pool, so that a batch greater than the
  // free space proceeds by evicting what it wrote before, within limits that keep a round trip
  // small beside the transfer.
  uint64_t ChunkBytes();
  std::vector<Items> MakeChunks(const Items& items);
  // For chunks whose turn does not come any more.
  void TimeIsUp(std::span<const Items> not_started, const std::vector<Items>& left);
  // One round for these, of which PutStart may take `wait`; returns those to try again. Their
  // statuses hold why.
  Items Round(const Items& items, Duration wait);
  Status Start(const OpenedSession& opened, const Items& items, Duration wait,
               std::vector<Granted>* granted, Items* again);
  void Transfer(const OpenedSession& opened, std::vector<Granted>& granted);
  // Commits what was written at least once, gives back the rest.
  void Finish(const OpenedSession& opened, std::vector<Granted>& granted, Items* again);
  void Commit(const OpenedSession& opened, std::vector<Granted*> grants, Items* again);
  void CommitFailed(const OpenedSession& opened, const std::vector<Granted*>& grants,
                    const Status& called, Items* again);
  // Gives grants back. When this does not get through, they end with the session.
  Status Abort(const OpenedSession& opened, const std::vector<Granted*>& failed, bool unconfirmed);
  // What became of a commit whose answer was lost. kSessionLost: nothing, and the grant went with
  // its session.
  Status AskOutcome(const OpenedSession& opened, const Granted& granted, const Status& lost);
  // The row of one key, once the meta service knows it.
  Status StatKey(uint32_t item, TimePoint deadline, proto::StatReply* reply);
  // Whether the value that is committed is the one of this grant.
  bool IsOurs(const OpenedSession& opened, const Granted& granted, const proto::StatReply& stat,
              TimePoint deadline);
  void AddGrant(const Granted& granted, proto::PutCommitRequest* request) const;
  void Settle(uint32_t item, Status status) { statuses_[item] = std::move(status); }
  // Keeps the item for another round when the code and the number of rounds allow it.
  void SettleOrRepeat(uint32_t item, Status status, Items* again);

  Core& core_;
  const std::span<const PutItem> items_;
  const PutOptions& options_;
  const bool any_group_;  // in items_
  const TimePoint deadline_;
  TimePoint last_start_;  // no new round after this: the rest of the time is for its transfer and
                          // its answer
  std::vector<Status> statuses_;
  std::vector<uint64_t> sizes_;
  std::vector<uint8_t> failed_rounds_;  // rounds in which every replica of the item failed
  std::vector<std::pair<uint32_t, uint32_t>> twice_;  // {later item, first item of the same key}
};

}  // namespace mmc::client
