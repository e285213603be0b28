// Copier: carries out the meta service's copy commands. Reads another node's bytes over links of
// its own straight into this node's memory, and compares the checksum when there is one.
//
// A command that comes again while it waits or runs, or whose result has not been acknowledged, is
// not carried out again: at any time at most one copy writes to the bytes of a command, and none
// does after its result was taken.
//
// Thread safety: all methods from any thread. Ownership: owns its threads and links; the region
// table must outlive it.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "common/base/mutex.h"
#include "common/base/status.h"
#include "common/security/tls_context.h"
#include "fabric/fabric.h"
#include "fabric/memory.h"
#include "proto/meta.pb.h"

namespace mmc::local {

struct CopierOptions {
  std::string host_id;  // of this node: same-host transports are tried for sources of the same one
  std::shared_ptr<security::TlsContext> tls;  // of links to sources over TCP; null: none
  int threads = 2;
  size_t max_commands = 4096;  // waiting, running and not yet acknowledged; more are left to be told again
};

class Copier {
 public:
  // `ready` runs after a copy has ended, on a thread of the copier.
  Copier(const fabric::RegionTable& regions, CopierOptions options, std::function<void()> ready);
  ~Copier();  // Stop()
  Copier(const Copier&) = delete;
  Copier& operator=(const Copier&) = delete;

  void Submit(const proto::CopyCommand& command);
  // Adds the results that have not been acknowledged.
  void Report(proto::CatalogSyncRequest* request) const;
  // The meta service has the results that this request told.
  void Acknowledge(const proto::CatalogSyncRequest& request);
  bool busy() const;  // something waits, runs, or is to be reported

  // Forgets all commands and results; `done` runs once nothing is written any more, at once or on a thread of the
  // copier. It must not wait.
  void Abandon(std::function<void()> done);
  // Ends the threads after the copies that run. Idempotent.
  void Stop();

 private:
  void Run();
  Status Carry(const proto::CopyCommand& command);

  const fabric::RegionTable& regions_;
  const CopierOptions options_;
  const std::function<void()> ready_;
  fabric::Fabric fabric_;
  mutable Mutex mutex_;
  CondVar changed_;
  bool stopping_ MMC_GUARDED_BY(mutex_) = false;
  uint64_t round_ MMC_GUARDED_BY(mutex_) = 0;  // results of copies that began in an earlier one are nobody's
  std::deque<proto::CopyCommand> waiting_ MMC_GUARDED_BY(mutex_);
  std::set<uint64_t> known_ MMC_GUARDED_BY(mutex_);  // ids: waiting, running, or with a result
  int running_ MMC_GUARDED_BY(mutex_) = 0;
  std::map<uint64_t, Code> results_ MMC_GUARDED_BY(mutex_);
  std::vector<std::function<void()>> when_idle_ MMC_GUARDED_BY(mutex_);
  std::vector<std::thread> threads_ MMC_GUARDED_BY(mutex_);  // started with the first command
};

}  // namespace mmc::local
