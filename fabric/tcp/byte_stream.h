// The bytes of one connection. PlainStream is a bare socket; another kind (encryption) slips in here without touching
// frames, connections or lanes.
//
// Thread safety: none; one thread at a time. Ownership: a stream owns its socket.
#pragma once

#include <poll.h>
#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "fabric/unique_fd.h"

namespace mmc::fabric::tcp {

class ByteStream {
 public:
  virtual ~ByteStream() = default;
  virtual int fd() const = 0;
  // As readv and writev on a non-blocking socket: bytes moved, 0 at the end of the stream (reading), or -1 with errno.
  virtual ssize_t Readv(const iovec* parts, int count) = 0;
  virtual ssize_t Writev(const iovec* parts, int count) = 0;
  // What to poll for, given what the caller wants to do next.
  virtual short PollFor(short events) const { return events; }
  // Bytes were received from the socket but not read yet: polling the socket would not report them.
  virtual bool buffered() const { return false; }
  virtual void ShutdownWrite() = 0;
  // The peer has closed an idle connection, or sent what nobody asked for.
  virtual bool PeerGone() = 0;
  // The failed call's errno says that the peer itself ended the connection, and not only that it is cut.
  virtual bool EndedByPeer(int error) const = 0;
  // The peer's certificate was good when it came, and has been revoked since. Cheap.
  virtual bool Revoked() { return false; }
  // What a failed call met, in words.
  virtual std::string Describe(int error) const;
};

class PlainStream final : public ByteStream {
 public:
  explicit PlainStream(UniqueFd socket) : socket_(std::move(socket)) {}
  int fd() const override { return socket_.get(); }
  ssize_t Readv(const iovec* parts, int count) override;
  ssize_t Writev(const iovec* parts, int count) override;
  void ShutdownWrite() override;
  bool PeerGone() override;
  bool EndedByPeer(int error) const override;

 private:
  UniqueFd socket_;
};

// A list of memory pieces being sent or received. Keeps its storage between uses.
class IoCursor {
 public:
  void Clear();
  // Appends; a piece that touches the last one is merged with it.
  void Add(void* data, uint64_t length);
  // `count` parts whose place in the order is known before their memory is. Each is given it before the first move.
  void Reserve(size_t count) { parts_.resize(parts_.size() + count); }
  void Fill(size_t part, void* data, uint64_t length) { parts_[part] = {data, length}; }
  bool done() const { return at_ == parts_.size(); }
  uint64_t moved() const { return moved_; }

  enum class Outcome { kMoved, kBlocked, kEnded, kFailed };
  // One system call, at most `limit` bytes or so (whole pieces). kFailed leaves errno.
  Outcome Read(ByteStream& stream, uint64_t limit) { return Move(stream, limit, &ByteStream::Readv); }
  Outcome Write(ByteStream& stream, uint64_t limit) { return Move(stream, limit, &ByteStream::Writev); }

 private:
  Outcome Move(ByteStream& stream, uint64_t limit, ssize_t (ByteStream::*call)(const iovec*, int));
  std::vector<iovec> parts_;
  size_t at_ = 0;
  uint64_t moved_ = 0;
};

}  // namespace mmc::fabric::tcp
