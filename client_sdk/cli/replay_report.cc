// The results of replay as JSON and as text.
#include "client_sdk/cli/replay.h"
#include "client_sdk/cli/text.h"
#include "common/base/bytes.h"

namespace mmc::cli {
namespace {

namespace json = boost::json;

double Wall(const CallStats& stats, double seconds) {
  return seconds > 0 ? static_cast<double>(stats.bytes) / seconds / 1e9 : 0;
}

json::object CallsJson(const CallStats& stats, double seconds) {
  return {{"calls", stats.calls},
          {"blocks", stats.items},
          {"bytes", stats.bytes},
          {"gb_per_s", stats.GbPerSecond()},
          {"gb_per_s_wall", Wall(stats, seconds)},
          {"latency_us", LatencyJson(stats.latency)}};
}

std::string CallsText(const char* label, const CallStats& stats, double seconds) {
  std::string name(label);
  name.resize(9, ' ');
  std::string text = name;
  if (stats.bytes > 0) {
    text += FormatNumber(stats.GbPerSecond(), 2) + " GB/s in calls, " +
            FormatNumber(Wall(stats, seconds), 2) + " GB/s by the wall; ";
  }
  return text + LatencyText(stats.latency) + "\n";
}

}  // namespace

json::object ReplayJson(const ReplayOptions& options, const ReplayReport& report) {
  json::object object = {{"requests", report.requests},
                         {"blocks", report.blocks},
                         {"hit_blocks", report.hit_blocks},
                         {"prefix_hit_ratio", report.HitRatio()},
                         {"blocks_got", report.get.items},
                         {"blocks_put", report.blocks_put},
                         {"blocks_existed", report.blocks_existed},
                         {"blocks_vanished", report.blocks_vanished},
                         {"blocks_verified", report.blocks_verified},
                         {"wrong_blocks", report.wrong_blocks},
                         {"wrong_bytes", report.wrong_bytes},
                         {"block_bytes", options.layout.bytes},
                         {"buffers", options.layout.pieces.size()},
                         {"concurrency", options.concurrency},
                         {"batch", options.batch},
                         {"speed_up", options.speed_up},
                         {"seconds", report.seconds},
                         {"interrupted", report.interrupted},
                         {"timed_out", report.timed_out},
                         {"lookup", CallsJson(report.lookup, report.seconds)},
                         {"get", CallsJson(report.get, report.seconds)},
                         {"put", CallsJson(report.put, report.seconds)},
                         {"evicted_objects", report.evicted_objects},
                         {"evicted_bytes", report.evicted_bytes},
                         {"errors", ErrorsJson(report.errors)}};
  if (report.wrong_blocks != 0) object["first_wrong_key"] = PrintableKey(report.first_wrong_key);
  return object;
}

std::string ReplayText(const ReplayOptions& options, const ReplayReport& report) {
  const std::string pieces = std::to_string(options.layout.pieces.size());
  std::string text = "replayed " + std::to_string(report.requests) + " requests in " +
                     FormatNumber(report.seconds, 2) + " s" +
                     (report.interrupted ? " (interrupted)"
                      : report.timed_out ? " (--max-seconds)"
                                         : "") +
                     ", " + std::to_string(options.concurrency) + " at a time\n";
  text += "blocks   " + std::to_string(report.blocks) + " of " + FormatBytes(options.layout.bytes) +
          " in " + pieces + (options.layout.pieces.size() == 1 ? " buffer; " : " buffers; ") +
          std::to_string(report.hit_blocks) + " hit, prefix hit ratio " +
          FormatNumber(report.HitRatio(), 4) + "\n";
  text += "         " + std::to_string(report.blocks_put) + " stored, " +
          std::to_string(report.blocks_existed) + " were there already, " +
          std::to_string(report.blocks_vanished) + " gone between lookup and get\n";
  text += "verified " + std::to_string(report.blocks_verified) + " blocks, " +
          std::to_string(report.wrong_bytes) + " wrong bytes\n";
  if (report.wrong_blocks != 0) {
    text += "WRONG    " + std::to_string(report.wrong_blocks) + " blocks, the first is key " +
            PrintableKey(report.first_wrong_key) + "\n";
  }
  text += CallsText("lookup", report.lookup, report.seconds);
  text += CallsText("get", report.get, report.seconds);
  text += CallsText("put", report.put, report.seconds);
  text += "evicted  " + std::to_string(report.evicted_objects) + " objects, " +
          FormatBytes(report.evicted_bytes) + "\n";
  return text + "errors   " + ErrorsText(report.errors) + "\n";
}

}  // namespace mmc::cli
