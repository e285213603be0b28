#include "fabric/tcp/io_loop.h"
#include "common/base/thread.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

namespace mmc::fabric::tcp {
namespace {

// poll and epoll name these two alike.
static_assert(POLLIN == EPOLLIN && POLLOUT == EPOLLOUT);

epoll_event EventFor(int fd, short events) {
  epoll_event event{};
  event.events = static_cast<uint32_t>(events);
  event.data.fd = fd;
  return event;
}

}  // namespace

IoLoop::IoLoop(const ConnectionOptions& options, std::atomic<uint64_t>& connections)
    : options_(options),
      connections_(connections),
      epoll_(epoll_create1(EPOLL_CLOEXEC)),
      event_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

void IoLoop::Stop() {
  if (!thread_.joinable()) return;
  {
    MutexLock lock(mutex_);
    stop_ = true;
  }
  Wake();
  thread_.join();
}

void IoLoop::AcceptFrom(int listener, std::function<void()> accept) {
  listener_ = listener;
  accept_ = std::move(accept);
}

Status IoLoop::Start() {
  if (!epoll_.valid() || !event_.valid()) return ErrnoStatus("epoll", errno);
  for (const int fd : {event_.get(), listener_}) {
    epoll_event event = EventFor(fd, POLLIN);
    if (fd >= 0 && epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) return ErrnoStatus("epoll_ctl", errno);
  }
  thread_ = StartThread([this] { Main(); });
  return Status::Ok();
}

void IoLoop::Wake() {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t n = write(event_.get(), &one, sizeof(one));
}

void IoLoop::Post(std::function<void()> task) {
  {
    MutexLock lock(mutex_);
    tasks_.push_back(std::move(task));
  }
  Wake();
}

void IoLoop::Adopt(std::unique_ptr<ByteStream> stream, const Guest& guest) {
  // std::function wants copyable captures.
  auto shared = std::make_shared<std::unique_ptr<ByteStream>>(std::move(stream));
  connections_.fetch_add(1);
  Post([this, shared, guest] { Add(std::move(*shared), guest); });
}

void IoLoop::RunTasks() {
  std::vector<std::function<void()>> tasks;
  {
    MutexLock lock(mutex_);
    tasks.swap(tasks_);
  }
  for (auto& task : tasks) task();
}

void IoLoop::Add(std::unique_ptr<ByteStream> stream, const Guest& guest) {
  const TimePoint now = std::chrono::steady_clock::now();
  const int fd = stream->fd();
  Entry entry;
  entry.number = ++came_;
  entry.connection = std::make_unique<Connection>(std::move(stream), guest, options_, now);
  entry.waits_for = entry.connection->wants();
  epoll_event event = EventFor(fd, entry.waits_for);
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
    connections_.fetch_sub(1);
    return;
  }
  newcomers_.emplace_back(fd, entry.number);
  entries_.emplace(fd, std::move(entry));
  Limit();
  // Under TLS the hello may have come with the end of the handshake: polling would not report it.
  Serve(fd, now);
}

// Whoever wants to use the pool says hello at once. Of those who do not, the oldest goes when many come, so that they
// keep nobody out.
void IoLoop::Limit() {
  while (newcomers_.size() > options_.max_newcomers) {
    const auto [fd, number] = newcomers_.front();
    newcomers_.pop_front();
    const auto it = entries_.find(fd);
    if (it != entries_.end() && it->second.number == number && !it->second.connection->greeted()) Erase(fd);
  }
}

void IoLoop::Erase(int fd) {
  if (entries_.erase(fd) > 0) connections_.fetch_sub(1);
}

void IoLoop::CloseIf(const std::function<bool(Connection&)>& which) {
  std::vector<int> chosen;
  for (const auto& [fd, entry] : entries_) {
    if (which(*entry.connection)) chosen.push_back(fd);
  }
  for (const int fd : chosen) Erase(fd);
}

void IoLoop::Serve(int fd, TimePoint now) {
  const auto it = entries_.find(fd);
  if (it == entries_.end()) return;
  Entry& entry = it->second;
  if (!entry.connection->Advance(now)) {
    Erase(fd);
    return;
  }
  if (entry.connection->hungry()) hungry_.push_back(fd);
  const short wants = entry.connection->wants();
  if (wants == entry.waits_for) return;
  entry.waits_for = wants;
  epoll_event event = EventFor(fd, wants);
  epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &event);
}

void IoLoop::DropLate(TimePoint now) {
  CloseIf([now](Connection& connection) { return !connection.InTime(now) || connection.revoked(); });
}

void IoLoop::Main() {
  const auto tick = std::clamp<Duration>(options_.stall_timeout / 4, std::chrono::milliseconds(10),
                                         std::chrono::seconds(1));
  const int timeout = static_cast<int>(std::chrono::ceil<std::chrono::milliseconds>(tick).count());
  TimePoint next_look = std::chrono::steady_clock::now() + tick;
  std::array<epoll_event, 128> events;
  for (;;) {
    const int count =
        epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), hungry_.empty() ? timeout : 0);
    const TimePoint now = std::chrono::steady_clock::now();
    std::vector<int> hungry;
    hungry.swap(hungry_);
    for (const int fd : hungry) Serve(fd, now);
    for (int i = 0; i < count; ++i) {
      const int fd = events[static_cast<size_t>(i)].data.fd;
      if (fd == event_.get()) {
        uint64_t drained = 0;
        [[maybe_unused]] const ssize_t n = read(fd, &drained, sizeof(drained));
      } else if (fd == listener_) {
        accept_();
      } else {
        Serve(fd, now);
      }
    }
    {
      MutexLock lock(mutex_);
      if (stop_) break;
    }
    RunTasks();
    if (now >= next_look) {
      DropLate(now);
      next_look = now + tick;
    }
  }
  connections_.fetch_sub(entries_.size());
  entries_.clear();
}

}  // namespace mmc::fabric::tcp
