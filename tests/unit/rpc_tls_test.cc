// Who gets in and who does not, on both sides of the control protocol over TLS, and what each is told.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "common/security/tls_context.h"
#include "tests/unit/raw_tls.h"
#include "tests/unit/rpc_fixture.h"
#include "tests/unit/test_certs.h"

namespace mmc::rpc {
namespace {

using security::Role;
using security::TlsContext;
using ::testing::AllOf;
using ::testing::HasSubstr;
using test::CertPair;
using test::CertSpec;
using test::RawTls;
using test::RawTlsServer;
using test::TestCa;

class TlsTest : public ::testing::Test {
 protected:
  std::shared_ptr<TlsContext> Context(const CertPair& pair, const std::string& authorities,
                                      const std::string& revoked = "") {
    const auto made = TlsContext::Load(
        test::WriteTls(dir_, std::to_string(next_++), authorities, pair, revoked));
    EXPECT_TRUE(made.ok()) << made.status().ToString();
    return made.ok() ? *made : nullptr;
  }
  std::unique_ptr<EchoService> Serve(ServerOptions options = {}) {
    options.tls = Context(ca_.Issue({.role = "meta"}), ca_.cert(), ca_.Revoke({revoked_}));
    auto service = std::make_unique<EchoService>(options);
    EXPECT_TRUE(service->Start().ok());
    return service;
  }
  std::shared_ptr<TlsContext> Client(const CertSpec& spec = {}) { return Context(ca_.Issue(spec), ca_.cert()); }
  static Status Call(Channel& channel, KeyList* reply = nullptr) {
    KeyList ignored;
    return channel.Call(kEcho, Text("hello"), reply == nullptr ? &ignored : reply, Soon());
  }
  static double Count(const EchoService& service, const std::string& row) {
    const std::string all = service.metrics.Expose();
    const std::string line = "\n" + row + " ";
    const size_t at = all.find(line);
    return at == std::string::npos ? -1 : std::stod(all.substr(at + line.size()));
  }
  static double Handshakes(const EchoService& service, const std::string& result) {
    return Count(service, "mmc_rpc_tls_handshakes_total{result=\"" + result + "\"}");
  }
  // What this client is told by a server with `pair`.
  Status CallRaw(const CertPair& pair, std::string* at_server, const std::string& host = "127.0.0.1",
                 int version = TLS1_3_VERSION) {
    RawTlsServer server({.pair = pair, .version = version});
    const auto channel = *MakeTcpChannel({.url = server.url(host), .tls = Context(ca_.Issue({}), ca_.cert(),
                                                                                 ca_.Revoke({revoked_}))});
    const Status status = Call(*channel);
    *at_server = server.Result();
    return status;
  }

  test::TempDir dir_;
  TestCa ca_;
  TestCa other_{"another authority"};
  CertPair revoked_ = ca_.Issue({.role = "client"});
  int next_ = 0;
};

TEST_F(TlsTest, BothSidesKnowEachOther) {
  const auto service = Serve();
  const auto channel = service->Connect({.tls = Client({.role = "client", .tenant = "blue"})});
  KeyList reply;
  ASSERT_TRUE(Call(*channel, &reply).ok());
  EXPECT_EQ(reply.data(), "hello");
  EXPECT_EQ(service->LastIdentity()->role, Role::kClient);
  EXPECT_EQ(service->LastIdentity()->tenant, "blue");
  EXPECT_EQ(Handshakes(*service, "done"), 1);
  const auto local = service->server->InProcessChannel();
  ASSERT_TRUE(Call(*local).ok());
  EXPECT_EQ(service->LastIdentity()->role, Role::kNone);
}

TEST_F(TlsTest, NamesAndIpv6AreChecked) {
  ServerOptions options;
  options.url = "tcp://[::1]:0";
  const auto service = Serve(options);
  const std::string port = std::to_string(service->server->port());
  EXPECT_TRUE(Call(*service->Connect({.url = "tcp://[::1]:" + port, .tls = Client()})).ok());
  const auto other = Serve();
  const std::string by_name = "tcp://localhost:" + std::to_string(other->server->port());
  EXPECT_TRUE(Call(*service->Connect({.url = by_name, .tls = Client()})).ok());
}

TEST_F(TlsTest, ServiceRefusesCallersInWords) {
  const auto service = Serve();
  const auto told = [&](const CertPair& pair) { return RawTls(service->server->port(), {.pair = pair}).Call(); };
  EXPECT_THAT(told({}), HasSubstr("certificate required"));
  EXPECT_THAT(told(other_.Issue({})), HasSubstr("unknown ca"));
  EXPECT_THAT(told(ca_.Issue({.until = -60})), HasSubstr("certificate expired"));
  EXPECT_THAT(told(ca_.Issue({.from = 3600})), HasSubstr("bad certificate"));
  EXPECT_THAT(told(revoked_), HasSubstr("certificate revoked"));
  EXPECT_THAT(told(ca_.Issue({.role = ""})), HasSubstr("unsupported certificate"));
  EXPECT_TRUE(Eventually([&] { return Handshakes(*service, "refused") == 6; }));
  EXPECT_THAT(RawTls(service->server->port(), {.pair = ca_.Issue({}), .version = TLS1_2_VERSION}).Call(),
              HasSubstr("protocol version"));
  EXPECT_TRUE(Eventually([&] { return Handshakes(*service, "failed") == 1; }));
  EXPECT_EQ(service->echoes.load(), 0);
  EXPECT_EQ(told(ca_.Issue({})), "");
}

TEST_F(TlsTest, RefusedCallersAreToldWhichFileAndWhy) {
  const auto service = Serve();
  const auto told = [&](const CertPair& pair) {
    return Call(*service->Connect({.tls = Context(pair, ca_.cert())}));
  };
  const Status stranger = told(other_.Issue({}));
  EXPECT_EQ(stranger.code(), Code::kPermission);
  EXPECT_THAT(stranger.message(), AllOf(HasSubstr("the peer refuses the certificate " + dir_.path()),
                                        HasSubstr("CN=test client, role client, valid from 20"),
                                        HasSubstr("its authority is not among those that the peer trusts")));
  const Status revoked = told(revoked_);
  EXPECT_EQ(revoked.code(), Code::kPermission);
  EXPECT_THAT(revoked.message(), HasSubstr("it is revoked"));
  EXPECT_EQ(service->echoes.load(), 0);
}

TEST_F(TlsTest, CallersRefuseServicesInWords) {
  std::string at_server;
  Status status = CallRaw(other_.Issue({.role = "meta"}), &at_server);
  EXPECT_EQ(status.code(), Code::kPermission);
  EXPECT_THAT(status.message(), AllOf(HasSubstr("cannot connect to tcp://127.0.0.1:"), HasSubstr("no authority in ")));
  EXPECT_THAT(at_server, HasSubstr("unknown ca"));
  status = CallRaw(ca_.Issue({.role = "meta", .until = -60}), &at_server);
  EXPECT_EQ(status.code(), Code::kPermission);
  EXPECT_THAT(status.message(), AllOf(HasSubstr("CN=test meta"), HasSubstr("it ended on 20"), HasSubstr("UTC here")));
  EXPECT_THAT(at_server, HasSubstr("certificate expired"));
  status = CallRaw(ca_.Issue({.role = "meta", .from = 3600}), &at_server);
  EXPECT_THAT(status.message(), HasSubstr("it is valid from 20"));
  EXPECT_THAT(at_server, HasSubstr("bad certificate"));
  status = CallRaw(revoked_, &at_server);
  EXPECT_THAT(status.message(), AllOf(HasSubstr("it is revoked by "), HasSubstr(".crl.pem")));
  EXPECT_THAT(at_server, HasSubstr("revoked"));
  status = CallRaw(ca_.Issue({.role = "client"}), &at_server);
  EXPECT_EQ(status.code(), Code::kPermission);
  EXPECT_THAT(status.message(), HasSubstr("its role is client, and meta is expected here"));
  EXPECT_THAT(at_server, HasSubstr("unsupported certificate"));
  status = CallRaw(ca_.Issue({.role = "meta", .hosts = "DNS:elsewhere,IP:10.0.0.1"}), &at_server);
  EXPECT_THAT(status.message(), HasSubstr("it is for elsewhere, 10.0.0.1, not for 127.0.0.1"));
  EXPECT_THAT(at_server, HasSubstr("bad certificate"));
  status = CallRaw(ca_.Issue({.role = "meta", .hosts = "DNS:elsewhere"}), &at_server, "localhost");
  EXPECT_THAT(status.message(), HasSubstr("it is for elsewhere, not for localhost"));
  status = CallRaw(ca_.Issue({.role = "meta"}), &at_server, "127.0.0.1", TLS1_2_VERSION);
  EXPECT_EQ(status.code(), Code::kUnavailable);
  EXPECT_THAT(status.message(), HasSubstr("does not speak TLS 1.3"));
}

TEST_F(TlsTest, PlainCallerOfASecureServiceIsTold) {
  const auto service = Serve();
  const Status status = Call(*service->Connect());
  EXPECT_EQ(status.code(), Code::kUnavailable);
  EXPECT_THAT(status.message(), AllOf(HasSubstr("speaks TLS only"), HasSubstr("ock.mmc.tls.enable")));
  EXPECT_TRUE(Eventually([&] { return Handshakes(*service, "failed") == 1; }));
  RawSocket web(service->server->port());
  web.Send("GET / HTTP/1.1\r\n\r\n");
  EXPECT_TRUE(web.Ended());
  EXPECT_TRUE(Call(*service->Connect({.tls = Client()})).ok());
}

TEST_F(TlsTest, SecureCallerOfAPlainServiceIsTold) {
  EchoService service;
  ASSERT_TRUE(service.Start().ok());
  const Status status = Call(*service.Connect({.tls = Client()}));
  EXPECT_EQ(status.code(), Code::kUnavailable);
  EXPECT_THAT(status.message(), HasSubstr("the service does not speak TLS"));
  EXPECT_EQ(Count(service, "mmc_rpc_bad_frames_total{reason=\"malformed\"}"), 1);
  EXPECT_TRUE(Call(*service.Connect()).ok());
}

TEST_F(TlsTest, PlainCallerOfAnyTlsServiceIsTold) {
  RawTlsServer server({.pair = ca_.Issue({.role = "meta"})});
  const Status status = Call(**MakeTcpChannel({.url = server.url()}));
  EXPECT_THAT(status.message(), AnyOf(HasSubstr("these bytes are TLS"), HasSubstr("closed the connection"),
                                      HasSubstr("reset")));
  EXPECT_FALSE(status.ok());
}

TEST_F(TlsTest, ConnectTimeoutCoversTheHandshake) {
  const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(::bind(listener, reinterpret_cast<const sockaddr*>(&at), sizeof(at)), 0);
  ASSERT_EQ(::listen(listener, 8), 0);
  socklen_t length = sizeof(at);
  ASSERT_EQ(::getsockname(listener, reinterpret_cast<sockaddr*>(&at), &length), 0);
  const Status status = Call(**MakeTcpChannel({.url = "tcp://127.0.0.1:" + std::to_string(ntohs(at.sin_port)),
                                               .connect_timeout = std::chrono::milliseconds(500),
                                               .tls = Client()}));
  EXPECT_EQ(status.code(), Code::kUnavailable);
  EXPECT_THAT(status.message(), HasSubstr("no answer to the TLS handshake within 500 ms"));
  ::close(listener);
}

TEST_F(TlsTest, SlowHandshakesEnd) {
  ServerOptions options;
  options.handshake_timeout = std::chrono::milliseconds(50);
  const auto service = Serve(options);
  RawSocket silent(service->server->port());
  EXPECT_TRUE(silent.Ended());
  RawSocket slow(service->server->port());
  slow.Send(std::string("\x16\x03\x01\x02\x00\x01", 6));  // a record of 512 bytes begins
  EXPECT_TRUE(slow.Ended());
  EXPECT_TRUE(Eventually([&] { return Handshakes(*service, "failed") == 2; }));
}

TEST_F(TlsTest, UnfinishedHandshakesKeepNobodyOut) {
  ServerOptions options;
  options.max_handshakes = 8;
  options.handshake_timeout = std::chrono::minutes(10);
  const auto service = Serve(options);
  std::vector<std::unique_ptr<RawSocket>> silent;
  for (int i = 0; i < 100; ++i) silent.push_back(std::make_unique<RawSocket>(service->server->port()));
  const auto channel = service->Connect({.tls = Client()});
  EXPECT_TRUE(Call(*channel).ok());
  EXPECT_TRUE(silent.front()->Ended());
  EXPECT_TRUE(Eventually([&] { return Handshakes(*service, "dropped") >= 90; }));
  EXPECT_EQ(Count(*service, "mmc_rpc_connections"), 1);
}

TEST_F(TlsTest, GarbageInsteadOfAHandshakeEnds) {
  const auto service = Serve();
  for (const std::string& bytes :
       {std::string("\x16\x03\x01\x00\x05hello", 10), std::string("\x16\x03\x01\xff\xff", 5) + std::string(70000, 'x'),
        std::string("\x15\x03\x03\x00\x02\x02\x28", 7), std::string("\x17\x03\x03\x00\x01x", 6), std::string("M")}) {
    RawSocket socket(service->server->port());
    socket.Send(bytes);
    std::string all;
    for (std::string more = socket.Receive(1); !more.empty(); more = socket.Receive(1)) all += more;
    EXPECT_LT(all.size(), 64u);
  }
  EXPECT_TRUE(Call(*service->Connect({.tls = Client()})).ok());
}

TEST_F(TlsTest, FloodsOfNewKeysEndTheConnection) {
  const auto service = Serve();
  RawTls flood(service->server->port(), {.pair = ca_.Issue({})});
  ASSERT_EQ(flood.Call(), "");
  // A few are fine.
  for (int i = 0; i < 8; ++i) {
    ASSERT_EQ(SSL_key_update(flood.ssl(), SSL_KEY_UPDATE_NOT_REQUESTED), 1);
    ASSERT_EQ(SSL_do_handshake(flood.ssl()), 1);
  }
  ASSERT_TRUE(flood.Send(RawRequest(kEcho.id, 2, "")));
  bool alive = true;
  for (int i = 0; alive && i < 1'000'000; ++i) {
    alive = SSL_key_update(flood.ssl(), SSL_KEY_UPDATE_NOT_REQUESTED) == 1 && SSL_do_handshake(flood.ssl()) == 1;
  }
  EXPECT_FALSE(alive);
  EXPECT_TRUE(Eventually([&] { return Count(*service, "mmc_rpc_bad_frames_total{reason=\"tls\"}") == 1; }));
  EXPECT_TRUE(Eventually([&] { return Count(*service, "mmc_rpc_connections") == 0; }));
  EXPECT_TRUE(Call(*service->Connect({.tls = Client()})).ok());
}

TEST_F(TlsTest, StopEndsHandshakesAndConnections) {
  auto service = Serve();
  RawSocket silent(service->server->port());
  const auto channel = service->Connect({.tls = Client()});
  ASSERT_TRUE(Call(*channel).ok());
  service->server->Stop(Soon());
  EXPECT_TRUE(silent.Ended());
  EXPECT_FALSE(Call(*channel).ok());
}

}  // namespace
}  // namespace mmc::rpc
