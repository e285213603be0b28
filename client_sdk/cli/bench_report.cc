// The results of bench as JSON and as text.
#include "client_sdk/cli/bench.h"
#include "client_sdk/cli/text.h"
#include "common/base/bytes.h"

namespace mmc::cli {
namespace {

namespace json = boost::json;

double PerSecond(uint64_t n, double seconds) {
  return seconds > 0 ? static_cast<double>(n) / seconds : 0;
}
double Gb(uint64_t bytes) { return static_cast<double>(bytes) / 1e9; }

json::object CallsJson(const CallStats& stats, double seconds) {
  return {{"calls", stats.calls},
          {"items", stats.items},
          {"bytes", stats.bytes},
          {"items_per_s", PerSecond(stats.items, seconds)},
          {"gb_per_s", PerSecond(stats.bytes, seconds) / 1e9},
          {"gb_per_s_in_calls", stats.GbPerSecond()},
          {"latency_us", LatencyJson(stats.latency)}};
}

std::string CallsText(const char* label, const CallStats& stats, double seconds) {
  if (stats.calls == 0) return std::string();
  std::string name(label);
  name.resize(9, ' ');
  std::string text = name + FormatNumber(PerSecond(stats.items, seconds), 0) + " keys/s";
  if (stats.bytes > 0) {
    text += ", " + FormatNumber(PerSecond(stats.bytes, seconds) / 1e9, 3) + " GB/s (" +
            FormatNumber(stats.GbPerSecond(), 3) + " GB/s per thread while in a call)";
  }
  return text + "\n         per call " + LatencyText(stats.latency) + "\n";
}

}  // namespace

json::object BenchJson(const BenchOptions& options, const BenchReport& report) {
  const double gb = Gb(report.Bytes());
  return {{"op", std::string(BenchOpName(options.op))},
          {"value_bytes", options.layout.bytes},
          {"buffers", options.layout.pieces.size()},
          {"batch", options.batch},
          {"threads", options.threads},
          {"keys", options.keys},
          {"replicas", options.put.replicas},
          {"verify", options.verify},
          {"seconds", report.seconds},
          {"interrupted", report.interrupted},
          {"ops", report.Operations()},
          {"ops_per_s", PerSecond(report.Operations(), report.seconds)},
          {"gb_per_s", PerSecond(report.Bytes(), report.seconds) / 1e9},
          {"cpu_seconds", report.cpu_seconds},
          {"cpu_seconds_per_gb", gb > 0 ? report.cpu_seconds / gb : 0},
          {"put", CallsJson(report.put, report.seconds)},
          {"get", CallsJson(report.get, report.seconds)},
          {"exists", CallsJson(report.exists, report.seconds)},
          {"remove", CallsJson(report.remove, report.seconds)},
          {"misses", report.misses},
          {"absent", report.absent},
          {"verified_values", report.verified_values},
          {"wrong_values", report.wrong_values},
          {"wrong_bytes", report.wrong_bytes},
          {"stale_values", report.stale_values},
          {"errors", ErrorsJson(report.errors)}};
}

std::string BenchText(const BenchOptions& options, const BenchReport& report) {
  std::string text =
      "bench    " + std::string(BenchOpName(options.op)) + ", values of " +
      FormatBytes(options.layout.bytes) + " in " + std::to_string(options.layout.pieces.size()) +
      (options.layout.pieces.size() == 1 ? " buffer" : " buffers") + ", batch " +
      std::to_string(options.batch) + ", threads " + std::to_string(options.threads) + ", " +
      std::to_string(options.keys) + " keys, replicas " + std::to_string(options.put.replicas) +
      ", " + FormatNumber(report.seconds, 2) + " s" + (report.interrupted ? " (interrupted)" : "") +
      "\n";
  text += CallsText("put", report.put, report.seconds);
  text += CallsText("get", report.get, report.seconds);
  text += CallsText("exists", report.exists, report.seconds);
  text += CallsText("remove", report.remove, report.seconds);
  const double gb = Gb(report.Bytes());
  text += "cpu      " + FormatNumber(report.cpu_seconds, 2) + " s of this process";
  if (gb > 0) text += ", " + FormatNumber(report.cpu_seconds / gb, 3) + " s per GB";
  text += "\nmisses   " + std::to_string(report.misses) + " gets, " +
          std::to_string(report.absent) + " checks\n";
  if (options.verify) {
    text += "verified " + std::to_string(report.verified_values) + " values, " +
            std::to_string(report.wrong_values) + " wrong (" + std::to_string(report.wrong_bytes) +
            " bytes), " + std::to_string(report.stale_values) + " stale\n";
  }
  return text + "errors   " + ErrorsText(report.errors) + "\n";
}

}  // namespace mmc::cli
