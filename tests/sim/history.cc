#include "tests/sim/history.h"

#include <cstring>
#include <utility>

#include "client_sdk/src/checksum.h"

namespace mmc::sim {
namespace {

// A call without an answer has been carried out by then, or never will be: longer than its deadline, a partition of
// its service and the latest of late messages together.
constexpr Nanos kLatest = 30 * kSecond;

uint64_t Word(uint64_t id, uint64_t at) {
  return (id * 0x9E3779B97F4A7C15ULL) ^ (at * 0xBF58476D1CE4E5B9ULL) ^ (id << 32);
}

std::string Describe(const PutRecord& put) {
  std::string text = "put " + std::to_string(put.id) + " of '" + put.key + "' (" + std::to_string(put.size) +
                     " bytes, from " + std::to_string(put.invoked / kMicro) + " us";
  if (put.returned != Scheduler::kNever) {
    text += " to " + std::to_string(put.returned / kMicro) + " us: " + std::string(CodeName(put.outcome));
  }
  for (const Holder& holder : put.holders) text += ", on " + holder.first;
  return text + ")";
}

}  // namespace

void History::Fill(uint64_t id, std::string* value) {
  for (size_t i = 0; i < value->size(); i += 8) {
    const uint64_t word = i == 0 ? id : Word(id, i);
    std::memcpy(value->data() + i, &word, std::min<size_t>(8, value->size() - i));
  }
}

uint64_t History::WhoseValue(std::string_view bytes) const {
  uint64_t id = 0;
  if (bytes.size() < sizeof id) return 0;
  std::memcpy(&id, bytes.data(), sizeof id);
  const auto it = puts_.find(id);
  if (it == puts_.end() || it->second.size != bytes.size()) return 0;
  for (size_t i = 8; i < bytes.size(); i += 8) {
    const uint64_t word = Word(id, i);
    if (std::memcmp(bytes.data() + i, &word, std::min<size_t>(8, bytes.size() - i)) != 0) return 0;
  }
  return id;
}

uint64_t History::BeginPut(const std::string& key, const std::string& value, uint64_t id) {
  client::Checksummer sum;
  sum.Begin();
  sum.Add(value.data(), value.size());
  PutRecord& put = puts_[id];
  put.id = id;
  put.key = key;
  put.size = value.size();
  put.checksum = sum.End();
  put.invoked = scheduler_.now();
  put.evicted_before = evicted_bytes();
  by_key_.emplace(key, id);
  by_checksum_[put.checksum] = id;
  return id;
}

void History::EndPut(uint64_t id, const Status& status) {
  PutRecord& put = puts_.at(id);
  put.returned = scheduler_.now();
  put.outcome = status.code();
  if (status.ok()) {
    ++puts_ok;
    if (!put.committed) violated_("commit", Describe(put) + " answered OK, and no commit of it was asked for");
  } else if (status.code() != Code::kExists) {
    Saw("put", put.key, status);
  }
}

uint64_t History::BeginRemove(const std::string& key, bool prefix) {
  removes_.push_back({key, prefix, scheduler_.now(), scheduler_.now() + kLatest});
  return removes_.size() - 1;
}

void History::EndRemove(uint64_t id, const Status& status) {
  RemoveRecord& remove = removes_[id];
  const bool known = status.ok() || status.code() == Code::kNotFound;
  remove.returned = scheduler_.now();
  if (known) remove.over = scheduler_.now();
  remove.done = status.ok();
  if (!known) Saw("remove", remove.key, status);
}

bool History::Removed(const PutRecord& put) const {
  for (const RemoveRecord& remove : removes_) {
    if (remove.Hits(put.key) && remove.over >= put.invoked) return true;
  }
  return false;
}

// Only what is sure: a put that has answered OK.
bool History::MustBeThere(const PutRecord& put) const {
  if (put.outcome != Code::kOk || put.returned == Scheduler::kNever || put.may_be_lost || Removed(put)) return false;
  if (evicted_bytes() != put.evicted_before) return false;
  bool any = false, all = true;
  for (const Holder& holder : put.holders) {
    const bool member = is_member(holder);
    any |= member;
    all &= member;
  }
  return put.copied || drains ? all : any;
}

void History::Hit(const std::string& key, std::string_view bytes, Nanos asked, bool cached) {
  ++hits;
  const uint64_t id = WhoseValue(bytes);
  if (id == 0) return violated_("bytes", "a get of '" + key + "' returned torn bytes, or nobody's");
  const PutRecord& put = puts_.at(id);
  if (put.key != key) return violated_("bytes", "a get of '" + key + "' returned the value of " + Describe(put));
  if (!put.committed) return violated_("bytes", "a get returned the value of " + Describe(put) + ", never committed");
  if (put.outcome != Code::kOk || put.may_return || cached) return;
  for (const RemoveRecord& remove : removes_) {
    if (remove.done && remove.Hits(key) && remove.invoked > put.returned && remove.returned < asked) {
      return violated_("removals", "a get returned the value of " + Describe(put) + ", which was removed at " +
                                       std::to_string(remove.returned / kMicro) + " us");
    }
  }
}

void History::Miss(const std::string& key) {
  ++misses;
  const auto [first, last] = by_key_.equal_range(key);
  for (auto it = first; it != last; ++it) {
    const PutRecord& put = puts_.at(it->second);
    if (MustBeThere(put)) return violated_("misses", "the meta service does not know of " + Describe(put));
  }
}

void History::Freed(const std::string& key) {
  Miss(key);
  const auto [first, last] = by_key_.equal_range(key);
  for (auto it = first; it != last; ++it) {
    PutRecord& put = puts_.at(it->second);
    put.may_be_lost |= put.committed;
  }
}

void History::Saw(const char* call, const std::string& key, const Status& status) {
  switch (status.code()) {
    case Code::kInternal:
    case Code::kInvalidArgument:
    case Code::kMalformed:
    case Code::kTooLarge:
    case Code::kOutOfRange:
    case Code::kReadOnly:
    case Code::kCorrupt:
    case Code::kSizeMismatch:
    case Code::kUnknownMethod:
    case Code::kBadVersion:
    case Code::kConfig:
    case Code::kIo:
      violated_("statuses", std::string(call) + " of '" + key + "' answered " + status.ToString());
      break;
    default:
      break;
  }
}

PutRecord* History::ByChecksum(uint64_t checksum) {
  const auto it = by_checksum_.find(checksum);
  return it == by_checksum_.end() ? nullptr : &puts_.at(it->second);
}

}  // namespace mmc::sim
