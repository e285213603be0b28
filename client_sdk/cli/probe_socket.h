// A TCP connection that doctor makes to look at a port: every wait has a deadline.
//
// Thread safety: none. Ownership: owns the socket.
#pragma once

#include <netdb.h>

#include <memory>
#include <string>
#include <utility>

#include "common/base/clock.h"
#include "common/base/status.h"
#include "common/rpc/url.h"

namespace mmc::cli {

struct FreeAddresses {
  void operator()(addrinfo* list) const { freeaddrinfo(list); }
};
using Addresses = std::unique_ptr<addrinfo, FreeAddresses>;
// Errors: kUnavailable.
Result<Addresses> Resolve(const rpc::Url& url);

class ProbeSocket {
 public:
  // Errors: those of Resolve; kIo and kUnavailable (refused, say), kDeadline.
  static Result<ProbeSocket> Connect(const rpc::Url& url, TimePoint deadline);
  ~ProbeSocket();
  ProbeSocket(ProbeSocket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  ProbeSocket(const ProbeSocket&) = delete;
  ProbeSocket& operator=(const ProbeSocket&) = delete;

  int fd() const { return fd_; }
  // Until the socket is ready for `events` (of poll); false when the deadline passed.
  bool WaitFor(short events, TimePoint deadline) const;

 private:
  explicit ProbeSocket(int fd) : fd_(fd) {}
  int fd_;
};

}  // namespace mmc::cli
