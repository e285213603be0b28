#include "client_sdk/cli/probe_socket.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace mmc::cli {
namespace {

int MillisLeft(TimePoint deadline) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::Real().Now());
  return static_cast<int>(std::clamp<int64_t>(left.count(), 0, INT32_MAX));
}

}  // namespace

Result<Addresses> Resolve(const rpc::Url& url) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* list = nullptr;
  const int error = getaddrinfo(url.host.c_str(), std::to_string(url.port).c_str(), &hints, &list);
  if (error != 0)
    return Status(Code::kUnavailable, "cannot resolve '" + url.host + "': " + gai_strerror(error));
  return Addresses(list);
}

ProbeSocket::~ProbeSocket() {
  if (fd_ >= 0) close(fd_);
}

Result<ProbeSocket> ProbeSocket::Connect(const rpc::Url& url, TimePoint deadline) {
  MMC_ASSIGN_OR_RETURN(const Addresses addresses, Resolve(url));
  ProbeSocket out(socket(addresses->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (out.fd_ < 0) return ErrnoStatus("socket", errno);
  if (connect(out.fd_, addresses->ai_addr, addresses->ai_addrlen) != 0 && errno != EINPROGRESS) {
    return ErrnoStatus("connect to " + url.ToString(), errno);
  }
  if (!out.WaitFor(POLLOUT, deadline)) return Status(Code::kDeadline, url.ToString() + " did not answer");
  int error = 0;
  socklen_t size = sizeof(error);
  getsockopt(out.fd_, SOL_SOCKET, SO_ERROR, &error, &size);
  if (error != 0) return ErrnoStatus("connect to " + url.ToString(), error);
  return out;
}

bool ProbeSocket::WaitFor(short events, TimePoint deadline) const {
  while (true) {
    pollfd wait{fd_, events, 0};
    const int ready = poll(&wait, 1, MillisLeft(deadline));
    if (ready > 0) return true;
    if (ready == 0 || errno != EINTR) return false;
  }
}

}  // namespace mmc::cli
