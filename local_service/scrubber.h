// Scrubber: checks this node's own records against its memory when the meta service asks for it, at
// a given pace.
//
// It reads the catalog's file, so nothing waits for it. A record whose bytes do not match is looked
// at again: only if the catalog still has it with the same extents, before and after the second
// look, the bytes were its own.
//
// Thread safety: all methods from any thread. Ownership: owns its thread; the region table must
// outlive it.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "common/base/clock.h"
#include "common/base/mutex.h"
#include "common/base/status.h"
#include "fabric/memory.h"
#include "local_service/catalog_reader.h"
#include "proto/meta.pb.h"

namespace mmc::local {

class Scrubber {
 public:
  // `ready` runs when there is something new to report, on the scrubber's thread.
  Scrubber(const fabric::RegionTable& regions, std::function<void()> ready);
  ~Scrubber();  // Stop()
  Scrubber(const Scrubber&) = delete;
  Scrubber& operator=(const Scrubber&) = delete;

  // One that comes again while it waits or runs, or is not acknowledged, is not run again. `catalog`: path of the file.
  void Submit(const proto::ScrubCommand& command, const std::string& catalog);
  void Report(proto::CatalogSyncRequest* request) const;
  // The meta service has the results that this request told.
  void Acknowledge(const proto::CatalogSyncRequest& request);
  bool busy() const;  // something waits, runs, or is to be reported
  // Forgets all commands and results.
  void Abandon();
  void Stop();  // idempotent

 private:
  struct Job {
    proto::ScrubCommand command;
    std::string catalog;
    proto::ScrubResult result;
    bool begun = false;
  };
  using Record = CatalogImage::Record;

  void Run();
  // False: the job is not wanted any more.
  bool Work(uint64_t id, const proto::ScrubCommand& command, const std::string& catalog);
  bool Good(const Record& record) const;
  // Those that are bad beyond doubt.
  std::vector<Record> Confirm(std::vector<Record> suspects, const std::string& catalog) const;
  bool Pace(uint64_t id, uint64_t bytes, uint64_t bytes_per_second, TimePoint began);
  bool Wanted(uint64_t id) const MMC_REQUIRES(mutex_) { return !stopping_ && jobs_.count(id) != 0; }

  const fabric::RegionTable& regions_;
  const std::function<void()> ready_;
  mutable Mutex mutex_;
  CondVar changed_;
  bool stopping_ MMC_GUARDED_BY(mutex_) = false;
  std::map<uint64_t, Job> jobs_ MMC_GUARDED_BY(mutex_);  // by id; until acknowledged
  std::thread thread_ MMC_GUARDED_BY(mutex_);            // started with the first command
};

}  // namespace mmc::local
