#include "fabric/tcp/connection.h"

#include <algorithm>
#include <array>
#include <utility>

namespace mmc::fabric::tcp {
namespace {

constexpr uint64_t kFairShare = 8ull << 20;  // bytes of one connection before the others get their turn
constexpr uint64_t kSlowestRate = 1 << 20;   // bytes per second that a request must reach over its whole length
constexpr size_t kKeptOps = 4096;            // storage kept between requests: 96 KiB

}  // namespace

Connection::Connection(std::unique_ptr<ByteStream> stream, const Guest& guest, const ConnectionOptions& options,
                       TimePoint now)
    : stream_(std::move(stream)), options_(options), guest_(guest), regions_(*options.regions) {
  ExpectHello(now);
}

void Connection::ExpectHello(TimePoint now) {
  state_ = State::kHello;
  limit_ = now + options_.stall_timeout;
  stall_ = limit_;
  in_.Clear();
  in_.Add(&hello_, sizeof(hello_));
}

void Connection::SetRunning(bool running) {
  if (running == running_ || options_.running == nullptr) return;
  running_ = running;
  if (running) {
    options_.running->fetch_add(1);
  } else {
    options_.running->fetch_sub(1);
  }
}

void Connection::ExpectHead() {
  SetRunning(false);
  state_ = State::kHead;
  regions_.Clear();
  in_.Clear();
  out_.Clear();
  if (ops_.capacity() > kKeptOps) std::vector<WireOp>().swap(ops_);
  if (tickets_.capacity() > kKeptOps) std::vector<Ticket>().swap(tickets_);
  ops_.clear();
  tickets_.clear();
  right_ends_ = TimePoint::max();
  in_.Add(&head_, sizeof(head_));
}

short Connection::wants() const {
  const bool sending = state_ == State::kHelloReply || state_ == State::kReply;
  return stream_->PollFor(sending ? POLLOUT : POLLIN);
}

bool Connection::Advance(TimePoint now) {
  budget_ = kFairShare;
  for (;;) {
    switch (Run(now)) {
      case Step::kAgain:
        break;
      case Step::kWait:
        return true;
      case Step::kEnd:
        return false;
    }
    if (budget_ == 0) return true;
  }
}

Connection::Step Connection::Run(TimePoint now) {
  // Not the time at which the thread woke up: it may have served many others since.
  if (right_ends_ != TimePoint::max() && std::chrono::steady_clock::now() >= right_ends_) return Step::kEnd;
  if (state_ == State::kHelloReply || state_ == State::kReply) return Send(now);
  return Receive(now);
}

Connection::Step Connection::Receive(TimePoint now) {
  const bool idle = !busy();
  const uint64_t before = in_.moved();
  switch (in_.Read(*stream_, budget_)) {
    case IoCursor::Outcome::kBlocked:
      return Step::kWait;
    case IoCursor::Outcome::kEnded:
    case IoCursor::Outcome::kFailed:
      return Step::kEnd;
    case IoCursor::Outcome::kMoved:
      break;
  }
  budget_ -= std::min(budget_, in_.moved() - before);
  stall_ = now + options_.stall_timeout;
  // The head must be complete in one stall time, however slowly its bytes drip.
  if (idle) limit_ = stall_;
  return in_.done() ? OnReceived(now) : Step::kAgain;
}

Connection::Step Connection::OnReceived(TimePoint now) {
  switch (state_) {
    case State::kHello:
      return OnHello();
    case State::kHead:
      return OnHead(now);
    case State::kOps:
      return OnOps(now);
    case State::kDrain:
      return DrainMore();
    case State::kPayload:
      return Reply(Code::kOk);
    case State::kHelloReply:
    case State::kReply:
      break;
  }
  return Step::kEnd;
}

Connection::Step Connection::OnHello() {
  Status status = CheckHello(hello_);
  // Whoever does not say our magic number is no client: no answer.
  if (status.code() == Code::kMalformed) return Step::kEnd;
  if (status.ok() && !guest_.ceiling.has_value()) status = Status(Code::kPermission);
  if (status.ok()) status = Status(options_.admit(hello_.session));
  hello_reply_ = HelloReply();
  hello_reply_.code = static_cast<uint32_t>(status.code());
  closing_ = !status.ok();
  greeted_ = status.ok();
  session_ = hello_.session;
  access_ = static_cast<Access>(hello_.access);
  state_ = State::kHelloReply;
  out_.Clear();
  out_.Add(&hello_reply_, sizeof(hello_reply_));
  return Step::kAgain;
}

Connection::Step Connection::OnHead(TimePoint now) {
  if (!CheckRequest(head_.request).ok() || revoked()) return Step::kEnd;
  SetRunning(true);
  limit_ = now + options_.stall_timeout + std::chrono::seconds(head_.request.total / kSlowestRate);
  ops_.resize(head_.request.op_count);
  ops_[0] = head_.first;
  if (head_.request.ticketed != 0) tickets_.resize(ops_.size());
  if (ops_.size() == 1 && tickets_.empty()) return OnOps(now);
  state_ = State::kOps;
  in_.Clear();
  if (ops_.size() > 1) in_.Add(ops_.data() + 1, (ops_.size() - 1) * sizeof(WireOp));
  if (!tickets_.empty()) in_.Add(tickets_.data(), tickets_.size() * sizeof(Ticket));
  return Step::kAgain;
}

Status Connection::RefuseTicket(const char* why) const {
  if (options_.report != nullptr) {
    options_.report("a request of session " + std::to_string(session_) + " over TCP is refused: " + why +
                    " (ock.mmc.local_service.hcom.tls.tickets)");
  }
  return Status(Code::kPermission);
}

Status Connection::CheckTickets(Direction direction) {
  if (options_.tickets == nullptr || (direction == Direction::kRead && !guest_.tickets_to_read)) return Status::Ok();
  if (tickets_.size() != ops_.size()) return RefuseTicket("it has no tickets");
  if (!options_.tickets->Refresh(&key_version_, &key_)) return RefuseTicket("this node has no key for tickets");
  TimePoint end = TimePoint::max();
  for (size_t i = 0; i < ops_.size(); ++i) {
    const WireOp& op = ops_[i];
    if (!TicketCovers(tickets_[i], op.offset, op.length)) return RefuseTicket("its ticket is for other bytes");
    // A value of scattered buffers is many ops and one ticket.
    const bool seen = i > 0 && tickets_[i] == tickets_[i - 1] && op.segment == ops_[i - 1].segment &&
                      op.epoch == ops_[i - 1].epoch;
    if (seen) continue;
    const TicketScope scope{guest_.holder, session_, {op.segment, op.epoch}, direction};
    if (!TicketHolds(key_, scope, tickets_[i])) {
      return RefuseTicket("its ticket is not of this node for this certificate, session and access");
    }
    end = std::min(end, options_.tickets->EndOf(tickets_[i]));
  }
  if (std::chrono::steady_clock::now() >= end) return Status(Code::kLeaseExpired);
  right_ends_ = end;
  return Status::Ok();
}

// Every op is checked before the first byte moves.
Status Connection::Resolve(Direction direction) {
  if (direction == Direction::kWrite && *guest_.ceiling == Access::kReadOnly) return Status(Code::kPermission);
  if (direction == Direction::kWrite && access_ == Access::kReadOnly) return Status(Code::kReadOnly);
  MMC_RETURN_IF_ERROR(CheckTickets(direction));
  IoCursor& target = direction == Direction::kWrite ? in_ : out_;
  for (const WireOp& op : ops_) {
    auto at = regions_.At({op.segment, op.epoch}, op.offset, op.length, direction);
    if (!at.ok()) return at.status();
    target.Add(*at, op.length);
  }
  return Status::Ok();
}

Connection::Step Connection::OnOps(TimePoint) {
  if (!CheckWireOps(head_.request, ops_).ok()) return Step::kEnd;
  const bool write = static_cast<Direction>(head_.request.direction) == Direction::kWrite;
  in_.Clear();
  out_.Clear();
  if (!write) out_.Add(&response_, sizeof(response_));
  const Status status = Resolve(static_cast<Direction>(head_.request.direction));
  if (!write) return Reply(status.code());
  if (status.ok()) {
    state_ = State::kPayload;
    return Step::kAgain;
  }
  refused_ = status.code();
  drain_left_ = head_.request.total;
  state_ = State::kDrain;
  in_.Clear();
  return DrainMore();
}

// The payload of a refused write has to be read, or the client would not get to its answer.
Connection::Step Connection::DrainMore() {
  static thread_local std::array<std::byte, 64 << 10> scratch;
  if (drain_left_ == 0) return Reply(refused_);
  const uint64_t share = std::min<uint64_t>(drain_left_, scratch.size());
  drain_left_ -= share;
  in_.Clear();
  in_.Add(scratch.data(), share);
  return Step::kAgain;
}

Connection::Step Connection::Reply(Code code) {
  response_ = ResponseHead();
  response_.code = static_cast<uint32_t>(code);
  response_.request = head_.request.request;
  response_.total = head_.request.total;
  const bool payload = code == Code::kOk && static_cast<Direction>(head_.request.direction) == Direction::kRead;
  if (!payload) {
    out_.Clear();
    out_.Add(&response_, sizeof(response_));
  }
  state_ = State::kReply;
  return Step::kAgain;
}

Connection::Step Connection::Send(TimePoint now) {
  const uint64_t before = out_.moved();
  switch (out_.Write(*stream_, budget_)) {
    case IoCursor::Outcome::kBlocked:
      return Step::kWait;
    case IoCursor::Outcome::kEnded:
    case IoCursor::Outcome::kFailed:
      return Step::kEnd;
    case IoCursor::Outcome::kMoved:
      break;
  }
  budget_ -= std::min(budget_, out_.moved() - before);
  stall_ = now + options_.stall_timeout;
  if (!out_.done()) return Step::kAgain;
  if (closing_) return Step::kEnd;
  ExpectHead();
  // The next request is rarely here already: wait for the poll to say so.
  return stream_->buffered() ? Step::kAgain : Step::kWait;
}

}  // namespace mmc::fabric::tcp
