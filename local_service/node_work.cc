#include "local_service/node_work.h"

#include <utility>

namespace mmc::local {

void NodeWork::Tell(proto::CatalogSyncRequest* request) const {
  copier_.Report(request);
  scrubber_.Report(request);
}

void NodeWork::Take(const proto::CatalogSyncRequest& told, const proto::CatalogSyncReply& reply,
                    const std::string& catalog) {
  copier_.Acknowledge(told);
  scrubber_.Acknowledge(told);
  for (const proto::CopyCommand& command : reply.copies()) copier_.Submit(command);
  for (const proto::ScrubCommand& command : reply.scrubs()) scrubber_.Submit(command, catalog);
}

void NodeWork::Abandon(std::function<void()> done) {
  scrubber_.Abandon();
  copier_.Abandon(std::move(done));
}

void NodeWork::Stop() {
  scrubber_.Stop();
  copier_.Stop();
}

}  // namespace mmc::local
