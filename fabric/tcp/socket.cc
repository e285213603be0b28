#include "fabric/tcp/socket.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>

namespace mmc::fabric::tcp {
namespace {

struct FreeAddresses {
  void operator()(addrinfo* list) const { freeaddrinfo(list); }
};
using Addresses = std::unique_ptr<addrinfo, FreeAddresses>;

Result<Addresses> Lookup(const std::string& address, int flags) {
  MMC_ASSIGN_OR_RETURN(const HostPort target, ParseHostPort(address));
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags | AI_NUMERICSERV;
  addrinfo* list = nullptr;
  const char* const host = target.host.empty() ? nullptr : target.host.c_str();
  if (const int error = getaddrinfo(host, target.port.c_str(), &hints, &list); error != 0) {
    return Status(Code::kPeerUnreachable, address + ": " + gai_strerror(error));
  }
  return Addresses(list);
}

// Waits until a connect in progress has ended. 0 or its errno.
int FinishConnect(int socket, TimePoint deadline) {
  for (;;) {
    pollfd wait{socket, POLLOUT, 0};
    const int ready = poll(&wait, 1, PollTimeout(deadline));
    if (ready < 0 && errno == EINTR) continue;
    if (ready == 0) return ETIMEDOUT;
    int error = 0;
    socklen_t size = sizeof(error);
    getsockopt(socket, SOL_SOCKET, SO_ERROR, &error, &size);
    return error;
  }
}

// "" when there is nothing to say.
std::string Format(const sockaddr_storage& storage, socklen_t size) {
  char host[NI_MAXHOST];
  char port[NI_MAXSERV];
  if (getnameinfo(reinterpret_cast<const sockaddr*>(&storage), size, host, sizeof(host), port, sizeof(port),
                  NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
    return "";
  }
  const bool v6 = storage.ss_family == AF_INET6;
  return (v6 ? "[" + std::string(host) + "]" : std::string(host)) + ":" + port;
}

}  // namespace

int PollTimeout(TimePoint deadline) {
  const auto left = deadline - std::chrono::steady_clock::now();
  if (left <= Duration::zero()) return 0;
  const int64_t ms = std::chrono::ceil<std::chrono::milliseconds>(left).count();
  return static_cast<int>(std::min<int64_t>(ms, 86'400'000));
}

Result<HostPort> ParseHostPort(const std::string& address) {
  const size_t colon = address.rfind(':');
  HostPort parsed;
  if (colon != std::string::npos) {
    parsed.host = address.substr(0, colon);
    parsed.port = address.substr(colon + 1);
  }
  const bool bracketed = parsed.host.size() >= 2 && parsed.host.front() == '[' && parsed.host.back() == ']';
  if (bracketed) parsed.host = parsed.host.substr(1, parsed.host.size() - 2);
  const bool digits = !parsed.port.empty() && parsed.port.size() <= 5 &&
                      parsed.port.find_first_not_of("0123456789") == std::string::npos;
  if (!digits || std::stoi(parsed.port) > 65535 || (!bracketed && parsed.host.find(':') != std::string::npos)) {
    return Status(Code::kInvalidArgument, "address " + address + " is not host:port or [ipv6]:port");
  }
  return parsed;
}

Result<UniqueFd> ListenAt(const std::string& address) {
  MMC_ASSIGN_OR_RETURN(const Addresses list, Lookup(address, AI_PASSIVE));
  Status status(Code::kIo, address + " names no address of this machine");
  for (const addrinfo* one = list.get(); one != nullptr; one = one->ai_next) {
    UniqueFd socket(::socket(one->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    const int on = 1;
    if (!socket.valid()) {
      status = ErrnoStatus("socket for " + address, errno);
      continue;
    }
    setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(socket.get(), one->ai_addr, one->ai_addrlen) == 0 && listen(socket.get(), 1024) == 0) return socket;
    status = ErrnoStatus("listen at " + address, errno);
  }
  return status;
}

std::string AddressOf(int socket) {
  sockaddr_storage storage{};
  socklen_t size = sizeof(storage);
  return getsockname(socket, reinterpret_cast<sockaddr*>(&storage), &size) == 0 ? Format(storage, size) : "";
}

std::string PeerOf(int socket) {
  sockaddr_storage storage{};
  socklen_t size = sizeof(storage);
  return getpeername(socket, reinterpret_cast<sockaddr*>(&storage), &size) == 0 ? Format(storage, size) : "?";
}

Result<UniqueFd> ConnectTo(const std::string& address, const std::string& congestion, TimePoint deadline) {
  MMC_ASSIGN_OR_RETURN(const Addresses list, Lookup(address, 0));
  Status status(Code::kPeerUnreachable, address + " has no address");
  for (const addrinfo* one = list.get(); one != nullptr; one = one->ai_next) {
    UniqueFd socket(::socket(one->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!socket.valid()) return ErrnoStatus("socket for " + address, errno);
    // Before connecting: the congestion control of a connection is chosen by then.
    MMC_RETURN_IF_ERROR(Tune(socket.get(), congestion));
    int error = connect(socket.get(), one->ai_addr, one->ai_addrlen) == 0 ? 0 : errno;
    if (error == EINPROGRESS) error = FinishConnect(socket.get(), deadline);
    if (error == 0) return socket;
    const bool late = std::chrono::steady_clock::now() >= deadline;
    status = Status(late ? Code::kDeadline : Code::kPeerUnreachable, address + ": " + std::strerror(error));
    if (late) break;
  }
  return status;
}

Status Tune(int socket, const std::string& congestion) {
  const int on = 1;
  setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  // A host that vanished is noticed within half a minute. Buffer sizes are left to the kernel, which tunes them by
  // the delay and rate it sees; a fixed size would switch that off.
  const int idle_s = 10;
  const int interval_s = 5;
  const int probes = 4;
  const int unacknowledged_ms = 30'000;
  setsockopt(socket, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
  setsockopt(socket, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s));
  setsockopt(socket, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof(interval_s));
  setsockopt(socket, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
  setsockopt(socket, IPPROTO_TCP, TCP_USER_TIMEOUT, &unacknowledged_ms, sizeof(unacknowledged_ms));
  if (congestion.empty()) return Status::Ok();
  if (setsockopt(socket, IPPROTO_TCP, TCP_CONGESTION, congestion.c_str(),
                 static_cast<socklen_t>(congestion.size())) != 0) {
    return ErrnoStatus("congestion control " + congestion + "; sysctl net.ipv4.tcp_available_congestion_control lists"
                       " what there is", errno);
  }
  return Status::Ok();
}

}  // namespace mmc::fabric::tcp
