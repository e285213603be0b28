// The names of the nodes and the term, in a file: with it a start knows for whom to wait, and may stop waiting early.
//
//   mmc-members 1
//   term 1763627886123
//   node host-a%2Fnode0          (bytes other than letters, digits and -_.: as %XX)
//   end 1
//
// Written whole beside it, flushed, then renamed over it.
//
// Thread safety: none; the runner's thread. Ownership: refers to the state, which outlives it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "meta_service/background/job.h"

namespace mmc::meta {

struct MembersFile {
  uint64_t term = 0;
  std::vector<std::string> names;

  // Nothing: there is no such file. Errors: kIo, kMalformed (naming the file and what to do).
  static Result<std::optional<MembersFile>> Load(const std::string& path);
  Status Store(const std::string& path) const;
};

// Writes the file when the members have changed.
class MembersWriter final : public Job {
 public:
  MembersWriter(MetaState& state, std::string path, uint64_t term)
      : state_(state), path_(std::move(path)), term_(term) {}
  const char* name() const override { return "members file"; }
  Duration period() const override { return std::chrono::milliseconds(100); }
  void Tick(TimePoint now) override;

 private:
  MetaState& state_;
  const std::string path_;
  const uint64_t term_;
  std::optional<std::vector<std::string>> written_;
  uint64_t failures_ = 0;
};

}  // namespace mmc::meta
