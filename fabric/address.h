// Addresses of same-host listeners: "place#nonce". The nonce tells a listener from another one at the same place, and
// is a secret between those who were told the address: each side proves to the other that it knows it. "place#rnonce"
// is the address for readers: its nonce is made from the other one, which it does not tell.
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
  bool reader = false;  // with a nonce: that of readers
};

HostAddress ParseHostAddress(std::string_view address);
std::string FormatHostAddress(const HostAddress& address);
uint64_t NewNonce();  // random, never 0

// The address to tell whoever may only read. One without a nonce stays as it is.
std::string ReaderAddress(std::string_view address);
uint64_t ReaderNonce(uint64_t nonce);

// What shows that one knows `nonce` without telling it, in answer to a number that the other side made up.
enum class ProofOf : uint8_t { kClient = 1, kListener = 2 };
uint64_t Prove(uint64_t nonce, ProofOf who, uint64_t challenge);

}  // namespace mmc::fabric
