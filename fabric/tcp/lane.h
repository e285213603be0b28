// The client's side of one connection: sends the requests of its part of a transfer, one after another, straight from
// and into user memory, without waiting.
//
// Thread safety: none; whoever has taken the lane from its link. Ownership: owns its stream; storage is kept between
// transfers.
#pragma once

#include <memory>
#include <vector>

#include "common/base/clock.h"
#include "fabric/ops.h"
#include "fabric/tcp/byte_stream.h"
#include "fabric/tcp/frame.h"
#include "fabric/ticket.h"
#include "fabric/transport.h"

namespace mmc::fabric::tcp {

class Lane {
 public:
  bool connected() const { return stream_ != nullptr; }
  // Connects and shakes hands. Errors: kPeerUnreachable, kPermission (fenced, or a certificate that will not do),
  // kBadVersion, kDeadline.
  Status Connect(const std::string& address, const LinkOptions& options, const Hello& hello, TimePoint deadline);
  void Disconnect() { stream_.reset(); }
  // The peer has closed an idle connection.
  bool PeerGone() const;

  // Begins to move the `bytes` that `reader` yields next.
  void Begin(Direction direction, const PieceReader& reader, uint64_t bytes);
  enum class Step { kMoved, kBlocked, kFinished };
  Step Advance();
  bool finished() const { return state_ == State::kFinished; }
  short wants() const;
  int fd() const { return stream_->fd(); }
  // How it ended. REQUIRES: finished().
  const Status& status() const { return status_; }
  // The connection broke, by the peer's doing.
  bool lost() const { return lost_; }
  uint64_t steps() const { return reader_.steps() - steps_before_; }
  uint64_t pieces() const { return pieces_; }
  uint64_t requests() const { return requests_; }

  // For a transfer that is not finished: nothing more is sent. Then AwaitEnd tells whether the peer has closed: after
  // that, or for a read, nobody touches either side's memory. Both leave the lane disconnected.
  void HalfClose();
  bool AwaitEnd(Direction direction, TimePoint deadline);

 private:
  enum class State { kIdle, kSending, kReceiving, kFinished };
  void NextRequest();
  void AddOp(const Piece& piece);
  Step Finish(Status status);
  Step Lose(const std::string& why, bool certain);
  Step LoseBy(int error);
  Step Send();
  Step Receive();
  Step OnResponse();

  std::unique_ptr<ByteStream> stream_;
  State state_ = State::kIdle;
  Direction direction_ = Direction::kRead;
  PieceReader reader_{{}};
  uint64_t left_ = 0;  // bytes not yet in a request
  uint64_t next_request_ = 1;
  uint64_t steps_before_ = 0;
  uint64_t pieces_ = 0;
  uint64_t requests_ = 0;
  bool head_seen_ = false;
  bool sent_any_ = false;  // of the running request
  bool lost_ = false;
  Status status_;

  RequestHead head_;
  std::vector<WireOp> ops_;
  std::vector<Ticket> tickets_;  // of a request with tickets: one for each op
  ResponseHead response_;
  IoCursor out_;  // head, ops, and the payload of a write
  IoCursor in_;   // response, and the payload of a read
};

}  // namespace mmc::fabric::tcp
