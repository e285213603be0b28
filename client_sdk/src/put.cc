#include "client_sdk/src/put.h"

#include <algorithm>
#include <unordered_map>

#include "proto/key_list.h"

namespace mmc::client {
namespace {

using std::chrono::milliseconds;

constexpr uint64_t kLargestChunk = 256_MiB;
constexpr uint64_t kSmallestChunk = 1_MiB;
constexpr uint8_t kMaxFailedRounds = 3;
// PutStart waits at the service for room or for another writer, until shortly before the deadline
// it is given.
constexpr milliseconds kLongestWaitForRoom{5000};

TimePoint Now() { return Clock::Real().Now(); }

// How long one round's transfer may take: a hung node must not hold a put until the deadline of a
// long call.
Duration TransferTime(uint64_t bytes) {
  constexpr uint64_t kSlowestBytesPerSecond = 20_MiB;
  return std::chrono::seconds(10 + bytes / kSlowestBytesPerSecond);
}

}  // namespace

PutBatch::PutBatch(Core& core, std::span<const PutItem> items, const PutOptions& options,
                   TimePoint deadline)
    : core_(core),
      items_(items),
      options_(options),
      any_group_(std::any_of(items.begin(), items.end(), [](const PutItem& item) { return !item.group.empty(); })),
      deadline_(deadline),
      statuses_(items.size()),
      sizes_(items.size()),
      failed_rounds_(items.size()) {
  const Duration left = deadline - Now();
  last_start_ = deadline - std::min<Duration>(left / 8, std::chrono::seconds(1));
}

std::vector<Status> PutBatch::Run() {
  std::vector<Items> chunks = MakeChunks(Validate());
  Backoff backoff;
  while (!chunks.empty()) {
    std::vector<Items> left;
    for (size_t i = 0; i < chunks.size(); ++i) {
      if (i > 0 && Now() >= last_start_) {
        TimeIsUp(std::span(chunks).subspan(i), left);
        break;
      }
      // One that finds no room must not take the time of those behind it.
      const Duration share = i + 1 < chunks.size() ? (deadline_ - Now()) / 4 : deadline_ - Now();
      Items again = Round(chunks[i], share);
      if (!again.empty()) left.push_back(std::move(again));
    }
    // The statuses of what is left say already why it is not there.
    if (left.empty() || !core_.session->Pause(backoff.Next(), last_start_)) break;
    chunks = std::move(left);
  }
  SettleDuplicates();
  return std::move(statuses_);
}

std::vector<PutBatch::Items> PutBatch::MakeChunks(const Items& items) {
  std::vector<Items> chunks;
  if (items.empty()) return chunks;
  const uint64_t limit = ChunkBytes();
  uint64_t bytes = limit + 1;
  for (const uint32_t item : items) {
    const uint64_t item_bytes = sizes_[item] * options_.replicas;
    bytes += item_bytes;
    if (bytes > limit) {
      chunks.emplace_back();
      bytes = item_bytes;
    }
    chunks.back().push_back(item);
  }
  return chunks;
}

void PutBatch::TimeIsUp(std::span<const Items> not_started, const std::vector<Items>& left) {
  const Status why =
      left.empty() ? Status(Code::kDeadline, "the call's time was over before this item's turn")
                   : statuses_[left.back().front()];
  for (const Items& items : not_started) {
    for (const uint32_t item : items) {
      if (statuses_[item].ok()) Settle(item, why);  // else it had its turn in the round before
    }
  }
}

PutBatch::Items PutBatch::Validate() {
  Status all = CheckBatch(items_.size());
  if (all.ok() && (options_.replicas < 1 || options_.replicas > kMaxReplicas)) {
    all = Status(Code::kInvalidArgument,
                 std::to_string(options_.replicas) + " replicas; 1 to 8 are possible");
  } else if (all.ok() && options_.soft_pin.count() < 0) {
    all = Status(Code::kInvalidArgument,
                 "a soft pin of " + std::to_string(options_.soft_pin.count()) + " ms; 0 or more are possible");
  }
  Items todo;
  if (!all.ok()) {
    for (Status& status : statuses_) status = all;
    return todo;
  }
  std::unordered_map<std::string_view, uint32_t> first_of;
  for (uint32_t i = 0; i < items_.size(); ++i) {
    Status status = CheckKey(items_[i].key);
    if (status.ok()) {
      Result<uint64_t> size = CheckBuffers(items_[i].buffers);
      status = size.status();
      sizes_[i] = size.value_or(0);
    }
    if (status.ok() && items_[i].group.size() > kMaxKeyBytes) {
      status = Status(Code::kInvalidArgument, "the name of a group has " + std::to_string(items_[i].group.size()) +
                                                  " bytes, at most 2048 are possible");
    }
    if (!status.ok()) {
      Settle(i, std::move(status));
      continue;
    }
    if (items_.size() > 1) {
      const auto [it, is_first] = first_of.emplace(items_[i].key, i);
      if (!is_first) {
        twice_.emplace_back(i, it->second);
        continue;
      }
    }
    todo.push_back(i);
  }
  return todo;
}

void PutBatch::SettleDuplicates() {
  for (const auto& [later, first] : twice_) {
    Settle(later,
           statuses_[first].ok()
               ? Status(Code::kExists, "the key is in this batch twice; its first value was put")
               : statuses_[first]);
  }
}

uint64_t PutBatch::ChunkBytes() {
  const auto directory = core_.session->DirectoryAt(*core_.session->current(), 0, deadline_);
  const uint64_t capacity = directory.ok() ? (*directory)->capacity_bytes : 0;
  if (capacity == 0) return kLargestChunk;  // the service will say what is wrong
  return std::clamp(capacity / 8, kSmallestChunk, kLargestChunk);
}

PutBatch::Items PutBatch::Round(const Items& items, Duration wait) {
  const auto opened = core_.session->current();
  std::vector<Granted> granted;
  Items again;
  const Status started = Start(*opened, items, wait, &granted, &again);
  if (!started.ok()) {
    for (const uint32_t item : items) Settle(item, started);
    const bool lost = started.code() == Code::kSessionLost;
    switch (started.recovery()) {
      case Recovery::kBackoff:
      case Recovery::kRefresh:
        return items;
      case Recovery::kReconnect:
        if (!lost) return items;  // nothing was started: the meta service is away
        break;
      case Recovery::kAskOutcome:
        break;
      default:
        return {};
    }
    // A lost answer may have carried grants that nobody knows now. They end with the session.
    const Status renewed = lost ? core_.session->Reopen(*opened, deadline_)
                                : core_.session->Abandon(*opened, deadline_);
    return renewed.ok() ? items : Items();
  }
  if (granted.empty()) return again;
  Transfer(*opened, granted);
  Finish(*opened, granted, &again);
  std::sort(again.begin(), again.end());
  return again;
}

Status PutBatch::Start(const OpenedSession& opened, const Items& items, Duration wait,
                       std::vector<Granted>* granted, Items* again) {
  proto::PutStartRequest request;
  request.set_session(opened.id);
  request.set_tenant(core_.options.tenant);
  for (const uint32_t item : items) {
    proto::AppendKey(items_[item].key, request.mutable_keys());
    request.add_sizes(sizes_[item]);
  }
  request.set_replicas(options_.replicas);
  request.set_prefer_local(options_.prefer_local);
  if (!options_.preferred_nodes.empty()) {
    MMC_ASSIGN_OR_RETURN(const auto directory, core_.session->DirectoryAt(opened, 0, deadline_));
    for (const std::string& name : options_.preferred_nodes) {
      const DirectoryNode* node = directory->FindByName(name);
      if (node != nullptr)
        request.add_preferred_nodes(node->id);  // a hint: an unknown node is none
    }
  }
  proto::PutStartReply reply;
  const TimePoint answer_by = Now() + std::min<Duration>(wait, kLongestWaitForRoom);
  MMC_RETURN_IF_ERROR(
      core_.session->Call(proto::kPutStart, request, &reply, answer_by, OnLostAnswer::kReport));
  if (reply.status_size() != static_cast<int>(items.size()) ||
      reply.grant_size() != reply.status_size()) {
    return Status(Code::kMalformed, "reply to PutStart: not one status and grant per key");
  }
  MMC_RETURN_IF_ERROR(
      core_.session->DirectoryAt(opened, reply.directory_version(), deadline_).status());
  ReplicaReader reader(reply.replicas());
  for (size_t i = 0; i < items.size(); ++i) {
    const uint32_t item = items[i];
    const Code code = CodeFromWire(reply.status(static_cast<int>(i)));
    Granted one;
    MMC_RETURN_IF_ERROR(reader.Next(code == Code::kOk ? sizes_[item] : 0, &one.location));
    if (code != Code::kOk) {
      SettleOrRepeat(item, Status(code, std::string(CodeMeaning(code))), again);
      continue;
    }
    one.item = item;
    one.grant = reply.grant(static_cast<int>(i));
    granted->push_back(std::move(one));
  }
  return Status::Ok();
}

void PutBatch::SettleOrRepeat(uint32_t item, Status status, Items* again) {
  bool repeat = false;
  switch (status.recovery()) {
    case Recovery::kNone:
      break;
    case Recovery::kBackoff:
      repeat = true;
      break;
    case Recovery::kRefresh:
    case Recovery::kReconnect:
    case Recovery::kAskOutcome:
    case Recovery::kDropReplica:
      // The grant is given back; another one may be for another node.
      repeat = ++failed_rounds_[item] < kMaxFailedRounds;
      break;
  }
  Settle(item, std::move(status));
  if (repeat) again->push_back(item);
}

void PutBatch::Transfer(const OpenedSession& opened, std::vector<Granted>& granted) {
  LegBuilder builder;
  uint64_t bytes = 0;
  for (uint32_t i = 0; i < granted.size(); ++i) {
    const Location& location = granted[i].location;
    const uint64_t size = sizes_[granted[i].item];
    for (uint32_t r = 0; r < location.replicas.size(); ++r) {
      bytes += size;
      const bool hash = r == 0 && core_.options.integrity != Integrity::kOff;
      builder.Add(location.replicas[r].node, i, r, size, hash, [&](std::vector<fabric::Op>* ops) {
        AppendOps(location, location.replicas[r], 0, size, items_[granted[i].item].buffers, ops);
      });
    }
  }
  Move(core_, opened, fabric::Direction::kWrite, builder.legs(),
       std::min(deadline_, Now() + TransferTime(bytes)));
  for (const Leg& leg : builder.legs()) {
    Status reported;
    for (const Leg::Part& part : leg.parts) {
      Granted& g = granted[part.item];
      if (part.hash) g.checksum = part.checksum;
      if (part.status.ok()) continue;
      g.failed_replicas |= 1U << part.replica;
      g.unconfirmed |= part.status.code() == Code::kUnconfirmed;
      g.failure = part.status.Annotate("replica on node " + std::to_string(leg.node));
      if (reported.ok()) {
        reported = part.status;
        core_.session->ReportReplica(opened, leg.node, part.status);
      }
    }
  }
}

void PutBatch::Finish(const OpenedSession& opened, std::vector<Granted>& granted, Items* again) {
  std::vector<Granted*> written;
  std::vector<Granted*> refused;
  std::vector<Granted*> unconfirmed;
  for (Granted& g : granted) {
    const bool none = g.failed_replicas == (1U << g.location.replicas.size()) - 1;
    (g.unconfirmed ? unconfirmed : none ? refused : written).push_back(&g);
  }
  Commit(opened, std::move(written), again);
  if (Abort(opened, refused, false).code() == Code::kSessionLost) {
    // The nodes may have refused only because the session is over and fenced there.
    const bool reopened = core_.session->Reopen(opened, deadline_).ok();
    for (const Granted* g : refused) {
      Settle(g->item, g->failure);
      if (reopened) again->push_back(g->item);
    }
  } else {
    for (const Granted* g : refused) SettleOrRepeat(g->item, g->failure, again);
  }
  if (unconfirmed.empty()) return;
  // This ends the session, whose links the service then fences; so it comes last.
  (void)Abort(opened, unconfirmed, true);
  for (const Granted* g : unconfirmed) SettleOrRepeat(g->item, g->failure, again);
  const Status ignored = core_.session->Reopen(opened, deadline_);  // the next call finds out too
  (void)ignored;
}

void PutBatch::Commit(const OpenedSession& opened, std::vector<Granted*> grants, Items* again) {
  Backoff backoff;
  while (!grants.empty()) {
    proto::PutCommitRequest request;
    request.set_session(opened.id);
    for (const Granted* g : grants) AddGrant(*g, &request);
    proto::PutCommitReply reply;
    Status called =
        core_.session->Call(proto::kPutCommit, request, &reply, deadline_, OnLostAnswer::kReport);
    if (called.ok() && reply.status_size() != static_cast<int>(grants.size())) {
      called = Status(Code::kMalformed, "reply to PutCommit: not one status per grant");
    }
    if (!called.ok()) return CommitFailed(opened, grants, called, again);
    std::vector<Granted*> later;
    for (size_t i = 0; i < grants.size(); ++i) {
      const Code code = CodeFromWire(reply.status(static_cast<int>(i)));
      Settle(grants[i]->item,
             code == Code::kOk ? Status::Ok() : Status(code, std::string(CodeMeaning(code))));
      // The grant stays: the same commit again, later.
      if (RecoveryOf(code) == Recovery::kBackoff) later.push_back(grants[i]);
    }
    grants = std::move(later);
    if (!grants.empty() && !core_.session->Pause(backoff.Next(), deadline_)) {
      (void)Abort(opened, grants, false);
      return;
    }
  }
}

void PutBatch::AddGrant(const Granted& granted, proto::PutCommitRequest* request) const {
  request->add_grant(granted.grant);
  request->add_failed_replicas(granted.failed_replicas);
  if (core_.options.integrity != Integrity::kOff) request->add_checksum(granted.checksum);
  request->set_retention(static_cast<proto::Retention>(options_.retention));
  request->set_soft_pin_ms(static_cast<uint64_t>(options_.soft_pin.count()));
  if (any_group_) request->add_group(std::string(items_[granted.item].group));
}

void PutBatch::CommitFailed(const OpenedSession& opened, const std::vector<Granted*>& grants,
                            const Status& called, Items* again) {
  const bool ask = called.recovery() == Recovery::kAskOutcome || called.code() == Code::kMalformed;
  Items lost;
  for (const Granted* g : grants) {
    Settle(g->item, ask ? AskOutcome(opened, *g, called) : called);
    if (statuses_[g->item].code() == Code::kSessionLost) lost.push_back(g->item);
  }
  if (lost.empty()) return;
  // With the session the grants are gone: nothing was stored, and the buffers are still at hand.
  const Status reopened = core_.session->Reopen(opened, deadline_);
  for (const uint32_t item : lost) {
    if (reopened.ok()) {
      again->push_back(item);
    } else {
      Settle(item, reopened);
    }
  }
}

Status PutBatch::AskOutcome(const OpenedSession& opened, const Granted& granted,
                            const Status& lost) {
  // A question about one key is small; it gets a little time of its own when the call's is over.
  const TimePoint ask_by = std::max(deadline_, Now() + milliseconds(500));
  bool session_over = false;
  for (int attempt = 0; attempt < 2; ++attempt) {
    proto::StatReply answer;
    const Status asked = StatKey(granted.item, ask_by, &answer);
    if (asked.ok()) {
      if (IsOurs(opened, granted, answer, ask_by)) return Status::Ok();
      return Status(Code::kExists,
                    "the key is committed, perhaps by another writer: the answer was lost");
    }
    if (asked.code() != Code::kNotFound)
      return lost.Annotate("the outcome of the commit is not known");
    if (attempt > 0) break;
    // Not committed (yet). The same commit again: it is refused when the grant is gone, and then
    // asked about once more, because the first one may have been applied between the question and
    // this.
    proto::PutCommitRequest request;
    request.set_session(opened.id);
    AddGrant(granted, &request);
    proto::PutCommitReply reply;
    const Status called =
        core_.session->Call(proto::kPutCommit, request, &reply, ask_by, OnLostAnswer::kReport);
    if (called.ok() && reply.status_size() == 1 && CodeFromWire(reply.status(0)) == Code::kOk)
      return Status::Ok();
    session_over = called.code() == Code::kSessionLost;
  }
  if (session_over)
    return Status(Code::kSessionLost, "the session ended before the commit, nothing was stored");
  return Status(Code::kGrantLost, "the answer to the commit was lost, and the value is not there");
}

Status PutBatch::StatKey(uint32_t item, TimePoint deadline, proto::StatReply* reply) {
  proto::StatRequest request;
  request.set_tenant(core_.options.tenant);
  request.set_durable(true);
  proto::AppendKey(items_[item].key, request.mutable_keys());
  Backoff backoff;
  while (true) {
    MMC_RETURN_IF_ERROR(core_.session->Call(proto::kStat, request, reply, deadline));
    if (reply->status_size() != 1 || reply->size_size() != 1 || reply->checksum_size() != 1)
      return Status(Code::kMalformed, "reply to Stat: not one row per key");
    const Code code = CodeFromWire(reply->status(0));
    if (code == Code::kOk) return Status::Ok();
    // While it collects catalogs it may still learn of the commit.
    if (code != Code::kRecovering || !core_.session->Pause(backoff.Next(), deadline))
      return Status(code, std::string(CodeMeaning(code)));
  }
}

bool PutBatch::IsOurs(const OpenedSession& opened, const Granted& granted,
                      const proto::StatReply& stat, TimePoint deadline) {
  // The same bytes are as good as ours.
  if (granted.checksum != 0 && stat.checksum(0) == granted.checksum &&
      stat.size(0) == sizes_[granted.item])
    return true;
  // While the session lived nobody else could commit this key.
  proto::SessionHeartbeatRequest request;
  request.set_session(opened.id);
  proto::SessionHeartbeatReply reply;
  return core_.session->Call(proto::kSessionHeartbeat, request, &reply, deadline).ok();
}

Status PutBatch::Abort(const OpenedSession& opened, const std::vector<Granted*>& failed,
                       bool unconfirmed) {
  if (failed.empty()) return Status::Ok();
  proto::PutAbortRequest request;
  request.set_session(opened.id);
  request.set_unconfirmed(unconfirmed);
  for (const Granted* g : failed) request.add_grant(g->grant);
  proto::PutAbortReply reply;
  return core_.session->Call(proto::kPutAbort, request, &reply,
                             std::max(deadline_, Now() + milliseconds(500)));
}

}  // namespace mmc::client
