#include "client_sdk/src/mover.h"

#include <string_view>

#include "client_sdk/src/hashed_transfer.h"

namespace mmc::client {
namespace {

using fabric::Direction;

// Counts transfers down; the last one wakes the caller.
class Latch {
 public:
  void Expect() {
    MutexLock lock(mutex_);
    ++left_;
  }
  void Done() {
    MutexLock lock(mutex_);
    if (--left_ == 0) zero_.NotifyAll();
  }
  // Without a deadline of its own: each transfer has one and completes exactly once, and until then
  // it may touch the caller's buffers.
  void Wait() {
    MutexLock lock(mutex_);
    while (left_ > 0) zero_.Wait(mutex_);
  }

 private:
  Mutex mutex_;
  CondVar zero_;
  int left_ MMC_GUARDED_BY(mutex_) = 0;
};

// One leg on its way.
struct Run {
  Leg* leg;
  std::shared_ptr<fabric::Link> link;
  Status status;
  bool submitted = false;
};

void SetAll(Leg& leg, const Status& status) {
  for (Leg::Part& part : leg.parts) part.status = status;
}

bool IsRefusal(Code code) {
  return code == Code::kStaleRegion || code == Code::kOutOfRange || code == Code::kReadOnly ||
         code == Code::kInvalidArgument || code == Code::kPermission || code == Code::kLeaseExpired;
}

bool IsLostLink(Code code) { return code == Code::kPeerUnreachable || code == Code::kClosed; }

// From here on another thread moves the bytes while this one takes their checksums.
constexpr uint64_t kOverlapBytes = 1_MiB;

// The first leg runs on this thread, unless this thread has checksums to take meanwhile.
bool SubmitsFirst(Direction direction, const Run& run) {
  if (direction != Direction::kWrite || run.link == nullptr || run.link->observes()) return false;
  uint64_t bytes = 0;
  for (const Leg::Part& part : run.leg->parts) bytes += part.hash ? part.bytes : 0;
  return bytes >= kOverlapBytes;
}

void RunHere(Direction direction, Run& run, TimePoint deadline) {
  run.status = LacksChecksum(*run.leg) && run.link->observes()
                   ? ExecuteHashed(*run.link, direction, *run.leg, deadline)
                   : run.link->Execute(direction, run.leg->ops, deadline);
}

void Submit(Direction direction, std::span<Run> runs, TimePoint deadline, Latch* latch) {
  for (Run& run : runs) {
    if (run.link == nullptr) continue;
    latch->Expect();
    const Status submitted =
        run.link->Submit(direction, run.leg->ops, deadline, [&run, latch](Status status) {
          run.status = std::move(status);
          latch->Done();
        });
    run.submitted = submitted.ok();
    if (!submitted.ok())
      latch->Done();  // a full queue: it runs on this thread, after the first leg
  }
}

// The link broke under the transfer: the same again over a new one.
void RepeatOnNewLink(Core& core, const OpenedSession& opened, Direction direction, Run& run,
                     TimePoint deadline) {
  if (Clock::Real().Now() >= deadline || core.session->closed()) return;
  auto link = core.session->LinkTo(opened, run.leg->node, deadline);
  if (!link.ok()) {
    run.status = link.status();
    return;
  }
  run.link = *link;
  run.status = run.link->Execute(direction, run.leg->ops, deadline);
}

void RepeatPartByPart(Direction direction, Run& run, TimePoint deadline) {
  for (Leg::Part& part : run.leg->parts) {
    const auto ops = std::span(run.leg->ops).subspan(part.op_begin, part.op_end - part.op_begin);
    part.status = run.link->Execute(direction, ops, deadline);
  }
}

void Finish(Core& core, const OpenedSession& opened, Direction direction, Run& run,
            TimePoint deadline) {
  if (run.link != nullptr && IsLostLink(run.status.code())) {
    RepeatOnNewLink(core, opened, direction, run, deadline);
  }
  if (run.link != nullptr && IsRefusal(run.status.code()) && run.leg->parts.size() > 1) {
    RepeatPartByPart(direction, run, deadline);
  } else {
    SetAll(*run.leg, run.status);
  }
}

void Count(Core& core, Direction direction, const Run& run) {
  uint64_t bytes = 0;
  for (const Leg::Part& part : run.leg->parts) bytes += part.status.ok() ? part.bytes : 0;
  if (bytes == 0) return;
  Counters& counters = core.counters;
  (direction == Direction::kWrite ? counters.put_bytes : counters.get_bytes) += bytes;
  const std::string_view transport = run.link->capabilities().name;
  if (transport == "shm") counters.shm_bytes += bytes;
  if (transport == "tcp") counters.tcp_bytes += bytes;
}

}  // namespace

void Move(Core& core, const OpenedSession& opened, Direction direction, std::span<Leg> legs,
          TimePoint deadline) {
  std::vector<Run> runs;
  runs.reserve(legs.size());
  for (Leg& leg : legs) {
    Run& run = runs.emplace_back(Run{&leg, nullptr, Status(), false});
    auto link = core.session->LinkTo(opened, leg.node, deadline);
    if (link.ok()) {
      run.link = std::move(link).value();
    } else {
      run.status = link.status();
    }
  }
  Latch latch;
  const size_t here = !runs.empty() && SubmitsFirst(direction, runs.front()) ? 0 : 1;
  if (runs.size() > here) Submit(direction, std::span(runs).subspan(here), deadline, &latch);
  for (Run& run : runs) {
    if (run.submitted && direction == Direction::kWrite) TakeChecksums(*run.leg, false);
  }
  for (Run& run : runs) {
    if (run.link != nullptr && !run.submitted) RunHere(direction, run, deadline);
  }
  latch.Wait();
  for (Run& run : runs) {
    Finish(core, opened, direction, run, deadline);
    if (direction == Direction::kWrite) TakeChecksums(*run.leg, false);
    Count(core, direction, run);
  }
}

}  // namespace mmc::client
