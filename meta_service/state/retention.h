// How long a writer wants an object kept, and which objects are of use only together.
//
// Thread safety: plain values. Ownership: a Keeping points to names that its caller keeps.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "common/base/clock.h"

namespace mmc::meta {

// Who goes first when room is needed. The numbers are those of proto::Retention.
enum class Retention : uint8_t {
  kNormal = 0,
  kSoft = 1,  // after all normal ones of its tenant; normal when its time is over
  kHard = 2,  // never: it stays until it is removed
};
inline constexpr int kRetentions = 3;

// What a commit says of the objects that it makes visible.
struct Keeping {
  Retention retention = Retention::kNormal;
  Duration soft_pin{0};                      // of kSoft; 0: the service's default; longer than its limit is cut
  std::span<const std::string_view> groups;  // one per grant, an empty one for none; or none at all
};

}  // namespace mmc::meta
