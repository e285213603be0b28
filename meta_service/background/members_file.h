// The nodes and the term, in a file: with it a start knows for whom to wait and may stop waiting early, which nodes are
// being drained, and what must not come back.
//
//   mmc-members 2
//   term 1763627886123
//   node host-a%2Fnode0 17       name (bytes other than letters, digits and -_.: as %XX) and incarnation; is there
//   drain host-b 18              the same, being drained
//   missing host-c 19            had not come back when the recovery was over; or has, and must still forget something
//   gone host-d 20               this incarnation is over: nothing that it holds is taken any more
//   end 4
//
// Version 1 (names of nodes only) is read too. Written whole beside it, flushed, then renamed over it.
//
// Thread safety: MembersFile is a value; MembersWriter: all methods from any thread. Ownership: refers to the state,
// which outlives it.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/base/mutex.h"
#include "meta_service/background/job.h"

namespace mmc::meta {

struct MembersFile {
  uint64_t term = 0;
  std::vector<MemberRow> rows;

  // Nothing: there is no such file. Errors: kIo, kMalformed (naming the file and what to do).
  static Result<std::optional<MembersFile>> Load(const std::string& path);
  Status Store(const std::string& path) const;
};

class MembersWriter {
 public:
  MembersWriter(MetaState& state, std::string path, uint64_t term)
      : state_(state), path_(std::move(path)), term_(term) {}
  // The file says what is so when it returns; it is written only when that has changed. When that fails the file is
  // deleted, so that the next start waits for nodes that it does not list.
  void Save();
  // The same, and costs nothing where nothing can have changed: for every answer that relies on it.
  void SaveIfChanged();

 private:
  // What the state was at; changes with everything that is in the file.
  std::pair<uint64_t, bool> Mark() const { return {state_.directory_version(), state_.recovering()}; }

  MetaState& state_;
  const std::string path_;
  const uint64_t term_;
  Mutex mutex_;
  std::optional<std::vector<MemberRow>> written_ MMC_GUARDED_BY(mutex_);
  std::pair<uint64_t, bool> written_at_ MMC_GUARDED_BY(mutex_){0, false};
  uint64_t failures_ MMC_GUARDED_BY(mutex_) = 0;
};

// Looks for what nobody saves at once: nodes that left or died, a recovery that is over.
class MembersJob final : public Job {
 public:
  explicit MembersJob(MembersWriter& writer) : writer_(writer) {}
  const char* name() const override { return "members file"; }
  Duration period() const override { return std::chrono::milliseconds(100); }
  void Tick(TimePoint) override { writer_.Save(); }

 private:
  MembersWriter& writer_;
};

}  // namespace mmc::meta
