#include "client_sdk/src/get.h"

#include <algorithm>
#include <climits>

#include "client_sdk/src/hashed_transfer.h"
#include "proto/key_list.h"

namespace mmc::client {
namespace {

using std::chrono::milliseconds;

// A location that was just looked up may have no readable replica left because a node died: the
// meta service is asked again this often before the value is given up.
constexpr uint32_t kMaxLostRounds = 3;
constexpr uint32_t kMaxStale = 5;
// The least that must be left of a cached lease for a read to be started under it.
constexpr milliseconds kCacheMargin{20};

TimePoint Now() { return Clock::Real().Now(); }

bool Contains(const std::vector<uint32_t>& list, uint32_t value) {
  return std::find(list.begin(), list.end(), value) != list.end();
}

}  // namespace

std::vector<GetResult> GetBatch::Run(std::span<const GetItem> items) {
  results_.resize(items.size());
  reads_.resize(items.size());
  if (const Status all = CheckBatch(items.size()); !all.ok()) {
    for (GetResult& result : results_) result.status = all;
    return std::move(results_);
  }
  for (size_t i = 0; i < items.size(); ++i) {
    Read& read = reads_[i];
    read.key = items[i].key;
    read.buffers = items[i].buffers;
    read.offset = items[i].offset;
    read.allow_short = items[i].allow_short || items[i].offset > 0;
    const Result<uint64_t> room = CheckBuffers(read.buffers);
    read.room = room.value_or(0);
    results_[i].status = room.status();
  }
  RunAll();
  return std::move(results_);
}

std::vector<GetResult> GetBatch::Run(std::span<const std::string_view> keys,
                                     std::vector<std::string>* values) {
  results_.resize(keys.size());
  reads_.resize(keys.size());
  values->resize(keys.size());
  if (const Status all = CheckBatch(keys.size()); !all.ok()) {
    for (GetResult& result : results_) result.status = all;
    return std::move(results_);
  }
  for (size_t i = 0; i < keys.size(); ++i) {
    reads_[i].key = keys[i];
    reads_[i].into = &(*values)[i];
  }
  RunAll();
  return std::move(results_);
}

void GetBatch::RunAll() {
  lease_ = core_.options.lease;
  Reads todo;
  for (uint32_t i = 0; i < reads_.size(); ++i) {
    if (results_[i].status.ok()) results_[i].status = CheckKey(reads_[i].key);
    if (results_[i].status.ok()) todo.push_back(i);
  }
  Backoff backoff;
  while (!todo.empty()) {
    const uint32_t lost_before = lost_rounds_;
    unknown_yet_.clear();
    if (!Locate(todo)) return;
    std::erase_if(todo, [this](uint32_t i) { return reads_[i].location == nullptr; });
    todo = Transfer(*core_.session->current(), todo);
    if (todo.empty()) return;
    const bool in_time = lost_rounds_ > lost_before
                             ? core_.session->Pause(backoff.Next(), deadline_)
                             : Now() < deadline_ && !core_.session->closed();
    if (!in_time) {
      for (const uint32_t i : todo) Settle(i, reads_[i].last.Annotate("gave up at the deadline"));
      return;
    }
  }
}

bool GetBatch::Locate(const Reads& reads) {
  if (core_.cache != nullptr) LocateInCache(reads);
  // Also what the cache knew but did not fit the buffers: the key may have been put anew since.
  Reads unknown;
  for (const uint32_t i : reads) {
    if (reads_[i].location == nullptr) unknown.push_back(i);
  }
  while (!unknown.empty()) {
    const auto opened = core_.session->current();
    const Status looked_up = Lookup(*opened, unknown);
    if (looked_up.ok()) return true;
    const Status reopened = looked_up.code() == Code::kSessionLost
                                ? core_.session->Reopen(*opened, deadline_)
                                : looked_up;
    if (reopened.ok()) continue;
    for (const uint32_t i : reads) Settle(i, reopened);
    return false;
  }
  return true;
}

void GetBatch::LocateInCache(const Reads& reads) {
  const TimePoint now = Now();
  const auto opened = core_.session->current();
  for (const uint32_t i : reads) {
    Read& read = reads_[i];
    if (read.location != nullptr || !read.last.ok()) continue;
    auto hit = core_.cache->Find(read.key, now, kCacheMargin);
    if (!hit) continue;
    // The meta service of another term knows nothing of that lease, nor of those node ids.
    if (!hit->location->GoodFor(opened->term, opened->id)) {
      core_.cache->Drop(read.key);
      continue;
    }
    read.location = std::move(hit->location);
    read.lease_end = hit->lease_end;
    read.cached = true;
    if (Fits(i)) ++core_.counters.location_cache_hits;
  }
}

Status GetBatch::Lookup(const OpenedSession& opened, const Reads& reads) {
  proto::LookupRequest request;
  request.set_session(opened.id);
  request.set_tenant(core_.options.tenant);
  request.set_lease_ms(static_cast<uint64_t>(lease_.count()));
  for (const uint32_t i : reads) proto::AppendKey(reads_[i].key, request.mutable_keys());
  proto::LookupReply reply;
  // The lease counts from the arrival of the request at the service, which is after `asked`. A call
  // that repeats itself inside only makes it arrive later.
  const TimePoint asked = Now();
  MMC_RETURN_IF_ERROR(core_.session->Call(proto::kLookup, request, &reply, deadline_));
  const int n = static_cast<int>(reads.size());
  if (reply.status_size() != n || reply.size_size() != n || reply.generation_size() != n ||
      reply.checksum_size() != n) {
    return Status(Code::kMalformed, "reply to Lookup: not one row per key");
  }
  MMC_RETURN_IF_ERROR(
      core_.session->DirectoryAt(opened, reply.directory_version(), deadline_).status());
  const TimePoint lease_end = asked + milliseconds(reply.lease_ms());
  lease_ = milliseconds(reply.lease_ms());
  ReplicaReader reader(reply.replicas());
  for (int at = 0; at < n; ++at) {
    const uint32_t i = reads[static_cast<size_t>(at)];
    const Code code = CodeFromWire(reply.status(at));
    auto location = std::make_shared<Location>();
    location->size = code == Code::kOk ? reply.size(at) : 0;
    location->generation = reply.generation(at);
    location->checksum = reply.checksum(at);
    location->term = opened.term;
    location->session = opened.id;
    MMC_RETURN_IF_ERROR(reader.Next(location->size, location.get()));
    if (RecoveryOf(code) == Recovery::kBackoff) {
      reads_[i].last = Status(code, std::string(CodeMeaning(code)));
      unknown_yet_.push_back(i);
      continue;
    }
    if (code != Code::kOk) {
      Settle(i, Status(code, std::string(CodeMeaning(code))));
      continue;
    }
    if (core_.cache != nullptr) core_.cache->Store(reads_[i].key, location, lease_end);
    reads_[i].location = std::move(location);
    reads_[i].lease_end = lease_end;
    reads_[i].cached = false;
    Fits(i);
  }
  return Status::Ok();
}

bool GetBatch::Fits(uint32_t i) {
  Read& read = reads_[i];
  const uint64_t size = read.location->size;
  results_[i].size = size;
  Status status;
  if (size == 0 || size > kMaxValueBytes) {
    status = Status(Code::kMalformed,
                    "the meta service says the value has " + std::to_string(size) + " bytes");
  } else if (read.into != nullptr) {
    read.into->resize(size);
    read.string_buffer = {read.into->data(), size};
    read.buffers = std::span(&read.string_buffer, 1);
    read.length = size;
  } else if (read.offset >= size) {
    status = Status(Code::kOutOfRange, "offset " + std::to_string(read.offset) + " of a value of " +
                                           std::to_string(size) + " bytes");
  } else if (!read.allow_short && read.room != size) {
    status = Status(Code::kSizeMismatch, "the buffers hold " + std::to_string(read.room) +
                                             " bytes, the value has " + std::to_string(size) +
                                             "; allow_short reads a part");
  } else {
    read.length = std::min(read.room, size - read.offset);
  }
  if (status.ok()) return true;
  Settle(i, std::move(status));
  return false;
}

GetBatch::Reads GetBatch::Transfer(const OpenedSession& opened, const Reads& reads) {
  Reads again;
  Reads wave;
  uint64_t bytes = 0;
  lost_rounds_ += unknown_yet_.empty() ? 0 : 1;
  again.swap(unknown_yet_);
  // One more than the reads: the last turn sends the last wave.
  for (size_t at = 0; at <= reads.size(); ++at) {
    const bool end = at == reads.size();
    if (!wave.empty() && (end || bytes + reads_[reads[at]].length > wave_bytes_)) {
      Wave(opened, wave, &again);
      wave.clear();
      bytes = 0;
    }
    if (end) break;
    wave.push_back(reads[at]);
    bytes += reads_[reads[at]].length;
  }
  std::sort(again.begin(), again.end());
  return again;
}

void GetBatch::Wave(const OpenedSession& opened, const Reads& wave, Reads* again) {
  const auto directory = core_.session->directory();
  const TimePoint begin = Now();
  TimePoint until = deadline_;
  LegBuilder builder;
  for (const uint32_t i : wave) {
    Read& read = reads_[i];
    if (!read.location->GoodFor(opened.term, opened.id)) {
      Relocate(i, Status(Code::kSessionLost, "the session it was looked up in is over"), again);
      continue;
    }
    if (read.lease_end <= begin) {
      // The waves before took the whole lease. Its turn comes with a new one.
      Relocate(i, Status(Code::kLeaseExpired, "its lease ended before its turn"), again);
      continue;
    }
    const int chosen = Choose(read, *directory);
    if (chosen < 0) {
      TryAnother(i, again);
      continue;
    }
    until = std::min(until, read.lease_end);
    const Replica& replica = read.location->replicas[static_cast<size_t>(chosen)];
    builder.Add(replica.node, i, static_cast<uint32_t>(chosen), read.length, Verifies(read),
                [&](std::vector<fabric::Op>* ops) {
                  AppendOps(*read.location, replica, read.offset, read.length, read.buffers, ops);
                });
  }
  if (builder.legs().empty()) return;
  Move(core_, opened, fabric::Direction::kRead, builder.legs(), until);
  const Ended ended{Now(), until};
  for (Leg& leg : builder.legs()) {
    TakeChecksums(leg, true);
    for (const Leg::Part& part : leg.parts) OnPart(opened, leg.node, part, ended, again);
  }
}

int GetBatch::Choose(const Read& read, const Directory& directory) const {
  int best = -1;
  int best_cost = INT_MAX;
  const auto& replicas = read.location->replicas;
  for (size_t n = 0; n < replicas.size(); ++n) {
    // Starting at another replica for each value spreads the load over equally near ones.
    const size_t r = (n + read.location->generation) % replicas.size();
    if (Contains(read.bad_nodes, replicas[r].node)) continue;
    const DirectoryNode* node = directory.Find(replicas[r].node);
    int cost = 2;
    if (node != nullptr)
      cost = (node->same_host ? 0 : 1) + (node->state == proto::NODE_SERVING ? 0 : 4);
    if (cost < best_cost) {
      best = static_cast<int>(r);
      best_cost = cost;
    }
  }
  return best;
}

void GetBatch::OnPart(const OpenedSession& opened, uint32_t node, const Leg::Part& part,
                      const Ended& ended, Reads* again) {
  const uint32_t i = part.item;
  Read& read = reads_[i];
  const bool late = ended.at >= read.lease_end;
  if (part.status.ok() && !late) {
    if (part.hash && part.checksum != read.location->checksum)
      return OnCorrupt(opened, node, i, again);
    results_[i].bytes = read.length;
    Settle(i, Status::Ok());
    return;
  }
  if (core_.cache != nullptr) core_.cache->Drop(read.key);
  const bool broken_off = part.status.code() == Code::kDeadline;
  if (broken_off && ended.until >= deadline_) return Settle(i, part.status);
  // A read that was broken off at the end of its lease is tried at another replica when there is
  // one: the node may hang.
  if (part.status.ok() || part.status.code() == Code::kLeaseExpired ||
      (broken_off && read.location->replicas.size() == 1)) {
    ++core_.counters.expired_reads;
    Relocate(i,
             Status(Code::kLeaseExpired,
                    "the read outlived its lease of " + std::to_string(lease_.count()) + " ms"),
             again);
    lease_ = std::min<milliseconds>(std::max(lease_, milliseconds(1)) * 2, milliseconds(60'000));
    wave_bytes_ = std::max(wave_bytes_ / 2, 1_MiB);
    return;
  }
  // The replicas may all be too slow for the lease: the next lookup asks for a longer one.
  if (broken_off) lease_ = std::min<milliseconds>(std::max(lease_, milliseconds(1)) * 2, milliseconds(60'000));
  // Another term of the meta service; the next lookup opens a session in it.
  const bool new_term = part.status.code() == Code::kSessionLost;
  if (new_term || (part.status.recovery() == Recovery::kRefresh && ++read.stale < kMaxStale)) {
    ++lost_rounds_;  // a pause before the next lookup: the meta service may have to learn it first
    return Relocate(i, part.status, again);
  }
  OnBadNode(opened, node, i, part.status, again);
}

void GetBatch::OnBadNode(const OpenedSession& opened, uint32_t node, uint32_t i, const Status& met,
                         Reads* again) {
  Read& read = reads_[i];
  read.bad_nodes.push_back(node);
  const DirectoryNode* known = core_.session->directory()->Find(node);
  read.last =
      met.Annotate("replica on node " + (known == nullptr ? std::to_string(node) : known->name));
  if (met.code() != Code::kDeadline && met.code() != Code::kCorrupt &&
      !Contains(reported_nodes_, node)) {
    reported_nodes_.push_back(node);
    core_.session->ReportReplica(opened, node, met);
  }
  TryAnother(i, again);
}

bool GetBatch::Verifies(const Read& read) const {
  return core_.options.integrity == Integrity::kVerify && read.location->checksum != 0 &&
         read.offset == 0 && read.length == read.location->size;
}

void GetBatch::OnCorrupt(const OpenedSession& opened, uint32_t node, uint32_t i, Reads* again) {
  Read& read = reads_[i];
  ++core_.counters.corrupt_reads;
  read.corrupt_nodes.push_back(node);
  if (core_.cache != nullptr) core_.cache->Drop(read.key);
  core_.session->ReportCorrupt(opened, node, read.key, read.location->generation);
  OnBadNode(opened, node, i, Status(Code::kCorrupt, std::string(CodeMeaning(Code::kCorrupt))),
            again);
}

void GetBatch::TryAnother(uint32_t i, Reads* again) {
  Read& read = reads_[i];
  const auto& replicas = read.location->replicas;
  const bool another = std::any_of(replicas.begin(), replicas.end(), [&](const Replica& r) {
    return !Contains(read.bad_nodes, r.node);
  });
  if (another) {
    ++core_.counters.failovers;
    again->push_back(i);
    return;
  }
  // A lookup could only say that they were dropped.
  const bool all_corrupt = std::all_of(replicas.begin(), replicas.end(), [&](const Replica& r) {
    return Contains(read.corrupt_nodes, r.node);
  });
  if (!replicas.empty() && all_corrupt) return Settle(i, read.last);
  if (++read.lost > kMaxLostRounds) {
    Settle(i, Status(Code::kReplicasLost, "none of " + std::to_string(replicas.size()) +
                                              " replicas could be read; the last answered " +
                                              read.last.ToString()));
    return;
  }
  ++lost_rounds_;
  read.bad_nodes.clear();
  read.corrupt_nodes.clear();
  Relocate(i, read.last, again);
}

void GetBatch::Relocate(uint32_t i, Status why, Reads* again) {
  Read& read = reads_[i];
  read.location = nullptr;
  if (why.code() == Code::kSessionLost) {  // the numbers of the nodes are others
    read.bad_nodes.clear();
    read.corrupt_nodes.clear();
  }
  read.last = std::move(why);
  again->push_back(i);
}

void GetBatch::Settle(uint32_t i, Status status) {
  reads_[i].location = nullptr;
  results_[i].status = std::move(status);
}

}  // namespace mmc::client
