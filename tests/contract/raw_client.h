// A client of the tcp data plane that sends whatever it is told.
//
// Thread safety: one thread. Ownership: owns its socket.
#pragma once

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <string>

#include "fabric/tcp/frame.h"
#include "fabric/tcp/socket.h"
#include "tests/contract/contract_fixture.h"

namespace mmc::fabric::contract {

// A hello that may write.
inline tcp::Hello WriterHello() {
  tcp::Hello hello;
  hello.access = static_cast<uint8_t>(Access::kReadWrite);
  return hello;
}

// A client that sends whatever it is told.
class RawClient {
 public:
  explicit RawClient(const std::string& address) {
    auto socket = tcp::ConnectTo(address, "", Soon());
    EXPECT_TRUE(socket.ok());
    if (socket.ok()) socket_ = std::move(*socket);
  }
  // Errors do not matter: the listener may have hung up already.
  void Send(const void* data, size_t size) {
    const auto* bytes = static_cast<const char*>(data);
    while (size > 0) {
      const ssize_t n = send(socket_.get(), bytes, size, MSG_NOSIGNAL);
      if (n > 0) {
        bytes += n;
        size -= static_cast<size_t>(n);
      } else if (errno == EAGAIN) {
        pollfd wait{socket_.get(), POLLOUT, 0};
        poll(&wait, 1, tcp::PollTimeout(Soon()));
      } else {
        return;
      }
    }
  }
  template <typename T>
  void Send(const T& value) {
    Send(&value, sizeof(value));
  }
  // False when the connection ended first.
  bool Receive(void* data, size_t size) {
    auto* bytes = static_cast<char*>(data);
    while (size > 0) {
      pollfd wait{socket_.get(), POLLIN, 0};
      if (poll(&wait, 1, tcp::PollTimeout(Soon())) == 0) return false;
      const ssize_t n = recv(socket_.get(), bytes, size, 0);
      if (n <= 0) return false;
      bytes += n;
      size -= static_cast<size_t>(n);
    }
    return true;
  }
  bool HungUp() {
    char byte = 0;
    return !Receive(&byte, 1);
  }
  // Whatever was said before.
  bool HungUpAtLast() {
    char byte = 0;
    int said = 0;
    while (said < 1'000'000 && Receive(&byte, 1)) ++said;
    return said < 1'000'000;
  }
  Code Greet(tcp::Hello hello = WriterHello()) {
    Send(hello);
    tcp::HelloReply reply;
    return Receive(&reply, sizeof(reply)) ? CodeFromWire(reply.code) : Code::kPeerUnreachable;
  }
  int fd() const { return socket_.get(); }
  void HalfClose() { shutdown(socket_.get(), SHUT_WR); }

 private:
  UniqueFd socket_;
};

}  // namespace mmc::fabric::contract
