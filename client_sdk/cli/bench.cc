#include "client_sdk/cli/bench.h"

#include <algorithm>
#include <atomic>
#include <optional>
#include <random>

#include "client_sdk/cli/exit_codes.h"
#include "client_sdk/cli/interrupt.h"
#include "client_sdk/cli/value.h"
#include "common/base/clock.h"
#include "common/base/limits.h"
#include "common/base/mutex.h"

namespace mmc::cli {
namespace {

constexpr uint64_t kMaxBuffersPerWorker = 1 << 20;

// What one thread has of its own.
struct Worker {
  Worker(int number, uint64_t seed, Arena memory)
      : id(static_cast<uint64_t>(number)),
        random(seed + static_cast<uint64_t>(number)),
        arena(std::move(memory)) {}

  uint64_t id;
  std::mt19937_64 random;
  Arena arena;
  uint64_t cursor = 0;  // the next of its own keys to write
  std::vector<uint64_t> indices;
  std::vector<uint64_t> floors;
  std::vector<std::string> keys;
  BenchReport part;
};

class Bench {
 public:
  Bench(Client& client, const BenchOptions& options,
        const std::function<void(const BenchTick&)>& tick)
      : client_(client),
        options_(options),
        tick_(tick),
        own_keys_(options.keys / static_cast<uint64_t>(options.threads)),
        last_version_(options.keys, 0),
        floor_(options.keys) {}

  Result<BenchReport> Run();

 private:
  using Step = std::function<void(Worker&, uint64_t n)>;

  static TimePoint Now() { return Clock::Real().Now(); }
  bool Stamped() const { return options_.layout.bytes >= kMinStampedValue; }
  bool Stopping() const { return Interrupted() || stop_.load(std::memory_order_relaxed); }

  // Runs step(worker, n) with n <= batch until `count` keys or the duration are through.
  void TimedPhase(const Step& step);
  // Runs step(worker, n) until each worker has seen each of its own keys once.
  void OwnKeysPhase(const char* name, const Step& step);
  // work(worker) on every worker's thread, and ticks; fraction() of it is done.
  void RunPhase(const char* name, const std::function<void(Worker&)>& work,
                const std::function<double()>& fraction);
  void NextOwnKeys(Worker& worker, uint64_t n);
  void RandomKeys(Worker& worker, uint64_t n);
  void MakeKeys(Worker& worker);

  void RemoveWritten(Worker& worker);
  void PutBatch(Worker& worker, uint64_t n);
  void GetBatch(Worker& worker);
  void ExistsBatch(Worker& worker, uint64_t n);
  void CheckValue(Worker& worker, uint32_t slot);
  void RemoveOwn(Worker& worker, uint64_t n);
  void Measure();
  void CountError(Worker& worker, const Status& status);
  BenchReport Merge();

  Client& client_;
  const BenchOptions& options_;
  const std::function<void(const BenchTick&)>& tick_;
  const uint64_t own_keys_;
  std::vector<uint32_t> last_version_;        // written by the key's owner only
  std::vector<std::atomic<uint32_t>> floor_;  // no get that starts now may see a version below this
  std::vector<std::unique_ptr<Worker>> workers_;
  std::atomic<bool> stop_{false};
  std::atomic<uint64_t> done_{0};
  std::atomic<uint64_t> moved_{0};
  Mutex mutex_;
  Status stopped_ MMC_GUARDED_BY(mutex_);
  double seconds_ = 0;
  double cpu_seconds_ = 0;
};

void Bench::RunPhase(const char* name, const std::function<void(Worker&)>& work,
                     const std::function<double()>& fraction) {
  if (Stopping()) return;
  done_ = 0;
  moved_ = 0;
  const TimePoint start = Now();
  RunWorkers(
      options_.threads, [&](int i) { work(*workers_[static_cast<size_t>(i)]); },
      [&] {
        tick_({name, fraction(), moved_, std::chrono::duration<double>(Now() - start).count()});
      });
}

void Bench::TimedPhase(const Step& step) {
  const TimePoint start = Now();
  const TimePoint end = start + options_.duration;
  RunPhase(
      BenchOpName(options_.op).data(),
      [&](Worker& worker) {
        // Each has an equal share, so that puts go round the keys of all workers equally often.
        const auto threads = static_cast<uint64_t>(options_.threads);
        uint64_t left = options_.count / threads + (worker.id < options_.count % threads ? 1 : 0);
        while (!Stopping() && (options_.count != 0 ? left > 0 : Now() < end)) {
          const uint64_t n =
              options_.count != 0 ? std::min<uint64_t>(options_.batch, left) : options_.batch;
          step(worker, n);
          done_.fetch_add(n);
          left -= std::min(left, n);
        }
      },
      [&] {
        return options_.count == 0
                   ? std::chrono::duration<double>(Now() - start) / options_.duration
                   : static_cast<double>(done_) / static_cast<double>(options_.count);
      });
}

void Bench::OwnKeysPhase(const char* name, const Step& step) {
  const uint64_t all = own_keys_ * static_cast<uint64_t>(options_.threads);
  RunPhase(
      name,
      [&](Worker& worker) {
        worker.cursor = 0;
        for (uint64_t done = 0; done < own_keys_ && !Stopping(); done = worker.cursor) {
          const uint64_t n = std::min<uint64_t>(options_.batch, own_keys_ - done);
          step(worker, n);
          done_.fetch_add(n);
        }
      },
      [&] { return static_cast<double>(done_) / static_cast<double>(all); });
}

void Bench::MakeKeys(Worker& worker) {
  worker.keys.resize(worker.indices.size());
  for (size_t i = 0; i < worker.indices.size(); ++i) {
    worker.keys[i].assign(options_.key_prefix).append(std::to_string(worker.indices[i]));
  }
}

void Bench::NextOwnKeys(Worker& worker, uint64_t n) {
  worker.indices.clear();
  for (uint64_t i = 0; i < n; ++i) {
    worker.indices.push_back(worker.id + static_cast<uint64_t>(options_.threads) *
                                             (worker.cursor++ % own_keys_));
  }
  MakeKeys(worker);
}

void Bench::RandomKeys(Worker& worker, uint64_t n) {
  const uint64_t reachable = own_keys_ * static_cast<uint64_t>(options_.threads);
  worker.indices.clear();
  for (uint64_t i = 0; i < n; ++i) worker.indices.push_back(worker.random() % reachable);
  MakeKeys(worker);
}

void Bench::CountError(Worker& worker, const Status& status) {
  ++worker.part.errors[status.code()];
  if (ExitCodeOf(status) != kExitUnreachable) return;
  MutexLock lock(mutex_);
  if (stopped_.ok()) stopped_ = status;
  stop_ = true;
}

// Values never change, so a key that was written before is removed first; that is not part of the
// put's latency.
void Bench::RemoveWritten(Worker& worker) {
  std::vector<std::string_view> keys;
  std::vector<uint64_t> indices;
  for (size_t i = 0; i < worker.indices.size(); ++i) {
    if (last_version_[worker.indices[i]] == 0) continue;
    keys.emplace_back(worker.keys[i]);
    indices.push_back(worker.indices[i]);
  }
  if (keys.empty()) return;
  const TimePoint start = Now();
  const Result<std::vector<Status>> statuses = client_.Remove(keys);
  worker.part.remove.Record(Now() - start);
  if (!statuses.ok()) return CountError(worker, statuses.status());
  for (size_t i = 0; i < keys.size(); ++i) {
    const Status& status = (*statuses)[i];
    if (!status.ok() && status.code() != Code::kNotFound) {
      CountError(worker, status);
      continue;
    }
    worker.part.remove.items += status.ok() ? 1 : 0;
    floor_[indices[i]].store(last_version_[indices[i]] + 1);
  }
}

void Bench::PutBatch(Worker& worker, uint64_t n) {
  NextOwnKeys(worker, n);
  RemoveWritten(worker);
  if (Stopping()) return;
  std::vector<PutItem> items;
  for (uint32_t slot = 0; slot < n; ++slot) {
    const uint32_t version = ++last_version_[worker.indices[slot]];
    if (options_.verify) {
      worker.arena.Fill(slot, ValueSeed(worker.keys[slot], Stamped() ? version : 0));
      if (Stamped()) worker.arena.Stamp(slot, version);
    }
    items.push_back({.key = worker.keys[slot], .buffers = worker.arena.ConstBuffers(slot)});
  }
  const TimePoint start = Now();
  const std::vector<Status> statuses = client_.Put(items, options_.put);
  worker.part.put.Record(Now() - start);
  for (const Status& status : statuses) {
    if (!status.ok()) {
      CountError(worker, status);
      continue;
    }
    ++worker.part.put.items;
    worker.part.put.bytes += options_.layout.bytes;
    moved_.fetch_add(options_.layout.bytes, std::memory_order_relaxed);
  }
}

void Bench::CheckValue(Worker& worker, uint32_t slot) {
  const std::string& key = worker.keys[slot];
  uint64_t wrong = 0;
  if (Stamped()) {
    const uint64_t version = worker.arena.ReadStamp(slot);
    wrong = worker.arena.CountWrongBehindStamp(slot, ValueSeed(key, version));
    if (wrong == 0 && options_.check_stale && version < worker.floors[slot])
      ++worker.part.stale_values;
  } else {
    wrong = worker.arena.CountWrong(slot, ValueSeed(key, 0));
  }
  ++worker.part.verified_values;
  worker.part.wrong_bytes += wrong;
  worker.part.wrong_values += wrong != 0 ? 1 : 0;
}

// Of the keys that the worker has chosen.
void Bench::GetBatch(Worker& worker) {
  std::vector<GetItem> items;
  worker.floors.clear();
  for (uint32_t slot = 0; slot < worker.indices.size(); ++slot) {
    worker.floors.push_back(floor_[worker.indices[slot]].load());
    items.push_back({.key = worker.keys[slot], .buffers = worker.arena.Buffers(slot)});
  }
  const TimePoint start = Now();
  const std::vector<GetResult> results = client_.GetInto(items);
  worker.part.get.Record(Now() - start);
  for (uint32_t slot = 0; slot < results.size(); ++slot) {
    if (results[slot].status.code() == Code::kNotFound) {
      ++worker.part.misses;
      continue;
    }
    if (!results[slot].status.ok()) {
      CountError(worker, results[slot].status);
      continue;
    }
    ++worker.part.get.items;
    worker.part.get.bytes += options_.layout.bytes;
    moved_.fetch_add(options_.layout.bytes, std::memory_order_relaxed);
    if (options_.verify) CheckValue(worker, slot);
  }
}

void Bench::ExistsBatch(Worker& worker, uint64_t n) {
  RandomKeys(worker, n);
  const std::vector<std::string_view> keys(worker.keys.begin(), worker.keys.end());
  const TimePoint start = Now();
  const Result<std::vector<uint8_t>> present = client_.Exists(keys);
  worker.part.exists.Record(Now() - start);
  if (!present.ok()) return CountError(worker, present.status());
  worker.part.exists.items += n;
  worker.part.absent +=
      static_cast<uint64_t>(std::count(present->begin(), present->end(), uint8_t{0}));
}

void Bench::RemoveOwn(Worker& worker, uint64_t n) {
  NextOwnKeys(worker, n);
  const std::vector<std::string_view> keys(worker.keys.begin(), worker.keys.end());
  const Result<std::vector<Status>> statuses = client_.Remove(keys);
  if (!statuses.ok()) CountError(worker, statuses.status());
}

void Bench::Measure() {
  const double cpu_before = CpuSeconds();
  const TimePoint start = Now();
  TimedPhase([this](Worker& worker, uint64_t n) {
    switch (options_.op) {
      case BenchOp::kPut:
        return PutBatch(worker, n);
      case BenchOp::kGet:
        RandomKeys(worker, n);
        return GetBatch(worker);
      case BenchOp::kExists:
        return ExistsBatch(worker, n);
      case BenchOp::kMixed:
        if (static_cast<int>(worker.random() % 100) >= options_.read_percent)
          return PutBatch(worker, n);
        RandomKeys(worker, n);
        return GetBatch(worker);
    }
  });
  seconds_ = std::chrono::duration<double>(Now() - start).count();
  cpu_seconds_ = CpuSeconds() - cpu_before;
}

BenchReport Bench::Merge() {
  BenchReport report;
  for (const auto& worker : workers_) {
    const BenchReport& part = worker->part;
    report.put.Merge(part.put);
    report.get.Merge(part.get);
    report.exists.Merge(part.exists);
    report.remove.Merge(part.remove);
    report.misses += part.misses;
    report.absent += part.absent;
    report.verified_values += part.verified_values;
    report.wrong_values += part.wrong_values;
    report.wrong_bytes += part.wrong_bytes;
    report.stale_values += part.stale_values;
    MergeErrors(report.errors, part.errors);
  }
  report.seconds = seconds_;
  report.cpu_seconds = cpu_seconds_;
  report.interrupted = Interrupted();
  MutexLock lock(mutex_);
  report.stopped = stopped_;
  return report;
}

Result<BenchReport> Bench::Run() {
  for (int i = 0; i < options_.threads; ++i) {
    MMC_ASSIGN_OR_RETURN(Arena arena, Arena::Create(options_.layout, options_.batch));
    workers_.push_back(std::make_unique<Worker>(i, options_.seed, std::move(arena)));
    for (uint32_t slot = 0; slot < options_.batch; ++slot)
      workers_.back()->arena.Fill(slot, options_.seed + slot);
  }
  const Step remove_own = [this](Worker& worker, uint64_t n) { RemoveOwn(worker, n); };
  if (options_.clean_before) OwnKeysPhase("clean", remove_own);
  if (options_.prefill && options_.op != BenchOp::kPut) {
    OwnKeysPhase("prefill", [this](Worker& worker, uint64_t n) { PutBatch(worker, n); });
    for (auto& worker : workers_) {  // its errors stay in the report, its times do not
      worker->part.put = {};
      worker->part.remove = {};
    }
  }
  Measure();
  BenchReport report = Merge();
  if (options_.verify && report.put.items > 0) {
    OwnKeysPhase("verify", [this](Worker& worker, uint64_t n) {
      NextOwnKeys(worker, n);
      GetBatch(worker);
    });
    BenchReport last = Merge();  // what was evicted before this last look is no miss, and its times
                                 // are not measured
    last.get = report.get;
    last.misses = report.misses;
    report = std::move(last);
  }
  if (options_.clean_after) OwnKeysPhase("clean", remove_own);
  return report;
}

}  // namespace

std::string_view BenchOpName(BenchOp op) {
  switch (op) {
    case BenchOp::kPut:
      return "put";
    case BenchOp::kGet:
      return "get";
    case BenchOp::kExists:
      return "exists";
    case BenchOp::kMixed:
      return "mixed";
  }
  return "?";
}

Result<BenchReport> RunBench(Client& client, const BenchOptions& options,
                             const std::function<void(const BenchTick&)>& tick) {
  const uint64_t at_once = static_cast<uint64_t>(options.threads) * options.batch;
  if (options.threads < 1 || options.batch < 1 || options.batch > kMaxBatch ||
      options.keys < at_once) {
    return Status(Code::kInvalidArgument,
                  "--keys " + std::to_string(options.keys) + " is less than threads x batch = " +
                      std::to_string(at_once) + "; give more keys or a smaller batch");
  }
  if (options.batch * options.layout.pieces.size() > kMaxBuffersPerWorker) {
    return Status(
        Code::kInvalidArgument,
        "batch x buffers = " + std::to_string(options.batch * options.layout.pieces.size()) +
            " is over 1048576; give a smaller batch or fewer buffers");
  }
  if (options.key_prefix.size() + 20 > kMaxKeyBytes) {
    return Status(Code::kInvalidArgument, "--key-prefix is longer than 2028 bytes");
  }
  Bench bench(client, options, tick);
  return bench.Run();
}

}  // namespace mmc::cli
