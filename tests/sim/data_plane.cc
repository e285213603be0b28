#include "tests/sim/data_plane.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "fabric/ops.h"

namespace mmc::sim {

using fabric::Direction;

struct DataPlane::Connection {
  std::shared_ptr<Hub> hub;
  uint64_t session = 0;
  ProcessPtr client;
  bool writable = true;
  bool far_closed = false;   // the node has closed it
  bool near_closed = false;  // the client has, or its process is gone
  uint64_t running = 0;      // transfers at the client
  int presence = -1;
  // What a one-sided client has mapped stays.
  std::vector<std::shared_ptr<const fabric::Region>> mapped;

  ~Connection() {
    if (presence >= 0) ::close(presence);
  }
};

struct DataPlane::Hub {
  std::string node;
  ProcessPtr owner;
  std::string transport, address, presence_file;
  fabric::RegionTable* regions = nullptr;
  bool one_sided = false;
  bool open = true;
  uint64_t first_session = 0;
  std::set<uint64_t> fenced;
  std::vector<std::shared_ptr<Connection>> connections;
  struct Fence {
    std::vector<std::shared_ptr<Connection>> left;
    std::function<void()> done;
  };
  std::vector<Fence> fences;
};

namespace {

constexpr uint64_t kPieceBytes = 64 << 10;

using Hub = DataPlane::Hub;
using Connection = DataPlane::Connection;

bool Overlap(const Place& a, const Place& b) {
  return a.node == b.node && a.segment == b.segment && a.epoch == b.epoch && a.offset < b.offset + b.length &&
         b.offset < a.offset + a.length;
}

class SimLink final : public fabric::Link, public std::enable_shared_from_this<SimLink> {
 public:
  SimLink(std::shared_ptr<Connection> connection, const fabric::Capabilities& capabilities)
      : plane_(*DataPlane::Current()), connection_(std::move(connection)), capabilities_(capabilities) {}
  ~SimLink() override { Close(); }

  Status Execute(Direction direction, std::span<const fabric::Op> ops, TimePoint deadline) override;
  bool observes() const override { return connection_->hub->one_sided; }
  Status ExecuteShown(Direction direction, std::span<const fabric::Op> ops, fabric::ByteObserver& observer,
                      TimePoint deadline) override {
    if (direction == Direction::kWrite) Show(ops, observer);
    Status status = Execute(direction, ops, deadline);
    if (direction == Direction::kRead && status.ok()) Show(ops, observer);
    return status;
  }
  Status Submit(Direction direction, std::vector<fabric::Op> ops, TimePoint deadline,
                fabric::Completion done) override {
    auto self = shared_from_this();
    plane_.scheduler().Spawn(plane_.scheduler().process(), [self, direction, ops = std::move(ops), deadline,
                                                            done = std::move(done)] {
      done(self->Execute(direction, ops, deadline));
    });
    return Status::Ok();
  }
  const std::byte* View(fabric::RegionRef ref, uint64_t offset, uint64_t length) override;
  const fabric::Capabilities& capabilities() const override { return capabilities_; }
  bool alive() const override {
    return !connection_->far_closed && !connection_->near_closed && connection_->hub->open;
  }
  void Close() override {
    closing_ = true;
    while (connection_->running > 0 && plane_.scheduler().running() != nullptr) plane_.scheduler().Sleep(kMilli);
    plane_.CloseNear(*connection_);
  }

 private:
  struct Todo {
    std::vector<fabric::Piece> pieces;
    std::vector<std::byte*> far;  // one-sided: where they are
  };
  static void Show(std::span<const fabric::Op> ops, fabric::ByteObserver& observer) {
    fabric::PieceReader reader(ops);
    fabric::Piece piece;
    while (reader.Next(UINT64_MAX, &piece)) observer.See(piece.local, piece.length);
  }
  Status Prepare(Direction direction, std::span<const fabric::Op> ops, Todo* todo);
  Status Carry(Direction direction, Todo& todo, TimePoint deadline);
  Status Move(Direction direction, const fabric::Piece& piece, std::byte* far);
  // A write has broken off; `from` on are its pieces that may be on their way.
  Status BrokenOff(Direction direction, const Todo& todo, size_t from, Code otherwise);
  Place PlaceOf(const fabric::Piece& piece) const {
    return {connection_->hub->node, piece.remote.segment, piece.remote.epoch, piece.remote_offset, piece.length};
  }

  DataPlane& plane_;
  const std::shared_ptr<Connection> connection_;
  const fabric::Capabilities& capabilities_;
  bool closing_ = false;
};

Status SimLink::Prepare(Direction direction, std::span<const fabric::Op> ops, Todo* todo) {
  MMC_RETURN_IF_ERROR(fabric::CheckOps(direction, ops).status());
  if (direction == Direction::kWrite && !connection_->writable) return Status(Code::kReadOnly, "a link for reads");
  fabric::PieceReader reader(ops);
  fabric::Piece piece;
  while (reader.Next(kPieceBytes, &piece)) {
    if (connection_->hub->one_sided) {
      if (!alive()) return Status(Code::kPeerUnreachable, "the connection is closed");
      MMC_ASSIGN_OR_RETURN(const auto region, connection_->hub->regions->Resolve(piece.remote, piece.remote_offset,
                                                                                 piece.length, direction));
      if (std::find(connection_->mapped.begin(), connection_->mapped.end(), region) == connection_->mapped.end()) {
        connection_->mapped.push_back(region);
      }
      todo->far.push_back(region->memory.data() + piece.remote_offset);
    }
    todo->pieces.push_back(piece);
  }
  return Status::Ok();
}

Status SimLink::Execute(Direction direction, std::span<const fabric::Op> ops, TimePoint deadline) {
  if (closing_) return Status(Code::kClosed, "the link is closed");
  Todo todo;
  MMC_RETURN_IF_ERROR(Prepare(direction, ops, &todo));
  ++connection_->running;
  std::list<DataPlane::Flight> mine;
  if (direction == Direction::kWrite) {
    for (const fabric::Piece& piece : todo.pieces) mine.push_back({connection_, PlaceOf(piece), piece.local});
  }
  const size_t count = mine.size();
  const auto first = mine.begin();
  plane_.flights.splice(plane_.flights.end(), mine);
  const Status status = Carry(direction, todo, deadline);
  if (count > 0) plane_.flights.erase(first, std::next(first, static_cast<long>(count)));
  --connection_->running;
  if (connection_->far_closed && connection_->running == 0) plane_.CloseNear(*connection_);
  return status;
}

Status SimLink::Carry(Direction direction, Todo& todo, TimePoint deadline) {
  Scheduler& scheduler = plane_.scheduler();
  const Nanos until = FromSteady(deadline.time_since_epoch().count());
  const bool two_sided = !connection_->hub->one_sided;
  const bool cut = two_sided && plane_.faults.cut > 0 && scheduler.dice().Chance(plane_.faults.cut);
  const size_t cut_at = cut ? scheduler.dice().Below(todo.pieces.size() + 1) : SIZE_MAX;
  for (size_t i = 0; i <= todo.pieces.size(); ++i) {
    // Who touches memory without asking looks first and touches then, however long that takes.
    const bool was_alive = alive();
    scheduler.Wait(nullptr, scheduler.now() + plane_.Latency());
    if (i == cut_at) {
      plane_.CloseNear(*connection_);
      return BrokenOff(direction, todo, i, Code::kPeerUnreachable);
    }
    while (two_sided && (plane_.Cannot(*connection_) || connection_->hub->owner->frozen) && scheduler.now() < until &&
           alive()) {
      scheduler.Sleep(20 * kMilli);
    }
    const bool going_on = two_sided ? alive() : was_alive;
    if (scheduler.now() >= until && (two_sided || !was_alive)) return BrokenOff(direction, todo, i, Code::kDeadline);
    if (!going_on) return BrokenOff(direction, todo, todo.pieces.size(), Code::kPeerUnreachable);
    if (i == todo.pieces.size()) break;  // that was the answer's way
    MMC_RETURN_IF_ERROR(Move(direction, todo.pieces[i], two_sided ? nullptr : todo.far[i]));
    if (!two_sided && scheduler.now() >= until) return Status(Code::kDeadline, "the deadline passed on the way");
  }
  return Status::Ok();
}

Status SimLink::Move(Direction direction, const fabric::Piece& piece, std::byte* far) {
  if (far == nullptr) {
    MMC_ASSIGN_OR_RETURN(const auto region, connection_->hub->regions->Resolve(piece.remote, piece.remote_offset,
                                                                               piece.length, direction));
    far = region->memory.data() + piece.remote_offset;
  }
  ++plane_.pieces;
  if (direction == Direction::kWrite) {
    if (plane_.on_write) plane_.on_write(PlaceOf(piece), connection_->session);
    constexpr uint64_t kBeside = 4096;
    const bool beside = plane_.faults.beside && piece.remote_offset >= kBeside && plane_.scheduler().dice().Chance(0.1);
    std::memcpy(beside ? far - kBeside : far, piece.local, piece.length);
  } else {
    std::memcpy(piece.local, far, piece.length);
  }
  return Status::Ok();
}

Status SimLink::BrokenOff(Direction direction, const Todo& todo, size_t from, Code otherwise) {
  const bool write = direction == Direction::kWrite;
  if (!write || connection_->hub->one_sided) return Status(otherwise, "the transfer broke off");
  // The node has closed the connection: it will not take anything from it any more.
  if (connection_->far_closed || !connection_->hub->open) return Status(Code::kPeerUnreachable, "closed by the node");
  for (size_t i = from; i < todo.pieces.size(); ++i) {
    plane_.SendLate(connection_, PlaceOf(todo.pieces[i]), todo.pieces[i].local);
  }
  return Status(Code::kUnconfirmed, "the transfer broke off");
}

const std::byte* SimLink::View(fabric::RegionRef ref, uint64_t offset, uint64_t length) {
  if (!connection_->hub->one_sided || !alive()) return nullptr;
  const auto region = connection_->hub->regions->Resolve(ref, offset, length, Direction::kRead);
  if (!region.ok()) return nullptr;
  connection_->mapped.push_back(*region);
  return (*region)->memory.data() + offset;
}

class SimListener final : public fabric::Listener {
 public:
  explicit SimListener(std::shared_ptr<Hub> hub) : plane_(*DataPlane::Current()), hub_(std::move(hub)) {}
  ~SimListener() override {
    plane_.hubs.erase(hub_->address);
    hub_->open = false;
    const auto connections = hub_->connections;
    for (const auto& connection : connections) plane_.CloseFar(connection);
    hub_->fences.clear();
    hub_->regions = nullptr;
  }
  fabric::Endpoint endpoint() const override { return {hub_->transport, hub_->address}; }
  void Fence(uint64_t session, std::function<void()> done) override {
    if (plane_.faults.fence_lies && session != 0) return done();
    if (session != 0) hub_->fenced.insert(session);
    Hub::Fence fence;
    fence.done = std::move(done);
    const auto connections = hub_->connections;
    for (const auto& connection : connections) {
      if (session == 0 || connection->session == session) fence.left.push_back(connection);
    }
    const auto closing = fence.left;
    hub_->fences.push_back(std::move(fence));
    for (const auto& connection : closing) plane_.CloseFar(connection);
    DataPlane::FinishFences(*hub_);
  }
  void RefuseBelow(uint64_t session) override { hub_->first_session = std::max(hub_->first_session, session); }
  uint64_t connections() const override { return hub_->connections.size(); }

 private:
  DataPlane& plane_;
  const std::shared_ptr<Hub> hub_;
};

class SimTransport final : public fabric::Transport {
 public:
  SimTransport(const char* name, bool one_sided, int rank)
      : capabilities_{.name = name,
                      .same_host_only = one_sided,
                      .device_memory = false,
                      .one_sided = one_sided,
                      .rank = rank} {}
  const fabric::Capabilities& capabilities() const override { return capabilities_; }
  Result<std::unique_ptr<fabric::Listener>> Listen(const fabric::ListenOptions& options,
                                                   fabric::RegionTable& regions) override {
    DataPlane& plane = *DataPlane::Current();
    auto hub = std::make_shared<Hub>();
    hub->owner = plane.scheduler().process();
    hub->node = plane.nodes_.at(hub->owner.get());
    hub->transport = capabilities_.name;
    hub->one_sided = capabilities_.one_sided;
    hub->presence_file = options.presence_file;
    // A node listens where it did before; the socket of its host has a new number each time.
    uint64_t& port = plane.ports[hub->node + (capabilities_.one_sided ? " shm" : " tcp")];
    if (port == 0 || capabilities_.one_sided) port = 1000 + plane.next_port++;
    hub->address = "127.0.0.1:" + std::to_string(port);
    hub->regions = &regions;
    plane.hubs[hub->address] = hub;
    return std::unique_ptr<fabric::Listener>(new SimListener(std::move(hub)));
  }
  Result<std::shared_ptr<fabric::Link>> Connect(const std::string& address, const fabric::LinkOptions& options,
                                                TimePoint deadline) override;

 private:
  const fabric::Capabilities capabilities_;
};

Result<std::shared_ptr<fabric::Link>> SimTransport::Connect(const std::string& address,
                                                            const fabric::LinkOptions& options, TimePoint deadline) {
  DataPlane& plane = *DataPlane::Current();
  Scheduler& scheduler = plane.scheduler();
  const Nanos until = FromSteady(deadline.time_since_epoch().count());
  scheduler.Wait(nullptr, scheduler.now() + plane.Latency());
  MMC_ASSIGN_OR_RETURN(auto hub, plane.FindHub(address));
  auto connection = std::make_shared<Connection>();
  connection->hub = hub;
  connection->session = options.session;
  connection->client = scheduler.process();
  connection->writable = options.access == fabric::Access::kReadWrite;
  while (hub->open && (hub->owner->frozen || (!hub->one_sided && plane.Cannot(*connection)))) {
    if (scheduler.now() >= until) return Status(Code::kPeerUnreachable, "no answer");
    scheduler.Sleep(20 * kMilli);
  }
  if (!hub->open) return Status(Code::kPeerUnreachable, "nobody listens there any more");
  const bool refused = options.session != 0 &&
                       (hub->fenced.contains(options.session) || options.session < hub->first_session);
  if (refused) return Status(Code::kPermission, "the session is fenced");
  if (hub->one_sided && !hub->presence_file.empty()) {
    connection->presence = ::open(hub->presence_file.c_str(), O_RDONLY | O_CLOEXEC);
    if (connection->presence >= 0 && ::flock(connection->presence, LOCK_SH | LOCK_NB) != 0) {
      return Status(Code::kPeerUnreachable, "the presence file is taken");
    }
  }
  hub->connections.push_back(connection);
  plane.all_connections.push_back(connection);
  return std::shared_ptr<fabric::Link>(std::make_shared<SimLink>(std::move(connection), capabilities_));
}

SimTransport& TransportOf(bool one_sided) {
  static SimTransport shm("shm", true, 0), tcp("tcp", false, 1);
  return one_sided ? shm : tcp;
}

}  // namespace

DataPlane::DataPlane(Scheduler& scheduler) : scheduler_(scheduler) { current_ = this; }

Result<std::shared_ptr<Hub>> DataPlane::FindHub(const std::string& address) const {
  const auto it = hubs.find(address);
  if (it == hubs.end()) return Status(Code::kPeerUnreachable, "nobody listens at " + address);
  return it->second;
}

void DataPlane::Partition(const ProcessPtr& client, const std::string& node, bool on) {
  if (on) {
    partitioned_.insert({client.get(), node});
  } else {
    partitioned_.erase({client.get(), node});
  }
}

bool DataPlane::Cannot(const Connection& connection) const {
  return partitioned_.contains({connection.client.get(), connection.hub->node});
}

Nanos DataPlane::Latency() {
  Dice& dice = scheduler_.dice();
  if (faults.slow > 0 && dice.Chance(faults.slow)) return dice.Skewed(kMilli, faults.slow_up_to);
  return dice.Skewed(5 * kMicro, kMilli);
}

void DataPlane::Cut(const std::string& node) {
  for (const auto& [address, hub] : hubs) {
    if (hub->node != node || hub->one_sided) continue;
    const auto connections = hub->connections;
    for (const auto& connection : connections) CloseFar(connection);
  }
}

void DataPlane::SendLate(const std::shared_ptr<Connection>& connection, const Place& place, const std::byte* local) {
  auto bytes = std::make_shared<std::string>(reinterpret_cast<const char*>(local), place.length);
  flights.push_back({connection, place, nullptr, true});
  const auto flight = std::prev(flights.end());
  scheduler_.After(scheduler_.dice().Skewed(0, std::max<Nanos>(faults.late_up_to, kMilli)), [=, this] {
    const auto arrive = [=, this] {
      flights.erase(flight);
      if (connection->far_closed || !connection->hub->open) return;
      const fabric::RegionRef ref{place.segment, place.epoch};
      const auto region = connection->hub->regions->Resolve(ref, place.offset, place.length, Direction::kWrite);
      if (!region.ok()) return;
      if (on_write) on_write(place, connection->session);
      std::memcpy((*region)->memory.data() + place.offset, bytes->data(), bytes->size());
    };
    scheduler_.WhenRunning(connection->hub->owner, arrive);
  });
}

void DataPlane::Kill(const ProcessPtr& process) {
  for (auto it = flights.begin(); it != flights.end();) {
    const Flight flight = *it;
    if (flight.late || flight.connection->client != process) {
      ++it;
      continue;
    }
    it = flights.erase(it);
    // What its kernel has taken goes out all the same.
    if (!flight.connection->hub->one_sided && scheduler_.dice().Chance(0.3)) {
      SendLate(flight.connection, flight.place, flight.local);
    }
  }
  const auto all = hubs;
  for (const auto& [address, hub] : all) {
    const auto connections = hub->connections;
    if (hub->owner == process) hub->open = false;
    for (const auto& connection : connections) {
      if (hub->owner == process) CloseFar(connection);
    }
  }
  for (auto it = all_connections.begin(); it != all_connections.end();) {
    const auto connection = it->lock();
    if (connection != nullptr && connection->client == process) CloseNear(*connection);
    it = connection == nullptr || connection->near_closed ? all_connections.erase(it) : std::next(it);
  }
}

// The node closes it. A two-sided one is over with that; of a one-sided the client has to let go, which it does when
// it runs and is in no transfer.
void DataPlane::CloseFar(const std::shared_ptr<Connection>& connection) {
  connection->far_closed = true;
  if (!connection->hub->one_sided) return CloseNear(*connection);
  if (connection->running > 0) return;
  scheduler_.WhenRunning(connection->client, [this, connection] {
    if (connection->running == 0) CloseNear(*connection);
  });
}

void DataPlane::CloseNear(Connection& connection) {
  // What a client of its own accord or by its death closes may still be on its way to a two-sided node.
  if (std::exchange(connection.near_closed, true)) return;
  if (connection.presence >= 0) ::close(std::exchange(connection.presence, -1));
  if (connection.hub->one_sided) {
    connection.far_closed = true;
  }
  FinishFences(*connection.hub);
}

void DataPlane::FinishFences(Hub& hub) {
  const auto through = [&](const Connection& connection) {
    return hub.one_sided ? connection.near_closed : connection.far_closed;
  };
  std::vector<std::function<void()>> done;
  for (auto it = hub.fences.begin(); it != hub.fences.end();) {
    std::erase_if(it->left, [&](const auto& connection) { return through(*connection); });
    const bool finished = it->left.empty();
    if (finished) done.push_back(std::move(it->done));
    it = finished ? hub.fences.erase(it) : it + 1;
  }
  std::erase_if(hub.connections, [&](const auto& connection) { return through(*connection); });
  for (auto& call : done) call();
}

bool DataPlane::WriteUnderWay(const Place& place) const {
  return std::any_of(flights.begin(), flights.end(), [&](const Flight& flight) {
    const Connection& connection = *flight.connection;
    const bool over = connection.hub->one_sided ? connection.near_closed
                                                : connection.far_closed || !connection.hub->open;
    return !over && Overlap(flight.place, place);
  });
}

}  // namespace mmc::sim

namespace mmc::fabric {

// In the place of the registry with sockets.
std::vector<Transport*> AllTransports() { return {&sim::TransportOf(true), &sim::TransportOf(false)}; }

Transport* FindTransport(std::string_view name) {
  for (Transport* transport : AllTransports()) {
    if (name == transport->capabilities().name) return transport;
  }
  return nullptr;
}

}  // namespace mmc::fabric
