#include "fabric/shm/socket.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <thread>
#include <vector>

#include "fabric/shm/wire.h"

namespace mmc::fabric::shm {
namespace {

constexpr gid_t kNoGroup = static_cast<gid_t>(-1);

Result<sockaddr_un> MakeAddress(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(address.sun_path)) {
    return Status(Code::kInvalidArgument, "socket path " + path + " must have 1.." +
                                              std::to_string(sizeof(address.sun_path) - 1) + " bytes");
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

UniqueFd MakeSocket() { return UniqueFd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)); }

// A socket file without a process behind it.
bool IsAbandoned(const sockaddr_un& address) {
  struct stat info {};
  if (lstat(address.sun_path, &info) != 0 || !S_ISSOCK(info.st_mode)) return false;
  UniqueFd probe = MakeSocket();
  return connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 &&
         errno == ECONNREFUSED;
}

}  // namespace

Result<UniqueFd> ListenAt(const std::string& path, gid_t group) {
  MMC_ASSIGN_OR_RETURN(const sockaddr_un address, MakeAddress(path));
  UniqueFd listener = MakeSocket();
  if (!listener.valid()) return ErrnoStatus("unix socket", errno);
  const auto* const name = reinterpret_cast<const sockaddr*>(&address);
  // Between bind and chmod nobody can connect yet: the socket does not listen.
  if (bind(listener.get(), name, sizeof(address)) != 0) {
    if (errno != EADDRINUSE) return ErrnoStatus("bind " + path, errno);
    if (!IsAbandoned(address)) return ErrnoStatus("bind " + path + "; another listener is there", EADDRINUSE);
    unlink(path.c_str());
    if (bind(listener.get(), name, sizeof(address)) != 0) return ErrnoStatus("bind " + path, errno);
  }
  const bool grouped = group != kNoGroup;
  if ((grouped && chown(path.c_str(), static_cast<uid_t>(-1), group) != 0) ||
      chmod(path.c_str(), grouped ? 0660 : 0600) != 0 || listen(listener.get(), 128) != 0) {
    const int err = errno;
    unlink(path.c_str());
    return ErrnoStatus("listen at " + path, err);
  }
  return listener;
}

Result<UniqueFd> ConnectTo(const std::string& path, TimePoint deadline) {
  MMC_ASSIGN_OR_RETURN(const sockaddr_un address, MakeAddress(path));
  UniqueFd socket = MakeSocket();
  if (!socket.valid()) return ErrnoStatus("unix socket", errno);
  while (connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    const int err = errno;
    if (err == EINTR) continue;
    if (err == EACCES || err == EPERM) {
      return Status(Code::kPermission, "no right to connect to " + path + "; run as its user or in its group");
    }
    if (err != EAGAIN) return Status(Code::kPeerUnreachable, path + ": " + std::strerror(err));
    // The listener's backlog is full. The kernel reports no event for that, so look again shortly.
    if (std::chrono::steady_clock::now() >= deadline) {
      return Status(Code::kDeadline, path + " has too many connections waiting");
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return socket;
}

PeerKind KindOfPeer(int socket, gid_t group) {
  ucred peer{};
  socklen_t size = sizeof(peer);
  if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return PeerKind::kStranger;
  if (peer.uid == geteuid() || peer.uid == 0) return PeerKind::kOwner;
  if (group == kNoGroup) return PeerKind::kStranger;
  if (peer.gid == group) return PeerKind::kMember;
  std::vector<gid_t> groups(65536);  // NGROUPS_MAX
  size = static_cast<socklen_t>(groups.size() * sizeof(gid_t));
  if (getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &size) != 0) return PeerKind::kStranger;
  groups.resize(size / sizeof(gid_t));
  const bool member = std::find(groups.begin(), groups.end(), group) != groups.end();
  return member ? PeerKind::kMember : PeerKind::kStranger;
}

}  // namespace mmc::fabric::shm
