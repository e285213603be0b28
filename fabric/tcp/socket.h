// Addresses and sockets of the tcp transport.
//
// Thread safety: pure functions.
#pragma once

#include <cstdint>
#include <string>

#include "common/base/clock.h"
#include "common/base/status.h"
#include "fabric/unique_fd.h"

namespace mmc::fabric::tcp {

struct HostPort {
  std::string host;
  std::string port;
};

// "host:port", "1.2.3.4:0", "[::1]:5000". Errors: kInvalidArgument.
Result<HostPort> ParseHostPort(const std::string& address);
// Non-blocking. Errors: kInvalidArgument, kIo (with the address).
Result<UniqueFd> ListenAt(const std::string& address);
// The address a listening socket got, as ParseHostPort reads it.
std::string AddressOf(int socket);
// That of the other end; "?" when it cannot be told.
std::string PeerOf(int socket);
// Connected, non-blocking and tuned. Errors: kInvalidArgument, kPeerUnreachable, kDeadline.
Result<UniqueFd> ConnectTo(const std::string& address, const std::string& congestion, TimePoint deadline);
// No delay, keep-alive, congestion control ("" keeps the system's). Errors: kIo (unknown congestion control).
Status Tune(int socket, const std::string& congestion);

// Milliseconds from now, at least 0 and at most a day, for poll().
int PollTimeout(TimePoint deadline);

}  // namespace mmc::fabric::tcp
