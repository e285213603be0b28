// Goal: what the HTTP port does with peers of TLS that go by the letter and not by the sense: keys changed for ever,
// certificates revoked while a connection is open, TLS where none is spoken.
// Method: OpenSSL by hand over real sockets; test_http_tls.py asks the same port with curl.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include "meta_service/http/http_server.h"
#include "tests/unit/http_fake_pool.h"
#include "tests/unit/raw_tls.h"

namespace mmc::meta::http {
namespace {

using test::RawTls;
using test::TestCa;
using testing::HasSubstr;
using testing::StartsWith;

class HttpTls : public testing::Test {
 protected:
  static void SetUpTestSuite() { signal(SIGPIPE, SIG_IGN); }
  void Start(bool tls = true) {
    HttpOptions options{.url = "http://127.0.0.1:0",
                        .idle_timeout = std::chrono::milliseconds(1000),
                        .request_timeout = std::chrono::milliseconds(1000)};
    if (tls) {
      auto context = security::TlsContext::Load(
          test::WriteTls(dir_, "server", ca_.cert(), ca_.Issue({.role = "meta"}), ca_.Revoke({})));
      ASSERT_TRUE(context.ok()) << context.status().ToString();
      options.tls = tls_ = *context;
    }
    server_ = std::make_unique<HttpServer>(options, router_);
    ASSERT_TRUE(server_->Start().ok());
  }
  // One request over an open connection; "" when that has ended.
  static std::string Ask(RawTls& peer, const std::string& page) {
    if (!peer.Send("GET " + page + " HTTP/1.1\r\nHost: x\r\n\r\n")) return "";
    std::string answer;
    for (size_t need = 1; answer.size() < need;) {
      char some[4096];
      const int n = SSL_read(peer.ssl(), some, sizeof(some));
      if (n <= 0) return answer;
      answer.append(some, static_cast<size_t>(n));
      const size_t end = answer.find("\r\n\r\n");
      const size_t length = answer.find("Content-Length: ");
      need = end == std::string::npos || length > end ? answer.size() + 1
                                                     : end + 4 + std::stoul(answer.substr(length + 16));
    }
    return answer;
  }

  test::TempDir dir_;
  TestCa ca_;
  FakePool pool_;
  Router router_{pool_, {.rpc_url = "tcp://127.0.0.1:5000", .version = "1"}};
  std::shared_ptr<security::TlsContext> tls_;
  std::unique_ptr<HttpServer> server_;
};

TEST_F(HttpTls, KeysThatChangeForEverEndTheConnection) {
  Start();
  RawTls flood(server_->port(), {});
  ASSERT_EQ(SSL_connect(flood.ssl()), 1);
  EXPECT_THAT(Ask(flood, "/health"), StartsWith("HTTP/1.1 200"));
  bool alive = true;
  for (int i = 0; alive && i < 10'000'000; ++i) {
    alive = SSL_key_update(flood.ssl(), SSL_KEY_UPDATE_NOT_REQUESTED) == 1 && SSL_do_handshake(flood.ssl()) == 1;
  }
  EXPECT_FALSE(alive);
  RawTls between(server_->port(), {});
  ASSERT_EQ(SSL_connect(between.ssl()), 1);
  for (int i = 0; i < 64; ++i) {
    ASSERT_EQ(SSL_key_update(between.ssl(), SSL_KEY_UPDATE_NOT_REQUESTED), 1);
    ASSERT_EQ(SSL_do_handshake(between.ssl()), 1);
  }
  EXPECT_EQ(Ask(between, "/health"), "") << "nor does a request now and then make it go on";
  RawTls good(server_->port(), {});
  ASSERT_EQ(SSL_connect(good.ssl()), 1);
  EXPECT_THAT(Ask(good, "/health"), StartsWith("HTTP/1.1 200"));
}

TEST_F(HttpTls, AnOpenConnectionOfTheRevokedOpensNothing) {
  Start();
  const test::CertPair leaver = ca_.Issue({.role = "admin"});
  RawTls open(server_->port(), {.pair = leaver});
  RawTls other(server_->port(), {.pair = ca_.Issue({.role = "admin"})});
  for (RawTls* peer : {&open, &other}) {
    ASSERT_EQ(SSL_connect(peer->ssl()), 1);
    EXPECT_THAT(Ask(*peer, "/query_key?key=a"), StartsWith("HTTP/1.1 200"));
  }
  test::Replace(dir_, "server.crl.pem", ca_.Revoke({leaver}));
  ASSERT_TRUE(tls_->Reload().ok());
  const int questions = pool_.key_questions;
  const std::string refused = Ask(open, "/query_key?key=a");
  EXPECT_THAT(refused, StartsWith("HTTP/1.1 401"));
  EXPECT_THAT(refused, HasSubstr("Connection: close"));
  EXPECT_EQ(pool_.key_questions, questions);
  EXPECT_THAT(Ask(other, "/query_key?key=a"), StartsWith("HTTP/1.1 200")) << "others go on";
}

TEST_F(HttpTls, TlsToAPortThatSpeaksNoneIsAnsweredInWords) {
  Start(false);
  RawTls peer(server_->port(), {});
  EXPECT_NE(SSL_connect(peer.ssl()), 1);
  EXPECT_THAT(security::TakeOpenSslError(), HasSubstr("wrong version number")) << "as for any HTTP server";
  rpc::RawSocket plain(server_->port());
  plain.Send("GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  EXPECT_EQ(plain.Receive(12), "HTTP/1.1 200");
}

}  // namespace
}  // namespace mmc::meta::http
