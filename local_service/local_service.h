// A local service: one node's share of the pool. It lends memory over the fabric, is a member of
// the pool at the meta service, keeps the catalog of what its memory holds, and fences sessions
// when told to. It never looks at a value.
//
//   LocalService ── Storage + RegionTable   memory that is lent, under (segment 1, epoch), and the
//                                           catalog of the objects in it
//                ── Endpoints               shm, tcp and loopback listeners that serve it
//                ── MetaAgent               join, report, heartbeat, catalog polls, fences
//
// Losing the connection to the meta service changes nothing: readers and writers go on, and the
// same incarnation goes on when it is back. A meta service that has forgotten the node gets its
// catalog; the data connections of the time before are closed. A node that was declared dead closes
// them too, gives its memory a new epoch, and joins as a new incarnation without objects.
//
// With LocalOptions::warm_restart a process that was killed is followed by one that goes on with
// the same incarnation; see storage.h.
//
// Thread safety: Start from one thread, Stop from any (it makes a Start that still waits return
// kCancelled); the rest from any thread. Ownership: owns memory, listeners, catalog and threads;
// shares the channel and does not close it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/base/clock.h"
#include "common/base/status.h"
#include "common/rpc/channel.h"
#include "fabric/types.h"
#include "local_service/options.h"

namespace mmc::local {

class MetaAgent;

struct LocalStats {
  bool joined = false;
  uint64_t joins = 0;            // answered and kept; 1 when nothing ever went wrong
  uint64_t objects = 0;          // in the catalog
  uint64_t catalog_bytes = 0;    // of its file
  uint64_t catalog_missing = 0;  // records that found no room there
  uint64_t connections = 0;      // data connections now
};

class LocalService {
 public:
  // Checks the options; nothing is taken yet. Errors: kConfig, kUnsupported (device memory, with
  // strict protocol).
  static Result<std::unique_ptr<LocalService>> Create(LocalOptions options,
                                                      std::shared_ptr<rpc::Channel> meta);
  ~LocalService();  // stops at once when Stop() was not called
  LocalService(const LocalService&) = delete;
  LocalService& operator=(const LocalService&) = delete;

  // Maps the memory, opens the endpoints, joins: returns when the node serves. Keeps trying to
  // reach the meta service until LocalOptions::join_timeout (0: without end). Errors: kUnavailable
  // (meta service), kIo (memory, addresses), kUnsupported (preferred transport, strict), kExists
  // (another service of this name on this host), kCancelled (Stop).
  Status Start();
  // Leaves the pool, lets running transfers finish until `deadline` or LocalOptions::drain, and
  // gives everything back.
  void Stop(TimePoint deadline);

  // Reads the certificates of the data endpoint again; they count for the connections that come. Those that have
  // changed on disk are taken up without it. After an error the old ones stay.
  Status ReloadCertificates();

  // After Start(); the name of the options, or the one made from host name and data port.
  const std::string& name() const;
  std::vector<fabric::Endpoint> endpoints() const;
  uint64_t incarnation() const;
  std::string catalog_path() const;
  LocalStats stats() const;
  // After Start(); for tests and status pages.
  MetaAgent& agent();

 private:
  LocalService();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace mmc::local
