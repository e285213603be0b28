// mmc_docgen WHAT: prints one of the generated files of conf/ and docs/reference/. scripts/gen
// writes them all.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "common/base/status.h"
#include "common/obs/metrics.h"
#include "local_service/options.h"
#include "meta_service/meta_service.h"
#include "meta_service/options.h"

namespace {

std::string StatusCodes() {
  std::string out =
      "# Status codes\n\nPrinted from common/base/status_codes.def. The numbers travel on the wire "
      "and never change. The "
      "recovery is what a\ncaller should do: *backoff*: the same call again, later; *refresh*: ask "
      "the meta service for the "
      "location again;\n*reconnect*: connect and open the session or join again; *ask outcome*: "
      "the effect is unknown, ask "
      "before doing it\nagain; *drop replica*: read another replica; *none*: report it.\n\n"
      "| number | name | recovery | meaning |\n|---|---|---|---|\n";
  const mmc::CodeTable table = mmc::AllCodes();
  for (const mmc::CodeInfo* info = table.begin; info != table.end; ++info) {
    out += "| " + std::to_string(static_cast<uint32_t>(info->code)) + " | `" +
           std::string(mmc::CodeName(info->code)) + "` | " +
           std::string(mmc::RecoveryName(info->recovery)) + " | " + info->meaning + " |\n";
  }
  return out;
}

const char* KindName(mmc::obs::Registry::Kind kind) {
  switch (kind) {
    case mmc::obs::Registry::Kind::kCounter:
      return "counter";
    case mmc::obs::Registry::Kind::kGauge:
      return "gauge";
    case mmc::obs::Registry::Kind::kHistogram:
      return "histogram";
  }
  return "";
}

// What a meta service declares when it is made; it is not started.
std::string Metrics() {
  mmc::meta::MetaOptions options;
  options.url.clear();
  const mmc::Result<std::unique_ptr<mmc::meta::MetaService>> service =
      mmc::meta::MetaService::Create(options);
  if (!service.ok()) {
    std::fprintf(stderr, "mmc_docgen: %s\n", service.status().ToString().c_str());
    std::exit(1);
  }
  std::string out =
      "# Metrics\n\nPrinted from what a meta service declares. It shows them at `/metrics` of "
      "`ock.mmc.meta_service.metrics_url`,\nin the text format of Prometheus. Histograms are in "
      "seconds.\n\n| name | kind | meaning |\n|---|---|---|\n";
  for (const mmc::obs::Registry::Description& metric : (*service)->metrics().Describe()) {
    out += "| `" + metric.name + "` | " + KindName(metric.kind) + " | " + metric.help + " |\n";
  }
  return out;
}

}  // namespace

int main(int argc, char** argv) {
  const std::map<std::string, std::function<std::string()>> printers = {
      {"conf/mmc-meta.conf", [] { return mmc::meta::MetaSchema().DumpConf(); }},
      {"conf/mmc-local.conf", [] { return mmc::local::LocalSchema().DumpConf(); }},
      {"docs/reference/meta_conf.md", [] { return mmc::meta::MetaSchema().DumpDoc(); }},
      {"docs/reference/local_conf.md", [] { return mmc::local::LocalSchema().DumpDoc(); }},
      {"docs/reference/status_codes.md", StatusCodes},
      {"docs/reference/metrics.md", Metrics},
  };
  if (argc == 2 && std::strcmp(argv[1], "--list") == 0) {
    for (const auto& [name, printer] : printers) std::puts(name.c_str());
    return 0;
  }
  const auto printer = argc == 2 ? printers.find(argv[1]) : printers.end();
  if (printer == printers.end()) {
    std::fprintf(stderr, "usage: mmc_docgen --list | FILE, one of those listed\n");
    return 2;
  }
  const std::string text = printer->second();
  return std::fwrite(text.data(), 1, text.size(), stdout) == text.size() ? 0 : 1;
}
