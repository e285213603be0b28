// A pool in a map, with faults, for tests of the command line.
//
// Thread safety: all methods; set the faults before the threads start. Ownership: shares its store
// with the test, so that the test can look after the client is gone.
#pragma once

#include <atomic>
#include <cstring>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "client_sdk/include/mmc/client.h"
#include "common/base/mutex.h"

namespace mmc::cli {

struct FakePool {
  Mutex mutex;
  std::map<std::string, std::string, std::less<>> values MMC_GUARDED_BY(mutex);
  ClusterStatus status;
  // Faults.
  std::set<std::string> corrupt_keys;    // one byte of what a get answers is wrong
  std::set<std::string> vanishing_keys;  // seen by lookups, not found by gets
  Status put_failure;
  Status call_failure;          // of everything that is no put
  bool ignore_removes = false;  // says OK, keeps the old value: the next put finds it there
  std::function<void()> on_put;
  std::atomic<int> puts{0};
  bool drain_stalls = false;
  uint64_t scrub_rate = 0;  // asked for
  ScrubProgress scrub;      // answered
};

class FakeClient final : public Client {
 public:
  explicit FakeClient(std::shared_ptr<FakePool> pool) : pool_(std::move(pool)) {}

  std::vector<Status> Put(std::span<const PutItem> items, const PutOptions&) override {
    ++pool_->puts;
    if (pool_->on_put) pool_->on_put();
    std::vector<Status> statuses;
    MutexLock lock(pool_->mutex);
    for (const PutItem& item : items) {
      if (!pool_->put_failure.ok()) {
        statuses.push_back(pool_->put_failure);
        continue;
      }
      std::string value;
      for (const ConstBuffer& piece : item.buffers)
        value.append(static_cast<const char*>(piece.data), piece.size);
      const bool added = pool_->values.emplace(item.key, std::move(value)).second;
      statuses.push_back(added ? Status::Ok() : Status(Code::kExists));
    }
    return statuses;
  }

  std::vector<GetResult> GetInto(std::span<const GetItem> items, const GetOptions&) override {
    std::vector<GetResult> results;
    MutexLock lock(pool_->mutex);
    for (const GetItem& item : items) {
      const auto it = pool_->values.find(item.key);
      if (it == pool_->values.end() || pool_->vanishing_keys.count(std::string(item.key)) != 0) {
        results.push_back({Status(Code::kNotFound)});
        continue;
      }
      std::string value = it->second;
      if (pool_->corrupt_keys.count(it->first) != 0) value.back() ^= 1;
      size_t at = 0;
      for (const Buffer& piece : item.buffers) {
        const size_t n = std::min(piece.size, value.size() - at);
        std::memcpy(piece.data, value.data() + at, n);
        at += n;
      }
      results.push_back({Status::Ok(), at, value.size()});
    }
    return results;
  }

  std::vector<Result<std::string>> Get(std::span<const std::string_view> keys,
                                       const GetOptions&) override {
    std::vector<Result<std::string>> results;
    MutexLock lock(pool_->mutex);
    for (const std::string_view key : keys) {
      const auto it = pool_->values.find(key);
      results.push_back(it == pool_->values.end() ? Result<std::string>(Code::kNotFound)
                                                  : Result(it->second));
    }
    return results;
  }

  Result<std::vector<uint8_t>> Exists(std::span<const std::string_view> keys,
                                      const ExistsOptions&) override {
    MMC_RETURN_IF_ERROR(pool_->call_failure);
    std::vector<uint8_t> present;
    MutexLock lock(pool_->mutex);
    for (const std::string_view key : keys)
      present.push_back(pool_->values.count(key) != 0 ? 1 : 0);
    return present;
  }

  Result<uint32_t> Prefix(std::span<const std::string_view> keys) override {
    MMC_RETURN_IF_ERROR(pool_->call_failure);
    MutexLock lock(pool_->mutex);
    uint32_t n = 0;
    while (n < keys.size() && pool_->values.count(keys[n]) != 0) ++n;
    return n;
  }

  Result<std::vector<ObjectInfo>> Stat(std::span<const std::string_view> keys) override {
    MMC_RETURN_IF_ERROR(pool_->call_failure);
    std::vector<ObjectInfo> infos;
    MutexLock lock(pool_->mutex);
    for (const std::string_view key : keys) {
      const auto it = pool_->values.find(key);
      ObjectInfo info;
      if (it == pool_->values.end()) {
        info.status = Code::kNotFound;
      } else {
        info.size = it->second.size();
        info.replicas = {{"node-a", "dram", info.size, 1}};
      }
      infos.push_back(info);
    }
    return infos;
  }

  Result<std::vector<Status>> Remove(std::span<const std::string_view> keys) override {
    MMC_RETURN_IF_ERROR(pool_->call_failure);
    std::vector<Status> statuses;
    MutexLock lock(pool_->mutex);
    for (const std::string_view key : keys) {
      const auto it = pool_->values.find(key);
      statuses.push_back(it == pool_->values.end() ? Status(Code::kNotFound) : Status::Ok());
      if (it != pool_->values.end() && !pool_->ignore_removes) pool_->values.erase(it);
    }
    return statuses;
  }

  Result<uint64_t> RemoveByPrefix(std::string_view prefix) override {
    MMC_RETURN_IF_ERROR(pool_->call_failure);
    MutexLock lock(pool_->mutex);
    return static_cast<uint64_t>(std::erase_if(
        pool_->values, [&](const auto& entry) { return entry.first.starts_with(prefix); }));
  }
  Result<uint64_t> RemoveAll() override { return RemoveByPrefix(""); }

  Result<ListPage> List(std::string_view prefix, std::string_view page_token,
                        uint32_t limit) override {
    MMC_RETURN_IF_ERROR(pool_->call_failure);
    ListPage page;
    MutexLock lock(pool_->mutex);
    for (auto it = pool_->values.upper_bound(page_token); it != pool_->values.end(); ++it) {
      if (!it->first.starts_with(prefix)) continue;
      if (page.keys.size() ==
          std::min<uint32_t>(limit, 3)) {  // small pages, so that callers have to go on
        page.next_page_token = page.keys.back();
        break;
      }
      page.keys.push_back(it->first);
      page.sizes.push_back(it->second.size());
    }
    return page;
  }

  Result<View> MakeView(std::string_view) override { return Status(Code::kUnsupported); }
  Result<ClusterStatus> Cluster() override {
    MMC_RETURN_IF_ERROR(pool_->call_failure);
    for (NodeInfo& node : pool_->status.nodes) {
      if (node.state != "draining" || pool_->drain_stalls) continue;
      node.drain_left_objects -= node.drain_left_objects == 0 ? 0 : 1;
      if (node.drain_left_objects == 0) node.drain_left_bytes = 0;
      if (node.drain_left_objects == 0) node.state = "drained";
    }
    return pool_->status;
  }
  ClientStats stats() const override { return {}; }
  // Each look at the pool sees one object less on a node that is drained.
  Status Drain(std::string_view node, bool cancel) override {
    MMC_RETURN_IF_ERROR(pool_->call_failure);
    for (NodeInfo& info : pool_->status.nodes) {
      if (info.name != node) continue;
      info.state = cancel ? "serving" : "draining";
      info.drain_left_objects = info.objects;
      info.drain_left_bytes = info.used_bytes;
      return Status::Ok();
    }
    return Code::kNotFound;
  }
  Result<uint64_t> Scrub(std::string_view, uint64_t rate) override {
    MMC_RETURN_IF_ERROR(pool_->call_failure);
    pool_->scrub_rate = rate;
    return uint64_t{7};
  }
  Result<ScrubProgress> ScrubStatus(uint64_t) override {
    MMC_RETURN_IF_ERROR(pool_->call_failure);
    return pool_->scrub;
  }
  Status PutAsync(std::vector<PutItem>, PutOptions,
                  std::function<void(std::vector<Status>)>) override {
    return Code::kUnsupported;
  }
  Status GetIntoAsync(std::vector<GetItem>, GetOptions,
                      std::function<void(std::vector<GetResult>)>) override {
    return Code::kUnsupported;
  }
  void Close() override {}

 private:
  std::shared_ptr<FakePool> pool_;
};

}  // namespace mmc::cli
