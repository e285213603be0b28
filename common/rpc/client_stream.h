// What a channel needs of the operating system: a non-blocking byte stream, a way to wake a thread that waits for it,
// and name resolution that can be given up.
//
// Thread safety: ByteStream: one reader and one writer at a time. Waker: all methods from any thread.
// Ownership: streams and wakers own their descriptors.
#pragma once

#include <sys/socket.h>

#include <atomic>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "common/base/clock.h"
#include "common/base/mutex.h"
#include "common/base/status.h"
#include "common/rpc/url.h"

namespace mmc::rpc {

class ByteStream {
 public:
  struct Outcome {
    size_t bytes = 0;
    bool would_block = false;
    int error = 0;     // errno
    bool end = false;  // of a read: the peer has closed
    bool wants_room = false;  // it would block until more can be sent, not until something has come
    Status failure = {};      // what a TLS stream says instead of an errno
  };

  virtual ~ByteStream() = default;
  virtual Outcome Read(std::span<std::byte> into) = 0;
  virtual Outcome Write(std::span<const std::byte> from) = 0;
  // Before the first read and write: again until it does not block any more.
  virtual Outcome Handshake() { return {}; }
  // A read can go on without the descriptor being readable.
  virtual bool buffered() const { return false; }
  // Makes reads end and writes fail, without giving up the descriptor.
  virtual void Shutdown() = 0;
  virtual int fd() const = 0;
};

struct Address {
  sockaddr_storage storage{};
  socklen_t length = 0;
};

// A TCP socket whose connect has begun; writable once that has ended.
Result<std::unique_ptr<ByteStream>> BeginConnect(const Address& address);
// After it became writable: how the connect ended. 0 or errno.
int ConnectOutcome(int fd);

class Waker {
 public:
  Waker();
  ~Waker();
  Waker(const Waker&) = delete;
  Waker& operator=(const Waker&) = delete;

  void Wake();
  void Clear();
  int fd() const { return fd_; }

 private:
  int fd_;
};

// One lookup of a name, under way on a thread of its own: the C library gives no way to bound or cancel it.
class Lookup {
 public:
  // A numeric address needs no thread and is there at once.
  static std::shared_ptr<Lookup> Begin(const Url& url, std::shared_ptr<Waker> waker);

  bool ended() const { return ended_.load(std::memory_order_acquire); }
  // REQUIRES: ended().
  const std::vector<Address>& addresses() const { return addresses_; }
  const std::string& error() const { return error_; }

 private:
  void Resolve(const Url& url, int flags);

  std::vector<Address> addresses_;
  std::string error_;
  std::atomic<bool> ended_{false};
};

// Polls until the stream (-1: none) is ready, the waker was woken (and is cleared) or the time has come. Returns what
// the stream is ready for, as poll(2) says it.
short PollUntil(int stream_fd, short events, Waker& waker, TimePoint until);

}  // namespace mmc::rpc
