#include <google/protobuf/message_lite.h>
#include <pthread.h>
#include <signal.h>

#include <algorithm>

#include "common/rpc/tcp_channel_core.h"

namespace mmc::rpc {
namespace {

constexpr size_t kKeepScratch = size_t{1} << 20;

TimePoint Now() { return std::chrono::steady_clock::now(); }

// A frame that is complete but for its request id.
Status BuildFrame(uint16_t method, const google::protobuf::MessageLite& request, TimePoint now, TimePoint deadline,
                  ByteBuffer* frame) {
  frame->Clear();
  if (now >= deadline) return Status(Code::kDeadline, "the deadline had passed before the call was sent");
  return AppendMessage({.method = method, .deadline_or_status = RemainingMs(now, deadline)}, request, frame);
}

// Serialised outside the lock, into memory that each thread keeps.
ByteBuffer& Scratch() {
  thread_local ByteBuffer scratch;
  if (scratch.capacity() > kKeepScratch) scratch = ByteBuffer();
  return scratch;
}

class TcpChannel final : public Channel {
 public:
  TcpChannel(const ChannelOptions& options, Url url)
      : core_(std::make_shared<TcpChannelCore>(options, std::move(url))) {}
  ~TcpChannel() override { core_->Shutdown(); }

  Status CallRaw(uint16_t method, const google::protobuf::MessageLite& request, google::protobuf::MessageLite* reply,
                 TimePoint deadline) override {
    return core_->Call(method, request, reply, deadline);
  }
  void CallRawAsync(uint16_t method, const google::protobuf::MessageLite& request,
                    google::protobuf::MessageLite* reply, TimePoint deadline,
                    std::function<void(Status)> done) override {
    core_->CallAsync(method, request, reply, deadline, std::move(done));
  }
  void Close() override { core_->Close(); }
  uint64_t connection_epoch() const override { return core_->connection_epoch(); }

 private:
  const std::shared_ptr<TcpChannelCore> core_;
};

}  // namespace

TcpChannelCore::TcpChannelCore(const ChannelOptions& options, Url url)
    : options_(options),
      url_(std::move(url)),
      spin_(SpinTime(options.spin)) {}

TcpChannelCore::~TcpChannelCore() = default;

Status TcpChannelCore::AdmitLocked() {
  if (closed_) return Status(Code::kClosed, "the channel to " + url_.ToString() + " is closed");
  if (going_away_) return Status(Code::kShuttingDown, "the service at " + url_.ToString() + " stops");
  if (pending_ >= options_.max_in_flight) {
    return Status(Code::kQueueFull, std::to_string(pending_) + " calls to " + url_.ToString() +
                                        " are in flight; wait for some, or use a further channel");
  }
  if (out_.size() + sending_bytes_ > kMaxQueuedBytes) {
    return Status(Code::kQueueFull, "too many bytes wait to be sent to " + url_.ToString() + "; wait for some calls");
  }
  return Status::Ok();
}

void TcpChannelCore::EnqueueLocked(PendingCall& call, ByteBuffer& frame) {
  if (free_slots_.empty()) {
    free_slots_.push_back(static_cast<uint32_t>(slots_.size()));
    slots_.emplace_back();
  }
  const uint32_t place = free_slots_.back();
  free_slots_.pop_back();
  slots_[place].call = &call;
  call.id = (static_cast<uint64_t>(slots_[place].generation) << 32) | place;
  call.first_byte = queued_bytes_;
  std::memcpy(frame.mutable_data() + 8, &call.id, sizeof(call.id));
  out_.Append(frame.data());
  queued_bytes_ += frame.size();
  ++pending_;
  if (call.sync) return;
  ++pending_async_;
  async_deadlines_.emplace(call.deadline, call.id);
}

TcpChannelCore::PendingCall* TcpChannelCore::TakeLocked(uint64_t id) {
  const auto place = static_cast<uint32_t>(id);
  if (place >= slots_.size() || slots_[place].generation != id >> 32 || slots_[place].call == nullptr) return nullptr;
  PendingCall* call = slots_[place].call;
  slots_[place].call = nullptr;
  if (++slots_[place].generation == 0) slots_[place].generation = 1;
  free_slots_.push_back(place);
  --pending_;
  call->taken = true;
  if (!call->sync) {
    --pending_async_;
    async_deadlines_.erase({call->deadline, call->id});
  }
  return call;
}

void TcpChannelCore::CompleteLocked(PendingCall& call, Status status) {
  call.status = std::move(status);
  call.done = true;
  if (call.sync) {
    if (call.is_linked()) followers_.erase(followers_.iterator_to(call));
    call.wake.NotifyOne();  // under the lock: the call is gone as soon as its thread has seen `done`
    return;
  }
  completed_.emplace_back(&call);
  if (leader_ != Leader::kBackground) background_wake_.NotifyOne();
}

void TcpChannelCore::FailLocked(const std::function<const Status*(const PendingCall&)>& which) {
  for (size_t place = 0; place < slots_.size(); ++place) {
    PendingCall* call = slots_[place].call;
    const Status* status = call == nullptr ? nullptr : which(*call);
    if (status == nullptr) continue;
    TakeLocked(call->id);
    CompleteLocked(*call, *status);
  }
}

void TcpChannelCore::LookAtGoingAwayLocked() {
  if (!going_away_ || leader_ != Leader::kNone || pending_ > 0) return;
  leader_ = Leader::kSync;
  LookAtIdleLocked();
  ReleaseLocked();
}

Status TcpChannelCore::Call(uint16_t method, const google::protobuf::MessageLite& request,
                            google::protobuf::MessageLite* reply, TimePoint deadline) {
  const TimePoint now = Now();
  PendingCall call;
  call.sync = true;
  call.reply = reply;
  call.deadline = deadline > now && deadline - now > kMaxDeadline ? now + kMaxDeadline : deadline;
  ByteBuffer& frame = Scratch();
  MMC_RETURN_IF_ERROR(BuildFrame(method, request, now, call.deadline, &frame));
  {
    MutexLock lock(mutex_);
    LookAtGoingAwayLocked();
    MMC_RETURN_IF_ERROR(AdmitLocked());
    if (leader_ == Leader::kNone) {
      leader_ = Leader::kSync;
      call.leads = true;
      LookAtIdleLocked();
      if (const Status status = AdmitLocked(); !status.ok()) {
        ReleaseLocked();
        return status;
      }
    } else {
      followers_.push_back(call);
    }
    EnqueueLocked(call, frame);
    FlushLocked();
    WaitLocked(call);
    if (call.leads) ReleaseLocked();
  }
  if (call.has_body) return ParseBody(std::as_bytes(std::span(call.body)), reply);
  return call.status;
}

void TcpChannelCore::WaitLocked(PendingCall& call) {
  while (!call.done) {
    if (!call.taken && Now() >= call.deadline) {
      TakeLocked(call.id);
      CompleteLocked(call, Status(Code::kDeadline, "no answer from " + url_.ToString() + " before the deadline"));
    } else if (call.leads) {
      LeadLocked(&call, call.deadline);
    } else if (call.taken) {
      call.wake.Wait(mutex_);
    } else {
      (void)call.wake.WaitUntil(mutex_, call.deadline);
    }
  }
}

void TcpChannelCore::CallAsync(uint16_t method, const google::protobuf::MessageLite& request,
                               google::protobuf::MessageLite* reply, TimePoint deadline,
                               std::function<void(Status)> done) {
  const TimePoint now = Now();
  auto call = std::make_unique<PendingCall>();
  call->reply = reply;
  call->deadline = deadline > now && deadline - now > kMaxDeadline ? now + kMaxDeadline : deadline;
  ByteBuffer& frame = Scratch();
  Status status = BuildFrame(method, request, now, call->deadline, &frame);
  MutexLock lock(mutex_);
  StartBackgroundLocked();
  const bool on_background = std::this_thread::get_id() == background_id_;
  if (!on_background) LookAtGoingAwayLocked();
  if (status.ok()) status = AdmitLocked();
  if (status.ok() && leader_ == Leader::kNone && pending_ == 0 && !on_background) {
    leader_ = Leader::kSync;
    LookAtIdleLocked();
    ReleaseLocked();
    status = AdmitLocked();
  }
  if (!status.ok()) {
    CompleteSoonLocked(std::move(done), std::move(status));
    return;
  }
  call->on_done = std::move(done);
  EnqueueLocked(*call, frame);
  const TimePoint until = call->deadline;
  (void)call.release();  // owned by its slot now, then by completed_
  // Callbacks that send the next calls: those go out together when the callbacks have run.
  if (!on_background) FlushLocked();
  if (leader_ == Leader::kNone) {
    background_wake_.NotifyOne();
  } else if (until < leader_sleeps_until_) {
    WakeLeaderLocked();
  }
}

void TcpChannelCore::CompleteSoonLocked(std::function<void(Status)> done, Status status) {
  auto call = std::make_unique<PendingCall>();
  call->on_done = std::move(done);
  call->status = std::move(status);
  completed_.push_back(std::move(call));
  if (leader_ == Leader::kBackground) {
    WakeLeaderLocked();
  } else {
    background_wake_.NotifyOne();
  }
}

void TcpChannelCore::StartBackgroundLocked() {
  if (background_id_ != std::thread::id()) return;
  // Signals belong to the application's threads.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  background_ = std::thread([core = shared_from_this()] { core->Background(); });
  background_id_ = background_.get_id();
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void TcpChannelCore::Background() {
  pthread_setname_np(pthread_self(), "mmc-channel");
  mutex_.lock();
  for (;;) {
    if (!completed_.empty()) {
      std::vector<std::unique_ptr<PendingCall>> ready;
      ready.swap(completed_);
      running_callbacks_ = true;
      mutex_.unlock();
      for (auto& call : ready) {
        // What a callback holds is let go outside the lock, too: it may be the last share of this channel.
        const std::function<void(Status)> done = std::move(call->on_done);
        done(std::move(call->status));
      }
      ready.clear();
      mutex_.lock();
      running_callbacks_ = false;
      FlushLocked();
      quiet_.NotifyAll();
    } else if (ending_) {
      break;
    } else if (pending_async_ > 0 && leader_ == Leader::kNone) {
      leader_ = Leader::kBackground;
      LeadLocked(nullptr, TimePoint::max());
      ReleaseLocked();
    } else {
      background_wake_.Wait(mutex_);
    }
  }
  mutex_.unlock();
}

void TcpChannelCore::Close() {
  MutexLock lock(mutex_);
  closed_ = true;
  const Status why(Code::kClosed, "the channel to " + url_.ToString() + " was closed");
  FailLocked([&why](const PendingCall&) { return &why; });
  WakeLeaderLocked();
  while (leader_ != Leader::kNone || writing_) quiet_.Wait(mutex_);
  stream_.reset();
  state_ = State::kIdle;
  out_.Clear();
  sending_.Clear();
  sending_bytes_ = 0;
  // On the background thread itself the callbacks run when this one has returned.
  if (std::this_thread::get_id() == background_id_) return;
  while (!completed_.empty() || running_callbacks_) quiet_.Wait(mutex_);
}

void TcpChannelCore::Shutdown() {
  Close();
  std::thread background;
  {
    MutexLock lock(mutex_);
    ending_ = true;
    background_wake_.NotifyOne();
    background = std::move(background_);
  }
  if (!background.joinable()) return;
  if (background.get_id() == std::this_thread::get_id()) {
    background.detach();  // it holds its own share of this object and ends by itself
  } else {
    background.join();
  }
}

Result<std::shared_ptr<Channel>> MakeTcpChannel(const ChannelOptions& options) {
  MMC_ASSIGN_OR_RETURN(Url url, ParseUrl(options.url));
  if (url.scheme != "tcp" || url.port == 0) {
    return Status(Code::kInvalidArgument,
                  "'" + options.url + "': a service is called at tcp://host:port, with a port that is not 0");
  }
  return std::shared_ptr<Channel>(std::make_shared<TcpChannel>(options, std::move(url)));
}

}  // namespace mmc::rpc
