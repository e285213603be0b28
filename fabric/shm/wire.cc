#include "fabric/shm/wire.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace mmc::fabric::shm {
namespace {

constexpr size_t kMaxFds = 4;  // room for more than one, so that surplus ones are closed and not lost

// Takes the first fd out of the ancillary data and closes any other.
UniqueFd TakeFd(msghdr* message) {
  UniqueFd taken;
  for (cmsghdr* header = CMSG_FIRSTHDR(message); header != nullptr; header = CMSG_NXTHDR(message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof(int));
      UniqueFd owned(fd);
      if (!taken.valid()) taken = std::move(owned);
    }
  }
  return taken;
}

}  // namespace

int PollTimeout(TimePoint deadline) {
  const auto left = deadline - std::chrono::steady_clock::now();
  if (left <= Duration::zero()) return 0;
  const int64_t ms = std::chrono::ceil<std::chrono::milliseconds>(left).count();
  return static_cast<int>(std::min<int64_t>(ms, 86'400'000));
}

Status SendPacket(int socket, const Packet& packet, int fd) {
  iovec data{const_cast<Packet*>(&packet), sizeof(packet)};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  if (fd >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(header), &fd, sizeof(int));
  }
  for (;;) {
    if (sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0) return Status::Ok();
    if (errno == EINTR) continue;
    if (errno == EAGAIN) return Status(Code::kQueueFull, "the peer does not read its socket");
    return Status(Code::kPeerUnreachable, std::string("the peer is gone: ") + std::strerror(errno));
  }
}

Result<std::optional<Received>> ReceivePacket(int socket) {
  Received received;
  iovec data{&received.packet, sizeof(received.packet)};
  alignas(cmsghdr) char control[CMSG_SPACE(kMaxFds * sizeof(int))];
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  ssize_t got = 0;
  do {
    got = recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  } while (got < 0 && errno == EINTR);
  if (got < 0 && errno == EAGAIN) return std::optional<Received>();
  if (got < 0) return Status(Code::kPeerUnreachable, std::string("the peer is gone: ") + std::strerror(errno));
  received.fd = TakeFd(&message);
  if (got == 0) return Status(Code::kPeerUnreachable, "the peer closed the connection");
  if (got != sizeof(Packet) || (message.msg_flags & MSG_TRUNC) != 0 || received.packet.magic != kMagic) {
    return Status(Code::kMalformed, "a packet of " + std::to_string(got) + " bytes is not one of ours");
  }
  return std::optional<Received>(std::move(received));
}

Result<Received> ReceivePacketUntil(int socket, TimePoint deadline) {
  for (;;) {
    MMC_ASSIGN_OR_RETURN(auto received, ReceivePacket(socket));
    if (received.has_value()) return std::move(*received);
    if (std::chrono::steady_clock::now() >= deadline) {
      return Status(Code::kDeadline, "no answer before the deadline");
    }
    pollfd wait{socket, POLLIN, 0};
    poll(&wait, 1, PollTimeout(deadline));
  }
}

}  // namespace mmc::fabric::shm
