// Unix sockets of the shm transport: binding, connecting, and who is on the other side.
//
// Thread safety: pure functions.
#pragma once

#include <sys/types.h>

#include <string>

#include "common/base/clock.h"
#include "common/base/status.h"
#include "fabric/unique_fd.h"

namespace mmc::fabric::shm {

// A listening socket at `path`, for this user and, when it is not -1, the members of `group`. A file left behind by a
// listener that is gone is replaced. Errors: kInvalidArgument (path too long), kIo (in use, no such directory).
Result<UniqueFd> ListenAt(const std::string& path, gid_t group);
// Errors: kPeerUnreachable, kPermission.
Result<UniqueFd> ConnectTo(const std::string& path, TimePoint deadline);
// The peer runs as this user or as root, or in `group` (primary or supplementary), or neither.
enum class PeerKind { kStranger, kMember, kOwner };
PeerKind KindOfPeer(int socket, gid_t group);

}  // namespace mmc::fabric::shm
