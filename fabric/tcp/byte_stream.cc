#include "fabric/tcp/byte_stream.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace mmc::fabric::tcp {
namespace {

constexpr size_t kMaxParts = 1024;      // IOV_MAX of Linux
constexpr size_t kKeptParts = 4096;     // storage kept between uses: 64 KiB

msghdr MessageOf(const iovec* parts, int count) {
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(parts);
  message.msg_iovlen = static_cast<size_t>(count);
  return message;
}

}  // namespace

ssize_t PlainStream::Readv(const iovec* parts, int count) {
  msghdr message = MessageOf(parts, count);
  ssize_t got = 0;
  do {
    got = recvmsg(socket_.get(), &message, MSG_DONTWAIT);
  } while (got < 0 && errno == EINTR);
  return got;
}

ssize_t PlainStream::Writev(const iovec* parts, int count) {
  const msghdr message = MessageOf(parts, count);
  ssize_t sent = 0;
  do {
    sent = sendmsg(socket_.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  return sent;
}

void PlainStream::ShutdownWrite() { shutdown(socket_.get(), SHUT_WR); }

bool PlainStream::PeerGone() {
  char byte = 0;
  const ssize_t n = recv(socket_.get(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  return n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
}

bool PlainStream::EndedByPeer(int error) const { return error == EPIPE || error == ECONNRESET; }

std::string ByteStream::Describe(int error) const { return std::strerror(error); }

void IoCursor::Clear() {
  if (parts_.capacity() > kKeptParts) std::vector<iovec>().swap(parts_);
  parts_.clear();
  at_ = 0;
  moved_ = 0;
}

void IoCursor::Add(void* data, uint64_t length) {
  if (parts_.size() > at_) {
    iovec& last = parts_.back();
    if (static_cast<std::byte*>(last.iov_base) + last.iov_len == data) {
      last.iov_len += length;
      return;
    }
  }
  parts_.push_back({data, length});
}

IoCursor::Outcome IoCursor::Move(ByteStream& stream, uint64_t limit,
                                 ssize_t (ByteStream::*call)(const iovec*, int)) {
  size_t count = 0;
  uint64_t bytes = 0;
  while (at_ + count < parts_.size() && count < kMaxParts && bytes < limit) bytes += parts_[at_ + count++].iov_len;
  const ssize_t n = (stream.*call)(parts_.data() + at_, static_cast<int>(count));
  if (n < 0) return errno == EAGAIN || errno == EWOULDBLOCK ? Outcome::kBlocked : Outcome::kFailed;
  if (n == 0) return Outcome::kEnded;
  auto left = static_cast<size_t>(n);
  moved_ += left;
  while (left > 0) {
    iovec& part = parts_[at_];
    const size_t take = std::min(left, part.iov_len);
    part.iov_base = static_cast<std::byte*>(part.iov_base) + take;
    part.iov_len -= take;
    left -= take;
    if (part.iov_len == 0) ++at_;
  }
  return Outcome::kMoved;
}

}  // namespace mmc::fabric::tcp
