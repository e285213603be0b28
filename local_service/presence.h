// Presence: who may still reach the memory of this node. A client process on this host maps the
// memory and writes without asking; when the service is killed, no socket tells whether the client
// is gone. So each client holds a shared lock on a file of the service that it came to (the kernel
// drops it with the process), and the next service waits for the exclusive one.
//
//   <directory>/mmc-<node>-<uid>.presence-<random>    one per run of the service
//
// Thread safety: all methods from any thread. Ownership: owns its file until Remove() and a thread
// while earlier clients are waited for.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "common/base/mutex.h"
#include "common/base/status.h"

namespace mmc::local {

class Presence {
 public:
  // Makes this run's file. `same_memory`: the clients of earlier runs map what this run lends, and
  // are waited for; else their files are deleted. REQUIRES: the node's catalog is held. Errors: kIo.
  static Result<std::unique_ptr<Presence>> Create(const std::string& directory,
                                                  const std::string& node, bool same_memory);
  ~Presence();  // calls that wait are dropped
  Presence(const Presence&) = delete;
  Presence& operator=(const Presence&) = delete;

  const std::string& path() const { return path_; }
  // Runs `done` once no client of an earlier run is there any more: at once, or on a thread of its
  // own. `done` must not wait.
  void WhenEarlierGone(std::function<void()> done);
  // Runs whose clients are not all gone.
  size_t earlier() const;
  // Deletes this run's file, and those of earlier ones.
  void Remove();

 private:
  Presence() = default;
  void Watch();
  // Those that can be locked are over: their files are deleted.
  void TryAll() MMC_REQUIRES(mutex_);

  std::string path_;
  mutable Mutex mutex_;
  CondVar changed_;
  bool stopping_ MMC_GUARDED_BY(mutex_) = false;
  struct Earlier {
    std::string path;
    int fd;
  };
  std::vector<Earlier> earlier_ MMC_GUARDED_BY(mutex_);
  std::vector<std::function<void()>> waiting_ MMC_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace mmc::local
