// Checks of what nodes hold against the checksums of their catalogs: who has been asked, how far they are. The
// nodes do the work; what they find bad is dropped.
//
// Thread safety: all methods from any thread; its lock is held across no call into another part. Ownership: the
// mover outlives it. The last few runs are remembered.
#pragma once

#include <google/protobuf/repeated_ptr_field.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "common/base/clock.h"
#include "common/base/mutex.h"
#include "common/base/status.h"
#include "meta_service/mover/mover.h"
#include "meta_service/state/types.h"
#include "proto/meta.pb.h"

namespace mmc::meta {

class Scrubs {
 public:
  Scrubs(Mover& mover, uint64_t first_id) : mover_(mover), next_id_(first_id) {}

  // `node` empty: all of them. The nodes that have been asked go to `asked`, so that their polls can be woken.
  // Errors: kNotFound, kQueueFull (too many runs are not over).
  Result<uint64_t> Start(const std::string& node, uint64_t bytes_per_second, const std::vector<NodeInfo>& nodes,
                         std::vector<uint32_t>* asked);
  // What this node has to check and has not ended. True when some of it was not told before.
  bool Collect(uint32_t node, uint64_t incarnation, google::protobuf::RepeatedPtrField<proto::ScrubCommand>* out);
  // Errors: kMalformed.
  Status Take(uint32_t node, uint64_t incarnation, const proto::ScrubResult& result, TimePoint now);
  // A node that is gone counts as done. Errors: kNotFound.
  Status Show(uint64_t id, const std::vector<NodeInfo>& nodes, proto::ScrubStatusReply* out);

 private:
  struct Part {
    uint64_t incarnation = 0;
    bool sent = false;
    bool done = false;
    uint64_t objects = 0, bytes = 0, skipped = 0, bad = 0;
  };
  struct Run {
    uint64_t bytes_per_second = 0;
    std::map<uint32_t, Part> parts;  // by node
  };
  static void EndGone(const std::vector<NodeInfo>& nodes, Run* run);
  static bool Over(const Run& run);

  Mover& mover_;
  Mutex mutex_;
  uint64_t next_id_ MMC_GUARDED_BY(mutex_);  // greater than those of earlier starts
  std::map<uint64_t, Run> runs_ MMC_GUARDED_BY(mutex_);
};

}  // namespace mmc::meta
