#include "common/rpc/client_stream.h"

#include <fcntl.h>
#include <glog/logging.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <thread>

namespace mmc::rpc {
namespace {

class PlainByteStream final : public ByteStream {
 public:
  explicit PlainByteStream(int fd) : fd_(fd) {}
  ~PlainByteStream() override { ::close(fd_); }

  Outcome Read(std::span<std::byte> into) override {
    return After(::recv(fd_, into.data(), into.size(), MSG_DONTWAIT), true);
  }
  Outcome Write(std::span<const std::byte> from) override {
    return After(::send(fd_, from.data(), from.size(), MSG_DONTWAIT | MSG_NOSIGNAL), false);
  }
  void Shutdown() override { ::shutdown(fd_, SHUT_RDWR); }
  int fd() const override { return fd_; }

 private:
  static Outcome After(ssize_t result, bool read) {
    if (result > 0) return {.bytes = static_cast<size_t>(result)};
    if (result == 0) return {.end = read};
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) return {.would_block = true};
    return {.error = errno};
  }

  const int fd_;
};

}  // namespace

Result<std::unique_ptr<ByteStream>> BeginConnect(const Address& address) {
  const int fd = ::socket(address.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
  if (fd < 0) return ErrnoStatus("socket", errno);
  std::unique_ptr<ByteStream> stream = std::make_unique<PlainByteStream>(fd);
  const int on = 1;
  (void)::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&address.storage), address.length) == 0 ||
      errno == EINPROGRESS || errno == EINTR) {
    return stream;
  }
  return ErrnoStatus("connect", errno);
}

int ConnectOutcome(int fd) {
  int error = 0;
  socklen_t length = sizeof(error);
  return ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) == 0 ? error : errno;
}

Waker::Waker() : fd_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) { PCHECK(fd_ >= 0) << "eventfd"; }

Waker::~Waker() { ::close(fd_); }

void Waker::Wake() {
  const uint64_t one = 1;
  // Fails only when the count is full: then it is awake already.
  (void)!::write(fd_, &one, sizeof(one));
}

void Waker::Clear() {
  uint64_t count = 0;
  (void)!::read(fd_, &count, sizeof(count));
}

std::shared_ptr<Lookup> Lookup::Begin(const Url& url, std::shared_ptr<Waker> waker) {
  auto lookup = std::make_shared<Lookup>();
  lookup->Resolve(url, AI_NUMERICHOST);
  if (!lookup->addresses_.empty()) {
    lookup->ended_.store(true, std::memory_order_release);
    return lookup;
  }
  // Signals belong to the application's threads.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  std::thread([lookup, url, waker = std::move(waker)] {
    lookup->Resolve(url, 0);
    lookup->ended_.store(true, std::memory_order_release);
    waker->Wake();
  }).detach();
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return lookup;
}

void Lookup::Resolve(const Url& url, int flags) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int error = ::getaddrinfo(url.host.c_str(), std::to_string(url.port).c_str(), &hints, &found);
  if (error != 0) {
    error_ = ::gai_strerror(error);
    return;
  }
  for (const addrinfo* at = found; at != nullptr; at = at->ai_next) {
    if (at->ai_addrlen > sizeof(sockaddr_storage)) continue;
    Address address;
    std::memcpy(&address.storage, at->ai_addr, at->ai_addrlen);
    address.length = at->ai_addrlen;
    addresses_.push_back(address);
  }
  ::freeaddrinfo(found);
}

short PollUntil(int stream_fd, short events, Waker& waker, TimePoint until) {
  pollfd fds[2] = {{waker.fd(), POLLIN, 0}, {stream_fd, events, 0}};
  const Duration left = std::max(Duration::zero(), Duration(until - std::chrono::steady_clock::now()));
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(left);
  const timespec timeout{seconds.count(), (left - seconds).count()};
  if (::ppoll(fds, stream_fd >= 0 ? 2 : 1, &timeout, nullptr) <= 0) return 0;
  if (fds[0].revents != 0) waker.Clear();
  return stream_fd >= 0 ? fds[1].revents : short{0};
}

}  // namespace mmc::rpc
