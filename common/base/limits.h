// The limits every part agrees on; each is checked before memory is taken for what it bounds.
#pragma once

#include <cstdint>

#include "common/base/bytes.h"

namespace mmc {

inline constexpr uint32_t kMaxKeyBytes = 2048;
inline constexpr uint32_t kMaxTenantBytes = 64;  // of a tenant's name
// As tables and catalogs have it, with the tenant's name in front.
inline constexpr uint32_t kMaxStoredKeyBytes = kMaxKeyBytes + 2 + kMaxTenantBytes;
inline constexpr uint64_t kMaxValueBytes = 1_GiB;
inline constexpr uint32_t kMaxBatch = 16384;   // keys of one call
inline constexpr uint32_t kMaxReplicas = 8;
inline constexpr uint32_t kMaxNodeNameBytes = 255;
inline constexpr uint32_t kMaxPageKeys = 10000;  // keys of one List page
inline constexpr uint64_t kSegmentAlignment = 2_MiB;
inline constexpr uint64_t kMaxSegmentBytes = 1_TiB;

// One RPC frame: protobuf body and raw attachment. 16,384 keys of 2,048 bytes fit.
inline constexpr uint32_t kMaxFrameBody = 64u << 20;
inline constexpr uint32_t kMaxFrameAttachment = 64u << 20;

}  // namespace mmc
