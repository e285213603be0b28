#include "fabric/address.h"

#include <charconv>
#include <random>

namespace mmc::fabric {

HostAddress ParseHostAddress(std::string_view address) {
  const size_t mark = address.rfind('#');
  if (mark == std::string_view::npos) return {std::string(address), 0};
  uint64_t nonce = 0;
  const char* const end = address.data() + address.size();
  const auto [at, error] = std::from_chars(address.data() + mark + 1, end, nonce, 16);
  if (error != std::errc() || at != end) return {std::string(address), 0};
  return {std::string(address.substr(0, mark)), nonce};
}

std::string FormatHostAddress(const HostAddress& address) {
  char digits[17];
  const auto [end, error] = std::to_chars(digits, digits + sizeof(digits), address.nonce, 16);
  static_cast<void>(error);  // 16 digits always fit
  return address.place + "#" + std::string(digits, end);
}

uint64_t NewNonce() {
  std::random_device random;
  const uint64_t high = random();
  return (high << 32 | random()) | 1;
}

}  // namespace mmc::fabric
