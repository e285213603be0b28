// The meta service as a library: placement, leases, eviction and membership behind the RPC methods
// of proto/methods.h. It never touches a byte of a value and never calls out.
//
//   state/       what is known and what is decided: pure, no threads, no I/O, time comes in as an
//   argument ops/         one file per rule of the RPC surface: checks limits, asks the state,
//   waits where a call may wait background/  one class per periodic job, each with Tick(now); one
//   thread here runs them all
//
// For other parts of this process (HTTP pages, embedded mode): call the methods over
// InProcessChannel() - ClusterStatus, Directory, List and Stat answer all there is to show - and
// print metrics().Expose(). ready() is true between Start() and Stop(), once nothing is left to
// recover.
//
// What a client should know about the answers:
//   * PutStart: a key that answers kNoSpace or kBeingWritten while other keys of the same call got
//   grants: write and
//     commit those first, then ask again for the rest. (A call that got no grant at all has already
//     waited for space or for the other writer, up to its deadline.) The same key twice in one
//     call: the second answers kBeingWritten.
//   * PutCommit: a bit in failed_replicas says "not written, and nobody writes there any more".
//   When a link answered
//     kUnconfirmed, call PutAbort(unconfirmed = true) instead. At least one replica must have been
//     written.
//   * PutAbort(unconfirmed = true) ends the session: its data connections are fenced on every node
//   where it still has
//     grants. All later calls with it answer kSessionLost; the client opens a new session and new
//     links.
//   * A grant that outlives MetaOptions::grant ends its session in the same way.
//   * kRecovering: the service has started a moment ago, and what is asked for may still be
//   reported: back off, try again.
//   * A lost answer to PutCommit: ask with Stat (a commit that went through answers kOk there); the
//   repeated commit
//     answers kGrantLost in either case.
// What a node should know:
//   * Join with the incarnation of a node that is known and not dead: resumed = true, objects and
//   catalog go on.
//     Any other incarnation: the old replicas are dropped, resumed = false: start with an empty
//     catalog - unless it joined with keeps_memory: then want_catalog = true. Send all records with
//     CatalogReport, the last call with `last`; fence every data connection that is older than the
//     join and say fenced_all in a CatalogSync: nothing new is placed on the node before. Records
//     come by CatalogSync once the report is done. After another Join that answers want_catalog the
//     report starts anew.
//   * A dead or left incarnation cannot come back: Join and everything else answer kStaleNode. Take
//   a new incarnation
//     and new segment epochs (so that late writers of the old epoch are refused), empty the
//     catalog, and join again.
//   * CatalogSync answers at once when there is something new; fences that were sent before and are
//   not acknowledged
//     come again with every answer but do not shorten the wait.
//
// Thread safety: Create/Start/Stop from one thread, the rest from any. Ownership: the service owns
// its state, server and threads; channels of InProcessChannel() must not outlive it.
#pragma once

#include <cstdint>
#include <memory>

#include "common/base/clock.h"
#include "common/base/status.h"
#include "common/obs/metrics.h"
#include "common/rpc/channel.h"
#include "common/security/tls_keeper.h"
#include "meta_service/options.h"

namespace mmc::meta {

class MetaState;

class MetaService {
 public:
  // Errors: kInvalidArgument (thresholds, unknown eviction policy); those of the members file (kIo,
  // kMalformed).
  static Result<std::unique_ptr<MetaService>> Create(MetaOptions options,
                                                     Clock& clock = Clock::Real());
  ~MetaService();  // stops at once when Stop() was not called
  MetaService(const MetaService&) = delete;
  MetaService& operator=(const MetaService&) = delete;

  // Serves; with an empty url in the process only. Errors: those of rpc::Server::Start.
  Status Start();
  // Ends waiting calls (kShuttingDown), lets running ones finish until `deadline`. Idempotent.
  void Stop(TimePoint deadline);

  bool ready() const;
  bool recovering() const;  // nodes may still report what they held before this start
  uint64_t term() const;    // grows from start to start
  uint16_t port() const;    // 0 without a socket
  std::shared_ptr<rpc::Channel> InProcessChannel();
  obs::Registry& metrics();
  // Of the certificates of all planes: the calls' are in it, others add theirs. Whoever runs the service lets it tick.
  security::TlsKeeper& tls_keeper();
  MetaState& state();
  const MetaOptions& options() const;

  // Runs every background job once, whatever its period: for callers whose clock is turned by hand.
  void RunBackgroundNow();

 private:
  MetaService();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace mmc::meta
