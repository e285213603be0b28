// Calls of a server's handlers from inside its process: no sockets, no bytes; sync handlers run on the caller's thread.
//
// Thread safety: all methods from any thread; a call of an async method must not come from an io thread of the same
// server. Ownership: refers to the server, which outlives it.
#pragma once

#include <memory>
#include <vector>

#include "common/rpc/channel.h"
#include "common/rpc/worker.h"

namespace mmc::rpc {

// A channel over the workers of one server; `workers` are not empty.
std::shared_ptr<Channel> MakeInProcessChannel(ServerCore& core, const std::vector<Worker*>& workers);

}  // namespace mmc::rpc
