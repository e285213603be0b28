// Keeps the certificates of a service fresh: reloads them when asked and when their files change, warns of those that
// end soon, and shows in the metrics how long they last.
//
// Thread safety: Add from any thread; RegisterMetrics before Reload and Tick, which come from one thread that serves
// nothing else.
// Ownership: shares the contexts with their planes; the registry may outlive it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "common/base/clock.h"
#include "common/base/mutex.h"
#include "common/obs/metrics.h"
#include "common/security/tls_context.h"

namespace mmc::security {

class TlsKeeper {
 public:
  // `plane` names it in logs and metrics: "rpc", "http", "data". Null (no TLS there) is passed over.
  void Add(const std::string& plane, std::shared_ptr<TlsContext> context);
  void RegisterMetrics(obs::Registry& registry);
  // All files again, changed or not.
  void Reload();
  void Tick();

 private:
  struct Plane {
    std::string name;
    std::shared_ptr<TlsContext> context;
  };
  void Note(const Plane& plane, const Status& status);
  void WarnOfEnds(TimePoint now);

  struct Planes {
    std::vector<Plane> All() const {
      MutexLock lock(mutex);
      return planes;
    }
    mutable Mutex mutex;
    std::vector<Plane> planes MMC_GUARDED_BY(mutex);
  };

  const std::shared_ptr<Planes> planes_ = std::make_shared<Planes>();
  obs::Counter* reloads_ = nullptr;
  obs::Counter* failures_ = nullptr;
  TimePoint warn_at_;
};

}  // namespace mmc::security
