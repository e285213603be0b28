#include "fabric/loopback/loopback.h"

#include <algorithm>
#include <array>
#include <map>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "fabric/address.h"
#include "fabric/copy/copy_engine.h"
#include "fabric/fenced_sessions.h"
#include "fabric/link_base.h"
#include "fabric/ops.h"

namespace mmc::fabric::loopback {
namespace {

constexpr Capabilities kCapabilities{
    .name = "loopback", .same_host_only = true, .device_memory = false, .one_sided = true, .rank = 0};
constexpr uint64_t kCopyPiece = 1 << 20;  // faults and deadlines are looked at between pieces

// What a listener and its links share. Outlives both.
class Hub {
 public:
  Hub(HostAddress address, RegionTable& regions, uint32_t max_connections)
      : address_(std::move(address)), regions_(&regions), max_connections_(max_connections) {}

  const HostAddress& address() const { return address_; }

  Status Connect(uint64_t session) {
    MutexLock lock(mutex_);
    if (!open_ || plan_.fail_connect) return Status(Code::kPeerUnreachable, address_.place + " does not answer");
    if (sessions_.Refuses(session)) {
      return Status(Code::kPermission, "session " + std::to_string(session) + " is fenced");
    }
    if (connections_ >= max_connections_) {
      return Status(Code::kPeerUnreachable, address_.place + " has all its connections in use");
    }
    ++connections_;
    return Status::Ok();
  }
  void Disconnect() {
    MutexLock lock(mutex_);
    --connections_;
  }

  // Brackets one transfer of a link; the regions stay valid in between. Null: the far side is gone.
  const RegionTable* Enter(uint64_t session, uint64_t generation, FaultPlan* plan) {
    MutexLock lock(mutex_);
    if (!open_ || sessions_.Fenced(session) || generation != generation_) return nullptr;
    ++running_[session];
    *plan = plan_;
    return regions_;
  }
  void Leave(uint64_t session) {
    std::vector<std::function<void()>> done;
    {
      MutexLock lock(mutex_);
      if (--running_[session] == 0) running_.erase(session);
      done = TakeFinishedFences();
      changed_.NotifyAll();
    }
    for (auto& call : done) call();
  }

  // How many of `bytes` may still move before the planned cut.
  uint64_t Spend(uint64_t bytes) {
    MutexLock lock(mutex_);
    const uint64_t allowed = std::min(bytes, plan_.cut_after);
    if (plan_.cut_after != UINT64_MAX) plan_.cut_after -= allowed;
    if (allowed < bytes) ++generation_;  // the cut: every link there is breaks
    return allowed;
  }
  uint64_t generation() {
    MutexLock lock(mutex_);
    return generation_;
  }
  bool Gone(uint64_t session, uint64_t generation) {
    MutexLock lock(mutex_);
    return !open_ || sessions_.Fenced(session) || generation != generation_;
  }

  void SetPlan(FaultPlan plan) {
    MutexLock lock(mutex_);
    plan_ = std::move(plan);
  }

  void Fence(uint64_t session, std::function<void()> done) {
    std::vector<std::function<void()>> finished;
    {
      MutexLock lock(mutex_);
      if (session == 0) {
        ++generation_;
      } else {
        sessions_.Add(session);
      }
      fences_.push_back({session, std::move(done)});
      finished = TakeFinishedFences();
    }
    for (auto& call : finished) call();
  }

  void RefuseBelow(uint64_t session) {
    MutexLock lock(mutex_);
    sessions_.RefuseBelow(session);
  }

  void Shut() {
    MutexLock lock(mutex_);
    open_ = false;
    while (!running_.empty()) changed_.Wait(mutex_);
    regions_ = nullptr;
  }
  uint64_t connections() {
    MutexLock lock(mutex_);
    return connections_;
  }

 private:
  std::vector<std::function<void()>> TakeFinishedFences() MMC_REQUIRES(mutex_) {
    std::vector<std::function<void()>> done;
    for (auto it = fences_.begin(); it != fences_.end();) {
      const bool finished = it->first == 0 ? running_.empty() : !running_.contains(it->first);
      if (finished) done.push_back(std::move(it->second));
      it = finished ? fences_.erase(it) : it + 1;
    }
    return done;
  }

  const HostAddress address_;
  Mutex mutex_;
  CondVar changed_;
  RegionTable* regions_ MMC_GUARDED_BY(mutex_);
  const uint32_t max_connections_;
  bool open_ MMC_GUARDED_BY(mutex_) = true;
  uint64_t generation_ MMC_GUARDED_BY(mutex_) = 0;
  uint64_t connections_ MMC_GUARDED_BY(mutex_) = 0;
  FaultPlan plan_ MMC_GUARDED_BY(mutex_);
  std::unordered_map<uint64_t, uint64_t> running_ MMC_GUARDED_BY(mutex_);
  FencedSessions sessions_ MMC_GUARDED_BY(mutex_);
  std::vector<std::pair<uint64_t, std::function<void()>>> fences_ MMC_GUARDED_BY(mutex_);
};

struct Names {
  Mutex mutex;
  std::map<std::string, std::shared_ptr<Hub>, std::less<>> hubs MMC_GUARDED_BY(mutex);
};

Names& AllNames() {
  static Names* const names = new Names();  // links in statics may outlive statics of ours
  return *names;
}

std::shared_ptr<Hub> FindHub(std::string_view address) {
  const HostAddress wanted = ParseHostAddress(address);
  Names& names = AllNames();
  MutexLock lock(names.mutex);
  const auto it = names.hubs.find(wanted.place);
  if (it == names.hubs.end()) return nullptr;
  if (wanted.nonce != 0 && wanted.nonce != it->second->address().nonce) return nullptr;
  return it->second;
}

class LoopbackLink final : public LinkBase {
 public:
  LoopbackLink(std::shared_ptr<Hub> hub, const LinkOptions& options)
      : hub_(std::move(hub)), options_(options), generation_(hub_->generation()), engine_(options.copy_threads) {}
  ~LoopbackLink() override { Close(); }

  const Capabilities& capabilities() const override { return kCapabilities; }
  bool alive() const override { return !broken() && !hub_->Gone(options_.session, generation_); }
  bool observes() const override { return options_.copy_threads == 0; }

 protected:
  Status Transfer(const Work& work) override;
  void OnClosed() override { hub_->Disconnect(); }

 private:
  Status Move(const RegionTable& regions, const Work& work, const FaultPlan& plan);
  Status Refuse(RegionCache& regions, Direction direction, std::span<const Op> ops);
  Status Drop(Direction direction, TimePoint deadline);

  const std::shared_ptr<Hub> hub_;
  const LinkOptions options_;
  const uint64_t generation_;
  CopyEngine engine_;
};

Status LoopbackLink::Transfer(const Work& work) {
  FaultPlan plan;
  const RegionTable* const regions = hub_->Enter(options_.session, generation_, &plan);
  if (regions == nullptr) {
    Break();
    return Status(Code::kPeerUnreachable, hub_->address().place + " is gone or has fenced this session");
  }
  Status status = plan.drop ? Drop(work.direction, work.deadline) : Move(*regions, work, plan);
  hub_->Leave(options_.session);
  return status;
}

Status LoopbackLink::Drop(Direction direction, TimePoint deadline) {
  Hold never;
  never.Pass(deadline);
  return Status(direction == Direction::kWrite ? Code::kUnconfirmed : Code::kDeadline, "the transfer got no answer");
}

// The far side's checks, all of them before a byte moves.
Status LoopbackLink::Refuse(RegionCache& regions, Direction direction, std::span<const Op> ops) {
  if (direction == Direction::kWrite && options_.access == Access::kReadOnly) {
    return Status(Code::kReadOnly, "the link was opened for reads only");
  }
  PieceReader reader(ops);
  Piece piece;
  while (reader.Next(UINT64_MAX, &piece)) {
    MMC_RETURN_IF_ERROR(regions.At(piece.remote, piece.remote_offset, piece.length, direction).status());
  }
  return Status::Ok();
}

Status LoopbackLink::Move(const RegionTable& regions, const Work& work, const FaultPlan& plan) {
  RegionCache cache(regions);
  MMC_RETURN_IF_ERROR(Refuse(cache, work.direction, work.ops));
  PieceReader reader(work.ops);
  Piece piece;
  uint64_t moved = 0;
  uint64_t pieces = 0;
  bool held = plan.hold == nullptr;
  for (;;) {
    if (!held && moved >= plan.hold_at) {
      held = true;
      if (!plan.hold->Pass(work.deadline)) return Status(Code::kDeadline, "the transfer was held past its deadline");
    }
    if (hub_->Gone(options_.session, generation_)) {
      Break();
      return Status(Code::kPeerUnreachable, hub_->address().place + " broke off the transfer");
    }
    if (!reader.Next(held ? kCopyPiece : std::min(kCopyPiece, plan.hold_at - moved), &piece)) break;
    if (std::chrono::steady_clock::now() >= work.deadline) {
      return Status(Code::kDeadline, "the deadline passed after " + std::to_string(moved) + " bytes");
    }
    ++pieces;
    MMC_ASSIGN_OR_RETURN(std::byte* const remote,
                         cache.At(piece.remote, piece.remote_offset, piece.length, work.direction));
    const uint64_t allowed = hub_->Spend(piece.length);
    const bool read = work.direction == Direction::kRead;
    const CopyPiece copy{read ? piece.local : remote, read ? remote : piece.local, allowed};
    if (allowed > 0 && work.observer == nullptr) engine_.Copy({&copy, 1}, allowed);
    if (allowed > 0 && work.observer != nullptr) CopyShown(copy, piece.local, *work.observer);
    moved += allowed;
  }
  Count(reader.steps(), pieces, 1, moved);
  return Status::Ok();
}

class LoopbackListener final : public Listener {
 public:
  explicit LoopbackListener(std::shared_ptr<Hub> hub) : hub_(std::move(hub)) {}
  ~LoopbackListener() override {
    Names& names = AllNames();
    {
      MutexLock lock(names.mutex);
      names.hubs.erase(hub_->address().place);
    }
    hub_->Shut();
  }
  Endpoint endpoint() const override { return {"loopback", FormatHostAddress(hub_->address())}; }
  void Fence(uint64_t session, std::function<void()> done) override { hub_->Fence(session, std::move(done)); }
  void RefuseBelow(uint64_t session) override { hub_->RefuseBelow(session); }
  uint64_t connections() const override { return hub_->connections(); }

 private:
  const std::shared_ptr<Hub> hub_;
};

class LoopbackTransport final : public Transport {
 public:
  const Capabilities& capabilities() const override { return kCapabilities; }

  Result<std::unique_ptr<Listener>> Listen(const ListenOptions& options, RegionTable& regions) override {
    if (options.address.empty()) return Status(Code::kInvalidArgument, "a loopback listener needs a name");
    auto hub = std::make_shared<Hub>(HostAddress{options.address, NewNonce()}, regions, options.max_connections);
    Names& names = AllNames();
    MutexLock lock(names.mutex);
    if (!names.hubs.emplace(options.address, hub).second) {
      return Status(Code::kIo, "loopback name " + options.address + " is in use");
    }
    return std::unique_ptr<Listener>(new LoopbackListener(std::move(hub)));
  }

  Result<std::shared_ptr<Link>> Connect(const std::string& address, const LinkOptions& options,
                                        TimePoint) override {
    auto hub = FindHub(address);
    if (hub == nullptr) return Status(Code::kPeerUnreachable, "nobody listens at loopback " + address);
    MMC_RETURN_IF_ERROR(hub->Connect(options.session));
    return std::shared_ptr<Link>(std::make_shared<LoopbackLink>(std::move(hub), options));
  }
};

}  // namespace

bool Hold::WaitReached(TimePoint deadline) {
  MutexLock lock(mutex_);
  while (!reached_) {
    if (!changed_.WaitUntil(mutex_, deadline)) return reached_;
  }
  return true;
}

void Hold::Release() {
  MutexLock lock(mutex_);
  released_ = true;
  changed_.NotifyAll();
}

bool Hold::Pass(TimePoint deadline) {
  MutexLock lock(mutex_);
  reached_ = true;
  changed_.NotifyAll();
  while (!released_) {
    if (!changed_.WaitUntil(mutex_, deadline)) return released_;
  }
  return true;
}

bool SetFaultPlan(std::string_view address, FaultPlan plan) {
  const auto hub = FindHub(address);
  if (hub == nullptr) return false;
  hub->SetPlan(std::move(plan));
  return true;
}

Transport& Instance() {
  static LoopbackTransport* const transport = new LoopbackTransport();
  return *transport;
}

}  // namespace mmc::fabric::loopback
