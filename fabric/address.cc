#include "fabric/address.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <array>
#include <charconv>
#include <cstring>
#include <random>

namespace mmc::fabric {
namespace {

constexpr uint8_t kReaderLabel = 3;  // beside those of ProofOf

uint64_t Keyed(uint64_t key, uint8_t label, uint64_t data) {
  std::array<unsigned char, 1 + sizeof(data)> text{label};
  std::memcpy(text.data() + 1, &data, sizeof(data));
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned size = 0;
  HMAC(EVP_sha256(), &key, sizeof(key), text.data(), text.size(), digest.data(), &size);
  uint64_t out = 0;
  std::memcpy(&out, digest.data(), sizeof(out));
  return out;
}

}  // namespace

HostAddress ParseHostAddress(std::string_view address) {
  const size_t mark = address.rfind('#');
  if (mark == std::string_view::npos) return {std::string(address), 0};
  uint64_t nonce = 0;
  const bool reader = address.substr(mark + 1).starts_with('r');
  const char* const end = address.data() + address.size();
  const auto [at, error] = std::from_chars(address.data() + mark + (reader ? 2 : 1), end, nonce, 16);
  if (error != std::errc() || at != end) return {std::string(address), 0};
  return {std::string(address.substr(0, mark)), nonce, reader};
}

std::string FormatHostAddress(const HostAddress& address) {
  char digits[17];
  const auto [end, error] = std::to_chars(digits, digits + sizeof(digits), address.nonce, 16);
  static_cast<void>(error);  // 16 digits always fit
  return address.place + (address.reader ? "#r" : "#") + std::string(digits, end);
}

uint64_t NewNonce() {
  std::random_device random;
  const uint64_t high = random();
  return (high << 32 | random()) | 1;
}

uint64_t ReaderNonce(uint64_t nonce) { return Keyed(nonce, kReaderLabel, 0) | 1; }

std::string ReaderAddress(std::string_view address) {
  HostAddress target = ParseHostAddress(address);
  if (target.nonce == 0 || target.reader) return std::string(address);
  target.nonce = ReaderNonce(target.nonce);
  target.reader = true;
  return FormatHostAddress(target);
}

uint64_t Prove(uint64_t nonce, ProofOf who, uint64_t challenge) {
  return Keyed(nonce, static_cast<uint8_t>(who), challenge);
}

}  // namespace mmc::fabric
