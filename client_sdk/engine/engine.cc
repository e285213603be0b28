#include "client_sdk/engine/engine.h"

#include <algorithm>
#include <atomic>
#include <thread>
#include <utility>

#include "common/base/clock.h"

namespace mmc::engine {
namespace {

using std::chrono::milliseconds;

constexpr size_t kAsyncQueue = 4096;
constexpr milliseconds kLongestTime{365ll * 24 * 3600 * 1000};
constexpr milliseconds kGentle{1000};  // for accesses of others to end by themselves
constexpr milliseconds kCut{5000};     // and, with their connections closed, at all
constexpr std::chrono::microseconds kLook{200};
// Others keep what they have mapped till their connection ends: files and addresses of theirs.
constexpr uint32_t kFreedPerCut = 64;

TimePoint DeadlineFor(const EngineOptions& options, milliseconds timeout, uint64_t bytes) {
  const milliseconds time = std::min(timeout.count() > 0 ? timeout : options.timeout, kLongestTime);
  const auto share = std::chrono::nanoseconds(timeout.count() > 0 ? 0 : std::min<uint64_t>(bytes, uint64_t{1} << 50));
  return Clock::Real().Now() + time + share;
}

Status CheckOptions(const EngineOptions& options) {
  const auto within = [](int value, int least, int most) { return value >= least && value <= most; };
  if (!within(options.tcp_connections, 1, 64) || !within(options.tcp_threads, 1, 64) ||
      !within(options.copy_threads, 0, 64) || !within(options.async_threads, 1, 256)) {
    return Status(Code::kInvalidArgument,
                  "tcp_connections and tcp_threads are 1 to 64, copy_threads 0 to 64, async_threads 1 to 256");
  }
  if (options.timeout.count() > 0) return Status::Ok();
  return Status(Code::kInvalidArgument, "timeout must be more than 0");
}

// Pieces that have bytes, and how many those are.
Result<uint64_t> DropEmpty(std::vector<Piece>* pieces) {
  std::erase_if(*pieces, [](const Piece& piece) { return piece.bytes == 0; });
  uint64_t sum = 0;
  for (const Piece& piece : *pieces) {
    if (piece.local == 0 || piece.bytes > ~uint64_t{0} - piece.local || piece.bytes > ~uint64_t{0} - sum) {
      return Status(Code::kInvalidArgument, "there is no memory of " + std::to_string(piece.bytes) +
                                                " bytes at address " + std::to_string(piece.local));
    }
    sum += piece.bytes;
  }
  return sum;
}

}  // namespace

Engine::Engine() : memory_(std::make_shared<LentMemory>()) {}

Status Engine::Start(const EngineOptions& options) {
  if (running()) return Status(Code::kExists, "the transfer engine runs already; close it first");
  MMC_RETURN_IF_ERROR(CheckOptions(options));
  MMC_ASSIGN_OR_RETURN(const auto tls, security::TlsContext::LoadFor(options.tls, {security::Role::kLocal}));
  auto made = std::make_shared<Net>();
  made->options = options;
  MMC_ASSIGN_OR_RETURN(made->service, Service::Start(options, tls, memory_));
  made->peers = std::make_unique<Peers>(options, tls);
  made->async = std::make_unique<client::AsyncPool>(options.async_threads, kAsyncQueue);
  MutexLock lock(mutex_);
  net_ = std::move(made);
  return Status::Ok();
}

void Engine::Close() {
  std::shared_ptr<Net> closing;
  {
    MutexLock lock(mutex_);
    closing = std::exchange(net_, nullptr);
  }
  if (closing == nullptr) return;
  closing->peers->Close();
  // What waits there runs, and fails at once.
  closing->async->Close();
  closing->service.reset();
}

Result<std::shared_ptr<Engine::Net>> Engine::Running() const {
  auto out = net();
  if (out == nullptr) return Status(Code::kClosed, "the transfer engine is not started");
  return out;
}

uint16_t Engine::port() const {
  MutexLock lock(mutex_);
  return net_ == nullptr ? uint16_t{0} : net_->service->port();
}

Status Engine::AwaitUnused(const std::weak_ptr<const fabric::Region>& in_use) {
  const auto wait = [&in_use](milliseconds time) {
    const TimePoint end = Clock::Real().Now() + time;
    bool unused = in_use.expired();
    while (!unused && Clock::Real().Now() < end) {
      std::this_thread::sleep_for(kLook);
      unused = in_use.expired();
    }
    // What the access wrote is seen by whoever sees that it is over.
    std::atomic_thread_fence(std::memory_order_acquire);
    return unused;
  };
  if (wait(kGentle)) return Status::Ok();
  {
    MutexLock lock(mutex_);
    if (net_ != nullptr) net_->service->CutNetwork();
  }
  if (wait(kCut)) return Status::Ok();
  return Status(Code::kDeadline, "the memory is still being read or written by another process");
}

Status Engine::Unregister(uint64_t address) {
  MMC_ASSIGN_OR_RETURN(const LentMemory::Taken taken, memory_->Unregister(address));
  return AwaitUnused(taken.in_use);
}

Status Engine::Free(uint64_t address) {
  MMC_ASSIGN_OR_RETURN(LentMemory::Taken taken, memory_->Free(address));
  const Status unused = AwaitUnused(taken.in_use);
  if (!unused.ok()) {
    // Better lost than written to by an access that still runs.
    new std::shared_ptr<void>(std::move(taken.memory));
    return unused;
  }
  if (taken.shared == nullptr) return Status::Ok();
  Discard(*taken.shared);
  MutexLock lock(mutex_);
  if (++freed_shared_ % kFreedPerCut == 0 && net_ != nullptr) net_->service->CutHost();
  return Status::Ok();
}

Status Engine::Transfer(fabric::Direction direction, const std::string& target, std::span<const Piece> pieces,
                        milliseconds timeout) {
  MMC_ASSIGN_OR_RETURN(const auto running, Running());
  std::vector<Piece> kept(pieces.begin(), pieces.end());
  MMC_ASSIGN_OR_RETURN(const uint64_t bytes, DropEmpty(&kept));
  if (kept.empty()) return Status::Ok();
  return running->peers->Transfer(direction, target, kept, DeadlineFor(running->options, timeout, bytes));
}

Status Engine::Send(const std::string& target, const Note& note) {
  MMC_ASSIGN_OR_RETURN(const auto running, Running());
  return running->peers->Send(target, note, DeadlineFor(running->options, milliseconds(0), 0));
}

Result<uint64_t> Engine::FirstAddress(const std::string& target) {
  MMC_ASSIGN_OR_RETURN(const auto running, Running());
  return running->peers->FirstAddress(target, DeadlineFor(running->options, milliseconds(0), 0));
}

std::vector<Note> Engine::TakeNotes() {
  MutexLock lock(mutex_);
  return net_ == nullptr ? std::vector<Note>() : net_->service->TakeNotes();
}

Result<uint64_t> Engine::Submit(fabric::Direction direction, std::string target, std::vector<Piece> pieces,
                                milliseconds timeout) {
  MMC_ASSIGN_OR_RETURN(const auto running, Running());
  uint64_t number = 0;
  {
    MutexLock lock(submitted_mutex_);
    if (submitted_.size() >= kMaxSubmitted) {
      return Status(Code::kQueueFull, std::to_string(kMaxSubmitted) + " transfers were submitted and not asked about");
    }
    number = ++last_number_;
    submitted_[number] = {};
  }
  // Not `running`: the job would keep the threads that it runs on. The pool ends its jobs before the engine goes.
  Status started = running->async->Submit([this, number, direction, target = std::move(target),
                                           pieces = std::move(pieces), timeout] {
    Status outcome = Transfer(direction, target, pieces, timeout);
    MutexLock lock(submitted_mutex_);
    submitted_[number] = {true, std::move(outcome)};
    ended_.NotifyAll();
  });
  if (started.ok()) return number;
  MutexLock lock(submitted_mutex_);
  submitted_.erase(number);
  return started;
}

Engine::Progress Engine::Take(uint64_t number, Status* outcome) {
  MutexLock lock(submitted_mutex_);
  const auto found = submitted_.find(number);
  if (found == submitted_.end()) return Progress::kUnknown;
  if (!found->second.ended) return Progress::kRunning;
  *outcome = std::move(found->second.outcome);
  submitted_.erase(found);
  return Progress::kEnded;
}

Status Engine::TakeWaiting(uint64_t number) {
  Status outcome;
  MutexLock lock(submitted_mutex_);
  // Each transfer has a deadline and ends.
  for (;;) {
    const auto found = submitted_.find(number);
    if (found == submitted_.end()) {
      return Status(Code::kNotFound, "transfer " + std::to_string(number) + " was not submitted, or taken already");
    }
    if (found->second.ended) {
      outcome = std::move(found->second.outcome);
      submitted_.erase(found);
      return outcome;
    }
    ended_.Wait(submitted_mutex_);
  }
}

EngineStats Engine::stats() const {
  MutexLock lock(mutex_);
  if (net_ == nullptr) return {};
  const PeerCounters& counters = net_->peers->counters();
  return {counters.shm_bytes.load(), counters.tcp_bytes.load()};
}

}  // namespace mmc::engine
