// Copy methods by size: what kStreamThreshold in fabric/copy/copy_engine.h is chosen from. The destination is cold:
// each copy goes to another place of a working set much larger than the caches of one core.
#include <benchmark/benchmark.h>

#include <cstring>

#include "common/base/bytes.h"
#include "fabric/copy/copy_engine.h"
#include "fabric/memory.h"

namespace mmc::fabric {
namespace {

constexpr uint64_t kWorkingSet = 512_MiB;

SegmentMemory& Segment(int which) {
  static std::shared_ptr<SegmentMemory> segments[2];
  if (segments[which] == nullptr) {
    segments[which] = std::move(SegmentMemory::Create({.name = "bench", .size = kWorkingSet})).value();
  }
  return *segments[which];
}

void BM_Copy(benchmark::State& state, CopyMethod method) {
  const auto size = static_cast<uint64_t>(state.range(0));
  std::byte* const from = Segment(0).data();
  std::byte* const to = Segment(1).data();
  uint64_t at = 0;
  for (auto _ : state) {
    CopyBytesWith(method, to + at, from + at, size);
    benchmark::ClobberMemory();
    at += size;
    if (at + size > kWorkingSet) at = 0;
  }
  state.SetBytesProcessed(static_cast<int64_t>(size) * static_cast<int64_t>(state.iterations()));
  state.SetLabel(Segment(1).page_kind());
}

// The sum of what is shown: about as much work for a byte as a checksum's.
class Summer final : public ByteObserver {
 public:
  void See(const std::byte* bytes, uint64_t length) override {
    for (uint64_t i = 0; i + 8 <= length; i += 8) sum += *reinterpret_cast<const uint64_t*>(bytes + i);
  }
  uint64_t sum = 0;
};

void BM_CopyShown(benchmark::State& state) {
  const auto size = static_cast<uint64_t>(state.range(0));
  std::byte* const from = Segment(0).data();
  std::byte* const to = Segment(1).data();
  Summer summer;
  uint64_t at = 0;
  for (auto _ : state) {
    CopyShown({to + at, from + at, size}, from + at, summer);
    benchmark::ClobberMemory();
    at += size;
    if (at + size > kWorkingSet) at = 0;
  }
  benchmark::DoNotOptimize(summer.sum);
  state.SetBytesProcessed(static_cast<int64_t>(size) * static_cast<int64_t>(state.iterations()));
}

void Sizes(benchmark::internal::Benchmark* b) {
  for (const int64_t kib : {4, 16, 32, 64, 128, 256, 1024, 8192, 65536}) b->Arg(kib << 10);
}

BENCHMARK_CAPTURE(BM_Copy, memcpy, CopyMethod::kMemcpy)->Apply(Sizes);
BENCHMARK_CAPTURE(BM_Copy, stream, CopyMethod::kStream)->Apply(Sizes);
BENCHMARK_CAPTURE(BM_Copy, rep_movsb, CopyMethod::kRepMovsb)->Apply(Sizes);
BENCHMARK(BM_CopyShown)->Apply(Sizes);

}  // namespace
}  // namespace mmc::fabric

BENCHMARK_MAIN();
