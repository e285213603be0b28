// The same-host transport: a listener passes its segments' files over a unix socket, a link copies through the mapping
// on the caller's thread. No message is exchanged per transfer.
//
// The kernel guards what matters: peer credentials decide who connects, and a read-only client gets a file that cannot
// be mapped for writing. Client and listener also prove to each other that they know the nonce of the address. Range
// and epoch are checked by the link against what the listener published; removal shows at once through the control
// page.
//
// Thread safety: all functions from any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "fabric/transport.h"

namespace mmc::fabric::shm {

inline constexpr Capabilities kCapabilities{
    .name = "shm", .same_host_only = true, .device_memory = false, .one_sided = true, .rank = 1};

Result<std::unique_ptr<Listener>> Listen(const ListenOptions& options, RegionTable& regions);
Result<std::shared_ptr<Link>> Connect(const std::string& address, const LinkOptions& options, TimePoint deadline);
Transport& Instance();

}  // namespace mmc::fabric::shm
