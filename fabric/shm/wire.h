// What a shm listener and its clients say to each other: fixed packets on a SOCK_SEQPACKET unix socket, and the shared
// page that tells which segments are alive.
//
//   client  Hello                             with a number of its own, and the proof that it was told the address
//   server  Welcome (fd of the control page)  with the same proof of the listener | Refused
//   server  Presence (fd with a shared lock)  when the memory may outlive the listener; keep it as long as the socket
//   server  Segment (fd of the segment) ...   one each, now and whenever one is added
//   server  Ready                             after the segments there were
//   server  Bye                               stop using the mapping, close the socket
//
// The control page is written by the listener only and mapped read-only by clients. A slot holds the generation of the
// segment that lives in it; 0 after its removal. Generations are never used twice.
//
// Thread safety: plain data; slots are atomic. Both sides run on one machine: native byte order.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "common/base/clock.h"
#include "common/base/status.h"
#include "fabric/unique_fd.h"

namespace mmc::fabric::shm {

inline constexpr uint32_t kMagic = 0x53434d4d;  // "MMCS"
inline constexpr uint16_t kVersion = 3;
inline constexpr uint32_t kSlots = 1024;  // most segments of one listener

enum class PacketKind : uint16_t {
  kHello = 1,
  kWelcome = 2,
  kRefused = 3,
  kSegment = 4,
  kReady = 5,
  kBye = 6,
  kPresence = 7,
};

struct Packet {
  uint32_t magic = kMagic;
  uint16_t version = kVersion;
  PacketKind kind = PacketKind::kHello;
  uint64_t session = 0;      // Hello
  uint64_t challenge = 0;    // Hello: any number
  uint64_t proof = 0;        // Hello, Welcome: see Prove in fabric/address.h; Hello: 0 = no address with a nonce
  uint32_t access = 0;       // Hello: wanted; Segment: granted
  uint32_t code = 0;         // Refused
  uint32_t segment = 0;      // Segment, and below
  uint32_t epoch = 0;
  uint64_t file_size = 0;    // bytes of the file
  uint64_t offset = 0;       // where the region begins in it
  uint64_t size = 0;         // bytes of the region
  uint64_t generation = 0;
  uint32_t slot = 0;
  uint32_t backing = 0;      // as enum Backing
};
static_assert(sizeof(Packet) == 88);

struct ControlPage {
  std::array<std::atomic<uint64_t>, kSlots> generation;
};
static_assert(std::atomic<uint64_t>::is_always_lock_free && sizeof(ControlPage) == kSlots * 8);

// Sends one packet with at most one fd (-1: none), without waiting. Errors: kQueueFull (the peer does not read),
// kPeerUnreachable.
Status SendPacket(int socket, const Packet& packet, int fd);

struct Received {
  Packet packet;
  UniqueFd fd;
};
// One packet, without waiting: nullopt when there is none now. Errors: kPeerUnreachable (end of file or reset),
// kMalformed.
Result<std::optional<Received>> ReceivePacket(int socket);
// The same, waiting until the deadline. Errors: also kDeadline.
Result<Received> ReceivePacketUntil(int socket, TimePoint deadline);

// Milliseconds from now, at least 0 and at most a day, for poll().
int PollTimeout(TimePoint deadline);

}  // namespace mmc::fabric::shm
