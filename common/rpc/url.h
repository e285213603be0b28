// "tcp://host:port" in its parts. IPv6 in brackets; names are resolved by whoever connects.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "common/base/status.h"

namespace mmc::rpc {

struct Url {
  std::string scheme;  // "tcp", "http", "local"; empty from ParseHostPort
  std::string host;    // without brackets; all that follows "local://", which has no port
  uint16_t port = 0;

  // "tcp://[::1]:5000".
  std::string ToString() const;
};

// Errors: kInvalidArgument naming the text and the form that is expected.
Result<Url> ParseUrl(std::string_view text);
// "host:port" or "[v6]:port" without scheme.
Result<Url> ParseHostPort(std::string_view text);
// Nobody outside of this machine reaches `host`: "localhost", 127.0.0.0/8, ::1. Other names are not looked up: false.
bool IsLoopback(std::string_view host);

}  // namespace mmc::rpc
