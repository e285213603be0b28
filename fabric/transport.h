// The one plug-in seam of the fabric: a Transport makes Listeners (which serve a RegionTable) and Links (which move
// bytes to and from a far one). It knows nothing of keys, leases or replicas.
//
// Thread safety: all methods from any thread. Ownership: Links and Listeners are shared_ptr/unique_ptr of the caller;
// a Link outlives the transfers it carries.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "common/base/clock.h"
#include "common/base/status.h"
#include "common/security/tls_context.h"
#include "fabric/memory.h"
#include "fabric/ticket.h"
#include "fabric/types.h"

namespace mmc::fabric {

struct Capabilities {
  const char* name;        // "shm", "tcp", "loopback"
  bool same_host_only;
  bool device_memory;      // device pointers accepted without a host bounce
  bool one_sided;          // false: the peer's CPU takes part
  int rank;                // lower is nearer: the one to prefer among those that reach the peer
};

struct LinkOptions {
  std::shared_ptr<security::TlsContext> tls;  // tcp: null: bytes travel in the clear
  std::string node;  // tcp with tls: the node that the far side must speak for; "" = any
  uint64_t session = 0;           // the client session that the far side may fence
  Access access = Access::kReadWrite;
  int connections = 4;            // tcp: connections per link
  uint64_t stripe_bytes = 1 << 20;  // tcp: transfers above this use several connections
  int copy_threads = 0;           // shm: helpers for big transfers besides the caller; 0 = none
  std::string congestion_control;   // tcp: "" = the system's
  std::chrono::microseconds spin{20};  // busy-poll before sleeping; 0 = off
};

// What a link has done. `steps` counts the raw pieces looked at, so that tests can see that lists cost linear work.
struct LinkCounters {
  uint64_t transfers = 0;
  uint64_t steps = 0;     // raw pieces of the op lists
  uint64_t pieces = 0;    // pieces moved, after merging what touches on both sides
  uint64_t requests = 0;  // tcp: messages sent; elsewhere one per transfer
  uint64_t bytes = 0;
};

// One way to one peer.
class Link {
 public:
  virtual ~Link() = default;

  // Moves every op, on the calling thread where that is fastest. Returns the outcome (see Completion):
  //   OK               applied at the destination
  //   kStaleRegion, kOutOfRange, kReadOnly   refused by the far side; nothing of the refused op was moved
  //   kPermission, kLeaseExpired             the same: no ticket that is good for the op, or one that is over
  //   kPeerUnreachable, kDeadline            broke off; bytes at the destination unspecified, nobody writes any more
  //   kUnconfirmed     a write broke off and the far side may still apply some of it
  // The ops are checked before anything moves: kInvalidArgument (null local, zero length or count, overflow).
  virtual Status Execute(Direction direction, std::span<const Op> ops, TimePoint deadline) = 0;

  // The same on a link that observes(), which shows the caller's bytes to the observer on this thread, in the order of
  // the ops: block by block, right before or after a block is copied. Of a transfer that fails it may have seen some.
  virtual Status ExecuteShown(Direction, std::span<const Op>, ByteObserver&, TimePoint) {
    return Status(Code::kUnsupported, std::string(capabilities().name) + " shows no bytes");
  }
  // Whether all bytes are copied on the calling thread.
  virtual bool observes() const { return false; }

  // The same, later, on the library's threads; `done` never runs inside Submit. Returns kQueueFull, without keeping
  // `done`, when too many transfers wait. The local memory must live until `done`.
  virtual Status Submit(Direction direction, std::vector<Op> ops, TimePoint deadline, Completion done) = 0;

  // A view of remote bytes without a copy; null when this transport cannot (only shm can).
  virtual const std::byte* View(RegionRef ref, uint64_t offset, uint64_t length) = 0;

  virtual const Capabilities& capabilities() const = 0;
  virtual bool alive() const = 0;  // false: connect again
  virtual void Close() = 0;        // fails waiting transfers with kClosed, waits for running ones. Idempotent.
  virtual LinkCounters counters() const { return {}; }
};

class Listener {
 public:
  virtual ~Listener() = default;  // stops serving; running accesses have ended when it returns
  // With the port or path that was got. Addresses of shm and loopback end in "#" and a random number: a client that
  // finds another listener there (the same path in another container) is refused and falls back.
  virtual Endpoint endpoint() const = 0;
  // Closes every connection of that session, or of all. `done` runs once no access of them can happen any more: for
  // shm that is when the kernel has closed the client's socket. New connections of a fenced session are refused.
  // Session 0 means all connections there are, and refuses no new one. `done` may run before Fence returns; it must
  // not wait. It is dropped when the listener ends first.
  virtual void Fence(uint64_t session, std::function<void()> done) = 0;
  // New connections of sessions below this one (but 0) are refused from now on, as if each had been fenced.
  virtual void RefuseBelow(uint64_t session) = 0;
  virtual uint64_t connections() const = 0;
  // Accesses that this side is carrying out now; 0 where the client does the work alone. An owner that wants to end
  // gently waits for it to stay 0 for a moment.
  virtual uint64_t running() const { return 0; }
};

struct ListenOptions {
  std::string address;       // tcp "127.0.0.1:0", shm a socket path, loopback a name
  int threads = 2;           // tcp: io threads
  uint32_t max_connections = 4096;
  std::string allowed_group;  // shm: besides the same uid, members of this group may connect
  Access group_access = Access::kReadWrite;  // shm: what those members get at most
  bool require_nonce = false;  // shm: who does not show that it was told the address, nonce and all, is refused
  // shm: a file that is there; each client gets an open file of its own of it with a shared lock (flock). Who gets the
  // exclusive lock later, in another process too, knows that all clients are gone. Empty: none.
  std::string presence_file;
  std::shared_ptr<security::TlsContext> tls;  // tcp: null: bytes travel in the clear
  // tcp with tls: the most that a peer of that identity may do here; nothing: not even connect. Null: everything.
  std::function<std::optional<Access>(const security::Identity&)> rights;
  // tcp with tls: requests of peers need tickets that this one finds good, but for reads of other local services,
  // which carry copies from node to node. Null: rights are all that counts.
  std::shared_ptr<const TicketJudge> tickets;
  // tcp with tls: who was not let in, or whose ticket will not do, and why, one line each; from the listener's
  // threads. Null: nobody asks.
  std::function<void(const std::string& line)> report;
  // A request or handshake that has begun must make progress within this time, or its connection is closed.
  std::chrono::milliseconds stall_timeout{30000};
};

class Transport {
 public:
  virtual ~Transport() = default;
  virtual const Capabilities& capabilities() const = 0;
  // `regions` must outlive the listener. Errors: kIo (address in use, with the address), kUnsupported (no hardware).
  virtual Result<std::unique_ptr<Listener>> Listen(const ListenOptions& options, RegionTable& regions) = 0;
  // Errors: kPeerUnreachable, kPermission (peer credentials), kUnsupported, kDeadline.
  virtual Result<std::shared_ptr<Link>> Connect(const std::string& address, const LinkOptions& options,
                                                TimePoint deadline) = 0;
};

// Transports by name. The registry is the only place that knows which ones exist.
Transport* FindTransport(std::string_view name);  // null: unknown or not in this build
std::vector<Transport*> AllTransports();

}  // namespace mmc::fabric
