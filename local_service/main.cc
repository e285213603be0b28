#include <memory>
#include <string>
#include <utility>

#include "common/obs/log.h"
#include "common/rpc/channel.h"
#include "common/runtime/daemon.h"
#include "common/runtime/exposure.h"
#include "common/security/tls_context.h"
#include "common/security/tls_keeper.h"
#include "local_service/local_service.h"

namespace {

using mmc::Clock;
using mmc::Result;
using mmc::Status;

// The farewell to the meta service comes before the drain.
constexpr std::chrono::seconds kFarewell{3};

class LocalDaemon final : public mmc::runtime::Daemon {
 public:
  LocalDaemon(std::unique_ptr<mmc::local::LocalService> service, std::chrono::milliseconds drain,
              std::shared_ptr<mmc::security::TlsContext> tls)
      : service_(std::move(service)), drain_(drain) {
    keeper_.Add("rpc", std::move(tls));
  }
  Status Start() override { return service_->Start(); }
  void Reload() override {
    keeper_.Reload();
    const Status data = service_->ReloadCertificates();
    if (!data.ok()) MMC_LOG(ERROR) << "TLS of plane data: certificates are not reloaded: " << data.message();
  }
  void Tick() override { keeper_.Tick(); }
  void Stop() override { service_->Stop(Clock::Real().Now() + kFarewell + drain_); }

 private:
  const std::unique_ptr<mmc::local::LocalService> service_;
  const std::chrono::milliseconds drain_;
  mmc::security::TlsKeeper keeper_;
};

// A node is who its certificate says: the meta service takes it under no other name.
Status TakeName(const mmc::security::TlsContext& tls, mmc::local::LocalOptions* options) {
  const std::string name = tls.own()->name;
  const std::string& path = tls.options().cert_path;
  if (name.empty()) {
    return Status(mmc::Code::kConfig, path + ": the certificate names no node; it needs a URI name such as "
                                             "mmc:node:" + (options->name.empty() ? "node-1" : options->name));
  }
  if (options->name.empty()) options->name = name;
  if (options->name == name) return Status::Ok();
  return Status(mmc::Code::kConfig, path + ": the certificate speaks for node '" + name +
                                        "', and ock.mmc.local_service.name is '" + options->name + "'");
}

Result<std::unique_ptr<mmc::runtime::Daemon>> MakeDaemon(const mmc::config::Values& values) {
  const std::string exposed = mmc::runtime::ExposureWarning(
      values, "ock.mmc.local_service.hcom_url", "ock.mmc.local_service.hcom.tls.enable",
      "whoever reaches it can read and write what this node holds");
  if (!exposed.empty()) MMC_LOG(WARNING) << exposed;
  mmc::local::LocalOptions options = mmc::local::LocalOptionsFrom(values);
  mmc::rpc::ChannelOptions channel_options;
  channel_options.url = options.meta_url;
  MMC_ASSIGN_OR_RETURN(channel_options.tls,
                       mmc::security::TlsContext::LoadFor(options.tls, {mmc::security::Role::kLocal}));
  if (channel_options.tls != nullptr) MMC_RETURN_IF_ERROR(TakeName(*channel_options.tls, &options));
  MMC_ASSIGN_OR_RETURN(auto channel, mmc::rpc::MakeTcpChannel(channel_options));
  MMC_ASSIGN_OR_RETURN(auto service, mmc::local::LocalService::Create(options, std::move(channel)));
  return std::unique_ptr<mmc::runtime::Daemon>(new LocalDaemon(std::move(service), options.drain, channel_options.tls));
}

}  // namespace

int main(int argc, char** argv) {
  return mmc::runtime::DaemonMain(argc, argv,
                                  {.name = "mmc_local_service",
                                   .description = "Gives this machine's memory to an mmc pool.",
                                   .config_env = "MMC_LOCAL_CONFIG_PATH",
                                   .log_name = "mmc-local",
                                   .schema = mmc::local::LocalSchema(),
                                   .make = &MakeDaemon,
                                   .short_flags = {{"--cold", "ock.mmc.local_service.cold=true",
                                                    "start empty, whatever is there of an earlier "
                                                    "run"}}});
}
