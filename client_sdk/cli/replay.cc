#include "client_sdk/cli/replay.h"

#include <poll.h>

#include <algorithm>
#include <atomic>
#include <optional>
#include <unordered_set>

#include "client_sdk/cli/exit_codes.h"
#include "client_sdk/cli/interrupt.h"
#include "client_sdk/cli/value.h"
#include "common/base/clock.h"
#include "common/base/limits.h"
#include "common/base/mutex.h"

namespace mmc::cli {
namespace {

constexpr uint64_t kMaxBuffersPerWorker = 1 << 20;
constexpr size_t kMaxKeySuffix = 20;  // digits of a 64-bit number

struct Worker {
  explicit Worker(Arena memory) : arena(std::move(memory)) {}
  Arena arena;
  ReplayReport part;
};

class Replay {
 public:
  Replay(Client& client, TraceReader& trace, const ReplayOptions& options)
      : client_(client), options_(options), trace_(trace), start_(Clock::Real().Now()) {}

  Result<ReplayReport> Run(const std::function<void(const ReplayTick&)>& tick);

 private:
  static TimePoint Now() { return Clock::Real().Now(); }
  double Elapsed() const { return std::chrono::duration<double>(Now() - start_).count(); }
  bool Stopping();

  void Work(Worker& worker);
  // The next request once its time has come, or nothing when the run is over.
  std::optional<TraceRequest> NextRequest();
  std::optional<TraceRequest> TakeRequest();
  void OnRequest(Worker& worker, const TraceRequest& request);
  // How many of the first `promised` keys were read, without a gap.
  size_t GetPrefix(Worker& worker, const std::vector<std::string>& keys, size_t promised);
  // Reads keys [first, first + n); answers how many of them in a row came, from the first on.
  size_t GetChunk(Worker& worker, const std::vector<std::string>& keys, size_t first, size_t n);
  void PutChunk(Worker& worker, const std::vector<const std::string*>& keys);
  void CountError(Worker& worker, const Status& status);
  void StopBecause(const Status& status);
  ReplayTick Tick();
  ReplayReport Merge(const std::vector<std::unique_ptr<Worker>>& workers);

  Client& client_;
  const ReplayOptions& options_;
  Mutex trace_mutex_;
  TraceReader& trace_ MMC_GUARDED_BY(trace_mutex_);
  uint64_t taken_ MMC_GUARDED_BY(trace_mutex_) = 0;
  std::optional<uint64_t> first_timestamp_ MMC_GUARDED_BY(trace_mutex_);
  Mutex stop_mutex_;
  Status stopped_ MMC_GUARDED_BY(stop_mutex_);
  std::atomic<bool> stop_{false};
  std::atomic<bool> timed_out_{false};
  std::atomic<uint64_t> requests_{0}, blocks_{0}, hit_blocks_{0}, bytes_{0};
  const TimePoint start_;
};

bool Replay::Stopping() {
  if (options_.max_time.count() > 0 && Now() - start_ >= options_.max_time) {
    timed_out_ = true;
    return true;
  }
  return Interrupted() || stop_.load(std::memory_order_relaxed);
}

void Replay::StopBecause(const Status& status) {
  MutexLock lock(stop_mutex_);
  if (stopped_.ok()) stopped_ = status;
  stop_ = true;
}

void Replay::CountError(Worker& worker, const Status& status) {
  ++worker.part.errors[status.code()];
  if (ExitCodeOf(status) == kExitUnreachable) StopBecause(status);
}

std::optional<TraceRequest> Replay::TakeRequest() {
  MutexLock lock(trace_mutex_);
  if (options_.limit != 0 && taken_ >= options_.limit) return std::nullopt;
  Result<std::optional<TraceRequest>> request = trace_.Next();
  if (!request.ok()) {
    StopBecause(request.status());
    return std::nullopt;
  }
  if (!request->has_value()) return std::nullopt;
  ++taken_;
  TraceRequest& taken = **request;
  if (!first_timestamp_) first_timestamp_ = taken.timestamp_ms;
  taken.timestamp_ms -= std::min(taken.timestamp_ms, *first_timestamp_);
  return std::move(*request);
}

std::optional<TraceRequest> Replay::NextRequest() {
  std::optional<TraceRequest> request = TakeRequest();
  if (!request || options_.speed_up <= 0) return request;
  const std::chrono::duration<double, std::milli> due(static_cast<double>(request->timestamp_ms) /
                                                      options_.speed_up);
  while (true) {
    const auto left = due - std::chrono::duration<double, std::milli>(Now() - start_);
    if (left.count() <= 0) return request;
    if (Stopping()) return std::nullopt;
    poll(nullptr, 0, static_cast<int>(std::clamp(left.count(), 1.0, 100.0)));
  }
}

size_t Replay::GetChunk(Worker& worker, const std::vector<std::string>& keys, size_t first,
                        size_t n) {
  std::vector<GetItem> items;
  for (uint32_t slot = 0; slot < n; ++slot) {
    items.push_back({.key = keys[first + slot], .buffers = worker.arena.Buffers(slot)});
  }
  const TimePoint start = Now();
  const std::vector<GetResult> results = client_.GetInto(items);
  worker.part.get.Record(Now() - start);
  size_t in_a_row = 0;
  for (uint32_t slot = 0; slot < results.size(); ++slot) {
    const Status& status = results[slot].status;
    if (status.code() == Code::kNotFound) {
      ++worker.part.blocks_vanished;
      continue;
    }
    if (!status.ok()) {
      CountError(worker, status);
      continue;
    }
    if (in_a_row == slot) ++in_a_row;
    ++worker.part.get.items;
    ++worker.part.blocks_verified;
    worker.part.get.bytes += options_.layout.bytes;
    bytes_.fetch_add(options_.layout.bytes, std::memory_order_relaxed);
    const std::string& key = keys[first + slot];
    const uint64_t wrong = worker.arena.CountWrong(slot, ValueSeed(key, 0));
    if (wrong == 0) continue;
    if (worker.part.wrong_blocks++ == 0) worker.part.first_wrong_key = key;
    worker.part.wrong_bytes += wrong;
  }
  return in_a_row;
}

size_t Replay::GetPrefix(Worker& worker, const std::vector<std::string>& keys, size_t promised) {
  size_t got = 0;
  while (got < promised && !stop_) {
    const size_t n = std::min<size_t>(options_.batch, promised - got);
    const size_t in_a_row = GetChunk(worker, keys, got, n);
    got += in_a_row;
    if (in_a_row < n) break;
  }
  return got;
}

void Replay::PutChunk(Worker& worker, const std::vector<const std::string*>& keys) {
  std::vector<PutItem> items;
  for (uint32_t slot = 0; slot < keys.size(); ++slot) {
    worker.arena.Fill(slot, ValueSeed(*keys[slot], 0));
    items.push_back({.key = *keys[slot], .buffers = worker.arena.ConstBuffers(slot)});
  }
  const TimePoint start = Now();
  const std::vector<Status> statuses = client_.Put(items, options_.put);
  worker.part.put.Record(Now() - start);
  for (const Status& status : statuses) {
    if (status.code() == Code::kExists) {
      ++worker.part.blocks_existed;
    } else if (!status.ok()) {
      CountError(worker, status);
    } else {
      ++worker.part.blocks_put;
      ++worker.part.put.items;
      worker.part.put.bytes += options_.layout.bytes;
      bytes_.fetch_add(options_.layout.bytes, std::memory_order_relaxed);
    }
  }
}

void Replay::OnRequest(Worker& worker, const TraceRequest& request) {
  std::vector<std::string> keys;
  keys.reserve(request.hash_ids.size());
  for (const uint64_t id : request.hash_ids)
    keys.push_back(options_.key_prefix + std::to_string(id));
  size_t promised = 0;
  if (!keys.empty()) {
    const std::vector<std::string_view> views(keys.begin(), keys.end());
    const TimePoint start = Now();
    const Result<uint32_t> found = client_.Prefix(views);
    worker.part.lookup.Record(Now() - start);
    if (!found.ok()) return CountError(worker, found.status());
    worker.part.lookup.items += keys.size();
    promised = std::min<size_t>(*found, keys.size());
  }
  const size_t got = GetPrefix(worker, keys, promised);
  std::unordered_set<uint64_t> written;  // a request may name a block twice; one call may not
  std::vector<const std::string*> chunk;
  for (size_t i = got; i < keys.size() && !stop_; ++i) {
    if (written.insert(request.hash_ids[i]).second) chunk.push_back(&keys[i]);
    if (chunk.size() < options_.batch && i + 1 < keys.size()) continue;
    if (!chunk.empty()) PutChunk(worker, chunk);
    chunk.clear();
  }
  ++worker.part.requests;
  worker.part.blocks += keys.size();
  worker.part.hit_blocks += got;
  requests_.fetch_add(1);
  blocks_.fetch_add(keys.size());
  hit_blocks_.fetch_add(got);
}

void Replay::Work(Worker& worker) {
  while (!Stopping()) {
    const std::optional<TraceRequest> request = NextRequest();
    if (!request) return;
    OnRequest(worker, *request);
  }
}

ReplayTick Replay::Tick() {
  ReplayTick tick{.fraction = -1,
                  .requests = requests_,
                  .blocks = blocks_,
                  .hit_blocks = hit_blocks_,
                  .bytes = bytes_,
                  .seconds = Elapsed()};
  MutexLock lock(trace_mutex_);
  if (trace_.bytes_total() > 0) {
    tick.fraction =
        static_cast<double>(trace_.bytes_read()) / static_cast<double>(trace_.bytes_total());
  }
  if (options_.limit != 0) {
    tick.fraction = std::max(tick.fraction,
                             static_cast<double>(requests_) / static_cast<double>(options_.limit));
  }
  return tick;
}

ReplayReport Replay::Merge(const std::vector<std::unique_ptr<Worker>>& workers) {
  ReplayReport report;
  for (const auto& worker : workers) {
    const ReplayReport& part = worker->part;
    report.requests += part.requests;
    report.blocks += part.blocks;
    report.hit_blocks += part.hit_blocks;
    report.blocks_put += part.blocks_put;
    report.blocks_existed += part.blocks_existed;
    report.blocks_vanished += part.blocks_vanished;
    report.blocks_verified += part.blocks_verified;
    report.wrong_blocks += part.wrong_blocks;
    report.wrong_bytes += part.wrong_bytes;
    if (report.first_wrong_key.empty()) report.first_wrong_key = part.first_wrong_key;
    report.lookup.Merge(part.lookup);
    report.get.Merge(part.get);
    report.put.Merge(part.put);
    MergeErrors(report.errors, part.errors);
  }
  report.interrupted = Interrupted();
  report.timed_out = timed_out_;
  MutexLock lock(stop_mutex_);
  report.stopped = stopped_;
  return report;
}

Result<ReplayReport> Replay::Run(const std::function<void(const ReplayTick&)>& tick) {
  std::vector<std::unique_ptr<Worker>> workers;
  for (int i = 0; i < options_.concurrency; ++i) {
    MMC_ASSIGN_OR_RETURN(Arena arena, Arena::Create(options_.layout, options_.batch));
    workers.push_back(std::make_unique<Worker>(std::move(arena)));
  }
  MMC_ASSIGN_OR_RETURN(const ClusterStatus before, client_.Cluster());
  RunWorkers(
      options_.concurrency, [&](int i) { Work(*workers[static_cast<size_t>(i)]); },
      [&] { tick(Tick()); });
  ReplayReport report = Merge(workers);
  report.seconds = Elapsed();
  if (const Result<ClusterStatus> after = client_.Cluster(); after.ok()) {
    // A meta service that started again in between counts from zero.
    report.evicted_objects =
        after->evicted_objects - std::min(before.evicted_objects, after->evicted_objects);
    report.evicted_bytes =
        after->evicted_bytes - std::min(before.evicted_bytes, after->evicted_bytes);
  }
  return report;
}

}  // namespace

Result<ReplayReport> RunReplay(Client& client, TraceReader& trace, const ReplayOptions& options,
                               const std::function<void(const ReplayTick&)>& tick) {
  if (options.concurrency < 1 || options.batch < 1 || options.batch > kMaxBatch) {
    return Status(Code::kInvalidArgument,
                  "--concurrency and --batch must be at least 1, --batch at most 16384");
  }
  if (options.batch * options.layout.pieces.size() > kMaxBuffersPerWorker) {
    return Status(
        Code::kInvalidArgument,
        "batch x buffers = " + std::to_string(options.batch * options.layout.pieces.size()) +
            " is over 1048576; give a smaller batch or fewer buffers");
  }
  if (options.key_prefix.size() + kMaxKeySuffix > kMaxKeyBytes) {
    return Status(Code::kInvalidArgument, "--key-prefix is longer than 2028 bytes");
  }
  Replay replay(client, trace, options);
  return replay.Run(tick);
}

}  // namespace mmc::cli
