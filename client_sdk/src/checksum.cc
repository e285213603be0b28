#include "client_sdk/src/checksum.h"

#include <xxhash.h>
#if defined(__x86_64__) && __has_include(<xxh_x86dispatch.h>)
#include <xxh_x86dispatch.h>  // the widest vectors of the CPU, where the library was built for it
#endif

#include <new>

namespace mmc::client {

void Checksummer::Free::operator()(XXH3_state_s* state) const { XXH3_freeState(state); }

Checksummer::Checksummer() : state_(XXH3_createState()) {
  if (state_ == nullptr) throw std::bad_alloc();
}
Checksummer::~Checksummer() = default;

void Checksummer::Begin() { XXH3_64bits_reset(state_.get()); }

void Checksummer::Add(const void* data, size_t size) {
  XXH3_64bits_update(state_.get(), data, size);
}

uint64_t Checksummer::End() {
  const uint64_t sum = XXH3_64bits_digest(state_.get());
  return sum == 0 ? 1 : sum;
}

}  // namespace mmc::client
