// Values of 8.58 MiB in 122 scattered buffers through the pool, and the same buffers by plain
// memcpy in between.
#include <cstring>
#include <string>
#include <vector>

#include "client_sdk/cli/layout.h"
#include "client_sdk/include/mmc/client.h"
#include "common/base/bytes.h"
#include "fabric/memory.h"
#include "perf/driver/series.h"

namespace mmc::perf {
namespace {

struct Work {
  cli::Layout layout = cli::Layout::DeepSeek();
  uint32_t slots = 0;
  uint32_t batch = 1;
  std::string prefix;
  double Bytes() const { return static_cast<double>(layout.bytes) * slots; }
};

std::string KeyOf(const Work& work, uint32_t slot) { return work.prefix + std::to_string(slot); }

// GB/s of copying every slot to memory like that of a segment.
double MemcpyOut(const Work& work, const cli::Arena& arena, std::byte* pool) {
  const TimePoint start = Clock::Real().Now();
  for (uint32_t slot = 0; slot < work.slots; ++slot) {
    std::byte* to = pool + slot * work.layout.bytes;
    for (const Buffer& piece : arena.Buffers(slot)) {
      std::memcpy(to, piece.data, piece.size);
      to += piece.size;
    }
  }
  return work.Bytes() / SecondsSince(start) / 1e9;
}

double MemcpyIn(const Work& work, const cli::Arena& arena, const std::byte* pool) {
  const TimePoint start = Clock::Real().Now();
  for (uint32_t slot = 0; slot < work.slots; ++slot) {
    const std::byte* from = pool + slot * work.layout.bytes;
    for (const Buffer& piece : arena.Buffers(slot)) {
      std::memcpy(piece.data, from, piece.size);
      from += piece.size;
    }
  }
  return work.Bytes() / SecondsSince(start) / 1e9;
}

Result<double> PutAll(const Work& work, const cli::Arena& arena, Client& client) {
  const TimePoint start = Clock::Real().Now();
  for (uint32_t slot = 0; slot < work.slots; slot += work.batch) {
    std::vector<std::string> keys;
    std::vector<PutItem> items;
    for (uint32_t i = slot; i < slot + work.batch && i < work.slots; ++i)
      keys.push_back(KeyOf(work, i));
    for (uint32_t i = 0; i < keys.size(); ++i)
      items.push_back({keys[i], arena.ConstBuffers(slot + i)});
    for (const Status& status : client.Put(items)) MMC_RETURN_IF_ERROR(status);
  }
  return work.Bytes() / SecondsSince(start) / 1e9;
}

Result<double> GetAll(const Work& work, const cli::Arena& arena, Client& client) {
  const TimePoint start = Clock::Real().Now();
  for (uint32_t slot = 0; slot < work.slots; slot += work.batch) {
    std::vector<std::string> keys;
    std::vector<GetItem> items;
    for (uint32_t i = slot; i < slot + work.batch && i < work.slots; ++i)
      keys.push_back(KeyOf(work, i));
    for (uint32_t i = 0; i < keys.size(); ++i)
      items.push_back({.key = keys[i], .buffers = arena.Buffers(slot + i)});
    for (const GetResult& result : client.GetInto(items)) MMC_RETURN_IF_ERROR(result.status);
  }
  return work.Bytes() / SecondsSince(start) / 1e9;
}

Status CheckAll(const Work& work, const cli::Arena& arena) {
  for (uint32_t slot = 0; slot < work.slots; ++slot) {
    if (const uint64_t wrong = arena.CountWrong(slot, slot); wrong != 0) {
      return Status(Code::kCorrupt,
                    std::to_string(wrong) + " wrong bytes in value " + std::to_string(slot));
    }
  }
  return Status::Ok();
}

}  // namespace

// --meta URL --same-host 0|1 --memcpy 0|1 --connections N --slots N --batch N --rounds N
Status RunCopies(const Flags& flags, Series* out) {
  ClientOptions options;
  options.meta_url = flags.Text("meta", options.meta_url);
  options.name = "compare";
  options.same_host = flags.Int("same-host", 1) != 0;
  options.tcp_connections = static_cast<int>(flags.Int("connections", 4));
  options.tcp_congestion_control = flags.Text("congestion", "");
  MMC_ASSIGN_OR_RETURN(const std::unique_ptr<Client> client, Client::Connect(options));
  Work work;
  work.slots = static_cast<uint32_t>(flags.Int("slots", 60));
  work.batch = static_cast<uint32_t>(flags.Int("batch", 1));
  MMC_ASSIGN_OR_RETURN(const cli::Arena arena, cli::Arena::Create(work.layout, work.slots));
  const bool with_memcpy = flags.Int("memcpy", 1) != 0;
  fabric::SegmentOptions segment;
  segment.size = AlignUp(work.layout.bytes * work.slots, 2_MiB);
  MMC_ASSIGN_OR_RETURN(const std::shared_ptr<fabric::SegmentMemory> pool,
                       fabric::SegmentMemory::Create(segment));

  for (uint64_t round = 0; round <= flags.Int("rounds", 5); ++round) {
    work.prefix = "compare/" + std::to_string(round) + "/";
    for (uint32_t slot = 0; slot < work.slots; ++slot) arena.Fill(slot, slot);
    const double out_rate = with_memcpy ? MemcpyOut(work, arena, pool->data()) : 0;
    MMC_ASSIGN_OR_RETURN(const double put_rate, PutAll(work, arena, *client));
    for (uint32_t slot = 0; slot < work.slots; ++slot) arena.Fill(slot, ~uint64_t{slot});
    const double in_rate = with_memcpy ? MemcpyIn(work, arena, pool->data()) : 0;
    MMC_ASSIGN_OR_RETURN(const double get_rate, GetAll(work, arena, *client));
    MMC_RETURN_IF_ERROR(CheckAll(work, arena));
    MMC_RETURN_IF_ERROR(client->RemoveByPrefix(work.prefix).status());
    if (round == 0) continue;  // maps the segment, opens the connections
    if (with_memcpy) out->Add("memcpy_put", out_rate);
    if (with_memcpy) out->Add("memcpy_get", in_rate);
    out->Add("put", put_rate);
    out->Add("get", get_rate);
  }
  return Status::Ok();
}

}  // namespace mmc::perf
