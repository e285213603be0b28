// The get flow of one batch: Lookup (or the location cache) -> one transfer per source node ->
// check of the leases, with fail-over to other replicas and new lookups till the deadline.
//
// Thread safety: a GetBatch belongs to one thread. Ownership: keys, buffers and result strings are
// the caller's and must outlive Run().
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "client_sdk/src/core.h"
#include "client_sdk/src/mover.h"

namespace mmc::client {

class GetBatch {
 public:
  GetBatch(Core& core, TimePoint deadline) : core_(core), deadline_(deadline) {}

  // Into the caller's buffers.
  std::vector<GetResult> Run(std::span<const GetItem> items);
  // Whole values into strings of the values' sizes; values[i] is meaningful where the result's
  // status is OK.
  std::vector<GetResult> Run(std::span<const std::string_view> keys,
                             std::vector<std::string>* values);

 private:
  struct Read {
    std::string_view key;
    std::span<const Buffer> buffers;
    std::string* into = nullptr;  // takes the place of buffers
    Buffer string_buffer;
    uint64_t room = 0;  // bytes of the buffers
    uint64_t offset = 0;
    bool allow_short = false;

    std::shared_ptr<const Location> location;  // null: to be looked up
    TimePoint lease_end;
    bool cached = false;
    uint64_t length = 0;                  // to read, once the size is known
    std::vector<uint32_t> bad_nodes;      // that failed in this call
    std::vector<uint32_t> corrupt_nodes;  // of those: whose bytes were not those of the checksum
    uint32_t stale = 0;                   // times a region was not there any more
    uint32_t lost = 0;                    // rounds in which no replica could be read
    Status last;                          // why it is not read yet
  };
  using Reads = std::vector<uint32_t>;

  void RunAll();
  // Finds locations for those without one. False: the call is over, everything is settled.
  bool Locate(const Reads& reads);
  void LocateInCache(const Reads& reads);
  Status Lookup(const OpenedSession& opened, const Reads& reads);
  // Checks the size of a located value against the buffers; settles the read when they do not
  // match.
  bool Fits(uint32_t read);
  // Reads what is located, wave by wave; returns what has to be tried again.
  Reads Transfer(const OpenedSession& opened, const Reads& reads);
  void Wave(const OpenedSession& opened, const Reads& wave, Reads* again);
  // The replica to read from: not one that failed; nearest first. -1: none is left.
  int Choose(const Read& read, const Directory& directory) const;
  struct Ended {
    TimePoint at;     // when the wave's transfers had ended
    TimePoint until;  // the deadline they ran under
  };
  void OnPart(const OpenedSession& opened, uint32_t node, const Leg::Part& part, const Ended& ended,
              Reads* again);
  // The whole value is read, and there is something to compare it with.
  bool Verifies(const Read& read) const;
  void OnCorrupt(const OpenedSession& opened, uint32_t node, uint32_t read, Reads* again);
  // After a replica failed: another one, or a new lookup, or the end.
  void TryAnother(uint32_t read, Reads* again);
  // To be looked up again, because of `why`.
  void Relocate(uint32_t read, Status why, Reads* again);
  void OnBadNode(const OpenedSession& opened, uint32_t node, uint32_t read, const Status& met,
                 Reads* again);
  void Settle(uint32_t read, Status status);

  Core& core_;
  const TimePoint deadline_;
  std::vector<Read> reads_;
  std::vector<GetResult> results_;
  std::vector<uint32_t> reported_nodes_;
  Reads unknown_yet_;  // that the last lookup had no answer for: the meta service recovers
  uint64_t wave_bytes_ = 256_MiB;
  std::chrono::milliseconds lease_{0};  // asked for; grows when reads outlive it
  uint32_t lost_rounds_ = 0;            // counts what calls for a pause before the next round
};

}  // namespace mmc::client
