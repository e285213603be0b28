#include "fabric/fabric.h"

#include <algorithm>
#include <fstream>
#include <utility>

namespace mmc::fabric {
namespace {

struct Candidate {
  Transport* transport;
  const std::string* address;
};

// The endpoints that can reach the peer, nearest first.
std::vector<Candidate> CandidatesOf(const std::vector<Endpoint>& endpoints, bool same_host) {
  std::vector<Candidate> candidates;
  for (const Endpoint& endpoint : endpoints) {
    Transport* const transport = FindTransport(endpoint.transport);
    if (transport == nullptr || (transport->capabilities().same_host_only && !same_host)) continue;
    candidates.push_back({transport, &endpoint.address});
  }
  std::stable_sort(candidates.begin(), candidates.end(), [](const Candidate& a, const Candidate& b) {
    return a.transport->capabilities().rank < b.transport->capabilities().rank;
  });
  return candidates;
}

Result<std::shared_ptr<Link>> ConnectNearest(const std::vector<Candidate>& candidates, const LinkOptions& options,
                                             TimePoint deadline) {
  Status status(Code::kPeerUnreachable, "the peer has no endpoint that this process can use");
  for (const Candidate& candidate : candidates) {
    auto link = candidate.transport->Connect(*candidate.address, options, deadline);
    if (link.ok()) return link;
    status = link.status().Annotate(candidate.transport->capabilities().name);
    if (std::chrono::steady_clock::now() >= deadline) break;
  }
  return status;
}

}  // namespace

struct Fabric::Peer {
  Mutex mutex;
  CondVar changed;
  bool connecting MMC_GUARDED_BY(mutex) = false;
  bool closed MMC_GUARDED_BY(mutex) = false;
  uint64_t attempts MMC_GUARDED_BY(mutex) = 0;  // that have ended
  Status last MMC_GUARDED_BY(mutex);            // of the attempt that ended last
  std::shared_ptr<Link> link MMC_GUARDED_BY(mutex);

  // Takes the link away and closes it outside the lock: closing waits for running transfers.
  void Drop(bool for_good) {
    std::shared_ptr<Link> old;
    {
      MutexLock lock(mutex);
      closed = closed || for_good;
      old = std::move(link);
      link.reset();
      changed.NotifyAll();
    }
    if (old != nullptr) old->Close();
  }
};

Fabric::Fabric(FabricOptions options) : options_(std::move(options)) {}

Fabric::~Fabric() { Close(); }

Result<std::shared_ptr<Link>> Fabric::LinkTo(const std::string& name, const std::vector<Endpoint>& endpoints,
                                             bool same_host, TimePoint deadline,
                                             const std::string& node) {
  std::shared_ptr<Peer> peer;
  LinkOptions options;
  {
    MutexLock lock(mutex_);
    if (closed_) return Status(Code::kClosed, "the fabric is closed");
    auto& entry = peers_[name];
    if (entry == nullptr) entry = std::make_shared<Peer>();
    peer = entry;
    options = options_.link;
  }
  options.node = node;
  std::shared_ptr<Link> dead;
  {
    MutexLock lock(peer->mutex);
    const uint64_t seen = peer->attempts;
    while (peer->connecting && !peer->closed) {
      if (!peer->changed.WaitUntil(peer->mutex, deadline) && peer->connecting) {
        return Status(Code::kDeadline, "no connection to " + name + " before the deadline");
      }
    }
    if (peer->closed) return Status(Code::kClosed, "the fabric is closed");
    if (peer->link != nullptr && peer->link->alive()) return peer->link;
    // Whoever waited shares the outcome of the attempt, good or bad.
    if (peer->attempts != seen && !peer->last.ok()) return peer->last;
    peer->connecting = true;
    dead = std::move(peer->link);
    peer->link.reset();
  }
  // Its own callers close a dead link's sockets as they let go of it.
  dead.reset();
  auto made = ConnectNearest(CandidatesOf(endpoints, same_host && options_.same_host), options, deadline);
  std::shared_ptr<Link> late;
  Status status = made.ok() ? Status::Ok() : made.status().Annotate(name);
  {
    MutexLock lock(peer->mutex);
    peer->connecting = false;
    ++peer->attempts;
    if (made.ok() && peer->closed) {
      late = *made;
      status = Status(Code::kClosed, "the fabric is closed");
    } else if (made.ok()) {
      peer->link = *made;
    }
    peer->last = status;
    peer->changed.NotifyAll();
  }
  if (late != nullptr) late->Close();
  if (!status.ok()) return status;
  return std::move(*made);
}

void Fabric::Forget(const std::string& name) {
  std::shared_ptr<Peer> peer;
  {
    MutexLock lock(mutex_);
    const auto it = peers_.find(name);
    if (it == peers_.end()) return;
    peer = std::move(it->second);
    peers_.erase(it);
  }
  // Not closed by force: another caller may be using it, and finds out by itself that it is dead.
  MutexLock lock(peer->mutex);
  peer->link.reset();
}

void Fabric::SetSession(uint64_t session) {
  MutexLock lock(mutex_);
  options_.link.session = session;
}

void Fabric::Close() {
  std::map<std::string, std::shared_ptr<Peer>> peers;
  {
    MutexLock lock(mutex_);
    closed_ = true;
    peers.swap(peers_);
  }
  for (auto& [name, peer] : peers) peer->Drop(true);
}

std::string HostId() {
  // Containers of one machine share it: whether they share the socket's directory shows when connecting.
  std::ifstream in("/proc/sys/kernel/random/boot_id");
  std::string id;
  std::getline(in, id);
  return id;
}

}  // namespace mmc::fabric
