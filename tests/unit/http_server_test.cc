// Goal: the HTTP server speaks HTTP/1.1 to those who do, and survives those who do not.
// Method: raw bytes over real sockets of the loopback.
#include "meta_service/http/http_server.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <thread>

#include "tests/unit/http_fake_pool.h"

namespace mmc::meta::http {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

TimePoint Soon() { return Clock::Real().Now() + std::chrono::seconds(30); }

class Socket {
 public:
  explicit Socket(uint16_t port, bool v6 = false)
      : fd_(socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM, 0)) {
    if (v6) {
      sockaddr_in6 address{};
      address.sin6_family = AF_INET6;
      address.sin6_port = htons(port);
      address.sin6_addr = in6addr_loopback;
      connected_ = connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
    } else {
      sockaddr_in address{};
      address.sin_family = AF_INET;
      address.sin_port = htons(port);
      address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      connected_ = connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
    }
  }
  ~Socket() { close(fd_); }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;

  bool connected() const { return connected_; }
  bool Send(const std::string& bytes) const {
    size_t sent = 0;
    while (sent < bytes.size()) {
      const ssize_t n = send(fd_, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
      if (n <= 0) return false;
      sent += static_cast<size_t>(n);
    }
    return true;
  }
  // Until the server closes, or half a minute without a byte passed.
  std::string ReadAll() {
    while (ReadSome()) {
    }
    return std::move(text_);
  }
  // One response with a Content-Length (none for HEAD), or chunked up to its last chunk.
  std::string ReadResponse(bool head = false) {
    size_t end;
    while ((end = text_.find("\r\n\r\n")) == std::string::npos) {
      if (!ReadSome()) return std::move(text_);
    }
    size_t need = end + 4;
    if (const size_t at = text_.find("Content-Length: ");
        !head && at != std::string::npos && at < end) {
      need += std::stoul(text_.substr(at + 16));
    }
    while (text_.size() < need && ReadSome()) {
    }
    std::string one = text_.substr(0, need);
    text_.erase(0, one.size());
    return one;
  }
  bool Closed() {
    while (ReadSome()) {
    }
    return closed_;
  }
  // Waits for bytes, and takes none.
  bool SomethingCame() const {
    pollfd one{fd_, POLLIN, 0};
    return poll(&one, 1, 30'000) == 1;
  }
  void StopSending() const { shutdown(fd_, SHUT_WR); }

 private:
  bool ReadSome() {
    pollfd one{fd_, POLLIN, 0};
    if (poll(&one, 1, 30'000) <= 0) return false;
    char buffer[8192];
    const ssize_t n = recv(fd_, buffer, sizeof buffer, 0);
    closed_ = n <= 0;
    if (n > 0) text_.append(buffer, static_cast<size_t>(n));
    return n > 0;
  }

  int fd_;
  bool connected_ = false;
  bool closed_ = false;
  std::string text_;
};

class HttpServerTest : public testing::Test {
 protected:
  FakePool pool_;
  Router router_{pool_, {.rpc_url = "tcp://127.0.0.1:5000", .version = "1"}};
  std::unique_ptr<HttpServer> server_;

  void Start(HttpOptions options = {}) {
    if (options.url.empty()) options.url = "http://127.0.0.1:0";
    server_ = std::make_unique<HttpServer>(options, router_);
    const Status status = server_->Start();
    ASSERT_TRUE(status.ok()) << status.ToString();
    ASSERT_NE(server_->port(), 0);
  }
  std::string Ask(const std::string& bytes) {
    Socket socket(server_->port());
    EXPECT_TRUE(socket.Send(bytes));
    socket.StopSending();
    return socket.ReadAll();
  }
};

TEST_F(HttpServerTest, AnswersAndKeepsTheConnection) {
  Start();
  Socket socket(server_->port());
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(socket.Send("GET /health HTTP/1.1\r\nHost: x\r\n\r\n"));
    const std::string response = socket.ReadResponse();
    EXPECT_THAT(response, StartsWith("HTTP/1.1 200 OK\r\n"));
    EXPECT_THAT(response, HasSubstr("\"status\":\"ok\""));
  }
  ASSERT_TRUE(socket.Send("GET /role HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
  EXPECT_THAT(socket.ReadAll(), HasSubstr("leader\n"));
}

TEST_F(HttpServerTest, AnswersRequestsThatCameTogetherInOrder) {
  Start();
  Socket socket(server_->port());
  ASSERT_TRUE(
      socket.Send("GET /role HTTP/1.1\r\nHost: x\r\n\r\nGET /ready HTTP/1.1\r\nHost: x\r\n\r\n"));
  EXPECT_THAT(socket.ReadResponse(), HasSubstr("leader\n"));
  EXPECT_THAT(socket.ReadResponse(), HasSubstr("ready\n"));
}

TEST_F(HttpServerTest, HeadHasTheLengthAndNoBody) {
  Start();
  Socket socket(server_->port());
  ASSERT_TRUE(socket.Send("HEAD /role HTTP/1.1\r\nHost: x\r\n\r\n"));
  const std::string response = socket.ReadResponse(true);
  EXPECT_THAT(response, HasSubstr("Content-Length: 7\r\n"));
  EXPECT_EQ(response.find("leader"), std::string::npos);
  ASSERT_TRUE(
      socket.Send("GET /ready HTTP/1.1\r\nHost: x\r\n\r\n"));  // and the connection is in step
  EXPECT_THAT(socket.ReadResponse(), HasSubstr("\r\n\r\nready\n"));
}

// Puts the chunks of a body together.
std::string Dechunk(const std::string& response) {
  std::string out;
  size_t at = response.find("\r\n\r\n") + 4;
  for (;;) {
    const size_t size = std::stoul(response.substr(at), nullptr, 16);
    at = response.find("\r\n", at) + 2;
    if (size == 0) return out;
    out += response.substr(at, size);
    at += size + 2;
  }
}

TEST_F(HttpServerTest, StreamsAllKeysInChunks) {
  std::string expected;
  for (int i = 0; i < 20'000; ++i) {
    const std::string key = "key-" + std::to_string(100'000 + i);
    pool_.keys[key] = 1;
    expected += key + "\n";
  }
  Start();
  const std::string chunked =
      Ask("GET /get_all_keys HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  EXPECT_THAT(chunked, HasSubstr("Transfer-Encoding: chunked\r\n"));
  EXPECT_EQ(Dechunk(chunked), expected);
  const std::string old = Ask("GET /get_all_keys HTTP/1.0\r\n\r\n");
  EXPECT_EQ(old.find("chunked"), std::string::npos);
  EXPECT_EQ(old.substr(old.find("\r\n\r\n") + 4), expected);
}

TEST_F(HttpServerTest, AStreamThatBreaksOffHasNoLastChunk) {
  for (int i = 0; i < 20'000; ++i) pool_.keys["key-" + std::to_string(100'000 + i)] = 1;
  pool_.lists_left = 20;
  Start();
  const std::string response = Ask("GET /get_all_keys HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_THAT(response, HasSubstr("key-104999\n"));
  EXPECT_EQ(response.find("\r\n0\r\n\r\n"), std::string::npos);
}

TEST_F(HttpServerTest, RefusesWhatIsNotHttp) {
  Start();
  for (const std::string& bytes :
       {std::string("\x16\x03\x01\x02\x00\x01\x00\x01\xfc", 9),
        std::string("MMC1\0\0\0\0\0\0\0\0\r\n\r\n", 16), std::string("GET\r\n\r\n"),
        std::string("GET / HTTP/9.9\r\n\r\n"), std::string("GET / HTTP/1.1\r\nbad header\r\n\r\n"),
        std::string("GET / HTTP/1.1\r\nContent-Length: -5\r\n\r\n"), std::string(3000, '\0')}) {
    EXPECT_THAT(Ask(bytes), StartsWith("HTTP/1.1 400 Bad Request\r\n"));
  }
  EXPECT_THAT(Ask("GET /none HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
              StartsWith("HTTP/1.1 404 "));
  EXPECT_THAT(Ask("DELETE /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
              HasSubstr("Allow: GET, HEAD\r\n"));
}

TEST_F(HttpServerTest, RefusesWhatIsTooLong) {
  Start();
  const std::string long_target =
      "GET /query_key?key=" + std::string(20'000, 'a') + " HTTP/1.1\r\nHost: x\r\n\r\n";
  EXPECT_THAT(Ask(long_target), StartsWith("HTTP/1.1 431 "));
  const std::string long_header =
      "GET /role HTTP/1.1\r\nX: " + std::string(20'000, 'a') + "\r\n\r\n";
  EXPECT_THAT(Ask(long_header), StartsWith("HTTP/1.1 431 "));
  EXPECT_THAT(Ask("POST /role HTTP/1.1\r\nHost: x\r\nContent-Length: 500000\r\n\r\n" +
                  std::string(500'000, 'b')),
              StartsWith("HTTP/1.1 413 "));
  const std::string fits = "GET /query_key?key=" + std::string(6'000, 'a') +
                           " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
  EXPECT_THAT(Ask(fits), StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(Ask("POST /role HTTP/1.1\r\nHost: x\r\nContent-Length: 65537\r\n\r\n"),
              StartsWith("HTTP/1.1 413 "));
  EXPECT_THAT(
      Ask("POST /role HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 65536\r\n\r\n" +
          std::string(65'536, 'b')),
      StartsWith("HTTP/1.1 405 "));
}

TEST_F(HttpServerTest, ClosesOnThoseWhoDawdle) {
  HttpOptions options;
  options.idle_timeout = options.request_timeout = std::chrono::milliseconds(50);
  Start(options);
  Socket silent(server_->port());
  EXPECT_TRUE(silent.Closed());
  Socket slow(server_->port());
  ASSERT_TRUE(slow.Send("GET /health HTTP/1.1\r\nHost"));
  EXPECT_TRUE(slow.Closed());
  Socket body(server_->port());
  ASSERT_TRUE(body.Send("POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc"));
  EXPECT_TRUE(body.Closed());
}

TEST_F(HttpServerTest, ClosesOnThoseWhoDoNotRead) {
  for (int i = 0; i < 200'000; ++i)
    pool_.keys["key-" + std::string(90, 'k') + std::to_string(1'000'000 + i)] = 1;
  HttpOptions options;
  options.write_timeout = std::chrono::milliseconds(100);
  Start(options);
  Socket deaf(server_->port());
  ASSERT_TRUE(deaf.Send("GET /get_all_keys HTTP/1.1\r\nHost: x\r\n\r\n"));
  ASSERT_TRUE(deaf.SomethingCame());  // the answer is on its way
  const TimePoint deadline = Soon();
  while (server_->connections() > 0 && Clock::Real().Now() < deadline) std::this_thread::yield();
  EXPECT_EQ(server_->connections(), 0u);
  EXPECT_EQ(deaf.ReadAll().find("\r\n0\r\n\r\n"), std::string::npos) << "it was thrown out, not served";
}

TEST_F(HttpServerTest, TakesNoMoreConnectionsThanItMay) {
  HttpOptions options;
  options.max_connections = 2;
  Start(options);
  Socket a(server_->port());
  Socket b(server_->port());
  for (Socket* socket : {&a, &b}) {
    ASSERT_TRUE(socket->Send("GET /role HTTP/1.1\r\nHost: x\r\n\r\n"));
    EXPECT_THAT(socket->ReadResponse(), HasSubstr("leader"));
  }
  Socket c(server_->port());
  EXPECT_TRUE(c.Closed());
  ASSERT_TRUE(a.Send("GET /role HTTP/1.1\r\nHost: x\r\n\r\n"));
  EXPECT_THAT(a.ReadResponse(), HasSubstr("leader"));
}

TEST_F(HttpServerTest, ATakenPortIsNamedWithItsKey) {
  Start();
  HttpOptions options;
  options.url = "http://127.0.0.1:" + std::to_string(server_->port());
  HttpServer second(options, router_);
  const Status status = second.Start();
  EXPECT_EQ(status.code(), Code::kIo);
  EXPECT_THAT(status.message(), HasSubstr(options.url + " is in use"));
  EXPECT_THAT(status.message(), HasSubstr("ock.mmc.meta_service.metrics_url"));
  EXPECT_EQ(status.message().find('\n'), std::string::npos);
}

TEST_F(HttpServerTest, ServesIpv6) {
  HttpOptions options;
  options.url = "http://[::1]:0";
  server_ = std::make_unique<HttpServer>(options, router_);
  if (const Status status = server_->Start(); !status.ok())
    GTEST_SKIP() << "no IPv6 here: " << status.ToString();
  Socket socket(server_->port(), true);
  ASSERT_TRUE(socket.connected());
  ASSERT_TRUE(socket.Send("GET /role HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
  EXPECT_THAT(socket.ReadAll(), HasSubstr("leader"));
}

TEST_F(HttpServerTest, StopEndsIdleConnectionsAndRefusesNewOnes) {
  Start();
  const uint16_t port = server_->port();
  Socket idle(port);
  ASSERT_TRUE(idle.Send("GET /role HTTP/1.1\r\nHost: x\r\n\r\n"));
  EXPECT_THAT(idle.ReadResponse(), HasSubstr("leader"));
  Socket partial(port);
  ASSERT_TRUE(partial.Send("GET /role HTTP/1.1\r\n"));
  server_->Stop(Clock::Real().Now() + std::chrono::milliseconds(50));
  EXPECT_TRUE(idle.Closed());
  EXPECT_EQ(server_->connections(), 0u);
  server_->Stop(Soon());
  server_.reset();
  EXPECT_TRUE(partial.Closed());
  EXPECT_FALSE(Socket(port).connected());
}

}  // namespace
}  // namespace mmc::meta::http
