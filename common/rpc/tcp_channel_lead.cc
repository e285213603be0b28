// What the leader of a TCP channel does: connect, wait, read, complete; and what any thread does: write.
#include <google/protobuf/message_lite.h>
#include <poll.h>

#include <algorithm>
#include <cstring>

#include "common/rpc/tcp_channel_core.h"
#include "common/rpc/tls_byte_stream.h"

namespace mmc::rpc {
namespace {

constexpr uint32_t kSpinTries = 16;   // misses in a row until polling is given up
constexpr uint32_t kSpinRetry = 256;  // waits between later tries
constexpr int kReadsPerStep = 16;  // then the deadlines are looked at again

TimePoint Now() { return std::chrono::steady_clock::now(); }

std::string ErrorText(int error) {
  char buffer[128];
  return strerror_r(error, buffer, sizeof(buffer));
}

}  // namespace

bool TcpChannelCore::LeaderIsDoneLocked(const PendingCall* own) const {
  if (own != nullptr) return own->done;
  return closed_ || !completed_.empty() || pending_async_ == 0;
}

void TcpChannelCore::LeadLocked(const PendingCall* own, TimePoint until) {
  while (!LeaderIsDoneLocked(own) && Now() < until) {
    if (state_ == State::kIdle) {
      StartConnectLocked();
      continue;
    }
    TimePoint wake = until;
    if (!async_deadlines_.empty()) wake = std::min(wake, async_deadlines_.begin()->first);
    if (state_ != State::kUp) wake = std::min(wake, connect_until_);
    short events = 0;
    if (state_ == State::kConnecting) events = POLLOUT;
    if (state_ == State::kHandshaking) events = handshake_events_;
    if (state_ == State::kUp) events = static_cast<short>(stuck_ ? POLLIN | POLLOUT : POLLIN);
    leader_sleeps_ = true;
    leader_sleeps_until_ = wake;
    mutex_.unlock();
    events = WaitForEvents(events, wake);
    mutex_.lock();
    leader_sleeps_ = false;
    ExpireLocked();
    StepLocked(own, events);
  }
}

void TcpChannelCore::ReleaseLocked() {
  if (!followers_.empty()) {
    PendingCall& next = followers_.front();
    followers_.pop_front();
    next.leads = true;
    leader_ = Leader::kSync;
    next.wake.NotifyOne();
    return;
  }
  leader_ = Leader::kNone;
  if (pending_async_ > 0) background_wake_.NotifyOne();
  if (closed_) quiet_.NotifyAll();
}

void TcpChannelCore::WakeLeaderLocked() {
  if (!leader_sleeps_) return;
  leader_sleeps_ = false;
  waker_->Wake();
}

short TcpChannelCore::WaitForEvents(short events, TimePoint until) {
  const int fd = stream_ && events != 0 ? stream_->fd() : -1;
  if ((events & POLLIN) != 0 && stream_ && stream_->buffered()) return POLLIN;
  // Where answers take longer than that, polling is given up but for a try now and then.
  const bool pays = spins_missed_ < kSpinTries || spins_missed_ % kSpinRetry == 0;
  if (fd >= 0 && spin_ > Duration::zero() && !pays) ++spins_missed_;
  if (fd >= 0 && spin_ > Duration::zero() && pays) {
    const TimePoint spin_until = std::min(until, Now() + spin_);
    while (Now() < spin_until) {
      pollfd poll_fd{fd, events, 0};
      if (::poll(&poll_fd, 1, 0) > 0) {
        spins_missed_ = 0;
        return poll_fd.revents;
      }
    }
    ++spins_missed_;
  }
  return PollUntil(fd, events, *waker_, until);
}

void TcpChannelCore::StepLocked(const PendingCall* own, short events) {
  switch (state_) {
    case State::kIdle:
      return;
    case State::kResolving:
    case State::kConnecting:
    case State::kHandshaking:
      ConnectStepLocked(events);
      return;
    case State::kUp:
      if ((events & POLLOUT) != 0) {
        stuck_ = false;
        FlushLocked();
      }
      if ((events & (POLLIN | POLLHUP | POLLERR)) != 0) ReadLocked(own, false);
      return;
  }
}

void TcpChannelCore::StartConnectLocked() {
  state_ = State::kResolving;
  next_address_ = 0;
  last_connect_error_ = Status::Ok();
  connect_until_ = Now() + options_.connect_timeout;
  lookup_ = Lookup::Begin(url_, waker_);
  ConnectStepLocked(0);
}

void TcpChannelCore::ConnectStepLocked(short events) {
  if (state_ == State::kResolving && lookup_->ended()) {
    if (lookup_->addresses().empty()) {
      ConnectFailedLocked(
          Status(Code::kUnavailable, "the name '" + url_.host + "' does not resolve: " + lookup_->error()));
    } else {
      TryNextAddressLocked();
    }
    return;
  }
  if (state_ == State::kConnecting && events != 0) {
    if (const int error = ConnectOutcome(stream_->fd()); error != 0) {
      AddressFailedLocked(Status(Code::kUnavailable, ErrorText(error)));
    } else if (options_.tls) {
      BeginHandshakeLocked();
    } else {
      ConnectedLocked();
    }
    return;
  }
  if (state_ == State::kHandshaking && events != 0) {
    HandshakeStepLocked();
    return;
  }
  if (Now() < connect_until_) return;
  ConnectFailedLocked(Status(Code::kUnavailable,
                             std::string("no answer") + (state_ == State::kHandshaking ? " to the TLS handshake" : "") +
                                 " within " + std::to_string(options_.connect_timeout.count()) + " ms"));
}

void TcpChannelCore::ConnectedLocked() {
  lookup_.reset();
  state_ = State::kUp;
  epoch_.fetch_add(1, std::memory_order_release);
  FlushLocked();
}

void TcpChannelCore::BeginHandshakeLocked() {
  state_ = State::kHandshaking;
  mutex_.unlock();
  auto secured = MakeTlsByteStream(std::move(stream_), *options_.tls, {.host = url_.host, .role = options_.peer_role});
  mutex_.lock();
  if (!secured.ok()) {
    ConnectFailedLocked(secured.status());
    return;
  }
  stream_ = std::move(secured).value();
  HandshakeStepLocked();
}

void TcpChannelCore::HandshakeStepLocked() {
  mutex_.unlock();
  const ByteStream::Outcome outcome = stream_->Handshake();
  mutex_.lock();
  if (outcome.would_block) {
    handshake_events_ = outcome.wants_room ? POLLOUT : POLLIN;
  } else if (outcome.failure.ok()) {
    ConnectedLocked();
  } else if (outcome.failure.code() == Code::kPermission) {
    ConnectFailedLocked(outcome.failure);  // the other addresses are of the same service
  } else {
    AddressFailedLocked(outcome.failure);
  }
}

void TcpChannelCore::AddressFailedLocked(const Status& why) {
  last_connect_error_ = why;
  TryNextAddressLocked();
}

void TcpChannelCore::TryNextAddressLocked() {
  stream_.reset();
  while (next_address_ < lookup_->addresses().size()) {
    auto begun = BeginConnect(lookup_->addresses()[next_address_++]);
    if (begun.ok()) {
      stream_ = std::move(begun).value();
      state_ = State::kConnecting;
      return;
    }
    last_connect_error_ = begun.status();
  }
  ConnectFailedLocked(last_connect_error_);
}

void TcpChannelCore::ConnectFailedLocked(const Status& why) {
  stream_.reset();
  lookup_.reset();
  state_ = State::kIdle;
  out_.Clear();
  queued_bytes_ = sent_bytes_ = 0;
  const bool refused = why.code() == Code::kPermission;
  const Status status(refused ? Code::kPermission : Code::kUnavailable,
                      "cannot connect to " + url_.ToString() + ": " + why.message() +
                          (refused ? "" : "; check that the service runs there"));
  FailLocked([&status](const PendingCall&) { return &status; });
}

void TcpChannelCore::ExpireLocked() {
  if (async_deadlines_.empty()) return;
  const TimePoint now = Now();
  while (!async_deadlines_.empty() && async_deadlines_.begin()->first <= now) {
    PendingCall* call = TakeLocked(async_deadlines_.begin()->second);
    CompleteLocked(*call, Status(Code::kDeadline, "no answer from " + url_.ToString() + " before the deadline"));
  }
}

void TcpChannelCore::ReadLocked(const PendingCall* own, bool to_the_last_byte) {
  mutex_.unlock();
  Status lost;
  for (int i = 0; i < kReadsPerStep && lost.ok(); ++i) {
    const std::span<std::byte> room = reader_.Prepare();
    const ByteStream::Outcome read = stream_->Read(room);
    if (read.would_block) break;
    if (!read.failure.ok()) lost = read.failure;
    if (read.error != 0) lost = Status(Code::kConnectionLost, ErrorText(read.error));
    if (read.end) lost = Status(Code::kConnectionLost, "the service closed the connection");
    if (!lost.ok()) break;
    reader_.Commit(read.bytes);
    const bool filled = read.bytes == room.size();
    Frame frame;
    FrameReader::Next next = FrameReader::Next::kMore;
    while (lost.ok() && (next = reader_.Take(&frame)) == FrameReader::Next::kFrame) {
      if (HandleFrame(frame, own)) continue;
      lost = Status(Code::kMalformed, "the service sent a request; is this the port of a service?");
    }
    if (next == FrameReader::Next::kBad) lost = reader_.error();
    if (!filled && !to_the_last_byte) break;
  }
  mutex_.lock();
  if (!lost.ok()) DropConnectionLocked(lost);
}

bool TcpChannelCore::HandleFrame(const Frame& frame, const PendingCall* own) {
  if (frame.header.kind == FrameKind::kRequest) return false;
  PendingCall* call = nullptr;
  {
    MutexLock lock(mutex_);
    if (frame.header.kind == FrameKind::kGoAway) {
      going_away_ = true;
      all_answered_ = CodeFromWire(frame.header.deadline_or_status) == Code::kClosed;
      return true;
    }
    call = TakeLocked(frame.header.request_id);
  }
  if (call == nullptr) return true;  // late: its caller has given up
  Status status;
  if (frame.header.deadline_or_status != 0) {
    status = Status(CodeFromWire(frame.header.deadline_or_status), std::string(AsText(frame.body)));
  } else if (frame.header.version != kVersion) {
    status = Status(Code::kBadVersion, "the service at " + url_.ToString() + " speaks protocol version " +
                                           std::to_string(frame.header.version));
  } else if (call->sync && call != own && frame.body.size() > kParseHereBytes) {
    call->body.assign(AsText(frame.body));
    call->has_body = true;
  } else {
    status = ParseBody(frame.body, call->reply);
  }
  MutexLock lock(mutex_);
  CompleteLocked(*call, std::move(status));
  return true;
}

void TcpChannelCore::DropConnectionLocked(const Status& why) {
  state_ = State::kIdle;  // keeps writers away
  while (writing_) quiet_.Wait(mutex_);
  stream_.reset();
  reader_.Reset();
  stuck_ = false;
  going_away_ = false;
  const uint64_t sent = sent_bytes_;
  // A frame that is partly sent cannot go over another connection; with none, the queue goes to the next one as it is.
  const bool refused = security::TlsContext::RefusedByPeer(why);
  const bool keep_queue = sending_bytes_ == 0 && !refused;
  // The service judges a certificate after the handshake is done here, and before it takes the first call.
  const Code code = refused          ? Code::kPermission
                    : all_answered_ ? Code::kShuttingDown
                                    : Code::kConnectionLost;
  const std::string text = url_.ToString() + ": " + why.message();
  const Status lost(code, text);
  const Status unsent =
      refused ? Status(Code::kPermission, text) : Status(Code::kUnavailable, text + " before the call was sent");
  FailLocked([&](const PendingCall& call) -> const Status* {
    if (call.first_byte < sent) return &lost;
    return keep_queue ? nullptr : &unsent;
  });
  all_answered_ = false;
  sent_bytes_ = 0;
  if (keep_queue) {
    queued_bytes_ -= sent;
    for (Slot& slot : slots_) {
      if (slot.call != nullptr) slot.call->first_byte -= sent;
    }
    return;
  }
  out_.Clear();
  sending_.Clear();
  sending_bytes_ = 0;
  queued_bytes_ = 0;
}

void TcpChannelCore::LookAtIdleLocked() {
  if (state_ != State::kUp || pending_ > 0) return;
  looking_ = true;
  ReadLocked(nullptr, true);  // a good-bye may be followed by the end
  looking_ = false;
  FlushLocked();
}

void TcpChannelCore::FlushLocked() {
  if (state_ != State::kUp || writing_ || stuck_ || looking_) return;
  writing_ = true;
  while (state_ == State::kUp) {
    if (sending_bytes_ == 0) {
      if (out_.empty()) break;
      sending_.Swap(out_);
      sending_bytes_ = sending_.size();
    }
    mutex_.unlock();
    const ByteStream::Outcome written = stream_->Write(sending_.data());
    sending_.Consume(written.bytes);
    mutex_.lock();
    sent_bytes_ += written.bytes;
    sending_bytes_ -= written.bytes;
    if (written.bytes > 0) continue;
    stuck_ = true;  // until there is room, or the leader has seen the end of the connection
    if (!written.would_block) stream_->Shutdown();
    WakeLeaderLocked();
    break;
  }
  writing_ = false;
  quiet_.NotifyAll();
}

}  // namespace mmc::rpc
