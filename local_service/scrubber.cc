#include "local_service/scrubber.h"

#include <algorithm>
#include <map>
#include <utility>

#include "common/base/thread.h"
#include "common/obs/log.h"
#include "local_service/held_bytes.h"
#include "proto/key_list.h"

namespace mmc::local {
namespace {

constexpr size_t kMaxJobs = 32;
constexpr size_t kMaxBad = 4096;         // told in one result; the others are found by the next run
constexpr uint64_t kToldEvery = 64u << 20;  // bytes between two reports of how far it is

}  // namespace

Scrubber::Scrubber(const fabric::RegionTable& regions, std::function<void()> ready)
    : regions_(regions), ready_(std::move(ready)) {}

Scrubber::~Scrubber() { Stop(); }

void Scrubber::Submit(const proto::ScrubCommand& command, const std::string& catalog) {
  MutexLock lock(mutex_);
  if (stopping_ || jobs_.size() >= kMaxJobs || jobs_.count(command.id()) != 0) return;
  Job& job = jobs_[command.id()];
  job.command = command;
  job.catalog = catalog;
  job.result.set_id(command.id());
  if (!thread_.joinable()) thread_ = StartThread([this] { Run(); });
  changed_.NotifyAll();
}

void Scrubber::Report(proto::CatalogSyncRequest* request) const {
  MutexLock lock(mutex_);
  for (const auto& [id, job] : jobs_) {
    if (job.begun) *request->add_scrub_results() = job.result;
  }
}

void Scrubber::Acknowledge(const proto::CatalogSyncRequest& request) {
  MutexLock lock(mutex_);
  for (const proto::ScrubResult& result : request.scrub_results()) {
    if (result.done()) jobs_.erase(result.id());
  }
}

bool Scrubber::busy() const {
  MutexLock lock(mutex_);
  return !jobs_.empty();
}

void Scrubber::Abandon() {
  MutexLock lock(mutex_);
  jobs_.clear();
  changed_.NotifyAll();
}

void Scrubber::Stop() {
  std::thread thread;
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    changed_.NotifyAll();
    thread.swap(thread_);
  }
  if (thread.joinable()) thread.join();
}

void Scrubber::Run() {
  for (;;) {
    uint64_t id = 0;
    proto::ScrubCommand command;
    std::string catalog;
    {
      MutexLock lock(mutex_);
      const auto next = [this]() MMC_NO_THREAD_SAFETY_ANALYSIS {
        return std::find_if(jobs_.begin(), jobs_.end(),
                            [](const auto& entry) { return !entry.second.begun; });
      };
      while (!stopping_ && next() == jobs_.end()) changed_.Wait(mutex_);
      if (stopping_) return;
      const auto job = next();
      id = job->first;
      job->second.begun = true;
      command = job->second.command;
      catalog = job->second.catalog;
    }
    if (Work(id, command, catalog)) ready_();
  }
}

bool Scrubber::Good(const Record& record) const {
  const Result<HeldBytes> bytes = Locate(regions_, record.segment, record.extents, record.size);
  return bytes.ok() && ChecksumOf(*bytes) == record.checksum;
}

std::vector<Scrubber::Record> Scrubber::Confirm(std::vector<Record> suspects,
                                                const std::string& catalog) const {
  const auto keep_live = [&] {
    const Result<CatalogImage> image = CatalogReader::Open(catalog);
    if (!image.ok()) return suspects.clear();
    std::map<std::pair<uint32_t, uint64_t>, const Record*> live;
    for (const Record& record : image->records) live[{record.segment, record.generation}] = &record;
    std::erase_if(suspects, [&](const Record& record) {
      const auto it = live.find({record.segment, record.generation});
      return it == live.end() || it->second->extents != record.extents;
    });
  };
  if (suspects.empty()) return suspects;
  keep_live();
  std::erase_if(suspects, [this](const Record& record) { return Good(record); });
  if (!suspects.empty()) keep_live();
  if (suspects.size() > kMaxBad) suspects.resize(kMaxBad);
  return suspects;
}

// Waits until `bytes` may have been read. False: not wanted any more.
bool Scrubber::Pace(uint64_t id, uint64_t bytes, uint64_t bytes_per_second, TimePoint began) {
  MutexLock lock(mutex_);
  if (bytes_per_second == 0) return Wanted(id);
  const std::chrono::duration<double> time(static_cast<double>(bytes) /
                                           static_cast<double>(bytes_per_second));
  const TimePoint until = began + std::chrono::duration_cast<Duration>(time);
  while (Wanted(id) && Clock::Real().Now() < until) changed_.WaitUntil(mutex_, until);
  return Wanted(id);
}

bool Scrubber::Work(uint64_t id, const proto::ScrubCommand& command, const std::string& catalog) {
  const Result<CatalogImage> image = CatalogReader::Open(catalog);
  if (!image.ok()) {
    MMC_LOG(ERROR) << "check " << id << ": " << image.status().ToString();
  }
  const TimePoint began = Clock::Real().Now();
  uint64_t objects = 0, bytes = 0, skipped = 0, told = 0;
  std::vector<Record> suspects;
  const auto tell = [&]() MMC_REQUIRES(mutex_) {
    proto::ScrubResult& result = jobs_[id].result;
    result.set_checked_objects(objects);
    result.set_checked_bytes(bytes);
    result.set_skipped_objects(skipped);
    return &result;
  };
  static const std::vector<Record> kNone;
  for (const Record& record : image.ok() ? image->records : kNone) {
    if (record.checksum == 0) {
      ++skipped;
      continue;
    }
    if (!Pace(id, bytes, command.bytes_per_second(), began)) return false;
    if (!Good(record)) suspects.push_back(record);
    ++objects;
    bytes += record.size;
    if (bytes - told < kToldEvery) continue;
    told = bytes;
    MutexLock lock(mutex_);
    if (Wanted(id)) tell();
  }
  const std::vector<Record> bad = Confirm(std::move(suspects), catalog);
  MutexLock lock(mutex_);
  if (!Wanted(id)) return false;
  proto::ScrubResult* result = tell();
  for (const Record& record : bad) {
    MMC_LOG(ERROR) << "check " << id << ": generation " << record.generation << " in segment "
                   << record.segment << " does not match its checksum";
    result->add_bad_segment(record.segment);
    result->add_bad_generation(record.generation);
    proto::AppendKey(record.key, result->mutable_bad_keys());
  }
  result->set_done(true);
  MMC_LOG(INFO) << "check " << id << ": " << objects << " objects, " << bad.size() << " bad, "
                << skipped << " without a checksum";
  return true;
}

}  // namespace mmc::local
