#include "common/security/tls_keeper.h"

#include <ctime>
#include <utility>

#include "common/obs/log.h"

namespace mmc::security {
namespace {

constexpr std::chrono::hours kWarnBefore{30 * 24};
constexpr std::chrono::hours kWarnEvery{24};

}  // namespace

void TlsKeeper::Add(const std::string& plane, std::shared_ptr<TlsContext> context) {
  if (context == nullptr) return;
  MutexLock lock(planes_->mutex);
  planes_->planes.push_back({plane, std::move(context)});
}

void TlsKeeper::RegisterMetrics(obs::Registry& registry) {
  registry.AddGauge("mmc_tls_expiry_seconds",
                    "Seconds until a certificate, authority or revocation list ends; negative: it has ended.",
                    [planes = planes_] {
                      std::vector<obs::Registry::Row> rows;
                      for (const Plane& plane : planes->All()) {
                        for (const TlsFile& file : plane.context->Files()) {
                          rows.push_back({{{"plane", plane.name}, {"kind", file.kind}, {"path", file.path},
                                           {"subject", file.subject}},
                                          static_cast<double>(file.not_after - std::time(nullptr))});
                        }
                      }
                      return rows;
                    });
  constexpr char kName[] = "mmc_tls_reloads_total";
  constexpr char kHelp[] = "Times that certificates were read again, by how that went.";
  reloads_ = &registry.AddCounter(kName, kHelp, {{"result", "done"}});
  failures_ = &registry.AddCounter(kName, kHelp, {{"result", "failed"}});
}

void TlsKeeper::Note(const Plane& plane, const Status& status) {
  obs::Counter* const counter = status.ok() ? reloads_ : failures_;
  if (counter != nullptr) counter->Add();
  if (status.ok()) {
    MMC_LOG(INFO) << "TLS of plane " << plane.name << ": certificates are reloaded, for connections from now on";
  } else {
    MMC_LOG(ERROR) << "TLS of plane " << plane.name << ": certificates are not reloaded, the old ones stay in use: "
                   << status.message();
  }
  warn_at_ = {};
}

void TlsKeeper::Reload() {
  for (const Plane& plane : planes_->All()) Note(plane, plane.context->Reload());
  WarnOfEnds(std::chrono::steady_clock::now());
}

void TlsKeeper::Tick() {
  for (const Plane& plane : planes_->All()) {
    bool reloaded = false;
    const Status status = plane.context->ReloadIfChanged(&reloaded);
    if (reloaded || !status.ok()) Note(plane, status);
  }
  WarnOfEnds(std::chrono::steady_clock::now());
}

void TlsKeeper::WarnOfEnds(TimePoint now) {
  if (now < warn_at_) return;
  warn_at_ = now + kWarnEvery;
  for (const Plane& plane : planes_->All()) {
    for (const std::string& line : plane.context->EndingWithin(kWarnBefore)) {
      MMC_LOG(WARNING) << "TLS of plane " << plane.name << ": " << line;
    }
  }
}

}  // namespace mmc::security
