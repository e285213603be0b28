// The wire format of the tcp data plane, and the checks of what arrives. All numbers little-endian, no padding.
//
//   client: Hello                                   server: HelloReply
//   client: RequestHead, op_count x WireOp          server: ResponseHead
//           [, op_count x Ticket]                           + `total` bytes of payload for a read that is OK
//           + `total` bytes of payload for a write
//
// Tickets (fabric/ticket.h) come with requests that say so: one for each op.
//
// One request at a time on a connection. A refused request is answered with its code after its payload was read and
// thrown away: none of its bytes is applied. A frame that breaks the format ends the connection.
//
// Thread safety: pure functions.
#pragma once

#include <bit>
#include <cstdint>
#include <span>

#include "common/base/status.h"
#include "fabric/ticket.h"

namespace mmc::fabric::tcp {

static_assert(std::endian::native == std::endian::little, "frames are sent as they lie in memory");

inline constexpr uint32_t kHelloMagic = 0x44434d4d;     // "MMCD"
inline constexpr uint32_t kRequestMagic = 0x51434d4d;   // "MMCQ"
inline constexpr uint32_t kResponseMagic = 0x41434d4d;  // "MMCA"
inline constexpr uint16_t kVersion = 1;

struct Hello {
  uint32_t magic = kHelloMagic;
  uint16_t version = kVersion;
  uint8_t access = 0;
  uint8_t reserved = 0;
  uint64_t session = 0;
  uint64_t link = 0;  // the same on all connections of one link, for logs
};
static_assert(sizeof(Hello) == 24);

struct HelloReply {
  uint32_t magic = kHelloMagic;
  uint16_t version = kVersion;
  uint16_t reserved = 0;
  uint32_t code = 0;
  uint32_t reserved2 = 0;
};
static_assert(sizeof(HelloReply) == 16);

struct RequestHead {
  uint32_t magic = kRequestMagic;
  uint8_t direction = 0;
  uint8_t ticketed = 0;  // 1: a ticket for each op follows the ops
  uint8_t reserved[2] = {};
  uint32_t op_count = 0;
  uint32_t reserved2 = 0;
  uint64_t total = 0;
  uint64_t request = 0;
};
static_assert(sizeof(RequestHead) == 32);

struct WireOp {
  uint32_t segment = 0;
  uint32_t epoch = 0;
  uint64_t offset = 0;
  uint64_t length = 0;
};
static_assert(sizeof(WireOp) == 24);

struct ResponseHead {
  uint32_t magic = kResponseMagic;
  uint32_t code = 0;
  uint64_t request = 0;
  uint64_t total = 0;
};
static_assert(sizeof(ResponseHead) == 24);

// Bounds of one request; a link splits what is bigger.
inline constexpr uint32_t kMaxOps = (1u << 20) / sizeof(WireOp);
// With tickets: as many bytes of lists as without.
inline constexpr uint32_t kMaxTicketedOps = (1u << 20) / (sizeof(WireOp) + sizeof(Ticket));
inline constexpr uint64_t kMaxRequestBytes = uint64_t{1} << 30;

// Errors: kMalformed, kBadVersion.
Status CheckHello(const Hello& hello);
// Before memory is taken for the ops. Errors: kMalformed, kTooLarge.
Status CheckRequest(const RequestHead& head);
// The lengths must be positive and add up to the total. Errors: kMalformed.
Status CheckWireOps(const RequestHead& head, std::span<const WireOp> ops);

}  // namespace mmc::fabric::tcp
