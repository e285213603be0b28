// The transports against plain memcpy of the same buffers: one block of 122 buffers (61 x 128 KiB + 61 x 16 KiB) put
// and got, and 4 KiB pieces one at a time. The listener runs in a process of its own, as it does in life.
//
// "memcpy" moves the same buffers between the same mappings in this process: the limit for shm. For tcp the limit is a
// stream tool such as iperf3 with as many connections on the same machine.
#include <benchmark/benchmark.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "common/base/bytes.h"
#include "fabric/memory.h"
#include "fabric/transport.h"

namespace mmc::fabric {
namespace {

constexpr uint64_t kSegment = 1_GiB;
constexpr uint64_t kLayers = 61;
constexpr uint64_t kBlock = kLayers * (128_KiB + 16_KiB);
constexpr uint64_t kBlocks = kSegment / 2 / kBlock;  // cold memory: each block of the loop is another one

TimePoint Soon() { return std::chrono::steady_clock::now() + std::chrono::seconds(30); }

void Die(const Status& status) {
  std::fprintf(stderr, "fabric_bench: %s\n", status.ToString().c_str());
  std::exit(1);
}

// Serves one segment over every transport until its parent ends, and says where through `out`.
[[noreturn]] void Serve(int out) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  RegionTable regions;
  auto memory = SegmentMemory::Create({.name = "bench", .size = kSegment});
  if (!memory.ok()) Die(memory.status());
  const Status added =
      regions.Add({{1, 1}, {(*memory)->data(), kSegment}, Access::kReadWrite, MemoryKind::kHost, *memory});
  if (!added.ok()) Die(added);
  std::vector<std::unique_ptr<Listener>> listeners;
  const std::map<std::string, std::string> addresses{
      {"shm", "/tmp/mmc-fabric-bench-" + std::to_string(getpid()) + ".sock"}, {"tcp", "127.0.0.1:0"}};
  std::string text;
  for (const auto& [name, address] : addresses) {
    ListenOptions options;
    options.address = address;
    auto listener = FindTransport(name)->Listen(options, regions);
    if (!listener.ok()) Die(listener.status());
    text += (*listener)->endpoint().address + "\n";
    listeners.push_back(std::move(*listener));
  }
  if (write(out, text.data(), text.size()) != static_cast<ssize_t>(text.size())) std::exit(1);
  close(out);
  for (;;) pause();
}

// The other process; forked before this one has threads.
struct Server {
  pid_t pid = -1;
  std::map<std::string, std::string> addresses;

  Server() {
    int ends[2];
    if (pipe(ends) != 0) std::exit(1);
    pid = fork();
    if (pid == 0) Serve(ends[1]);
    close(ends[1]);
    std::FILE* const in = fdopen(ends[0], "r");
    char line[256];
    for (const char* name : {"shm", "tcp"}) {
      if (std::fgets(line, sizeof(line), in) == nullptr) std::exit(1);
      line[std::strcspn(line, "\n")] = 0;
      addresses[name] = line;
    }
    std::fclose(in);
  }
  ~Server() {
    kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
    const std::string& shm = addresses["shm"];
    unlink(shm.substr(0, shm.rfind('#')).c_str());
  }
};
Server* server = nullptr;

// The scattered buffers of a caller, all of them together as large as the remote blocks.
std::byte* UserMemory() {
  static const std::shared_ptr<SegmentMemory> memory =
      std::move(SegmentMemory::Create({.name = "bench-user", .size = kSegment})).value();
  return memory->data();
}

// Block `n`: buffers of 128 and 16 KiB in turn, 4 KiB apart, to lie one after another in the segment.
std::vector<Op> BlockOps(uint64_t n) {
  std::vector<Op> ops;
  std::byte* local = UserMemory() + n * (kBlock + 2 * kLayers * 4_KiB);
  uint64_t remote = n * kBlock;
  for (uint64_t i = 0; i < 2 * kLayers; ++i) {
    const uint64_t length = i % 2 == 0 ? 128_KiB : 16_KiB;
    ops.push_back({local, {1, 1}, remote, length});
    local += length + 4_KiB;
    remote += length;
  }
  return ops;
}

std::vector<std::vector<Op>> AllBlocks() {
  std::vector<std::vector<Op>> blocks;
  for (uint64_t n = 0; n < kBlocks; ++n) blocks.push_back(BlockOps(n));
  return blocks;
}

// Kept over all runs: a new shm link maps its pages in the background, which would compete with the measured copies.
std::shared_ptr<Link> LinkOver(const std::string& name, LinkOptions options = {}) {
  static std::map<std::string, std::shared_ptr<Link>> links;
  auto& kept = links[name + options.congestion_control];
  if (kept == nullptr) {
    auto link = FindTransport(name)->Connect(server->addresses[name], options, Soon());
    if (!link.ok()) Die(link.status());
    kept = *link;
  }
  return kept;
}

void Finish(benchmark::State& state, uint64_t bytes) {
  state.SetBytesProcessed(static_cast<int64_t>(bytes) * static_cast<int64_t>(state.iterations()));
}

void BM_BlockMemcpy(benchmark::State& state, Direction direction) {
  static const std::shared_ptr<SegmentMemory> memory =
      std::move(SegmentMemory::Create({.name = "bench-plain", .size = kSegment})).value();
  const auto blocks = AllBlocks();
  uint64_t n = 0;
  for (auto _ : state) {
    for (const Op& op : blocks[n++ % kBlocks]) {
      std::byte* const remote = memory->data() + op.remote_offset;
      const bool read = direction == Direction::kRead;
      std::memcpy(read ? op.local : remote, read ? remote : op.local, op.length);
    }
    benchmark::ClobberMemory();
  }
  Finish(state, kBlock);
}

void BM_Block(benchmark::State& state, const char* transport, Direction direction, const char* congestion) {
  const auto blocks = AllBlocks();
  const auto link = LinkOver(transport, {.congestion_control = congestion});
  // Every page is mapped before the clock runs, as it is in the plain loop.
  for (const auto& ops : blocks) {
    if (const Status s = link->Execute(Direction::kWrite, ops, Soon()); !s.ok()) Die(s);
  }
  uint64_t n = 0;
  for (auto _ : state) {
    if (const Status s = link->Execute(direction, blocks[n++ % kBlocks], Soon()); !s.ok()) Die(s);
  }
  Finish(state, kBlock);
}

void BM_Small(benchmark::State& state, const char* transport, Direction direction) {
  const auto link = LinkOver(transport);
  const uint64_t size = 4_KiB;
  uint64_t at = 0;
  for (auto _ : state) {
    const Op op{UserMemory() + at, {1, 1}, at, size};
    if (const Status s = link->Execute(direction, {&op, 1}, Soon()); !s.ok()) Die(s);
    at = (at + size) % 64_MiB;
  }
  Finish(state, size);
}

BENCHMARK_CAPTURE(BM_BlockMemcpy, put, Direction::kWrite)->UseRealTime();
BENCHMARK_CAPTURE(BM_Block, shm_put, "shm", Direction::kWrite, "")->UseRealTime();
BENCHMARK_CAPTURE(BM_BlockMemcpy, get, Direction::kRead)->UseRealTime();
BENCHMARK_CAPTURE(BM_Block, shm_get, "shm", Direction::kRead, "")->UseRealTime();
BENCHMARK_CAPTURE(BM_Block, tcp_put, "tcp", Direction::kWrite, "")->UseRealTime();
BENCHMARK_CAPTURE(BM_Block, tcp_get, "tcp", Direction::kRead, "")->UseRealTime();
BENCHMARK_CAPTURE(BM_Block, tcp_cubic_put, "tcp", Direction::kWrite, "cubic")->UseRealTime();
BENCHMARK_CAPTURE(BM_Block, tcp_cubic_get, "tcp", Direction::kRead, "cubic")->UseRealTime();
BENCHMARK_CAPTURE(BM_Small, shm_put, "shm", Direction::kWrite)->UseRealTime();
BENCHMARK_CAPTURE(BM_Small, shm_get, "shm", Direction::kRead)->UseRealTime();
BENCHMARK_CAPTURE(BM_Small, tcp_put, "tcp", Direction::kWrite)->UseRealTime();
BENCHMARK_CAPTURE(BM_Small, tcp_get, "tcp", Direction::kRead)->UseRealTime();

}  // namespace
}  // namespace mmc::fabric

int main(int argc, char** argv) {
  mmc::fabric::Server server;
  mmc::fabric::server = &server;
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
