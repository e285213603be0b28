// NodeWork: what a node does for the meta service besides its catalog: copies and checks. The
// agent's polls carry the commands in and the results out.
//
// Thread safety: all methods from any thread. Ownership: owns copier and scrubber; the region table
// must outlive it.
#pragma once

#include <algorithm>
#include <chrono>
#include <functional>
#include <string>

#include "local_service/copier.h"
#include "local_service/scrubber.h"

namespace mmc::local {

class NodeWork {
 public:
  NodeWork(const fabric::RegionTable& regions, CopierOptions copies, std::function<void()> ready)
      : copier_(regions, std::move(copies), ready), scrubber_(regions, ready) {}

  // Before a poll: what is done, or how far it is.
  void Tell(proto::CatalogSyncRequest* request) const;
  // After it: what was told has arrived, and what is asked for now. `catalog`: path of its file.
  void Take(const proto::CatalogSyncRequest& told, const proto::CatalogSyncReply& reply,
            const std::string& catalog);
  // Copies are many and short, checks few and long.
  std::chrono::milliseconds LongestPoll(std::chrono::milliseconds usual) const {
    if (copier_.busy()) return std::chrono::milliseconds(0);
    return scrubber_.busy() ? std::min(usual, std::chrono::milliseconds(100)) : usual;
  }
  // See Copier::Abandon.
  void Abandon(std::function<void()> done);
  void Stop();

 private:
  Copier copier_;
  Scrubber scrubber_;
};

}  // namespace mmc::local
