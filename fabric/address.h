// Addresses of same-host listeners: "place#nonce". The nonce tells a listener from another one at the same place.
//
// Thread safety: pure functions but NewNonce, which may be called from any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace mmc::fabric {

struct HostAddress {
  std::string place;
  uint64_t nonce = 0;  // 0: any listener at the place will do
};

HostAddress ParseHostAddress(std::string_view address);
std::string FormatHostAddress(const HostAddress& address);
uint64_t NewNonce();  // random, never 0

}  // namespace mmc::fabric
