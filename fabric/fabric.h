// Fabric: the links of one process. Picks the nearest transport that reaches a peer, keeps one Link per peer,
// reconnects after a loss.
//
// Thread safety: all methods from any thread. Ownership: owns its links; Close() (and the destructor) ends them.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "common/base/mutex.h"
#include "fabric/transport.h"

namespace mmc::fabric {

struct FabricOptions {
  LinkOptions link;
  bool same_host = true;  // false: never use same-host transports (benchmarks, tests)
};

class Fabric {
 public:
  explicit Fabric(FabricOptions options);
  ~Fabric();

  // The live link to a peer, connecting when there is none. `peer` is any stable name of it (node id + incarnation);
  // `same_host` says whether same-host transports can be tried. Concurrent callers of one peer share one attempt.
  // A same-host transport that cannot be reached falls back to the others. `node`: its name in the pool, which its
  // certificate must carry under TLS; "": any.
  Result<std::shared_ptr<Link>> LinkTo(const std::string& peer, const std::vector<Endpoint>& endpoints, bool same_host,
                                       TimePoint deadline, const std::string& node = "");
  // Drops the link (it was found dead, or the peer left).
  void Forget(const std::string& peer);
  // The session that new links carry.
  void SetSession(uint64_t session);
  void Close();

 private:
  struct Peer;
  FabricOptions options_;
  Mutex mutex_;
  bool closed_ MMC_GUARDED_BY(mutex_) = false;
  std::map<std::string, std::shared_ptr<Peer>> peers_ MMC_GUARDED_BY(mutex_);
};

// "the same for processes that may share memory": the boot id of the machine; "" when it cannot be told. Processes of
// one machine that do not see each other's sockets fall back to the network by themselves.
std::string HostId();

}  // namespace mmc::fabric
