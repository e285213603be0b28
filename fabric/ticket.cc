#include "fabric/ticket.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <openssl/sha.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <memory>
#include <string>

namespace mmc::fabric {
namespace {

static_assert(std::endian::native == std::endian::little, "tickets are sealed as they lie in memory");

constexpr uint64_t kLabel = 0x314b434954434d4d;  // tells these digests from all others that a key is used for

struct Sealed {
  uint64_t label = kLabel;
  TicketHolder holder{};
  uint64_t session = 0;
  uint32_t segment = 0;
  uint32_t epoch = 0;
  uint64_t direction = 0;
  uint64_t offset = 0;
  uint64_t length = 0;
  uint64_t end_ms = 0;
};
static_assert(sizeof(Sealed) == 72);

struct MacFree {
  void operator()(EVP_MAC_CTX* context) const { EVP_MAC_CTX_free(context); }
};
using Mac = std::unique_ptr<EVP_MAC_CTX, MacFree>;

Mac NewMac() {
  EVP_MAC* const kind = EVP_MAC_fetch(nullptr, "BLAKE2BMAC", nullptr);
  if (kind == nullptr) return nullptr;
  Mac mac(EVP_MAC_CTX_new(kind));
  EVP_MAC_free(kind);
  size_t size = sizeof(Ticket::seal);
  const OSSL_PARAM params[] = {OSSL_PARAM_construct_size_t(OSSL_MAC_PARAM_SIZE, &size), OSSL_PARAM_construct_end()};
  return mac != nullptr && EVP_MAC_CTX_set_params(mac.get(), params) == 1 ? std::move(mac) : nullptr;
}

bool Digest(const TicketKey& key, const TicketScope& scope, const Ticket& ticket, std::array<uint64_t, 2>* out) {
  thread_local const Mac mac = NewMac();  // takes memory once a thread
  const Sealed text{.holder = scope.holder,
                    .session = scope.session,
                    .segment = scope.region.segment,
                    .epoch = scope.region.epoch,
                    .direction = static_cast<uint64_t>(scope.direction),
                    .offset = ticket.offset,
                    .length = ticket.length,
                    .end_ms = ticket.end_ms};
  size_t size = 0;
  return mac != nullptr && EVP_MAC_init(mac.get(), key.data(), key.size(), nullptr) == 1 &&
         EVP_MAC_update(mac.get(), reinterpret_cast<const unsigned char*>(&text), sizeof(text)) == 1 &&
         EVP_MAC_final(mac.get(), reinterpret_cast<unsigned char*>(out->data()), &size, sizeof(*out)) == 1 &&
         size == sizeof(*out);
}

}  // namespace

TicketHolder HolderOf(const security::Identity& identity) {
  std::string text(1, static_cast<char>(identity.role));
  for (const std::string* part : {&identity.tenant, &identity.name, &identity.subject}) {
    const uint64_t length = part->size();
    text.append(reinterpret_cast<const char*>(&length), sizeof(length));
    text += *part;
  }
  std::array<unsigned char, SHA256_DIGEST_LENGTH> digest{};
  SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest.data());
  TicketHolder holder{};
  std::memcpy(holder.data(), digest.data(), sizeof(holder));
  return holder;
}

TicketKey NewTicketKey() {
  TicketKey key{};
  // Without random numbers nothing may be sealed with a key that others could know: all zeros is no key.
  if (RAND_priv_bytes(key.data(), static_cast<int>(key.size())) != 1) key.fill(0);
  return key;
}

TicketKey NodeTicketKey(const TicketKey& secret, std::string_view node) {
  TicketKey key{};
  unsigned size = 0;
  if (secret == TicketKey{} || HMAC(EVP_sha256(), secret.data(), static_cast<int>(secret.size()),
                                    reinterpret_cast<const unsigned char*>(node.data()), node.size(), key.data(),
                                    &size) == nullptr) {
    key.fill(0);
  }
  return key;
}

bool SealTicket(const TicketKey& key, const TicketScope& scope, Ticket* ticket) {
  ticket->seal = {};
  return key != TicketKey{} && Digest(key, scope, *ticket, &ticket->seal);
}

bool TicketHolds(const TicketKey& key, const TicketScope& scope, const Ticket& ticket) {
  std::array<uint64_t, 2> expected{};
  return key != TicketKey{} && Digest(key, scope, ticket, &expected) &&
         CRYPTO_memcmp(expected.data(), ticket.seal.data(), sizeof(expected)) == 0;
}

bool TicketCovers(const Ticket& ticket, uint64_t offset, uint64_t length) {
  if (offset < ticket.offset) return false;
  const uint64_t skipped = offset - ticket.offset;
  return skipped <= ticket.length && length <= ticket.length - skipped;
}

void TicketJudge::LearnKey(const TicketKey& key) {
  MutexLock lock(mutex_);
  if (key == key_) return;
  key_ = key;
  version_.fetch_add(1, std::memory_order_release);
}

void TicketJudge::LearnClock(uint64_t clock_ms, TimePoint asked) {
  constexpr uint64_t kMost = std::numeric_limits<int64_t>::max() / 4'000'000;
  const auto there = static_cast<int64_t>(std::min(clock_ms, kMost) * 1'000'000);
  ahead_.store(there - asked.time_since_epoch().count(), std::memory_order_relaxed);
}

bool TicketJudge::Refresh(uint64_t* version, TicketKey* key) const {
  const uint64_t now = version_.load(std::memory_order_acquire);
  if (now == *version) return now != 0;
  MutexLock lock(mutex_);
  *key = key_;
  *version = version_.load(std::memory_order_relaxed);
  return true;
}

TimePoint TicketJudge::EndOf(const Ticket& ticket) const {
  constexpr uint64_t kMost = std::numeric_limits<int64_t>::max() / 4'000'000;
  const auto there = static_cast<int64_t>(std::min(ticket.end_ms, kMost) * 1'000'000);
  return TimePoint(Duration(there - ahead_.load(std::memory_order_relaxed)));
}

}  // namespace mmc::fabric
