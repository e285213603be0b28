// The checksum of a value: XXH3-64 over its bytes in order, however they are cut into pieces.
//
// Thread safety: a Checksummer belongs to one thread. Ownership: it owns its state and is used for
// one value after the other.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

struct XXH3_state_s;

namespace mmc::client {

class Checksummer {
 public:
  Checksummer();
  ~Checksummer();
  Checksummer(const Checksummer&) = delete;
  Checksummer& operator=(const Checksummer&) = delete;

  void Begin();
  void Add(const void* data, size_t size);
  // Never 0, which says "no checksum" wherever checksums are kept; a sum of 0 becomes 1.
  uint64_t End();

 private:
  struct Free {
    void operator()(XXH3_state_s* state) const;
  };
  std::unique_ptr<XXH3_state_s, Free> state_;
};

}  // namespace mmc::client
