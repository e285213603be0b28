// Dice: every random decision of a simulated run, from one seed.
//
// Thread safety: none. Ownership: a value.
#pragma once

#include <cstdint>

namespace mmc::sim {

class Dice {
 public:
  explicit Dice(uint64_t seed) : state_(seed) {}

  uint64_t Next() {  // splitmix64
    uint64_t z = (state_ += 0x9E3779B97F4A7C15ULL);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
    return z ^ (z >> 31);
  }
  // 0 .. n - 1. REQUIRES: n > 0.
  uint64_t Below(uint64_t n) { return Next() % n; }
  int64_t Between(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(Below(static_cast<uint64_t>(high - low) + 1));
  }
  bool Chance(double p) { return static_cast<double>(Next() >> 11) * 0x1.0p-53 < p; }
  // Many short ones, few long ones: between low and high, each power of two about as often.
  int64_t Skewed(int64_t low, int64_t high) {
    int64_t span = high - low;
    while (span > 1 && Chance(0.5)) span /= 2;
    return low + static_cast<int64_t>(Below(static_cast<uint64_t>(span) + 1));
  }
  Dice Fork() { return Dice(Next()); }

 private:
  uint64_t state_;
};

}  // namespace mmc::sim
