// Somebody on the line between a link and a listener: passes bytes on, keeps a copy, changes or cuts them.
//
// Thread safety: set up by one thread before the first connection; Recorded from any. Ownership: owns its sockets and
// its thread. It carries one connection.
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <string>
#include <thread>
#include <vector>

#include "common/base/mutex.h"
#include "fabric/tcp/socket.h"
#include "tests/contract/contract_fixture.h"

namespace mmc::fabric::contract {

class Relay {
 public:
  explicit Relay(std::string target) : target_(std::move(target)), listen_(tcp::ListenAt("127.0.0.1:0").value()) {
    if (pipe2(wake_.data(), O_CLOEXEC) != 0) wake_ = {-1, -1};
    address_ = tcp::AddressOf(listen_.get());
    thread_ = std::thread([this] { Main(); });
  }
  ~Relay() {
    [[maybe_unused]] const ssize_t n = write(wake_[1], "x", 1);
    thread_.join();
    close(wake_[0]);
    close(wake_[1]);
  }
  Relay(const Relay&) = delete;
  Relay& operator=(const Relay&) = delete;

  const std::string& address() const { return address_; }
  // Both directions together.
  void CutAfter(uint64_t bytes) { Set(&cut_after_, bytes); }
  void FlipAfter(uint64_t bytes) { Set(&flip_after_, bytes); }
  void Record() { Set(&record_, uint64_t{1}); }
  std::string Recorded() {
    MutexLock lock(mutex_);
    return recorded_;
  }

 private:
  void Set(uint64_t* what, uint64_t value) {
    MutexLock lock(mutex_);
    *what = value;
  }
  bool Pass(int from, int to) {
    std::array<char, 16384> bytes;
    const ssize_t n = recv(from, bytes.data(), bytes.size(), 0);
    if (n <= 0) return n < 0 && errno == EAGAIN;
    MutexLock lock(mutex_);
    passed_ += static_cast<uint64_t>(n);
    if (record_ != 0) recorded_.append(bytes.data(), static_cast<size_t>(n));
    if (passed_ >= cut_after_) return false;
    if (passed_ >= flip_after_) {
      bytes[static_cast<size_t>(n) / 2] ^= 1;
      flip_after_ = UINT64_MAX;
    }
    for (ssize_t at = 0; at < n;) {
      const ssize_t sent = send(to, bytes.data() + at, static_cast<size_t>(n - at), MSG_NOSIGNAL);
      if (sent > 0) {
        at += sent;
      } else if (errno == EAGAIN) {
        // Whoever reads slowly must not keep the other direction from moving: but one that never reads ends the test.
        std::array<pollfd, 2> wait{{{to, POLLOUT, 0}, {wake_[0], POLLIN, 0}}};
        poll(wait.data(), wait.size(), 60'000);
        if (wait[1].revents != 0) return false;
      } else {
        return false;
      }
    }
    return true;
  }
  void Main() {
    std::array<pollfd, 2> wait{{{listen_.get(), POLLIN, 0}, {wake_[0], POLLIN, 0}}};
    poll(wait.data(), wait.size(), 60'000);
    if ((wait[0].revents & POLLIN) == 0) return;
    UniqueFd near(accept4(listen_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    auto far = tcp::ConnectTo(target_, "", Soon());
    if (!far.ok()) return;
    for (bool open = true; open;) {
      std::array<pollfd, 3> ends{{{near.get(), POLLIN, 0}, {far->get(), POLLIN, 0}, {wake_[0], POLLIN, 0}}};
      poll(ends.data(), ends.size(), 60'000);
      if (ends[2].revents != 0) break;
      if (ends[0].revents != 0) open = Pass(near.get(), far->get());
      if (open && ends[1].revents != 0) open = Pass(far->get(), near.get());
    }
  }

  const std::string target_;
  UniqueFd listen_;
  std::array<int, 2> wake_{-1, -1};
  std::string address_;
  std::thread thread_;
  Mutex mutex_;
  uint64_t passed_ MMC_GUARDED_BY(mutex_) = 0;
  uint64_t cut_after_ MMC_GUARDED_BY(mutex_) = UINT64_MAX;
  uint64_t flip_after_ MMC_GUARDED_BY(mutex_) = UINT64_MAX;
  uint64_t record_ MMC_GUARDED_BY(mutex_) = 0;
  std::string recorded_ MMC_GUARDED_BY(mutex_);
};

}  // namespace mmc::fabric::contract
