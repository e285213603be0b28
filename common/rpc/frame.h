// The frame of the control protocol: 32 bytes of header (little-endian), then a protobuf body, then raw bytes.
//
//   0 magic "MMC1" u32 | 4 version u8 | 5 kind u8 | 6 method u16 | 8 request id u64
//   16 request: deadline in ms (0 = none); response: status code u32
//   20 body bytes u32 | 24 attachment bytes u32 | 28 reserved u32 = 0
//
// A response with a status other than OK has the message text as its body. A server that stops sends kGoAway twice:
// with kShuttingDown at once (send no more), with kClosed as its last frame (what is not answered now was not run).
// Thread safety: pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "common/base/status.h"

namespace mmc::rpc {

inline constexpr uint32_t kMagic = 0x31434D4D;  // "MMC1"
inline constexpr uint8_t kVersion = 1;
inline constexpr size_t kHeaderBytes = 32;

enum class FrameKind : uint8_t { kRequest = 0, kResponse = 1, kGoAway = 2 };

struct FrameHeader {
  uint8_t version = kVersion;
  FrameKind kind = FrameKind::kRequest;
  uint16_t method = 0;
  uint64_t request_id = 0;
  uint32_t deadline_or_status = 0;
  uint32_t body_bytes = 0;
  uint32_t attachment_bytes = 0;
};

void EncodeHeader(const FrameHeader& header, std::span<std::byte, kHeaderBytes> out);

// Checks magic, kind, reserved bytes and the length caps (common/base/limits.h) before anyone takes memory.
// Errors: kMalformed (magic, kind), kTooLarge (lengths). Another version is not an error here: the caller answers
// kBadVersion with the same request id.
Result<FrameHeader> DecodeHeader(std::span<const std::byte, kHeaderBytes> in);

// The request id of a header that DecodeHeader refused, for the answer; 0 when the magic is wrong.
uint64_t PeekRequestId(std::span<const std::byte, kHeaderBytes> in);

}  // namespace mmc::rpc
