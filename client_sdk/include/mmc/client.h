// mmc::Client: put, get, query and remove KV blocks in a pool of many machines.
//
// Values are immutable: a second put of a key answers kExists and the old value stays. Every call
// takes a batch; one is a batch of one. Buffers are scattered: a value is the concatenation of its
// pieces, in order; it may be read with another split than it was written with.
//
// Thread safety: all methods from any thread. Ownership: the caller's buffers must live until the
// call returns, or, for the asynchronous ones, until the callback ran. Close() is idempotent; the
// destructor calls it. The library touches no signals, writes nothing to stdout or stderr, and
// starts only threads of its own. fork(): a client is of use only in the process that made it; the
// child must not call it, nor destroy it.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/status.h"
#include "common/security/tls_options.h"

namespace mmc {

struct Buffer {
  void* data = nullptr;
  size_t size = 0;  // bytes, at least 1
};
struct ConstBuffer {
  const void* data = nullptr;
  size_t size = 0;
};

// What a client does about bytes that change in the pool's memory. A put takes the XXH3-64 of the
// value from the caller's buffers, and the pool keeps it; kVerify also compares it with what a read
// of a whole value has put into the caller's buffers, and reads another replica where they differ.
// Ranged and short reads, views, and values that were put with kOff are not verified.
enum class Integrity : uint8_t { kOff = 0, kPut = 1, kVerify = 2 };
// "off", "put", "verify". Errors: kInvalidArgument.
Result<Integrity> IntegrityFrom(std::string_view text);

struct ClientOptions {
  // "tcp://host:port" of the meta service, several separated by commas, or "local://?dram=1GB": a
  // pool inside this process (link mmc_embedded for that).
  std::string meta_url = "tcp://127.0.0.1:5000";
  std::string name = "client";                 // shown in logs of the services
  // Whose keys these are: nobody but the clients of a tenant sees or removes them. Letters, digits, '.', '_', '-',
  // at most 64; empty: the default tenant. With TLS it is the tenant of the client's certificate.
  std::string tenant;
  std::chrono::milliseconds timeout{60'000};   // deadline of calls that give none
  std::chrono::milliseconds connect_retry{0};  // keep trying to reach the meta service for so long
  std::chrono::milliseconds lease{0};          // asked for by gets; 0: the service's default
  bool location_cache = false;                 // read without asking while a location's lease lasts
  size_t location_cache_keys = 1 << 20;
  bool same_host = true;               // use shared memory where it reaches
  int tcp_connections = 4;             // per node
  std::string tcp_congestion_control;  // "": the system's
  int copy_threads = 0;                // helpers for big same-host copies besides the caller
  int async_threads = 4;               // run the asynchronous calls; at most 64
  size_t async_queue = 4096;           // waiting asynchronous calls; more answer kQueueFull
  Integrity integrity = Integrity::kPut;
  // TLS to the meta service: `enable` and the files. They are looked at again for each connection.
  security::TlsOptions tls;
  security::TlsOptions data_tls;  // of values that travel over TCP; a certificate of role client, admin or local
};

// Which values go first when room is needed.
enum class Retention : uint8_t {
  kNormal = 0,
  kSoft = 1,  // after all normal ones of the tenant, until its time is over (counted from the put)
  kHard = 2,  // never: it stays until it is removed
};

struct PutOptions {
  uint32_t replicas = 1;                     // 1..8, on distinct nodes
  std::vector<std::string> preferred_nodes;  // by name, tried first
  bool prefer_local = true;                  // nodes of this host before others
  std::chrono::milliseconds timeout{0};      // 0: ClientOptions::timeout
  // A restart of the meta service forgets soft pins and groups, not hard pins.
  Retention retention = Retention::kNormal;
  std::chrono::milliseconds soft_pin{0};  // of kSoft; 0: the service's default; it has a limit too
};
struct GetOptions {
  std::chrono::milliseconds timeout{0};
};

struct ExistsOptions {
  // Set: what is there counts as used, and stays readable for so long (0: the service's default,
  // which also has a limit), so that a reader who comes within that time finds it. Not set: the
  // question leaves no trace.
  std::optional<std::chrono::milliseconds> lease;
  std::chrono::milliseconds timeout{0};  // 0: ClientOptions::timeout
};

struct PutItem {
  std::string_view key;                  // 1..2048 bytes
  std::span<const ConstBuffer> buffers;  // together 1 byte .. 1 GiB
  // Values of one group (of the tenant, at most 1024 at a time) are of use only together: a read of one leases all,
  // and when one is evicted the others go too. At most 2048 bytes; empty: none.
  std::string_view group = {};
};
struct GetItem {
  std::string_view key;
  std::span<const Buffer> buffers;
  uint64_t offset = 0;  // first byte of the value to read
  // A read from byte 0 is a read of the whole value, and its buffers must hold exactly that, unless
  // allow_short is set. A ranged read (offset > 0) and one with allow_short fill min(buffers, size
  // - offset) bytes.
  bool allow_short = false;
};
struct GetResult {
  Status status;  // kNotFound, kSizeMismatch (a whole read into other than size bytes), kOutOfRange
                  // (offset >= size), kReplicasLost, kCorrupt (every replica is other than its
                  // checksum says), kRecovering (still, at the deadline), kDeadline, ...
  uint64_t bytes = 0;  // read; 0 when status is not OK, and the buffers then hold anything
  uint64_t size = 0;   // of the whole value, when known
};
struct ReplicaInfo {
  std::string node;
  std::string medium;  // "dram", "hbm"
  uint64_t bytes = 0;
  uint32_t extents = 0;
};
struct ObjectInfo {
  Status status;
  uint64_t size = 0;
  uint64_t generation = 0;
  uint64_t checksum = 0;  // 0: put without one
  std::chrono::milliseconds lease_left{0};
  uint32_t pins = 0;
  std::vector<ReplicaInfo> replicas;
};
struct ListPage {
  std::vector<std::string> keys;
  std::vector<uint64_t> sizes;
  std::string next_page_token;  // empty: that was the last page
};
struct NodeInfo {
  std::string name;
  std::string state;  // "serving", "suspect", "dead", "leaving", "recovering", "draining",
                      // "drained"
  std::string host_id;
  std::vector<std::string> endpoints;  // "tcp 127.0.0.1:7000"
  uint64_t capacity_bytes = 0;
  uint64_t used_bytes = 0;
  uint64_t objects = 0;
  uint64_t silent_ms = 0;
  uint64_t drain_left_objects = 0, drain_left_bytes = 0;  // while draining; at 0 it is drained
};
struct TenantUse {
  std::string name;  // "default": of clients that name none
  uint64_t objects = 0, value_bytes = 0;
  uint64_t used_bytes = 0;             // replicas, writes under way, and what waits to be freed
  uint64_t waiting_to_free_bytes = 0;  // of these
  uint64_t quota_bytes = 0;            // 0: none
  uint64_t sessions = 0, grants = 0, pins = 0;
  uint64_t evicted_objects = 0, evicted_bytes = 0;
};
struct ClusterStatus {
  std::string version;
  uint64_t term = 0, uptime_ms = 0, objects = 0, value_bytes = 0, capacity_bytes = 0,
           used_bytes = 0, sessions = 0;
  uint64_t grants = 0, pins = 0, waiting_to_free_bytes = 0, lookups_hit = 0, lookups_missed = 0;
  uint64_t evicted_objects = 0, evicted_bytes = 0, puts = 0, gets = 0, removes = 0;
  uint32_t evict_threshold_high = 0, evict_threshold_low = 0;
  bool recovering = false;        // the meta service has just started, nodes still report
  uint64_t under_replicated = 0;  // objects with fewer replicas than asked for
  uint64_t copies_in_flight = 0;
  uint64_t soft_pinned = 0, hard_pinned = 0;  // objects
  std::vector<NodeInfo> nodes;
  std::vector<TenantUse> tenants;  // with TLS: the client's own, for an admin all
};
struct ScrubProgress {
  uint32_t nodes = 0, nodes_done = 0;
  uint64_t checked_objects = 0, checked_bytes = 0;
  uint64_t skipped_objects = 0;  // stored without a checksum
  uint64_t bad_replicas = 0;     // dropped
};
struct ClientStats {
  uint64_t put_bytes = 0, get_bytes = 0, shm_bytes = 0, tcp_bytes = 0;
  uint64_t failovers = 0, location_cache_hits = 0, expired_reads = 0;
  uint64_t corrupt_reads = 0;  // replicas whose bytes were not those of their checksum
};

// A value in place: read-only bytes of the pool, pinned while this lives. Only same-host replicas
// can be viewed. May be moved to and destroyed on any thread. One that outlives its client, or the
// client's session (the meta service was started anew, or did not hear of the client for its
// session's expiry), can still be read, but is not pinned any more: the pool may reuse its bytes.
class View {
 public:
  View() = default;
  View(View&&) noexcept;
  View& operator=(View&&) noexcept;
  ~View();
  // More than one piece when the value lies in several extents.
  std::span<const ConstBuffer> pieces() const { return pieces_; }
  uint64_t size() const { return size_; }

 private:
  friend class ClientImpl;
  std::vector<ConstBuffer> pieces_;
  uint64_t size_ = 0;
  std::function<void()> release_;
};

class Client {
 public:
  // Reaches the meta service, opens a session. Errors: kInvalidArgument (url), kUnavailable,
  // kDeadline.
  static Result<std::unique_ptr<Client>> Connect(const ClientOptions& options);
  virtual ~Client() = default;

  // A batch is at most kMaxBatch (16,384) items; of a larger one every item answers kTooLarge. A
  // key twice in one batch is put once; the later one answers kExists. One status per item: OK,
  // kExists (committed before: nothing was written), kNoSpace, kNoNode, kInvalidArgument,
  // kTooLarge, kDeadline, ... A value is readable by everyone once its status is OK.
  virtual std::vector<Status> Put(std::span<const PutItem> items,
                                  const PutOptions& options = {}) = 0;
  // Straight into the caller's buffers. For offset 0 without allow_short the buffers must hold
  // exactly the value.
  virtual std::vector<GetResult> GetInto(std::span<const GetItem> items,
                                         const GetOptions& options = {}) = 0;
  // Into memory of the result.
  virtual std::vector<Result<std::string>> Get(std::span<const std::string_view> keys,
                                               const GetOptions& options = {}) = 0;

  // present[i] is 1 or 0. Neither pins nor blocks eviction, unless a lease is asked for.
  virtual Result<std::vector<uint8_t>> Exists(std::span<const std::string_view> keys,
                                              const ExistsOptions& options = {}) = 0;
  // How many of these keys, from the first on, are there: one call.
  virtual Result<uint32_t> Prefix(std::span<const std::string_view> keys) = 0;
  virtual Result<std::vector<ObjectInfo>> Stat(std::span<const std::string_view> keys) = 0;
  // Invisible at once. kNotFound per key that is not there. When an answer is lost the call is made again, until the
  // deadline: a key that is gone by then counts as removed, and nothing is taken that is put after the answer. The
  // counts of the two below are those of the last attempt. With durable commits the answer comes when the catalogs of
  // the nodes have forgotten the keys, kDeadline when one of them has not in time.
  virtual Result<std::vector<Status>> Remove(std::span<const std::string_view> keys) = 0;
  virtual Result<uint64_t> RemoveByPrefix(std::string_view prefix) = 0;
  virtual Result<uint64_t> RemoveAll() = 0;
  virtual Result<ListPage> List(std::string_view prefix, std::string_view page_token,
                                uint32_t limit) = 0;
  // kUnsupported when no replica is on this host.
  virtual Result<View> MakeView(std::string_view key) = 0;

  virtual Result<ClusterStatus> Cluster() = 0;
  virtual ClientStats stats() const = 0;

  // Nothing new is placed on the node, and what it holds is copied elsewhere; `cancel` ends that.
  // How much is left is in Cluster(). kNotFound: no such node.
  virtual Status Drain(std::string_view node, bool cancel) = 0;
  // Nodes check what they hold against the stored checksums, in the background; bad replicas are
  // dropped. `node` empty: all; `bytes_per_second` of each node, 0: no limit. Answers a number to
  // ask ScrubStatus with.
  virtual Result<uint64_t> Scrub(std::string_view node, uint64_t bytes_per_second) = 0;
  virtual Result<ScrubProgress> ScrubStatus(uint64_t id) = 0;

  // The same without waiting. `done` runs exactly once on a thread of the library; items are
  // copied, buffers are not. Returns kQueueFull, without keeping `done`, when too many calls wait.
  virtual Status PutAsync(std::vector<PutItem> items, PutOptions options,
                          std::function<void(std::vector<Status>)> done) = 0;
  virtual Status GetIntoAsync(std::vector<GetItem> items, GetOptions options,
                              std::function<void(std::vector<GetResult>)> done) = 0;
  std::future<std::vector<Status>> PutFuture(std::vector<PutItem> items, PutOptions options = {});
  std::future<std::vector<GetResult>> GetIntoFuture(std::vector<GetItem> items,
                                                    GetOptions options = {});

  // Ends the session; pending asynchronous calls complete first, at most until their deadlines. Not
  // from a callback.
  virtual void Close() = 0;
};

}  // namespace mmc
