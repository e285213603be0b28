#include "fabric/tcp/lane.h"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "fabric/tcp/socket.h"
#include "fabric/tcp/tls_stream.h"

namespace mmc::fabric::tcp {
namespace {

constexpr uint64_t kFairShare = 4ull << 20;  // bytes of one lane before the others of the transfer get their turn
constexpr size_t kKeptOps = 4096;
// Pieces of one request: the list of a read's destinations is kept for the whole request.
constexpr size_t kMaxPieces = 65536;

// Sends or receives all of a small frame.
Status MoveAll(ByteStream& stream, IoCursor& cursor, bool send, TimePoint deadline) {
  while (!cursor.done()) {
    const auto outcome = send ? cursor.Write(stream, UINT64_MAX) : cursor.Read(stream, UINT64_MAX);
    if (outcome == IoCursor::Outcome::kMoved) continue;
    if (outcome == IoCursor::Outcome::kFailed) {
      // Under TLS: a certificate that the far side does not take shows here.
      const int err = errno;
      return Status(err == EACCES ? Code::kPermission : Code::kPeerUnreachable, stream.Describe(err));
    }
    if (outcome == IoCursor::Outcome::kEnded) return Status(Code::kPeerUnreachable, "the peer ended the handshake");
    if (std::chrono::steady_clock::now() >= deadline) {
      return Status(Code::kDeadline, "no handshake before the deadline");
    }
    pollfd wait{stream.fd(), stream.PollFor(send ? POLLOUT : POLLIN), 0};
    poll(&wait, 1, PollTimeout(deadline));
  }
  return Status::Ok();
}

std::string Why(const HelloReply& reply, const LinkOptions& options) {
  if (CodeFromWire(reply.code) != Code::kPermission) return "";
  return options.tls == nullptr
             ? ": the session was ended, or it wants TLS (ock.mmc.local_service.hcom.tls.enable)"
             : ": the session was ended, or the role of the certificate may not use the node's memory";
}

}  // namespace

Status Lane::Connect(const std::string& address, const LinkOptions& options, const Hello& hello,
                     TimePoint deadline) {
  MMC_ASSIGN_OR_RETURN(UniqueFd socket, ConnectTo(address, options.congestion_control, deadline));
  std::unique_ptr<ByteStream> stream;
  if (options.tls == nullptr) {
    stream = std::make_unique<PlainStream>(std::move(socket));
  } else {
    auto secured = TlsStream::Connect(std::move(socket), *options.tls, options.node, deadline);
    if (!secured.ok()) return secured.status().Annotate(address);
    stream = std::move(*secured);
  }
  Hello greeting = hello;
  HelloReply reply;
  out_.Clear();
  out_.Add(&greeting, sizeof(greeting));
  in_.Clear();
  in_.Add(&reply, sizeof(reply));
  if (Status s = MoveAll(*stream, out_, true, deadline); !s.ok()) return s.Annotate(address);
  if (Status s = MoveAll(*stream, in_, false, deadline); !s.ok()) return s.Annotate(address);
  if (reply.magic != kHelloMagic) return Status(Code::kPeerUnreachable, address + " is no data endpoint of ours");
  if (reply.code != 0) {
    return Status(CodeFromWire(reply.code), address + " refused the connection" + Why(reply, options));
  }
  stream_ = std::move(stream);
  state_ = State::kIdle;
  return Status::Ok();
}

bool Lane::PeerGone() const { return stream_->PeerGone(); }

void Lane::Begin(Direction direction, const PieceReader& reader, uint64_t bytes) {
  direction_ = direction;
  reader_ = reader;
  steps_before_ = reader.steps();
  left_ = bytes;
  pieces_ = 0;
  requests_ = 0;
  lost_ = false;
  status_ = Status::Ok();
  NextRequest();
}

// Pieces that touch at the far side share an op there, wherever their local bytes lie.
void Lane::AddOp(const Piece& piece) {
  if (!ops_.empty()) {
    WireOp& last = ops_.back();
    if (last.segment == piece.remote.segment && last.epoch == piece.remote.epoch &&
        last.offset + last.length == piece.remote_offset &&
        (piece.ticket == nullptr || tickets_.back() == *piece.ticket)) {
      last.length += piece.length;
      return;
    }
  }
  ops_.push_back({piece.remote.segment, piece.remote.epoch, piece.remote_offset, piece.length});
  if (piece.ticket != nullptr) tickets_.push_back(*piece.ticket);
}

// Takes as many pieces as one request may carry.
void Lane::NextRequest() {
  if (ops_.capacity() > kKeptOps) std::vector<WireOp>().swap(ops_);
  if (tickets_.capacity() > kKeptOps) std::vector<Ticket>().swap(tickets_);
  ops_.clear();
  tickets_.clear();
  out_.Clear();
  in_.Clear();
  in_.Add(&response_, sizeof(response_));
  head_ = RequestHead();
  head_.direction = static_cast<uint8_t>(direction_);
  head_.request = next_request_++;
  Piece piece;
  size_t taken = 0;
  PieceReader ahead = reader_;
  const bool ticketed = ahead.Next(1, &piece) && piece.ticket != nullptr;
  // Head, ops and tickets go first, in the same system call, and are known only when all pieces are.
  out_.Reserve(ticketed ? 3 : 2);
  IoCursor& local = direction_ == Direction::kRead ? in_ : out_;
  const size_t most = ticketed ? kMaxTicketedOps : kMaxOps;
  while (left_ > 0 && ops_.size() < most && taken < kMaxPieces && head_.total < kMaxRequestBytes) {
    if (!reader_.Next(std::min(left_, kMaxRequestBytes - head_.total), &piece)) break;
    ++taken;
    local.Add(piece.local, piece.length);
    head_.total += piece.length;
    left_ -= piece.length;
    AddOp(piece);
  }
  pieces_ += taken;
  ++requests_;
  head_.op_count = static_cast<uint32_t>(ops_.size());
  head_.ticketed = ticketed ? 1 : 0;
  out_.Fill(0, &head_, sizeof(head_));
  out_.Fill(1, ops_.data(), ops_.size() * sizeof(WireOp));
  if (ticketed) out_.Fill(2, tickets_.data(), tickets_.size() * sizeof(Ticket));
  head_seen_ = false;
  sent_any_ = false;
  state_ = State::kSending;
}

short Lane::wants() const { return stream_->PollFor(state_ == State::kSending ? POLLOUT : POLLIN); }

Lane::Step Lane::Finish(Status status) {
  status_ = std::move(status);
  state_ = State::kFinished;
  return Step::kFinished;
}

// `certain`: the peer itself said that the connection is over. Otherwise it may still apply what it has received.
Lane::Step Lane::Lose(const std::string& why, bool certain) {
  lost_ = true;
  stream_.reset();
  const bool unconfirmed = !certain && direction_ == Direction::kWrite && sent_any_;
  return Finish(Status(unconfirmed ? Code::kUnconfirmed : Code::kPeerUnreachable, "the connection broke: " + why));
}

Lane::Step Lane::LoseBy(int error) { return Lose(stream_->Describe(error), stream_->EndedByPeer(error)); }

Lane::Step Lane::Advance() {
  switch (state_) {
    case State::kSending:
      return Send();
    case State::kReceiving:
      return Receive();
    case State::kIdle:
    case State::kFinished:
      break;
  }
  return Step::kFinished;
}

Lane::Step Lane::Send() {
  switch (out_.Write(*stream_, kFairShare)) {
    case IoCursor::Outcome::kBlocked:
      return Step::kBlocked;
    case IoCursor::Outcome::kEnded:
      return Lose("nothing could be sent", true);
    case IoCursor::Outcome::kFailed:
      return LoseBy(errno);
    case IoCursor::Outcome::kMoved:
      break;
  }
  sent_any_ = true;
  if (out_.done()) state_ = State::kReceiving;
  return Step::kMoved;
}

Lane::Step Lane::Receive() {
  switch (in_.Read(*stream_, kFairShare)) {
    case IoCursor::Outcome::kBlocked:
      return Step::kBlocked;
    case IoCursor::Outcome::kEnded:
      return Lose("the peer closed it", true);
    case IoCursor::Outcome::kFailed:
      return LoseBy(errno);
    case IoCursor::Outcome::kMoved:
      break;
  }
  if (!head_seen_ && in_.moved() >= sizeof(response_)) {
    head_seen_ = true;
    if (const Step step = OnResponse(); step == Step::kFinished) return step;
  }
  if (!in_.done()) return Step::kMoved;
  if (left_ == 0) return Finish(Status::Ok());
  NextRequest();
  return Step::kMoved;
}

// The head of a response has arrived; payload may have come with it.
Lane::Step Lane::OnResponse() {
  if (response_.magic != kResponseMagic || response_.request != head_.request || response_.total != head_.total) {
    return Lose("the answer does not fit the request", false);
  }
  if (response_.code == 0) return Step::kMoved;
  if (in_.moved() > sizeof(response_)) return Lose("a refusal came with payload", false);
  return Finish(Status(CodeFromWire(response_.code), "refused by the peer"));
}

void Lane::HalfClose() {
  if (stream_ != nullptr) stream_->ShutdownWrite();
}

bool Lane::AwaitEnd(Direction direction, TimePoint deadline) {
  bool ended = direction == Direction::kRead || !sent_any_ || stream_ == nullptr;
  std::array<std::byte, 4096> scratch;
  while (!ended) {
    IoCursor rest;
    rest.Add(scratch.data(), scratch.size());
    const auto outcome = rest.Read(*stream_, UINT64_MAX);
    if (outcome == IoCursor::Outcome::kMoved) continue;
    if (outcome == IoCursor::Outcome::kEnded ||
        (outcome == IoCursor::Outcome::kFailed && stream_->EndedByPeer(errno))) {
      ended = true;
      break;
    }
    if (outcome == IoCursor::Outcome::kFailed || std::chrono::steady_clock::now() >= deadline) break;
    pollfd wait{stream_->fd(), stream_->PollFor(POLLIN), 0};
    poll(&wait, 1, PollTimeout(deadline));
  }
  if (!ended) {
    // What still lies in the send buffer shall not reach the peer any more.
    const linger reset{1, 0};
    setsockopt(stream_->fd(), SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
  }
  stream_.reset();
  state_ = State::kIdle;
  return ended;
}

}  // namespace mmc::fabric::tcp
