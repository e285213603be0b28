#include "client_sdk/engine/peers.h"

#include <utility>

#include "common/rpc/url.h"
#include "proto/engine_methods.h"

namespace mmc::engine {
namespace {

using fabric::Direction;
using fabric::Op;

fabric::FabricOptions FabricOptionsOf(const EngineOptions& options, std::shared_ptr<security::TlsContext> tls) {
  fabric::FabricOptions out;
  out.link.tls = std::move(tls);
  out.link.connections = options.tcp_connections;
  out.link.copy_threads = options.copy_threads;
  out.same_host = options.same_host;
  return out;
}

// The peer may have changed what it lends, or be a new process, or have hung up on an idle connection: ask, try again.
bool MayHaveChanged(Code code) {
  return code == Code::kStaleRegion || code == Code::kOutOfRange || code == Code::kPeerUnreachable ||
         code == Code::kClosed;
}

// Shared memory is a short cut: what stands in its way does not stand in that of the network.
bool TryFar(Code code) {
  return code == Code::kStaleRegion || code == Code::kPeerUnreachable || code == Code::kPermission ||
         code == Code::kUnsupported || code == Code::kBadVersion || code == Code::kMalformed || code == Code::kIo;
}

bool NoAnswer(Code code) {
  return code == Code::kUnavailable || code == Code::kConnectionLost || code == Code::kPeerUnreachable ||
         code == Code::kShuttingDown || code == Code::kDeadline || code == Code::kUnconfirmed;
}

}  // namespace

struct Peers::Peer {
  std::string target;
  std::string host;
  std::shared_ptr<rpc::Channel> channel;

  Mutex mutex;
  std::shared_ptr<const PeerMap> map MMC_GUARDED_BY(mutex);  // null: not asked yet

  std::shared_ptr<const PeerMap> Known() {
    MutexLock lock(mutex);
    return map;
  }
  std::string LinkName(const PeerMap& of, const char* kind) const {
    return target + " " + std::to_string(of.incarnation()) + " " + kind;
  }
};

Peers::Peers(const EngineOptions& options, std::shared_ptr<security::TlsContext> tls)
    : same_host_(options.same_host), tls_(tls), host_id_(fabric::HostId()), fabric_(FabricOptionsOf(options, tls)) {}

void Peers::Close() {
  std::map<std::string, std::shared_ptr<Peer>> peers;
  {
    MutexLock lock(mutex_);
    closed_ = true;
    peers.swap(peers_);
  }
  for (const auto& [target, peer] : peers) peer->channel->Close();
  fabric_.Close();
}

Result<std::shared_ptr<Peers::Peer>> Peers::PeerOf(const std::string& target) {
  MutexLock lock(mutex_);
  if (closed_) return Status(Code::kClosed, "the transfer engine is closed");
  auto& entry = peers_[target];
  if (entry != nullptr) return entry;
  auto made = std::make_shared<Peer>();
  made->target = target;
  const auto url = rpc::ParseHostPort(target);
  Status status = url.status();
  if (url.ok()) {
    made->host = url->host;
    rpc::ChannelOptions channel;
    channel.url = "tcp://" + target;
    channel.tls = tls_;
    channel.peer_role = security::Role::kLocal;
    auto opened = rpc::MakeTcpChannel(channel);
    status = opened.status();
    if (opened.ok()) made->channel = std::move(*opened);
  }
  if (!status.ok()) {
    peers_.erase(target);
    return status;
  }
  entry = made;
  return made;
}

void Peers::Drop(const std::shared_ptr<Peer>& peer) {
  {
    MutexLock lock(mutex_);
    const auto found = peers_.find(peer->target);
    if (found != peers_.end() && found->second == peer) peers_.erase(found);
  }
  const Map known = peer->Known();
  if (known == nullptr) return;
  fabric_.Forget(peer->LinkName(*known, "tcp"));
  fabric_.Forget(peer->LinkName(*known, "shm"));
}

Result<Peers::Map> Peers::Ask(Peer& peer, TimePoint deadline) {
  proto::DescribeEngineReply reply;
  const Status asked = peer.channel->Call(proto::kDescribeEngine, {}, &reply, deadline);
  if (!asked.ok()) return asked.Annotate(peer.target);
  MMC_ASSIGN_OR_RETURN(Map map, PeerMap::From(reply, peer.host, same_host_, host_id_));
  Map before;
  {
    MutexLock lock(peer.mutex);
    before = std::exchange(peer.map, map);
  }
  if (before != nullptr && before->incarnation() != map->incarnation()) {
    fabric_.Forget(peer.LinkName(*before, "tcp"));
    fabric_.Forget(peer.LinkName(*before, "shm"));
  }
  return map;
}

Status Peers::MoveOver(Direction direction, const std::string& link, const std::vector<fabric::Endpoint>& endpoints,
                       std::span<const Op> ops, TimePoint deadline, std::atomic<uint64_t>* bytes) {
  auto made = fabric_.LinkTo(link, endpoints, same_host_, deadline);
  if (!made.ok()) return made.status();
  MMC_RETURN_IF_ERROR((*made)->Execute(direction, ops, deadline));
  uint64_t sum = 0;
  for (const Op& op : ops) sum += op.length;
  bytes->fetch_add(sum, std::memory_order_relaxed);
  return Status::Ok();
}

Status Peers::Move(Direction direction, const Peer& peer, const PeerMap& map, std::span<const Piece> pieces,
                   TimePoint deadline) {
  std::vector<Op> near;
  std::vector<Op> far;
  MMC_RETURN_IF_ERROR(map.Map(pieces, &near, &far));
  if (!near.empty()) {
    const Status moved = MoveOver(direction, peer.LinkName(map, "shm"), map.host(), near, deadline,
                                  &counters_.shm_bytes);
    if (!moved.ok() && !TryFar(moved.code())) return moved;
    if (!moved.ok()) {
      // A segment that is only not known here yet is no reason to give up on all of them.
      if (moved.code() != Code::kStaleRegion && moved.code() != Code::kPeerUnreachable) map.GiveUpNear();
      far.insert(far.end(), near.begin(), near.end());
    }
  }
  if (far.empty()) return Status::Ok();
  return MoveOver(direction, peer.LinkName(map, "tcp"), map.network(), far, deadline, &counters_.tcp_bytes);
}

Status Peers::Transfer(Direction direction, const std::string& target, std::span<const Piece> pieces,
                       TimePoint deadline) {
  MMC_ASSIGN_OR_RETURN(const std::shared_ptr<Peer> peer, PeerOf(target));
  Map map = peer->Known();
  Status status;
  // With what was known before, if anything was; then with what the peer says now.
  for (const bool again : {false, true}) {
    const bool fresh = map == nullptr || again;
    if (fresh) {
      auto asked = Ask(*peer, deadline);
      if (!asked.ok()) {
        status = asked.status();
        break;
      }
      map = std::move(*asked);
    }
    status = Move(direction, *peer, *map, pieces, deadline).Annotate(target);
    if (!MayHaveChanged(status.code()) || Clock::Real().Now() >= deadline) break;
    if (fresh && status.code() == Code::kOutOfRange) break;  // it has just said so
  }
  if (NoAnswer(status.code())) Drop(peer);
  return status;
}

Status Peers::Send(const std::string& target, const Note& note, TimePoint deadline) {
  MMC_ASSIGN_OR_RETURN(const std::shared_ptr<Peer> peer, PeerOf(target));
  proto::EngineNoteRequest request;
  request.set_name(note.name);
  request.set_text(note.text);
  proto::EngineNoteReply reply;
  const Status sent = peer->channel->Call(proto::kEngineNote, request, &reply, deadline);
  if (NoAnswer(sent.code())) Drop(peer);
  return sent.Annotate(target);
}

Result<uint64_t> Peers::FirstAddress(const std::string& target, TimePoint deadline) {
  MMC_ASSIGN_OR_RETURN(const std::shared_ptr<Peer> peer, PeerOf(target));
  auto asked = Ask(*peer, deadline);
  if (asked.ok()) return (*asked)->first_address();
  if (NoAnswer(asked.code())) Drop(peer);
  return asked.status();
}

}  // namespace mmc::engine
