#include "fabric/tcp/tls_stream.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <span>
#include <utility>

#include "fabric/tcp/socket.h"

namespace mmc::fabric::tcp {
namespace {

using security::TlsSession;

constexpr size_t kRecord = 16384;     // most that one record holds
constexpr size_t kMostAtOnce = 1 << 20;  // bytes of one call, so that callers can be fair

// The caller speaks TLS and the peer does not, or the other way round.
constexpr char kTlsKey[] = "ock.mmc.local_service.hcom.tls.enable";

Status InWords(const Status& failure, bool plain) {
  if (plain) {
    return Status(Code::kPeerUnreachable, std::string("the node does not speak TLS on its data port; set ") + kTlsKey +
                                              " alike on both sides");
  }
  // What happened to the connection says nothing about rights.
  const Code code = failure.code() == Code::kPermission ? Code::kPermission : Code::kPeerUnreachable;
  return Status(code, failure.message());
}

// The next record's bytes: straight from a part that fills one, else put together from several, until the next call.
std::span<const std::byte> Gather(const iovec* parts, int count, size_t skip) {
  const auto at = [](const iovec& part, size_t offset) {
    return static_cast<const std::byte*>(part.iov_base) + offset;
  };
  if (parts[0].iov_len - skip >= kRecord || count == 1) {
    return {at(parts[0], skip), std::min(parts[0].iov_len - skip, kRecord)};
  }
  static thread_local std::vector<std::byte> joined;
  joined.clear();
  for (int i = 0; i < count && joined.size() < kRecord; ++i) {
    const size_t take = std::min(parts[i].iov_len - skip, kRecord - joined.size());
    joined.insert(joined.end(), at(parts[i], skip), at(parts[i], skip) + take);
    skip = 0;
  }
  return joined;
}

}  // namespace

Result<std::unique_ptr<TlsStream>> TlsStream::Accept(UniqueFd socket, security::TlsContext& context) {
  std::unique_ptr<TlsStream> stream(new TlsStream(std::move(socket)));
  MMC_ASSIGN_OR_RETURN(stream->session_, TlsSession::Server(context, stream->fd()));
  return stream;
}

Result<std::unique_ptr<TlsStream>> TlsStream::Connect(UniqueFd socket, security::TlsContext& context,
                                                      const std::string& node, TimePoint deadline) {
  std::unique_ptr<TlsStream> stream(new TlsStream(std::move(socket)));
  const security::PeerWanted wanted{.role = security::Role::kLocal, .node = node};
  MMC_ASSIGN_OR_RETURN(stream->session_, TlsSession::Client(context, stream->fd(), wanted));
  for (;;) {
    const Step step = stream->Shake();
    if (step == Step::kFailed) return stream->failure_;
    if (step == Step::kDone) break;
    if (std::chrono::steady_clock::now() >= deadline) {
      return Status(Code::kDeadline, "no TLS handshake before the deadline");
    }
    pollfd wait{stream->fd(), stream->PollFor(0), 0};
    poll(&wait, 1, PollTimeout(deadline));
  }
  return stream;
}

TlsStream::~TlsStream() {
  if (session_ != nullptr && stuck_.empty() && !half_closed_) session_->Shutdown();
}

TlsStream::Step TlsStream::Shake() {
  const TlsSession::Outcome outcome = session_->Handshake();
  if (outcome.done()) {
    wants_ = 0;
    return Step::kDone;
  }
  if (outcome.want != TlsSession::Want::kNothing) {
    wants_ = outcome.want == TlsSession::Want::kRead ? POLLIN : POLLOUT;
    return Step::kWait;
  }
  failure_ = outcome.end ? Status(Code::kPeerUnreachable, "the peer ended the TLS handshake")
                         : InWords(outcome.failure, session_->plain());
  return Step::kFailed;
}

short TlsStream::PollFor(short events) const {
  return static_cast<short>(events | wants_ | (stuck_.empty() ? 0 : POLLOUT));
}

bool TlsStream::Fail(const TlsSession::Outcome& outcome) {
  if (outcome.want != TlsSession::Want::kNothing) {
    errno = EAGAIN;
    return false;
  }
  failure_ = InWords(outcome.failure, false);
  errno = failure_.code() == Code::kPermission ? EACCES : ECONNABORTED;
  return false;
}

// A peer that closes while bytes are on their way to it may have said goodbye: that can still be read.
bool TlsStream::FailWrite(const TlsSession::Outcome& outcome) {
  Fail(outcome);
  if (errno == EAGAIN) return false;
  const int error = errno;
  std::byte last{};
  const TlsSession::Outcome heard = session_->Read({&last, 1});
  ended_ = heard.end && !session_->cut();
  errno = error;
  return false;
}

bool TlsStream::Flush() {
  if (stuck_.empty()) return true;
  // All of a record is taken, or nothing.
  const TlsSession::Outcome outcome = session_->Write(stuck_);
  if (!outcome.done()) return FailWrite(outcome);
  stuck_.clear();
  return true;
}

bool TlsStream::Encrypt(std::span<const std::byte> bytes) {
  const TlsSession::Outcome outcome = session_->Write(bytes);
  if (outcome.done()) return true;
  if (outcome.want == TlsSession::Want::kNothing) return FailWrite(outcome);
  // It is encrypted already, and comes again from here.
  stuck_.assign(bytes.begin(), bytes.end());
  return true;
}

ssize_t TlsStream::Writev(const iovec* parts, int count) {
  if (!Flush()) return -1;
  size_t total = 0;
  size_t skip = 0;  // of parts[0]
  while (count > 0 && total < kMostAtOnce) {
    const std::span<const std::byte> record = Gather(parts, count, skip);
    if (!Encrypt(record)) break;
    total += record.size();
    skip += record.size();
    for (; count > 0 && skip >= parts[0].iov_len; ++parts, --count) skip -= parts[0].iov_len;
    if (!stuck_.empty()) break;
  }
  return total > 0 ? static_cast<ssize_t>(total) : -1;
}

ssize_t TlsStream::Readv(const iovec* parts, int count) {
  if (!Flush() && errno != EAGAIN) return -1;
  size_t total = 0;
  for (int i = 0; i < count && total < kMostAtOnce; ++i) {
    size_t filled = 0;
    while (filled < parts[i].iov_len && total < kMostAtOnce) {
      const TlsSession::Outcome outcome =
          session_->Read({static_cast<std::byte*>(parts[i].iov_base) + filled, parts[i].iov_len - filled});
      if (outcome.done()) {
        filled += outcome.bytes;
        total += outcome.bytes;
        continue;
      }
      if (total > 0) return static_cast<ssize_t>(total);  // the next call meets it again
      if (!outcome.end) {
        Fail(outcome);
        return -1;
      }
      ended_ = !session_->cut();
      if (ended_) return 0;
      failure_ = Status(Code::kPeerUnreachable, "the connection was cut, the peer has not said goodbye");
      errno = ECONNABORTED;
      return -1;
    }
  }
  return static_cast<ssize_t>(total);
}

void TlsStream::ShutdownWrite() {
  half_closed_ = true;
  stuck_.clear();
  shutdown(socket_.get(), SHUT_WR);
}

bool TlsStream::PeerGone() {
  char byte = 0;
  const ssize_t n = recv(socket_.get(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  // Whatever comes on an idle connection is its end: a goodbye is bytes too.
  return n >= 0 || (errno != EAGAIN && errno != EINTR);
}

bool TlsStream::EndedByPeer(int) const { return ended_; }

std::string TlsStream::Describe(int error) const {
  return failure_.ok() ? ByteStream::Describe(error) : failure_.message();
}

}  // namespace mmc::fabric::tcp
