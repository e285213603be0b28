// Any bytes as a conf file: an answer in one line or values within their ranges, in bounded time.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "common/config/local_conf.h"
#include "local_service/options.h"
#include "meta_service/options.h"

namespace {

void Check(bool holds) {
  if (!holds) std::abort();
}

void CheckMessage(const mmc::Status& status) {
  Check(status.code() == mmc::Code::kConfig);
  Check(!status.message().empty() && status.message().find('\n') == std::string::npos);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const mmc::Result<mmc::config::Values> meta = mmc::meta::MetaSchema().Parse(text, "fuzz", {});
  if (meta.ok()) {
    const mmc::meta::MetaOptions options = mmc::meta::MetaOptionsFrom(*meta);
    Check(options.evict_threshold_high > options.evict_threshold_low &&
          options.evict_threshold_high <= 99);
    Check(options.io_threads >= 1 && options.heartbeat < options.node_suspect);
  } else {
    CheckMessage(meta.status());
  }
  const mmc::Result<mmc::config::Values> local = mmc::local::LocalSchema().Parse(text, "fuzz", {});
  if (local.ok()) {
    const mmc::local::LocalOptions options = mmc::local::LocalOptionsFrom(*local);
    Check(options.dram_bytes % (2u << 20) == 0 && !options.transport.empty());
    Check(mmc::config::ClientSettingsFrom(*local).async_threads >= 1);
  } else {
    CheckMessage(local.status());
  }
  // The same text as the value of --set.
  const mmc::Result<mmc::config::Values> set =
      mmc::meta::MetaSchema().Parse("", "", {std::string(text)});
  if (!set.ok()) CheckMessage(set.status());
  return 0;
}
