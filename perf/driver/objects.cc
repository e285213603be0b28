// Many objects at the meta service alone: the memory that each takes, and how long a lookup of one key takes while
// nothing else happens, while others put, and while every put evicts.
#include <algorithm>
#include <utility>

#include "common/base/bytes.h"
#include "common/base/thread.h"
#include "perf/driver/meta_load.h"

namespace mmc::perf {
namespace {

constexpr double kPercentHigh = 0.9;  // the default of evict_threshold_high

uint64_t ResidentBytes(uint64_t pid) {
  std::ifstream in("/proc/" + std::to_string(pid) + "/statm");
  uint64_t size = 0, resident = 0;
  in >> size >> resident;
  return resident * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

// Puts new keys at a steady rate until it is stopped.
class SteadyPuts {
 public:
  SteadyPuts(MetaLoad& load, uint64_t first, uint64_t per_second)
      : load_(load), next_(first), per_second_(per_second) {
    if (per_second > 0) thread_ = StartThread([this] { Run(); });
  }
  // The first key that was not put.
  Result<uint64_t> Stop() {
    stopping_ = true;
    if (thread_.joinable()) thread_.join();
    if (!status_.ok()) return status_;
    return next_;
  }

 private:
  void Run() {
    const TimePoint start = Clock::Real().Now();
    const uint64_t first = next_;
    while (!stopping_ && status_.ok()) {
      const auto due = static_cast<uint64_t>(SecondsSince(start) * static_cast<double>(per_second_));
      if (next_ - first + kBatch > due) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
        continue;
      }
      double rate = 0;
      status_ = load_.Put(next_, kBatch, &rate).status();
      next_ += kBatch;
    }
  }

  MetaLoad& load_;
  uint64_t next_;
  const uint64_t per_second_;
  std::atomic<bool> stopping_{false};
  Status status_;
  std::thread thread_;
};

// Lookups of one key, one after the other: their quantiles in microseconds.
Status TimeLookups(rpc::Channel& channel, uint64_t first, uint64_t keys, double seconds, const std::string& name,
                   Series* out) {
  std::mt19937_64 dice(11);
  std::vector<double> taken;
  const TimePoint begin = Clock::Real().Now();
  while (SecondsSince(begin) < seconds) {
    proto::LookupRequest request;
    proto::AppendKey(KeyOf(first + dice() % keys), request.mutable_keys());
    request.set_lease_ms(1);
    proto::LookupReply reply;
    const TimePoint start = Clock::Real().Now();
    MMC_RETURN_IF_ERROR(channel.Call(proto::kLookup, request, &reply, Deadline()));
    taken.push_back(SecondsSince(start) * 1e6);
  }
  std::sort(taken.begin(), taken.end());
  out->Add(name + "_lookup_p50_us", taken[taken.size() / 2]);
  out->Add(name + "_lookup_p99_us", taken[taken.size() * 99 / 100]);
  return Status::Ok();
}

}  // namespace

// --meta URL --pid PID of the service --objects N --rounds N of lookups (0: memory only) --seconds N --rate N puts/s
Status RunObjects(const Flags& flags, Series* out) {
  rpc::ChannelOptions options;
  options.url = flags.Text("meta", "tcp://127.0.0.1:5000");
  MMC_ASSIGN_OR_RETURN(const std::shared_ptr<rpc::Channel> node_channel, rpc::MakeTcpChannel(options));
  MMC_ASSIGN_OR_RETURN(const std::shared_ptr<rpc::Channel> channel, rpc::MakeTcpChannel(options));
  MMC_ASSIGN_OR_RETURN(const std::shared_ptr<rpc::Channel> reader, rpc::MakeTcpChannel(options));
  const uint64_t pid = flags.Int("pid", 0);
  const uint64_t rate = flags.Int("rate", 20'000);
  const auto seconds = static_cast<double>(flags.Int("seconds", 5));
  const uint64_t objects = AlignUp(flags.Int("objects", 1'000'000), kBatch);
  const uint64_t spare = objects / 4 + AlignUp(static_cast<uint64_t>(2 * seconds) * rate, kBatch);
  const auto bytes = static_cast<uint64_t>(static_cast<double>((objects + spare) * kValueBytes) / kPercentHigh);
  MMC_ASSIGN_OR_RETURN(const std::unique_ptr<IdleNode> node, IdleNode::Join(node_channel, AlignUp(bytes, 2_MiB)));
  proto::OpenSessionRequest open;
  open.set_client_name("objects");
  proto::OpenSessionReply session;
  MMC_RETURN_IF_ERROR(channel->Call(proto::kOpenSession, open, &session, Deadline()));
  MetaLoad load(channel, session.session(), pid, 16);

  double unused = 0;
  // What the first calls take is not of the objects.
  MMC_RETURN_IF_ERROR(load.Put(0, 100 * kBatch, &unused).status());
  const uint64_t first = 100 * kBatch;
  const uint64_t before = ResidentBytes(pid);
  MMC_RETURN_IF_ERROR(load.Put(first, objects, &unused).status());
  uint64_t key_bytes = 0;
  for (uint64_t i = first; i < first + objects; ++i) key_bytes += KeyOf(i).size();
  // The records that the node has not acknowledged are on their way out.
  std::this_thread::sleep_for(std::chrono::seconds(2));
  const double grown = static_cast<double>(ResidentBytes(pid)) - static_cast<double>(before);
  out->Add("bytes_per_object", (grown - static_cast<double>(key_bytes)) / static_cast<double>(objects));

  uint64_t next = first + objects;
  const uint64_t rounds = flags.Int("rounds", 3);
  for (uint64_t round = 0; round < rounds; ++round) {
    MMC_RETURN_IF_ERROR(TimeLookups(*reader, first, objects, seconds, "idle", out));
  }
  if (rounds > 0) {
    SteadyPuts puts(load, next, rate);
    MMC_RETURN_IF_ERROR(TimeLookups(*reader, first, objects, seconds, "puts", out));
    MMC_ASSIGN_OR_RETURN(next, puts.Stop());
    const uint64_t full = first + objects + spare;
    if (next < full) {
      MMC_RETURN_IF_ERROR(load.Put(next, AlignUp(full - next, kBatch), &unused).status());
      next += AlignUp(full - next, kBatch);
    }
  }
  for (uint64_t round = 0; round < rounds; ++round) {
    SteadyPuts puts(load, next, rate);
    // Half of what is there now was not evicted: hits and misses.
    MMC_RETURN_IF_ERROR(TimeLookups(*reader, next - objects, objects, seconds, "evicting", out));
    MMC_ASSIGN_OR_RETURN(next, puts.Stop());
  }
  proto::ClusterStatusReply status;
  MMC_RETURN_IF_ERROR(channel->Call(proto::kClusterStatus, proto::ClusterStatusRequest(), &status, Deadline()));
  out->Add("evicted", static_cast<double>(status.evicted_objects()));
  return Status::Ok();
}

}  // namespace mmc::perf
