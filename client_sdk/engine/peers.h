// The calling half of a transfer engine: knows what other engines lend, and moves bytes to and from it over the fabric.
//
// What a peer lends is asked for once, and again when an address is not known or is refused; the peer itself checks
// every access. A link that breaks is made anew once per transfer, unless bytes of a write may still be on their way.
// Thread safety: all methods from any thread. Ownership: owns its channels and links; local memory is its caller's till
// the call returns.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "client_sdk/engine/options.h"
#include "client_sdk/engine/peer_map.h"
#include "common/base/clock.h"
#include "common/base/mutex.h"
#include "common/base/status.h"
#include "common/rpc/channel.h"
#include "common/security/tls_context.h"
#include "fabric/fabric.h"

namespace mmc::engine {

struct PeerCounters {
  std::atomic<uint64_t> shm_bytes{0}, tcp_bytes{0};
};

class Peers {
 public:
  Peers(const EngineOptions& options, std::shared_ptr<security::TlsContext> tls);
  ~Peers() { Close(); }

  // `target`: "host:port" of the other engine. No piece is empty. Errors: kOutOfRange (not in registered memory there),
  // kReadOnly, kUnavailable, kPeerUnreachable, kUnconfirmed, kDeadline, kPermission, kInvalidArgument, kClosed.
  Status Transfer(fabric::Direction direction, const std::string& target, std::span<const Piece> pieces,
                  TimePoint deadline);
  Status Send(const std::string& target, const Note& note, TimePoint deadline);
  // What the peer registered first; 0: nothing.
  Result<uint64_t> FirstAddress(const std::string& target, TimePoint deadline);
  // Fails questions that run, and what comes; waits for transfers that run. Idempotent.
  void Close();

  const PeerCounters& counters() const { return counters_; }

 private:
  struct Peer;
  using Map = std::shared_ptr<const PeerMap>;

  Result<std::shared_ptr<Peer>> PeerOf(const std::string& target);
  // A peer that does not answer is asked anew by the next call.
  void Drop(const std::shared_ptr<Peer>& peer);
  Result<Map> Ask(Peer& peer, TimePoint deadline);
  Status Move(fabric::Direction direction, const Peer& peer, const PeerMap& map, std::span<const Piece> pieces,
              TimePoint deadline);
  Status MoveOver(fabric::Direction direction, const std::string& link, const std::vector<fabric::Endpoint>& endpoints,
                  std::span<const fabric::Op> ops, TimePoint deadline, std::atomic<uint64_t>* bytes);

  const bool same_host_;
  const std::shared_ptr<security::TlsContext> tls_;
  const std::string host_id_;
  fabric::Fabric fabric_;
  PeerCounters counters_;

  Mutex mutex_;
  bool closed_ MMC_GUARDED_BY(mutex_) = false;
  std::map<std::string, std::shared_ptr<Peer>> peers_ MMC_GUARDED_BY(mutex_);
};

}  // namespace mmc::engine
