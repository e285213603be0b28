#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "fabric/address.h"
#include "fabric/link_base.h"
#include "fabric/ops.h"
#include "fabric/tcp/lane.h"
#include "fabric/tcp/socket.h"
#include "fabric/tcp/tcp.h"

namespace mmc::fabric::tcp {
namespace {

constexpr int kMaxLanes = 64;
constexpr uint64_t kCutAlignment = 64 << 10;  // lanes share a transfer at multiples of this
// How long a broken-off write waits for the peer to close, so that it can be told from one that may still be applied.
constexpr std::chrono::seconds kQuiesce{1};

class TcpLink final : public LinkBase {
 public:
  TcpLink(std::string address, const LinkOptions& options)
      : address_(std::move(address)),
        options_(options),
        lanes_(static_cast<size_t>(std::clamp(options.connections, 1, kMaxLanes))) {
    hello_.access = static_cast<uint8_t>(options.access);
    hello_.session = options.session;
    hello_.link = NewNonce();
    for (Lane& lane : lanes_) free_.push_back(&lane);
  }
  ~TcpLink() override { Close(); }

  Status ConnectFirst(TimePoint deadline) { return Connect(lanes_.front(), deadline); }
  const Capabilities& capabilities() const override { return kCapabilities; }
  bool alive() const override;

 protected:
  Status Transfer(const Work& work) override;
  void OnClosed() override;

 private:
  // The lanes of one transfer.
  struct Team {
    std::array<Lane*, kMaxLanes> lanes;
    size_t size = 0;
  };

  Status Connect(Lane& lane, TimePoint deadline) {
    return lane.Connect(address_, options_, hello_, deadline);
  }
  Status Take(uint64_t total, TimePoint deadline, Team* team) MMC_EXCLUDES(lanes_mutex_);
  void Give(const Team& team) MMC_EXCLUDES(lanes_mutex_);
  Status ConnectTeam(Team* team, TimePoint deadline);
  uint64_t Split(Direction direction, std::span<const Op> ops, uint64_t total, const Team& team);
  bool Drive(const Team& team, TimePoint deadline);
  bool AdvanceAll(const Team& team, bool* finished);
  void Wait(const Team& team, TimePoint deadline);
  Status BreakOff(Direction direction, const Team& team);
  Status Outcome(const Team& team);

  const std::string address_;
  const LinkOptions options_;
  Hello hello_;
  std::vector<Lane> lanes_;  // a lane is touched only by whoever has taken it from free_
  mutable Mutex lanes_mutex_;
  CondVar lane_free_;
  std::vector<Lane*> free_ MMC_GUARDED_BY(lanes_mutex_);
};

bool TcpLink::alive() const {
  if (broken()) return false;
  MutexLock lock(lanes_mutex_);
  for (const Lane* lane : free_) {
    if (lane->connected() && lane->PeerGone()) return false;
  }
  return true;
}

void TcpLink::OnClosed() {
  MutexLock lock(lanes_mutex_);
  for (Lane* lane : free_) lane->Disconnect();
}

// One lane, waiting for it; for a big transfer others too, as far as they are free.
Status TcpLink::Take(uint64_t total, TimePoint deadline, Team* team) {
  const uint64_t stripe = std::max<uint64_t>(options_.stripe_bytes, kCutAlignment);
  const uint64_t wanted = std::clamp<uint64_t>(total / stripe, 1, lanes_.size());
  MutexLock lock(lanes_mutex_);
  while (free_.empty()) {
    if (!lane_free_.WaitUntil(lanes_mutex_, deadline) && free_.empty()) {
      return Status(Code::kDeadline, "all " + std::to_string(lanes_.size()) + " connections to " + address_ +
                                         " were busy until the deadline");
    }
  }
  while (team->size < wanted && !free_.empty()) {
    // Connected ones first.
    auto best = std::find_if(free_.rbegin(), free_.rend(), [](const Lane* lane) { return lane->connected(); });
    if (best == free_.rend()) best = free_.rbegin();
    team->lanes[team->size++] = *best;
    free_.erase(std::next(best).base());
  }
  return Status::Ok();
}

void TcpLink::Give(const Team& team) {
  MutexLock lock(lanes_mutex_);
  for (size_t i = 0; i < team.size; ++i) free_.push_back(team.lanes[i]);
  lane_free_.NotifyAll();
}

// The first lane must connect; another that cannot is left out.
Status TcpLink::ConnectTeam(Team* team, TimePoint deadline) {
  Team connected;
  Team left_out;
  Status status;
  for (size_t i = 0; i < team->size; ++i) {
    Lane* const lane = team->lanes[i];
    if (!lane->connected()) {
      if (Status s = Connect(*lane, deadline); !s.ok()) {
        left_out.lanes[left_out.size++] = lane;
        if (status.ok()) status = std::move(s);
        continue;
      }
    }
    connected.lanes[connected.size++] = lane;
  }
  Give(left_out);
  *team = connected;
  if (team->size > 0) return Status::Ok();
  // A peer that refuses or is gone will not take the next one either.
  if (status.code() != Code::kDeadline) Break();
  return status.code() == Code::kDeadline ? status : Status(Code::kPeerUnreachable, status.ToString());
}

// Gives each lane its part. Answers the steps it took.
uint64_t TcpLink::Split(Direction direction, std::span<const Op> ops, uint64_t total, const Team& team) {
  PieceReader reader(ops);
  uint64_t done = 0;
  for (size_t i = 0; i < team.size; ++i) {
    const bool last = i + 1 == team.size;
    const uint64_t end = last ? total : total / team.size * (i + 1) / kCutAlignment * kCutAlignment;
    team.lanes[i]->Begin(direction, reader, end - done);
    if (!last) reader.Skip(end - done);
    done = end;
  }
  return reader.steps();
}

// One round over the lanes. True when any of them moved.
bool TcpLink::AdvanceAll(const Team& team, bool* finished) {
  bool moved = false;
  *finished = true;
  for (size_t i = 0; i < team.size; ++i) {
    Lane& lane = *team.lanes[i];
    if (lane.finished()) continue;
    const Lane::Step step = lane.Advance();
    moved |= step == Lane::Step::kMoved;
    *finished &= step == Lane::Step::kFinished;
  }
  return moved;
}

void TcpLink::Wait(const Team& team, TimePoint deadline) {
  std::array<pollfd, kMaxLanes> waits;
  nfds_t count = 0;
  for (size_t i = 0; i < team.size; ++i) {
    if (!team.lanes[i]->finished()) waits[count++] = {team.lanes[i]->fd(), team.lanes[i]->wants(), 0};
  }
  poll(waits.data(), count, PollTimeout(deadline));
}

// Runs the lanes until all have finished. False at the deadline.
bool TcpLink::Drive(const Team& team, TimePoint deadline) {
  TimePoint spin_end = TimePoint::min();
  for (;;) {
    bool finished = false;
    const bool moved = AdvanceAll(team, &finished);
    if (finished) return true;
    const TimePoint now = std::chrono::steady_clock::now();
    if (now >= deadline) return false;
    if (moved) {
      spin_end = now + options_.spin;
    } else if (now >= spin_end) {
      Wait(team, deadline);
      spin_end = TimePoint::min();
    }
  }
}

// At the deadline: nobody writes any more before this returns, or it says that this is not sure.
Status TcpLink::BreakOff(Direction direction, const Team& team) {
  for (size_t i = 0; i < team.size; ++i) {
    if (!team.lanes[i]->finished() && direction == Direction::kWrite) team.lanes[i]->HalfClose();
  }
  const TimePoint end = std::chrono::steady_clock::now() + kQuiesce;
  bool certain = true;
  for (size_t i = 0; i < team.size; ++i) {
    Lane& lane = *team.lanes[i];
    if (lane.finished()) {
      certain &= lane.status().code() != Code::kUnconfirmed;
    } else {
      certain &= lane.AwaitEnd(direction, end);
    }
  }
  if (certain) return Status(Code::kDeadline, "the transfer with " + address_ + " was not over at the deadline");
  return Status(Code::kUnconfirmed, address_ + " did not close a connection whose write broke off");
}

// The worst of what the lanes say: uncertainty, then a refusal, then a loss.
Status TcpLink::Outcome(const Team& team) {
  const auto rank = [](Code code) {
    switch (code) {
      case Code::kOk:
        return 0;
      case Code::kPeerUnreachable:
        return 1;
      case Code::kUnconfirmed:
        return 3;
      default:
        return 2;
    }
  };
  Status worst;
  for (size_t i = 0; i < team.size; ++i) {
    const Lane& lane = *team.lanes[i];
    if (lane.lost()) Break();
    if (rank(lane.status().code()) > rank(worst.code())) worst = lane.status();
  }
  return worst.Annotate(address_);
}

Status TcpLink::Transfer(const Work& work) {
  Team team;
  MMC_RETURN_IF_ERROR(Take(work.total, work.deadline, &team));
  if (Status status = ConnectTeam(&team, work.deadline); !status.ok()) return status;
  uint64_t steps = Split(work.direction, work.ops, work.total, team);
  const bool in_time = Drive(team, work.deadline);
  Status status = in_time ? Outcome(team) : BreakOff(work.direction, team);
  uint64_t pieces = 0;
  uint64_t requests = 0;
  for (size_t i = 0; i < team.size; ++i) {
    steps += team.lanes[i]->steps();
    pieces += team.lanes[i]->pieces();
    requests += team.lanes[i]->requests();
  }
  Give(team);
  Count(steps, pieces, requests, status.ok() ? work.total : 0);
  return status;
}

class TcpTransport final : public Transport {
 public:
  const Capabilities& capabilities() const override { return kCapabilities; }
  Result<std::unique_ptr<Listener>> Listen(const ListenOptions& options, RegionTable& regions) override {
    return tcp::Listen(options, regions);
  }
  Result<std::shared_ptr<Link>> Connect(const std::string& address, const LinkOptions& options,
                                        TimePoint deadline) override {
    return tcp::Connect(address, options, deadline);
  }
};

}  // namespace

Result<std::shared_ptr<Link>> Connect(const std::string& address, const LinkOptions& options, TimePoint deadline) {
  auto link = std::make_shared<TcpLink>(address, options);
  MMC_RETURN_IF_ERROR(link->ConnectFirst(deadline));
  return std::shared_ptr<Link>(std::move(link));
}

Transport& Instance() {
  static TcpTransport* const transport = new TcpTransport();
  return *transport;
}

}  // namespace mmc::fabric::tcp
