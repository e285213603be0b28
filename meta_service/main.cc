#include <cstdlib>
#include <memory>
#include <string>
#include <utility>

#include "common/obs/log.h"
#include "common/rpc/url.h"
#include "common/runtime/daemon.h"
#include "common/runtime/exposure.h"
#include "meta_service/http/http_server.h"
#include "meta_service/http/pool_view.h"
#include "meta_service/http/router.h"
#include "meta_service/meta_service.h"
#include "meta_service/options.h"

namespace {

using mmc::Clock;
using mmc::Result;
using mmc::Status;
using mmc::meta::MetaOptions;
using mmc::meta::MetaService;

constexpr std::chrono::milliseconds kHttpDrain{500};
constexpr char kHowToEnter[] =
    "send 'Authorization: Bearer TOKEN' with a token of ock.mmc.meta_service.http.token.path, or show a client "
    "certificate of the role admin";

// The url with the port that was got.
std::string WithPort(const std::string& url, uint16_t port) {
  Result<mmc::rpc::Url> parsed = mmc::rpc::ParseUrl(url);
  if (!parsed.ok()) return url;
  parsed->port = port;
  return parsed->ToString();
}

// What systemd made for the service: the first of the folders that its unit names.
std::string StateDirectory() {
  const char* folders = std::getenv("STATE_DIRECTORY");
  const std::string all = folders == nullptr ? "" : folders;
  return all.substr(0, all.find(':'));
}

class MetaDaemon final : public mmc::runtime::Daemon {
 public:
  MetaDaemon(MetaOptions options, std::unique_ptr<MetaService> service)
      : options_(std::move(options)), service_(std::move(service)) {}

  Status Start() override {
    MMC_RETURN_IF_ERROR(service_->Start());
    const std::string url = WithPort(options_.url, service_->port());
    std::string pages = "none";
    if (!options_.metrics_url.empty()) {
      MMC_RETURN_IF_ERROR(StartHttp(url));
      pages = WithPort(options_.metrics_url, http_->port());
    }
    MMC_LOG(INFO) << "meta service " << MMC_VERSION << " at " << url << ", pages at " << pages
                  << ", evicts above " << options_.evict_threshold_high << "% down to "
                  << options_.evict_threshold_low << "%";
    if (service_->recovering()) {
      MMC_LOG(INFO) << "recovering: waiting " << options_.recovery.count()
                    << " ms for nodes to report what they hold";
    }
    return Status::Ok();
  }

  void Reload() override { service_->tls_keeper().Reload(); }
  void Tick() override { service_->tls_keeper().Tick(); }

  // The pages answer "not ready" while calls drain.
  void Stop() override {
    service_->Stop(Clock::Real().Now() + options_.drain);
    if (http_ != nullptr) http_->Stop(Clock::Real().Now() + kHttpDrain);
  }

 private:
  Status StartHttp(const std::string& url) {
    view_ = std::make_unique<mmc::meta::http::RpcPoolView>(
        service_->InProcessChannel(), service_->metrics(), [this] { return service_->ready(); },
        [this] { return service_->recovering(); });
    router_ = std::make_unique<mmc::meta::http::Router>(
        *view_, mmc::meta::http::PageInfo{.rpc_url = url, .version = MMC_VERSION, .how_to_enter = kHowToEnter});
    mmc::meta::http::HttpOptions http;
    http.url = options_.metrics_url;
    http.token_path = options_.http_token_path;
    MMC_ASSIGN_OR_RETURN(http.tls,
                         mmc::security::TlsContext::LoadFor(options_.tls, {mmc::security::Role::kMeta}));
    service_->tls_keeper().Add("http", http.tls);
    http_ = std::make_unique<mmc::meta::http::HttpServer>(http, *router_);
    return http_->Start();
  }

  const MetaOptions options_;
  const std::unique_ptr<MetaService> service_;
  // In the order of their use: the server goes first.
  std::unique_ptr<mmc::meta::http::RpcPoolView> view_;
  std::unique_ptr<mmc::meta::http::Router> router_;
  std::unique_ptr<mmc::meta::http::HttpServer> http_;
};

void WarnWhenExposed(const mmc::config::Values& values) {
  constexpr char kTls[] = "ock.mmc.tls.enable";
  const bool tokens = !values.GetString("ock.mmc.meta_service.http.token.path").empty();
  const std::string calls =
      mmc::runtime::ExposureWarning(values, "ock.mmc.meta_service_url", kTls,
                                    "whoever reaches it can read, write and remove everything in the pool");
  if (!calls.empty()) MMC_LOG(WARNING) << calls;
  const std::string pages = mmc::runtime::ExposureWarning(
      values, "ock.mmc.meta_service.metrics_url", kTls,
      tokens ? "tokens travel in the clear" : "pages that name keys or change something are refused there");
  if (!pages.empty()) MMC_LOG(WARNING) << pages;
}

Result<std::unique_ptr<mmc::runtime::Daemon>> MakeDaemon(const mmc::config::Values& values) {
  WarnWhenExposed(values);
  MetaOptions options = mmc::meta::MetaOptionsFrom(values);
  if (options.state_path.empty()) options.state_path = StateDirectory();
  MMC_ASSIGN_OR_RETURN(auto service, MetaService::Create(options));
  return std::unique_ptr<mmc::runtime::Daemon>(
      new MetaDaemon(std::move(options), std::move(service)));
}

}  // namespace

int main(int argc, char** argv) {
  return mmc::runtime::DaemonMain(argc, argv,
                                  {.name = "mmc_meta_service",
                                   .description = "Knows where every block of an mmc pool lies.",
                                   .config_env = "MMC_META_CONFIG_PATH",
                                   .log_name = "mmc-meta",
                                   .schema = mmc::meta::MetaSchema(),
                                   .make = &MakeDaemon});
}
