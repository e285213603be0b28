// bench, replay.
#include <random>

#include "client_sdk/cli/bench.h"
#include "client_sdk/cli/commands.h"
#include "client_sdk/cli/interrupt.h"
#include "client_sdk/cli/replay.h"
#include "client_sdk/cli/text.h"
#include "common/base/bytes.h"
#include "common/base/limits.h"

namespace mmc::cli {
namespace {

constexpr auto kDay = std::chrono::hours(24);

Status Usage(std::string message) { return Status(Code::kInvalidArgument, std::move(message)); }

// --layout, or the size flag and --buffers.
Result<Layout> LayoutFor(const Arguments& args, std::string_view size_flag) {
  const std::string layout = args.Text("layout");
  if (layout == "deepseek") {
    if (args.Has(size_flag) || args.Has("buffers")) {
      return Usage("--layout deepseek sets size and buffers; leave out --" +
                   std::string(size_flag) + " and --buffers");
    }
    return Layout::DeepSeek();
  }
  if (layout != "even") return Usage("--layout '" + layout + "' is not even or deepseek");
  MMC_ASSIGN_OR_RETURN(const uint64_t bytes, args.Bytes(size_flag, 1, kMaxValueBytes));
  MMC_ASSIGN_OR_RETURN(const int64_t buffers, args.Int("buffers", 1, 65536));
  return Layout::Even(bytes, static_cast<uint64_t>(buffers));
}

// The pool that the flags name; --pool is one inside this process.
Result<ClientOptions> PoolFor(const Context& context) {
  MMC_ASSIGN_OR_RETURN(ClientOptions options, ClientOptionsFor(context));
  if (!context.args.Has("pool")) return options;
  if (context.args.Has("meta")) return Usage("--pool and --meta both name a pool; give one");
  MMC_ASSIGN_OR_RETURN(const uint64_t bytes,
                       context.args.Bytes("pool", kSegmentAlignment, kMaxSegmentBytes));
  options.meta_url = "local://?dram=" + std::to_string(bytes);
  return options;
}

std::string GbPerSecond(uint64_t bytes, double seconds) {
  return FormatNumber(seconds > 0 ? static_cast<double>(bytes) / seconds / 1e9 : 0, 2) + " GB/s";
}

Result<BenchOptions> BenchOptionsFor(const Context& context) {
  const Arguments& args = context.args;
  BenchOptions options;
  const std::string op = args.Text("op");
  bool known = false;
  for (const BenchOp candidate :
       {BenchOp::kPut, BenchOp::kGet, BenchOp::kExists, BenchOp::kMixed}) {
    if (op != BenchOpName(candidate)) continue;
    options.op = candidate;
    known = true;
  }
  if (!known) return Usage("--op '" + op + "' is not put, get, exists or mixed");
  MMC_ASSIGN_OR_RETURN(options.layout, LayoutFor(args, "value-size"));
  MMC_ASSIGN_OR_RETURN(const int64_t batch, args.Int("batch", 1, kMaxBatch));
  MMC_ASSIGN_OR_RETURN(const int64_t threads, args.Int("threads", 1, 1024));
  MMC_ASSIGN_OR_RETURN(options.duration, args.Time("duration", std::chrono::milliseconds(1), kDay));
  MMC_ASSIGN_OR_RETURN(const int64_t keys, args.Int("keys", 1, int64_t{1} << 28));
  MMC_ASSIGN_OR_RETURN(const int64_t reads, args.Int("reads", 0, 100));
  MMC_ASSIGN_OR_RETURN(const int64_t seed, args.Int("seed", 0, INT64_MAX));
  MMC_ASSIGN_OR_RETURN(options.put, PutOptionsFor(context));
  if (args.Has("count")) {
    if (args.Has("duration")) return Usage("--count and --duration both end the run; give one");
    MMC_ASSIGN_OR_RETURN(const int64_t count, args.Int("count", 1, INT64_MAX / 2));
    options.count = static_cast<uint64_t>(count);
  }
  options.batch = static_cast<uint32_t>(batch);
  options.threads = static_cast<int>(threads);
  options.keys = static_cast<uint64_t>(keys);
  options.read_percent = static_cast<int>(reads);
  options.seed = static_cast<uint64_t>(seed);
  options.verify = args.Switch("verify");
  options.prefill = !args.Switch("no-prefill");
  options.clean_after = !args.Switch("keep");
  if (args.Has("key-prefix")) {
    options.key_prefix = args.Text("key-prefix");
    options.clean_before = options.prefill;
  } else {
    options.key_prefix = "bench/" + Hex(std::to_string(std::random_device()())) + "/";
  }
  return options;
}

int RunBenchCommand(Context& context) {
  Result<BenchOptions> options = BenchOptionsFor(context);
  if (!options.ok()) return context.Fail(options.status());
  const Result<ClientOptions> pool = PoolFor(context);
  if (!pool.ok()) return context.Fail(pool.status());
  options->check_stale = !pool->location_cache;
  auto client = context.connect(*pool);
  if (!client.ok()) return context.Fail(client.status());
  CatchInterrupt();
  Progress progress(context.err, !context.quiet(), "bench");
  const Result<BenchReport> report = RunBench(**client, *options, [&](const BenchTick& tick) {
    progress.Update(tick.fraction,
                    std::string(tick.phase) + " " + GbPerSecond(tick.bytes, tick.seconds));
  });
  progress.Clear();
  if (!report.ok()) return context.Fail(report.status());
  if (context.json()) {
    context.PrintJson(BenchJson(*options, *report));
  } else {
    context.out.Write(BenchText(*options, *report));
  }
  if (!report->Right()) {
    context.err.Write("mmc bench: verification failed: " + std::to_string(report->wrong_values) +
                      " wrong and " + std::to_string(report->stale_values) + " stale values\n");
    return kExitFailed;
  }
  if (report->interrupted) return kExitInterrupted;
  if (!report->stopped.ok()) {
    context.err.Write("mmc bench: ended early: " + report->stopped.ToString() + "\n");
    return ExitCodeOf(report->stopped);
  }
  return report->errors.empty() ? kExitOk : kExitFailed;
}

Result<ReplayOptions> ReplayOptionsFor(const Context& context) {
  const Arguments& args = context.args;
  ReplayOptions options;
  MMC_ASSIGN_OR_RETURN(options.layout, LayoutFor(args, "block-bytes"));
  MMC_ASSIGN_OR_RETURN(options.speed_up, args.Real("speed-up", 0, 1e6));
  MMC_ASSIGN_OR_RETURN(const int64_t concurrency, args.Int("concurrency", 1, 1024));
  MMC_ASSIGN_OR_RETURN(const int64_t batch, args.Int("batch", 1, kMaxBatch));
  MMC_ASSIGN_OR_RETURN(const int64_t limit, args.Int("limit", 0, INT64_MAX));
  MMC_ASSIGN_OR_RETURN(const double seconds, args.Real("max-seconds", 0, 86400));
  MMC_ASSIGN_OR_RETURN(options.put, PutOptionsFor(context));
  options.concurrency = static_cast<int>(concurrency);
  options.batch = static_cast<uint32_t>(batch);
  options.limit = static_cast<uint64_t>(limit);
  options.max_time = std::chrono::milliseconds(static_cast<int64_t>(seconds * 1000));
  options.key_prefix = args.Has("key-prefix")
                           ? args.Text("key-prefix")
                           : "replay/" + std::to_string(options.layout.bytes) + "/";
  if (args.Switch("fresh") && options.key_prefix.empty()) {
    return Usage(
        "--fresh with an empty --key-prefix would remove every key; run mmc rm --all for that");
  }
  return options;
}

int ReplayExitCode(const Context& context, const ReplayReport& report) {
  if (report.wrong_blocks != 0) {
    context.err.Write("mmc replay: verification failed: " + std::to_string(report.wrong_bytes) +
                      " wrong bytes in " + std::to_string(report.wrong_blocks) + " blocks\n");
    return kExitFailed;
  }
  if (report.interrupted) return kExitInterrupted;
  if (!report.stopped.ok()) {
    context.err.Write("mmc replay: ended early: " + report.stopped.ToString() + "\n");
    return ExitCodeOf(report.stopped);
  }
  return report.errors.empty() ? kExitOk : kExitFailed;
}

int RunReplayCommand(Context& context) {
  const Result<ReplayOptions> options = ReplayOptionsFor(context);
  if (!options.ok()) return context.Fail(options.status());
  const Result<ClientOptions> pool = PoolFor(context);
  if (!pool.ok()) return context.Fail(pool.status());
  Result<TraceReader> trace = TraceReader::Open(context.args.operands()[0]);
  if (!trace.ok()) return context.Fail(trace.status());
  auto client = context.connect(*pool);
  if (!client.ok()) return context.Fail(client.status());
  if (context.args.Switch("fresh")) {
    const Result<uint64_t> removed = (*client)->RemoveByPrefix(options->key_prefix);
    if (!removed.ok()) return context.Fail(removed.status());
  }
  CatchInterrupt();
  Progress progress(context.err, !context.quiet(), "replay");
  const Result<ReplayReport> report =
      RunReplay(**client, *trace, *options, [&](const ReplayTick& tick) {
        progress.Update(tick.fraction, std::to_string(tick.requests) + " requests, hit " +
                                           FormatPercent(tick.hit_blocks, tick.blocks) + ", " +
                                           GbPerSecond(tick.bytes, tick.seconds));
      });
  progress.Clear();
  if (!report.ok()) return context.Fail(report.status());
  if (context.json()) {
    context.PrintJson(ReplayJson(*options, *report));
  } else {
    context.out.Write(ReplayText(*options, *report));
  }
  return ReplayExitCode(context, *report);
}

constexpr char kBenchDetails[] =
    "put writes each thread's own keys in turn; a key that comes round again is removed first,\n"
    "outside the measured latency. get, exists and mixed store all keys first, then take random\n"
    "ones. Keys are removed at the end. Latencies are per call, that is per batch. cpu is this\n"
    "process's user and system time, with --verify that of making and checking values too.\n"
    "Exits 1 when a value was wrong or a call failed, 3 when the pool went away, 130 after Ctrl-C\n"
    "(with the summary so far).";

constexpr char kReplayDetails[] =
    "TRACE (- is stdin) holds JSON lines as scripts/make_trace makes them:\n"
    "  {\"timestamp\": ms, \"input_length\": tokens, \"output_length\": tokens, \"hash_ids\": [id]}\n"
    "Per request: one prefix lookup over the keys of its blocks, a get of the prefix that is there,\n"
    "a put of the rest. Every byte that is read is checked. A block that was evicted between lookup\n"
    "and get counts as a miss. The prefix hit ratio is blocks read in an unbroken prefix by all\n"
    "blocks. GB/s in calls is that of one caller while it waits for get or put; by the wall is all\n"
    "callers over the whole run.\n"
    "Exits 1 when a byte was wrong or a call failed, 3 when the pool went away, 130 after Ctrl-C\n"
    "(with the summary so far).";

constexpr Flag kPoolFlag = {"pool", "BYTES", "",
                            "use a pool of this size inside this process instead of --meta"};
constexpr Flag kLayoutFlag = {
    "layout", "NAME", "even",
    "even, or deepseek: 61 x (128 KiB + 16 KiB) = 8.58 MiB in 122 buffers"};

}  // namespace

std::vector<Command> LoadCommands() {
  return {
      {.name = "bench",
       .summary = "measure puts, gets and existence checks",
       .details = kBenchDetails,
       .max_operands = 0,
       .flags = {{"op", "OP", "put", "put, get, exists or mixed"},
                 {"value-size", "BYTES", "1MB", "bytes of a value"},
                 {"buffers", "N", "1", "pieces a value is scattered over"},
                 kLayoutFlag,
                 {"batch", "N", "1", "keys per call"},
                 {"threads", "N", "1", "callers at once"},
                 {"duration", "TIME", "10s", "how long to measure"},
                 {"count", "N", "", "keys in all, instead of --duration"},
                 {"keys", "N", "1000", "different keys; at least threads x batch"},
                 {"reads", "PERCENT", "80", "share of gets in mixed"},
                 {"verify", "", "",
                  "make values from key and version, check every byte that is read"},
                 {"key-prefix", "TEXT", "", "of the keys (default: one of this run's own)"},
                 {"no-prefill", "", "", "the keys of --key-prefix are there already"},
                 {"keep", "", "", "leave the keys in the pool"},
                 {"seed", "N", "1", "of the random choice of keys"},
                 kPoolFlag},
       .run = RunBenchCommand},
      {.name = "replay",
       .operands = "TRACE|-",
       .summary = "replay a trace of requests and check every byte",
       .details = kReplayDetails,
       .min_operands = 1,
       .max_operands = 1,
       .flags = {{"block-bytes", "BYTES", "64KB", "bytes of a block"},
                 {"buffers", "N", "1", "pieces a block is scattered over"},
                 kLayoutFlag,
                 {"speed-up", "X", "0", "times the trace's own pace; 0: as fast as it goes"},
                 {"concurrency", "N", "1", "requests at once"},
                 {"batch", "N", "16", "blocks per get or put"},
                 {"limit", "N", "0", "requests; 0: all"},
                 {"max-seconds", "S", "0", "end after so long; 0: never"},
                 {"key-prefix", "TEXT", "", "of the keys (default replay/BLOCK-BYTES/)"},
                 {"fresh", "", "", "first remove what earlier runs left under the prefix"},
                 kPoolFlag},
       .run = RunReplayCommand},
  };
}

}  // namespace mmc::cli
