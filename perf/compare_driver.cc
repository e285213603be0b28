// The measuring half of perf/compare and perf/recovery_bench: `compare_driver RUN [--flag value]...`
// prints its figures as one JSON object.
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "perf/driver/series.h"

namespace mmc::perf {

std::string Series::Json() const {
  std::string text = "{";
  for (const auto& [name, values] : rows_) {
    text += (text.size() > 1 ? ", \"" : "\"") + name + "\": [";
    for (size_t i = 0; i < values.size(); ++i)
      text += (i == 0 ? "" : ", ") + std::to_string(values[i]);
    text += "]";
  }
  return text + "}";
}

Result<Flags> Flags::Parse(int argc, char** argv, int first) {
  Flags flags;
  for (int i = first; i < argc; i += 2) {
    const std::string_view name = argv[i];
    if (!name.starts_with("--") || i + 1 >= argc) {
      return Status(Code::kInvalidArgument,
                    "expected --flag value, got '" + std::string(name) + "'");
    }
    flags.values_[std::string(name.substr(2))] = argv[i + 1];
  }
  return flags;
}

std::string Flags::Text(const std::string& name, const std::string& fallback) const {
  const auto it = values_.find(name);
  return it == values_.end() ? fallback : it->second;
}

uint64_t Flags::Int(const std::string& name, uint64_t fallback) const {
  const auto it = values_.find(name);
  return it == values_.end() ? fallback : std::strtoull(it->second.c_str(), nullptr, 10);
}

namespace {

Status Run(std::string_view what, const Flags& flags, Series* out) {
  if (what == "copies") return RunCopies(flags, out);
  if (what == "sizes") return RunSizes(flags, out);
  if (what == "round-trips") return RunRoundTrips(flags, out);
  if (what == "meta") return RunMetaService(flags, out);
  if (what == "objects") return RunObjects(flags, out);
  if (what == "restarts") return RunRestarts(flags, out);
  if (what == "echo-server") return RunEchoServer();
  return Status(Code::kInvalidArgument, "unknown run '" + std::string(what) + "'");
}

}  // namespace
}  // namespace mmc::perf

int main(int argc, char** argv) {
  using mmc::perf::Flags;
  if (argc < 2) {
    std::fprintf(
        stderr,
        "usage: compare_driver copies|sizes|round-trips|meta|objects|restarts|echo-server [--flag value]...\n");
    return 2;
  }
  const mmc::Result<Flags> flags = Flags::Parse(argc, argv, 2);
  mmc::perf::Series series;
  const mmc::Status status = flags.ok() ? mmc::perf::Run(argv[1], *flags, &series) : flags.status();
  if (!status.ok()) {
    std::fprintf(stderr, "compare_driver %s: %s\n", argv[1], status.ToString().c_str());
    return 1;
  }
  std::printf("%s\n", series.Json().c_str());
  return 0;
}
