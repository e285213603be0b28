#include "fabric/tcp/doorman.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "common/base/thread.h"
#include "fabric/tcp/frame.h"
#include "fabric/tcp/socket.h"

namespace mmc::fabric::tcp {
namespace {

epoll_event EventFor(int fd, short events) {
  epoll_event event{};
  event.events = static_cast<uint32_t>(events);
  event.data.fd = fd;
  return event;
}

// What a peer without TLS gets as its last word: it reads the answer to its hello.
constexpr std::string_view kPlainHello = "MMCD";

}  // namespace

Doorman::Doorman(DoormanOptions options, Admit admit)
    : options_(std::move(options)),
      admit_(std::move(admit)),
      epoll_(epoll_create1(EPOLL_CLOEXEC)),
      event_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

Doorman::~Doorman() {
  if (!thread_.joinable()) return;
  {
    MutexLock lock(mutex_);
    stop_ = true;
  }
  Wake();
  thread_.join();
}

Status Doorman::Start() {
  if (!epoll_.valid() || !event_.valid()) return ErrnoStatus("epoll", errno);
  epoll_event event = EventFor(event_.get(), POLLIN);
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, event_.get(), &event) != 0) return ErrnoStatus("epoll_ctl", errno);
  thread_ = StartThread([this] { Main(); });
  return Status::Ok();
}

void Doorman::Wake() {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t n = write(event_.get(), &one, sizeof(one));
}

void Doorman::Take(UniqueFd socket) {
  UniqueFd oldest;  // closed without the lock
  {
    MutexLock lock(mutex_);
    waiting_.push_back(std::move(socket));
    if (waiting_.size() > options_.places) {
      oldest = std::move(waiting_.front());
      waiting_.pop_front();
    }
  }
  Wake();
}

// False: it is time to stop.
bool Doorman::TakeWaiting(TimePoint now) {
  std::deque<UniqueFd> waiting;
  {
    MutexLock lock(mutex_);
    if (stop_) return false;
    waiting.swap(waiting_);
  }
  for (UniqueFd& socket : waiting) Add(std::move(socket), now);
  return true;
}

void Doorman::Add(UniqueFd socket, TimePoint now) {
  while (guests_.size() >= options_.places && !order_.empty()) {
    const auto [fd, number] = order_.front();
    order_.pop_front();
    const auto it = guests_.find(fd);
    if (it != guests_.end() && it->second.number == number) Refuse(fd, "too many connect at a time");
  }
  // Looks at most now and then, and files that are half replaced leave the old ones in use.
  if (const Status status = options_.tls->ReloadIfChanged(); !status.ok() && options_.report != nullptr) {
    options_.report("the changed certificates are not taken: " + status.message());
  }
  const int fd = socket.get();
  auto stream = TlsStream::Accept(std::move(socket), *options_.tls);
  if (!stream.ok()) return;
  Guest guest{std::move(*stream), ++came_, POLLIN, now + options_.time};
  epoll_event event = EventFor(fd, guest.waits_for);
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) return;
  order_.emplace_back(fd, guest.number);
  guests_.emplace(fd, std::move(guest));
}

void Doorman::Serve(int fd) {
  const auto it = guests_.find(fd);
  if (it == guests_.end()) return;
  Guest& guest = it->second;
  switch (guest.stream->Shake()) {
    case TlsStream::Step::kDone: {
      std::unique_ptr<TlsStream> stream = std::move(guest.stream);
      guests_.erase(it);
      epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
      admit_(std::move(stream));
      return;
    }
    case TlsStream::Step::kFailed:
      Refuse(fd, guest.stream->failure().message());
      return;
    case TlsStream::Step::kWait:
      break;
  }
  const short wants = guest.stream->PollFor(0);
  if (wants == guest.waits_for) return;
  guest.waits_for = wants;
  epoll_event event = EventFor(fd, wants);
  epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &event);
}

void Doorman::Refuse(int fd, const std::string& why) {
  const auto it = guests_.find(fd);
  TlsStream& stream = *it->second.stream;
  std::string reason = why;
  if (stream.plain()) {
    reason = "the peer does not speak TLS";
    if (stream.first_bytes().starts_with(kPlainHello)) {
      // A client of ours is told so in the words that it understands.
      HelloReply reply;
      reply.code = static_cast<uint32_t>(Code::kPermission);
      [[maybe_unused]] const ssize_t n = send(fd, &reply, sizeof(reply), MSG_DONTWAIT | MSG_NOSIGNAL);
      // Closing a socket with unread bytes would throw the answer away.
      std::array<char, 256> scratch;
      while (recv(fd, scratch.data(), scratch.size(), MSG_DONTWAIT) > 0) {
      }
      reason += "; set ock.mmc.local_service.hcom.tls.enable there";
    }
  }
  if (options_.report != nullptr) options_.report("a data connection from " + PeerOf(fd) + " is refused: " + reason);
  guests_.erase(it);
}

void Doorman::DropLate(TimePoint now) {
  while (!order_.empty()) {
    const auto [fd, number] = order_.front();
    const auto it = guests_.find(fd);
    const bool here = it != guests_.end() && it->second.number == number;
    if (here && now < it->second.limit) return;
    order_.pop_front();
    if (here) Refuse(fd, "no TLS handshake in " + std::to_string(options_.time.count()) + " ms");
  }
}

int Doorman::TimeoutFrom(TimePoint now) const {
  if (guests_.empty()) return -1;
  const auto it = guests_.find(order_.empty() ? -1 : order_.front().first);
  const TimePoint end = it == guests_.end() ? now : it->second.limit;
  return std::max(PollTimeout(end), 1);
}

void Doorman::Main() {
  std::array<epoll_event, 64> events;
  TimePoint now = std::chrono::steady_clock::now();
  while (TakeWaiting(now)) {
    DropLate(now);
    const int count =
        epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), TimeoutFrom(now));
    now = std::chrono::steady_clock::now();
    for (int i = 0; i < count; ++i) {
      const int fd = events[static_cast<size_t>(i)].data.fd;
      if (fd == event_.get()) {
        uint64_t drained = 0;
        [[maybe_unused]] const ssize_t n = read(fd, &drained, sizeof(drained));
      } else {
        Serve(fd);
      }
    }
  }
  guests_.clear();
}

}  // namespace mmc::fabric::tcp
