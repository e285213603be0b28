// The transport between any two hosts: persistent connections, requests as in fabric/tcp/frame.h, bytes sent and
// received straight from and into user and segment memory.
//
// Thread safety: all functions from any thread.
#pragma once

#include <memory>
#include <string>

#include "fabric/transport.h"

namespace mmc::fabric::tcp {

inline constexpr Capabilities kCapabilities{
    .name = "tcp", .same_host_only = false, .device_memory = false, .one_sided = false, .rank = 8};

Result<std::unique_ptr<Listener>> Listen(const ListenOptions& options, RegionTable& regions);
Result<std::shared_ptr<Link>> Connect(const std::string& address, const LinkOptions& options, TimePoint deadline);
Transport& Instance();

}  // namespace mmc::fabric::tcp
