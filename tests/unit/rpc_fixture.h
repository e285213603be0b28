// What the RPC tests share: methods over existing messages, a server with handlers a test can hold, a raw socket.
//
// Thread safety: EchoService's members are atomic; RawSocket is used by one thread.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "common/base/mutex.h"
#include "common/obs/metrics.h"
#include "common/rpc/channel.h"
#include "common/rpc/frame.h"
#include "common/rpc/server.h"
#include "proto/types.pb.h"

namespace mmc::rpc {

using proto::KeyList;

inline constexpr Method<KeyList, KeyList> kEcho{200, "Echo"};        // sync
inline constexpr Method<KeyList, KeyList> kEchoLater{201, "EchoLater"};  // async, answers at once
inline constexpr Method<KeyList, KeyList> kHold{202, "Hold"};        // async, waits for Release()
inline constexpr Method<KeyList, KeyList> kRefuse{203, "Refuse"};    // answers kNoSpace
inline constexpr Method<KeyList, KeyList> kBusy{204, "Busy"};        // keeps its io thread for 20 ms
inline constexpr Method<KeyList, KeyList> kThrow{205, "Throw"};
inline constexpr Method<KeyList, KeyList> kNobody{299, "Nobody"};    // not served

inline TimePoint In(std::chrono::milliseconds time) { return std::chrono::steady_clock::now() + time; }
inline TimePoint Soon() { return In(std::chrono::seconds(60)); }

// Yields until `condition` holds; false when that takes a minute.
template <typename F>
bool Eventually(F condition) {
  const TimePoint until = Soon();
  while (!condition()) {
    if (std::chrono::steady_clock::now() > until) return false;
    std::this_thread::yield();
  }
  return true;
}

inline KeyList Text(std::string text) {
  KeyList out;
  out.add_lengths(static_cast<uint32_t>(text.size()));
  out.set_data(std::move(text));
  return out;
}

struct EchoService {
  explicit EchoService(ServerOptions options = {}) {
    if (options.url.empty()) options.url = "tcp://127.0.0.1:0";
    options.metrics = &metrics;
    server = MakeServer(options);
    server->Handle(kEcho, [this](const CallContext& context, const KeyList& request, KeyList* reply) {
      ++echoes;
      MutexLock lock(mutex);
      identity = context.identity;
      *reply = request;
      return Status::Ok();
    });
    server->HandleAsync(kEchoLater, [](CallContext, const KeyList& request, KeyList* reply) -> asio::awaitable<Status> {
      *reply = request;
      co_return Status::Ok();
    });
    server->HandleAsync(kHold, [this](CallContext, const KeyList& request, KeyList* reply) -> asio::awaitable<Status> {
      const Holding counted(*this);
      asio::steady_timer timer(co_await asio::this_coro::executor);
      while (!released.load()) {
        timer.expires_after(std::chrono::milliseconds(1));
        co_await timer.async_wait(asio::use_awaitable);
      }
      *reply = request;
      ++held_to_the_end;
      co_return Status::Ok();
    });
    server->Handle(kRefuse, [](const CallContext&, const KeyList& request, KeyList*) {
      return Status(Code::kNoSpace, "no room for " + request.data());
    });
    server->Handle(kBusy, [](const CallContext&, const KeyList&, KeyList*) {
      const TimePoint until = In(std::chrono::milliseconds(20));
      while (std::chrono::steady_clock::now() < until) std::this_thread::yield();
      return Status::Ok();
    });
    server->Handle(kThrow, [](const CallContext&, const KeyList&, KeyList*) -> Status {
      throw std::runtime_error("thrown on purpose");
    });
  }
  ~EchoService() {
    released = true;
    server->Stop(Soon());
  }

  Status Start() { return server->Start(); }
  std::string url() const { return "tcp://127.0.0.1:" + std::to_string(server->port()); }
  std::shared_ptr<Channel> Connect(ChannelOptions options = {}) const {
    if (options.url.empty()) options.url = url();
    return *MakeTcpChannel(options);
  }

  struct Holding {
    explicit Holding(EchoService& of) : service(of) {
      const int now = ++service.holding;
      int most = service.most_holding.load();
      while (most < now && !service.most_holding.compare_exchange_weak(most, now)) {
      }
    }
    ~Holding() { --service.holding; }
    EchoService& service;
  };

  std::shared_ptr<const security::Identity> LastIdentity() {
    MutexLock lock(mutex);
    return identity;
  }

  Mutex mutex;
  std::shared_ptr<const security::Identity> identity MMC_GUARDED_BY(mutex);  // of the last Echo
  obs::Registry metrics;
  std::atomic<int> echoes{0};
  std::atomic<int> holding{0};
  std::atomic<int> most_holding{0};
  std::atomic<int> held_to_the_end{0};
  std::atomic<bool> released{false};
  std::unique_ptr<Server> server;
};

// A blocking socket whose reads give up after a minute.
class RawSocket {
 public:
  explicit RawSocket(uint16_t port) : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const timeval patience{60, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::connect(fd_, reinterpret_cast<const sockaddr*>(&to), sizeof(to)), 0) << std::strerror(errno);
  }
  ~RawSocket() { ::close(fd_); }
  RawSocket(const RawSocket&) = delete;
  RawSocket& operator=(const RawSocket&) = delete;
  int fd() const { return fd_; }

  // False when the peer has closed.
  bool Send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
    return true;
  }
  std::string Receive(size_t bytes) {
    std::string out(bytes, '\0');
    size_t have = 0;
    while (have < bytes) {
      const ssize_t got = ::recv(fd_, out.data() + have, bytes - have, 0);
      if (got <= 0) break;
      have += static_cast<size_t>(got);
    }
    out.resize(have);
    return out;
  }
  struct Answer {
    FrameHeader header;
    std::string body;
  };
  std::optional<Answer> ReceiveFrame() {
    const std::string raw = Receive(kHeaderBytes);
    if (raw.size() < kHeaderBytes) return std::nullopt;
    auto header = DecodeHeader(std::as_bytes(std::span(raw)).first<kHeaderBytes>());
    if (!header.ok()) return std::nullopt;
    return Answer{*header, Receive(header->body_bytes)};
  }
  // The peer closes, in order or by a reset, and sends nothing before.
  bool Ended() {
    char byte;
    const ssize_t got = ::recv(fd_, &byte, 1, 0);
    return got == 0 || (got < 0 && errno == ECONNRESET);
  }
  void Reset() {
    const linger at_once{1, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
  }

 private:
  const int fd_;
};

inline std::string RawFrame(const FrameHeader& header, std::string_view body = {}) {
  std::string out(kHeaderBytes, '\0');
  EncodeHeader(header, std::as_writable_bytes(std::span(out)).first<kHeaderBytes>());
  out += body;
  return out;
}

inline std::string RawRequest(uint16_t method, uint64_t id, std::string_view body, uint32_t deadline_ms = 0) {
  return RawFrame({.method = method,
                   .request_id = id,
                   .deadline_or_status = deadline_ms,
                   .body_bytes = static_cast<uint32_t>(body.size())},
                  body);
}

}  // namespace mmc::rpc
