// The meta service per core, without sockets: allocator, table, eviction, and the methods in
// batches of 128 with their protobuf decoding and encoding. Budgets (docs): exists and lookup >= 2
// M keys/s, put start + commit >= 700 k objects/s,
// <= 160 bytes per object beside the key at a million objects.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "common/base/bytes.h"
#include "meta_service/ops/common.h"
#include "meta_service/ops/ops.h"
#include "meta_service/state/meta_state.h"
#include "proto/key_list.h"

namespace mmc::meta {
namespace {

constexpr int kBatch = 128;
constexpr uint64_t kObjects = 1'000'000;

std::string Key(uint64_t i) {
  char text[40];
  std::snprintf(text, sizeof(text), "model@%032llx",
                static_cast<unsigned long long>(i * 0x9E3779B97F4A7C15u));
  return text;
}

// A state with one node, its acknowledgements, and the environment of the methods.
struct Bench {
  explicit Bench(uint64_t segment_bytes)
      : state(Options()), env{state, waiters, mover, scrubs, options, options.access, Clock::Real()} {
    JoinSpec spec{
        .name = "n", .incarnation = 1, .segments = {{1, 1, Medium::kDram, segment_bytes, -1}}};
    node = state.Join(spec, Now())->node;
    session = *state.OpenSession("bench", "h", 1, Now());
  }
  static StateOptions Options() {
    StateOptions options;
    options.lease = std::chrono::milliseconds(1);
    options.max_feed_records = 1u << 22;
    return options;
  }
  static TimePoint Now() { return Clock::Real().Now(); }

  void Sync() {
    for (bool more = true; more;) {
      CatalogBatch batch;
      const Status status = state.CatalogSync(node, 1, acked, {}, 1 << 16, &batch, Now());
      if (!status.ok()) std::abort();
      more = !batch.entries.empty();
      if (more) acked = batch.entries.back().seq;
    }
  }
  void Fill(uint64_t objects, uint64_t size) {
    for (uint64_t i = 0; i < objects; i += kBatch) {
      Put(i, kBatch, size);
      if (i % (kBatch * 256) == 0) Sync();
    }
    Sync();
  }
  bool Put(uint64_t first, int n, uint64_t size) {
    proto::PutStartRequest request;
    request.set_session(session);
    for (int i = 0; i < n; ++i) {
      proto::AppendKey(Key(first + i), request.mutable_keys());
      request.add_sizes(size);
    }
    return PutEncoded(request.SerializeAsString());
  }
  bool PutEncoded(const std::string& wire) {
    proto::PutStartRequest request;
    proto::PutStartReply reply;
    if (!request.ParseFromString(wire) || !ops::PutStartNow(env, {}, request, &reply).ok())
      return false;
    benchmark::DoNotOptimize(reply.SerializeAsString());
    proto::PutCommitRequest commit;
    commit.set_session(session);
    *commit.mutable_grant() = reply.grant();
    const std::string commit_wire = commit.SerializeAsString();
    proto::PutCommitRequest parsed;
    proto::PutCommitReply committed;
    if (!parsed.ParseFromString(commit_wire) || !ops::PutCommit(env, {}, parsed, &committed).ok())
      return false;
    benchmark::DoNotOptimize(committed.SerializeAsString());
    return true;
  }

  MetaOptions options;
  Waiters waiters;
  MetaState state;
  Mover mover{state, {}};
  Scrubs scrubs{mover, 1};
  OpEnv env;
  uint32_t node = 0;
  uint64_t session = 0, acked = 0;
};

// Filled once: a million objects.
Bench& Million() {
  static Bench* bench = [] {
    auto* made = new Bench(16_GiB);
    made->Fill(kObjects, 4096);
    return made;
  }();
  return *bench;
}

template <typename Request>
std::vector<std::string> Batches(uint64_t session) {
  std::mt19937_64 random(5);
  std::vector<std::string> wires(1000);
  for (std::string& wire : wires) {
    Request request;
    for (int i = 0; i < kBatch; ++i)
      proto::AppendKey(Key(random() % kObjects), request.mutable_keys());
    if constexpr (requires { request.set_session(session); }) request.set_session(session);
    wire = request.SerializeAsString();
  }
  return wires;
}

template <typename Request, typename Reply>
void Run(benchmark::State& loop, Status (*op)(OpEnv&, const ops::Context&, const Request&, Reply*)) {
  Bench& bench = Million();
  const auto wires = Batches<Request>(bench.session);
  size_t next = 0;
  for (auto _ : loop) {
    Request request;
    Reply reply;
    if (!request.ParseFromString(wires[next++ % wires.size()]) ||
        !op(bench.env, {}, request, &reply).ok()) {
      loop.SkipWithError("the call failed");
      break;
    }
    benchmark::DoNotOptimize(reply.SerializeAsString());
  }
  loop.SetItemsProcessed(loop.iterations() * kBatch);
}

void BM_Exists128(benchmark::State& loop) { Run(loop, &ops::Exists); }
void BM_Lookup128(benchmark::State& loop) { Run(loop, &ops::Lookup); }
void BM_LookupPrefix128(benchmark::State& loop) { Run(loop, &ops::LookupPrefix); }
BENCHMARK(BM_Exists128);
BENCHMARK(BM_Lookup128);
BENCHMARK(BM_LookupPrefix128);

// New keys all the time; the table grows from empty to a million objects, then starts again.
void BM_PutStartCommit128(benchmark::State& loop) {
  std::vector<std::string> wires;
  std::unique_ptr<Bench> bench;
  uint64_t at = kObjects;
  for (auto _ : loop) {
    if (at + kBatch > kObjects) {
      loop.PauseTiming();
      bench = std::make_unique<Bench>(16_GiB);
      wires.clear();
      for (uint64_t i = 0; i < kObjects; i += kBatch) {
        proto::PutStartRequest request;
        request.set_session(bench->session);
        for (int k = 0; k < kBatch; ++k) {
          proto::AppendKey(Key(i + k), request.mutable_keys());
          request.add_sizes(4096);
        }
        wires.push_back(request.SerializeAsString());
      }
      at = 0;
      loop.ResumeTiming();
    }
    if (!bench->PutEncoded(wires[at / kBatch])) loop.SkipWithError("the put failed");
    at += kBatch;
    if (at % (kBatch * 64) == 0) {
      loop.PauseTiming();  // what the node does is not this core's work
      bench->Sync();
      loop.ResumeTiming();
    }
  }
  loop.SetItemsProcessed(loop.iterations() * kBatch);
}
BENCHMARK(BM_PutStartCommit128);

void BM_BytesPerObjectAtAMillion(benchmark::State& loop) {
  Bench& bench = Million();
  for (auto _ : loop) benchmark::DoNotOptimize(bench.state.MetadataBytes());
  loop.counters["bytes_per_object"] = static_cast<double>(bench.state.MetadataBytes()) / kObjects;
}
BENCHMARK(BM_BytesPerObjectAtAMillion);

// Evicts `range` objects of a million and puts as many back (not timed).
void BM_Evict(benchmark::State& loop) {
  Bench bench(16_GiB);
  bench.Fill(kObjects, 4096);
  uint64_t next = kObjects;
  const uint64_t n = loop.range(0);
  for (auto _ : loop) {
    const uint64_t bytes =
        bench.state.EvictFrom(0, n * 4096, EvictCause::kBackground, 1 << 30, Bench::Now());
    if (bytes != n * 4096) loop.SkipWithError("evicted another amount");
    loop.PauseTiming();
    bench.Sync();
    for (uint64_t i = 0; i < n; i += kBatch, next += kBatch)
      bench.Put(next, std::min<uint64_t>(kBatch, n - i), 4096);
    bench.Sync();
    loop.ResumeTiming();
  }
  loop.SetItemsProcessed(loop.iterations() * n);
}
BENCHMARK(BM_Evict)->Arg(1)->Arg(128)->Arg(4096);

// What a node with `n` objects reports, in the order of its memory or shuffled.
std::vector<std::string> ReportWires(uint64_t first, uint64_t n, bool shuffled) {
  constexpr uint64_t kReportBatch = 4096;
  std::vector<uint64_t> order(n);
  for (uint64_t i = 0; i < n; ++i) order[i] = i;
  if (shuffled) std::shuffle(order.begin(), order.end(), std::mt19937_64(3));
  std::vector<std::string> wires;
  for (uint64_t at = 0; at < n; at += kReportBatch) {
    proto::CatalogReportRequest request;
    for (uint64_t i = at; i < std::min(n, at + kReportBatch); ++i) {
      auto* record = request.add_records();
      record->set_segment(1);
      record->set_generation(1 + first + order[i]);
      record->set_key(Key(first + order[i]));
      record->set_size(4096);
      record->add_extent_offset(order[i] * 4096);
      record->add_extent_length(4096);
    }
    request.set_last(at + kReportBatch >= n);
    wires.push_back(request.SerializeAsString());
  }
  return wires;
}

bool Rebuild(MetaState& state, const std::string& name, const std::vector<std::string>& wires) {
  const JoinSpec spec{.name = name,
                      .incarnation = 1,
                      .segments = {{1, 1, Medium::kDram, 16_GiB, -1}},
                      .keeps_memory = true};
  const uint32_t node = state.Join(spec, Bench::Now())->node;
  for (const std::string& wire : wires) {
    proto::CatalogReportRequest request;
    if (!request.ParseFromString(wire)) return false;
    auto progress = state.TakeReport(node, 1, ops::ReportedRecords(request), request.last(), Bench::Now());
    while (request.last() && progress.ok() && !progress->done) progress = state.AdoptStep(node, 1, Bench::Now());
    if (!progress.ok()) return false;
  }
  return true;
}

// From a million records on the wire to objects that can be looked up; argument 1: reported in random order.
void BM_RebuildMillion(benchmark::State& loop) {
  const auto wires = ReportWires(0, kObjects, loop.range(0) == 1);
  for (auto _ : loop) {
    auto state = std::make_unique<MetaState>(Bench::Options());
    if (!Rebuild(*state, "n", wires)) loop.SkipWithError("the rebuild failed");
    if (state->figures().objects != kObjects) loop.SkipWithError("objects are missing");
    loop.PauseTiming();
    state.reset();
    loop.ResumeTiming();
  }
  loop.SetItemsProcessed(loop.iterations() * kObjects);
}
BENCHMARK(BM_RebuildMillion)->Arg(0)->Arg(1)->Unit(benchmark::kMillisecond);

// Lookups of 128 keys that are there, on one thread, while a million others are rebuilt on another.
void BM_LookupWhileRebuilding(benchmark::State& loop) {
  constexpr uint64_t kThere = 100'000;
  const auto wires = ReportWires(kThere, kObjects, true);
  std::vector<double> micros;
  for (auto _ : loop) {
    loop.PauseTiming();
    auto state = std::make_unique<MetaState>(Bench::Options());
    if (!Rebuild(*state, "there", ReportWires(0, kThere, false))) loop.SkipWithError("the rebuild failed");
    std::vector<std::string> keys;
    for (uint64_t i = 0; i < kThere; ++i) keys.push_back(Key(i));
    std::mt19937_64 random(9);
    loop.ResumeTiming();
    std::atomic<bool> done{false};
    std::thread rebuild([&] {
      if (!Rebuild(*state, "n", wires)) std::abort();
      done.store(true);
    });
    std::vector<std::string_view> batch(kBatch);
    std::vector<ReadRow> rows(kBatch);
    Views views;
    while (!done.load()) {
      for (auto& key : batch) key = keys[random() % kThere];
      views.Clear();
      const TimePoint start = Bench::Now();
      if (!state->Lookup(0, batch, {}, false, rows, &views, start).ok()) std::abort();
      micros.push_back(std::chrono::duration<double, std::micro>(Bench::Now() - start).count());
    }
    rebuild.join();
    loop.PauseTiming();
    state.reset();
    loop.ResumeTiming();
  }
  std::sort(micros.begin(), micros.end());
  if (micros.empty()) return;
  loop.counters["lookup_p50_us"] = micros[micros.size() / 2];
  loop.counters["lookup_p99_us"] = micros[micros.size() * 99 / 100];
  loop.counters["lookup_max_us"] = micros.back();
}
BENCHMARK(BM_LookupWhileRebuilding)->Unit(benchmark::kMillisecond)->UseRealTime();

void BM_AllocatorMixed(benchmark::State& loop) {
  Allocator allocator(1u << 24);
  std::mt19937 random(11);
  std::vector<Extent> held(100'000);
  for (Extent& extent : held) allocator.AllocateOne(1 + random() % 64, &extent);
  for (auto _ : loop) {
    Extent& extent = held[random() % held.size()];
    allocator.Free(extent.block);
    if (!allocator.AllocateOne(1 + random() % 64, &extent)) loop.SkipWithError("no hole");
  }
  loop.SetItemsProcessed(loop.iterations());
}
BENCHMARK(BM_AllocatorMixed);

void BM_TableFind(benchmark::State& loop) {
  ObjectTable table;
  const uint64_t n = loop.range(0);
  std::vector<std::string> keys;
  for (uint64_t i = 0; i < n; ++i) {
    keys.push_back(Key(i));
    table.Insert(HashKey(keys.back()), Object::Make(keys.back(), 1, 0, {}));
  }
  std::mt19937 random(13);
  for (auto _ : loop) {
    const std::string& key = keys[random() % n];
    benchmark::DoNotOptimize(table.Find(HashKey(key), key));
  }
  loop.SetItemsProcessed(loop.iterations());
}
BENCHMARK(BM_TableFind)->Arg(1000)->Arg(1'000'000);

}  // namespace
}  // namespace mmc::meta
