// The words of the fabric: Region and RegionRef (memory and its name), Op (a strided run), Direction, Completion.
//
// Remote memory is named by (segment, epoch, offset), never by a pointer, and every access is checked by the far side.
// Thread safety: values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "common/base/status.h"

namespace mmc::fabric {

enum class Direction : uint8_t { kRead = 0, kWrite = 1 };  // read: remote -> local; write: local -> remote
enum class MemoryKind : uint8_t { kHost = 0, kDevice = 1 };
enum class Access : uint8_t { kReadOnly = 0, kReadWrite = 1 };

// The name of a region at its owner.
struct RegionRef {
  uint32_t segment = 0;
  uint32_t epoch = 0;
  friend bool operator==(const RegionRef&, const RegionRef&) = default;
};

struct Ticket;  // fabric/ticket.h

// A strided run: `count` pieces of `length` bytes, `local_stride` and `remote_stride` bytes from one start to the next.
// count == 1 is one piece (strides unused). Bytes at `local` are written by kRead and read by kWrite.
struct Op {
  std::byte* local = nullptr;
  RegionRef remote;
  uint64_t remote_offset = 0;
  uint64_t length = 0;
  uint32_t count = 1;
  uint64_t local_stride = 0;
  uint64_t remote_stride = 0;
  // The right to do that, where the far side wants one; must live until the completion. All ops of a transfer have
  // one, or none.
  const Ticket* ticket = nullptr;
};

// Where a fabric can be reached: ("shm", path of a unix socket), ("tcp", "host:port"), ("loopback", name).
struct Endpoint {
  std::string transport;
  std::string address;
};

// Is shown bytes while they are copied. Thread safety: the implementer's; calls come one after the other.
class ByteObserver {
 public:
  virtual ~ByteObserver() = default;
  virtual void See(const std::byte* bytes, uint64_t length) = 0;
};

// Runs exactly once. OK means applied at the destination. After any outcome but kUnconfirmed the fabric touches
// neither side's bytes again; after kUnconfirmed it touches only the far side, until that has closed the connection.
using Completion = std::function<void(Status)>;

}  // namespace mmc::fabric
