// Goal: under TLS, nobody without the right certificate moves a byte of the data plane, both sides say in words why,
// and nothing that a stranger does harms those who are let in.
// Method: every kind of wrong certificate and protocol against our listener and our link, with OpenSSL itself as the
// other side where ours would refuse to take part; after each, a good client still writes and reads.
#include <signal.h>

#include <atomic>
#include <cstring>
#include <thread>

#include "fabric/tcp/tcp.h"
#include "tests/contract/certificates.h"
#include "tests/contract/contract_fixture.h"
#include "tests/contract/raw_client.h"
#include "tests/contract/raw_tls.h"
#include "tests/contract/relay.h"

namespace mmc::fabric::contract {
namespace {

using security::Role;

// What the listener reported.
class Reports {
 public:
  void Add(const std::string& line) {
    MutexLock lock(mutex_);
    lines_.push_back(line);
    changed_.NotifyAll();
  }
  // Waits for a line with this in it; the last line there was, without one.
  std::string Wait(const std::string& part) {
    const TimePoint deadline = Soon();
    MutexLock lock(mutex_);
    for (size_t seen = 0;;) {
      for (; seen < lines_.size(); ++seen) {
        if (lines_[seen].find(part) != std::string::npos) return lines_[seen];
      }
      if (!changed_.WaitUntil(mutex_, deadline)) return lines_.empty() ? "nothing" : lines_.back();
    }
  }
  bool Has(const std::string& part) { return Wait(part).find(part) != std::string::npos; }

 private:
  Mutex mutex_;
  CondVar changed_;
  std::vector<std::string> lines_ MMC_GUARDED_BY(mutex_);
};

std::optional<Access> RightsOf(const security::Identity& peer) {
  if (peer.role == Role::kClient || peer.role == Role::kAdmin) return Access::kReadWrite;
  if (peer.role == Role::kLocal) return Access::kReadOnly;
  return std::nullopt;
}

class TcpTls : public testing::Test {
 protected:
  static Certificates& Certs() { return Certificates::Shared(); }
  static std::shared_ptr<security::TlsContext> Of(const std::string& name) { return Certs().ContextOf(name); }
  // The shared folder's pairs that are wrong in some way, made once.
  static void SetUpTestSuite() {
    signal(SIGPIPE, SIG_IGN);
    Certs().Issue("ended", "client", {"--from", "2020-01-01", "--until", "2020-02-01"});
    Certs().Issue("early", "client", {"--from", "tomorrow", "--until", "next year"});
    Certs().Issue("nobody", "none");
    Certs().Issue("local-ended", "local", {"--from", "2020-01-01", "--until", "2020-02-01"});
    Certs().Issue("local-revoked", "local", {"--node", "node-a"});
    Certs().Revoke("local-revoked");
    Certs().Issue("any-local", "local");
  }
  void SetUp() override {
    auto memory = SegmentMemory::Create({.name = "tls", .size = 16_MiB, .prefault = false});
    ASSERT_TRUE(memory.ok());
    memory_ = *memory;
    ASSERT_TRUE(
        regions_.Add({{1, 1}, {memory_->data(), 16_MiB}, Access::kReadWrite, MemoryKind::kHost, memory_}).ok());
    Start({});
  }
  void Start(std::chrono::milliseconds stall, const std::string& name = "local") {
    listener_.reset();
    ListenOptions options;
    options.address = "127.0.0.1:0";
    options.tls = Of(name);
    options.rights = &RightsOf;
    options.report = [this](const std::string& line) { reports_.Add(line); };
    if (stall.count() > 0) options.stall_timeout = stall;
    auto listener = tcp::Listen(options, regions_);
    ASSERT_TRUE(listener.ok()) << listener.status().ToString();
    listener_ = std::move(*listener);
  }
  void TearDown() override {
    if (listener_ == nullptr) return;
    EXPECT_EQ(memory_->data()[0], std::byte{0}) << "a stranger changed the memory";
    EXPECT_TRUE(WriteAndRead(Of("client")).ok()) << "the listener serves no more";
  }
  std::string address() const { return listener_->endpoint().address; }
  Result<std::shared_ptr<Link>> Connect(std::shared_ptr<security::TlsContext> tls, const std::string& node = "") {
    return tcp::Connect(address(), {.tls = std::move(tls), .node = node}, Soon());
  }
  Status WriteAndRead(std::shared_ptr<security::TlsContext> tls, const std::string& node = "") {
    auto link = Connect(std::move(tls), node);
    if (!link.ok()) return link.status();
    auto there = Pattern(3'000'001, 7);
    const Op put{there.data(), {1, 1}, 4096, there.size()};
    MMC_RETURN_IF_ERROR((*link)->Execute(Direction::kWrite, {&put, 1}, Soon()));
    std::vector<std::byte> back(there.size());
    const Op get{back.data(), {1, 1}, 4096, back.size()};
    MMC_RETURN_IF_ERROR((*link)->Execute(Direction::kRead, {&get, 1}, Soon()));
    return back == there ? Status::Ok() : Status(Code::kCorrupt, "other bytes came back");
  }
  // With the folder's pair of that name, shown by OpenSSL itself.
  Code GreetAs(const std::string& name, std::string* trouble) {
    RawTls client(address(), {.cert = Certs().CertOf(name), .key = Certs().KeyOf(name)});
    const Code code = client.Greet();
    *trouble = client.trouble();
    return code;
  }

  std::shared_ptr<SegmentMemory> memory_;
  RegionTable regions_;
  Reports reports_;
  std::unique_ptr<Listener> listener_;
};

// A server that does one thing with one connection.
class OneServer {
 public:
  explicit OneServer(std::function<void(UniqueFd)> serve) : socket_(tcp::ListenAt("127.0.0.1:0").value()) {
    thread_ = std::thread([this, serve = std::move(serve)] {
      pollfd wait{socket_.get(), POLLIN, 0};
      poll(&wait, 1, tcp::PollTimeout(Soon()));
      serve(UniqueFd(accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC)));
    });
  }
  ~OneServer() { thread_.join(); }
  std::string address() const { return tcp::AddressOf(socket_.get()); }

 private:
  UniqueFd socket_;
  std::thread thread_;
};

TEST_F(TcpTls, EachRoleMayDoWhatItMay) {
  EXPECT_TRUE(WriteAndRead(Of("client")).ok());
  EXPECT_TRUE(WriteAndRead(Of("admin")).ok());
  // Another node copies from here, and writes nothing.
  EXPECT_EQ(WriteAndRead(Of("local")).code(), Code::kPermission);
  auto copier = Connect(Of("local"));
  ASSERT_TRUE(copier.ok()) << copier.status().ToString();
  std::byte local{};
  const Op get{&local, {1, 1}, 0, 1};
  EXPECT_TRUE((*copier)->Execute(Direction::kRead, {&get, 1}, Soon()).ok());
  const auto meta = Connect(Of("meta"));
  EXPECT_EQ(meta.code(), Code::kPermission);
  EXPECT_NE(meta.status().message().find("role"), std::string::npos) << meta.status().message();
  EXPECT_TRUE(reports_.Has("CN=meta"));
}

TEST_F(TcpTls, ANodeSpeaksForItselfOnly) {
  EXPECT_TRUE(WriteAndRead(Of("client"), "node-a").ok());
  const auto wrong = Connect(Of("client"), "node-b");
  EXPECT_EQ(wrong.code(), Code::kPermission);
  EXPECT_NE(wrong.status().message().find("node-b"), std::string::npos) << wrong.status().message();
  Start({}, "any-local");
  EXPECT_EQ(Connect(Of("client"), "node-a").code(), Code::kPermission) << "a certificate without a node's name";
  Start({}, "client");
  const auto client = Connect(Of("client"));
  EXPECT_EQ(client.code(), Code::kPermission) << "a client's certificate is no node's";
  EXPECT_NE(client.status().message().find("role"), std::string::npos) << client.status().message();
  Start({});
}

TEST_F(TcpTls, WrongCertificatesOfClientsAreRefusedInWordsOnBothSides) {
  std::string trouble;
  RawTls none(address(), {});
  EXPECT_EQ(none.Greet(), Code::kPeerUnreachable);
  EXPECT_NE(none.trouble().find("certificate required"), std::string::npos) << none.trouble();
  EXPECT_TRUE(reports_.Has("shows no certificate"));
  EXPECT_EQ(GreetAs("ended", &trouble), Code::kPeerUnreachable);
  EXPECT_NE(trouble.find("certificate expired"), std::string::npos) << trouble;
  EXPECT_TRUE(reports_.Has("it ended on 2020-02-01"));
  EXPECT_EQ(GreetAs("early", &trouble), Code::kPeerUnreachable);
  EXPECT_NE(trouble.find("certificate"), std::string::npos) << trouble;
  EXPECT_TRUE(reports_.Has("it is valid from"));
  EXPECT_EQ(GreetAs("revoked", &trouble), Code::kPeerUnreachable);
  EXPECT_NE(trouble.find("certificate revoked"), std::string::npos) << trouble;
  EXPECT_TRUE(reports_.Has("it is revoked"));
  EXPECT_EQ(GreetAs("nobody", &trouble), Code::kPeerUnreachable);
  EXPECT_TRUE(reports_.Has("role"));
  Certificates strangers;
  RawTls stranger(address(), {.cert = strangers.CertOf("client"), .key = strangers.KeyOf("client")});
  EXPECT_EQ(stranger.Greet(), Code::kPeerUnreachable);
  EXPECT_NE(stranger.trouble().find("unknown ca"), std::string::npos) << stranger.trouble();
  EXPECT_TRUE(reports_.Has("no authority in"));
}

TEST_F(TcpTls, OurOwnClientIsToldWhyItsCertificateIsRefused) {
  const auto revoked = Connect(Of("revoked"));
  EXPECT_EQ(revoked.code(), Code::kPermission);
  EXPECT_NE(revoked.status().message().find("revoked"), std::string::npos) << revoked.status().message();
  Certificates strangers;
  // It trusts the listener, but is not trusted.
  security::TlsOptions options = strangers.OptionsOf("client");
  options.ca_path = Certs().Authority();
  options.crl_path.clear();
  auto stranger = security::TlsContext::Load(options);
  ASSERT_TRUE(stranger.ok()) << stranger.status().ToString();
  const auto link = Connect(*stranger);
  EXPECT_EQ(link.code(), Code::kPermission);
  EXPECT_NE(link.status().message().find("authority"), std::string::npos) << link.status().message();
}

TEST_F(TcpTls, WrongCertificatesOfNodesAreRefusedInWordsOnBothSides) {
  const auto client = Of("client");
  const auto against = [&](const RawTlsOptions& options, const char* why) {
    std::string other_side;
    Status status;
    {
      OneServer server([&](UniqueFd socket) {
        RawTls peer(std::move(socket), options);
        peer.Shake();
        char byte = 0;
        peer.Receive(&byte, 1);
        other_side = peer.trouble();
      });
      status = tcp::Connect(server.address(), {.tls = client, .node = "node-a"}, Soon()).status();
    }
    EXPECT_NE(status.message().find(why), std::string::npos) << why << ": " << status.ToString();
    EXPECT_NE(other_side, "") << why;
    return status.code();
  };
  const auto pair = [&](const std::string& name) {
    return RawTlsOptions{.cert = Certs().CertOf(name), .key = Certs().KeyOf(name), .ca = Certs().Authority()};
  };
  EXPECT_EQ(against(pair("local-ended"), "ended on 2020-02-01"), Code::kPermission);
  EXPECT_EQ(against(pair("local-revoked"), "revoked"), Code::kPermission);
  EXPECT_EQ(against(pair("nobody"), "role"), Code::kPermission);
  Certificates strangers;
  EXPECT_EQ(against({.cert = strangers.CertOf("local"), .key = strangers.KeyOf("local"), .ca = Certs().Authority()},
                    "no authority in"),
            Code::kPermission);
  RawTlsOptions old = pair("any-local");
  old.version = TLS1_2_VERSION;
  EXPECT_EQ(against(old, "TLS 1.3"), Code::kPeerUnreachable);
}

TEST_F(TcpTls, OldVersionsAreRefused) {
  RawTls old(address(), {.cert = Certs().CertOf("client"), .key = Certs().KeyOf("client"), .version = TLS1_2_VERSION});
  EXPECT_EQ(old.Greet(), Code::kPeerUnreachable);
  EXPECT_NE(old.trouble().find("protocol version"), std::string::npos) << old.trouble();
  EXPECT_TRUE(reports_.Has("does not speak TLS 1.3"));
}

TEST_F(TcpTls, PlainAndTlsDoNotMixAndBothSidesSaySo) {
  const auto plain = Connect(nullptr);
  EXPECT_EQ(plain.code(), Code::kPermission);
  EXPECT_NE(plain.status().message().find("hcom.tls.enable"), std::string::npos) << plain.status().message();
  EXPECT_TRUE(reports_.Has("does not speak TLS; set ock.mmc.local_service.hcom.tls.enable"));
  ListenOptions options;
  options.address = "127.0.0.1:0";
  auto clear = tcp::Listen(options, regions_);
  ASSERT_TRUE(clear.ok());
  const auto secured = tcp::Connect((*clear)->endpoint().address, {.tls = Of("client")}, Soon());
  EXPECT_EQ(secured.code(), Code::kPeerUnreachable);
  EXPECT_NE(secured.status().message().find("TLS"), std::string::npos) << secured.status().message();
}

TEST_F(TcpTls, WhoeverStandsStillInTheHandshakeIsHungUpOn) {
  Start(std::chrono::milliseconds(1000));  // a good handshake has this long too
  RawClient silent(address());
  RawClient slow(address());
  // The beginning of a record of 512 bytes, one byte at a time, and then no more.
  for (const char byte : {'\x16', '\x03', '\x01', '\x02', '\x00', '\x01'}) slow.Send(&byte, 1);
  RawTls no_hello(address(), {.cert = Certs().CertOf("client"), .key = Certs().KeyOf("client")});
  EXPECT_TRUE(no_hello.Shake());
  EXPECT_TRUE(silent.HungUp());
  EXPECT_TRUE(slow.HungUp());
  char byte = 0;
  EXPECT_FALSE(no_hello.Receive(&byte, 1));
  EXPECT_TRUE(reports_.Has("no TLS handshake in 1000 ms"));
}

TEST_F(TcpTls, AServerThatSaysNothingEndsAtTheDeadline) {
  Latch over;
  OneServer server([&](UniqueFd) { over.Wait(1, Soon()); });
  EXPECT_EQ(tcp::Connect(server.address(), {.tls = Of("client")}, InMs(50)).code(), Code::kDeadline);
  over.Hit();
}

TEST_F(TcpTls, HalfOpenHandshakesKeepNobodyOut) {
  std::vector<std::unique_ptr<RawClient>> half;
  for (int i = 0; i < 600; ++i) {
    half.push_back(std::make_unique<RawClient>(address()));
    half.back()->Send("\x16\x03\x01\x02", 4);
  }
  EXPECT_TRUE(WriteAndRead(Of("client")).ok());
  EXPECT_TRUE(half.front()->HungUp()) << "the oldest made room";
}

TEST_F(TcpTls, GarbageAndKeyChangesHarmNobody) {
  auto link = Connect(Of("client"));
  ASSERT_TRUE(link.ok()) << link.status().ToString();
  std::atomic<bool> over{false};
  std::thread worker([&] {
    const auto content = Pattern(1_MiB, 5);
    std::vector<std::byte> bytes = content;
    const Op op{bytes.data(), {1, 1}, 8_MiB, bytes.size()};
    while (!over) {
      EXPECT_TRUE((*link)->Execute(Direction::kWrite, {&op, 1}, Soon()).ok());
      std::fill(bytes.begin(), bytes.end(), std::byte{0});
      EXPECT_TRUE((*link)->Execute(Direction::kRead, {&op, 1}, Soon()).ok());
      EXPECT_EQ(bytes, content);
    }
  });
  for (uint64_t i = 0; i < 40; ++i) {
    RawClient garbage(address());
    auto bytes = Pattern(4096, i);
    if (i % 2 == 0) std::memcpy(bytes.data(), "\x16\x03\x01\x0f\x00", 5);
    garbage.Send(bytes.data(), bytes.size());
    EXPECT_TRUE(garbage.HungUpAtLast());
  }
  RawTls eager(address(), {.cert = Certs().CertOf("client"), .key = Certs().KeyOf("client")});
  ASSERT_EQ(eager.Greet(), Code::kOk);
  int changes = 0;
  while (changes < 100'000 && eager.ChangeKeys()) ++changes;
  EXPECT_LT(changes, 100'000) << "keys may be changed for ever";
  over = true;
  worker.join();
}

TEST_F(TcpTls, FramesInSingleBytesAndRecordsAreUnderstood) {
  RawTls client(address(), {.cert = Certs().CertOf("client"), .key = Certs().KeyOf("client")});
  ASSERT_EQ(client.Greet(), Code::kOk);
  struct Whole {
    tcp::RequestHead head;
    tcp::WireOp op{1, 1, 8192, 4};
    std::array<char, 4> payload{'a', 'b', 'c', 'd'};
  };
  Whole whole;
  whole.head.direction = 1;
  whole.head.op_count = 1;
  whole.head.total = 4;
  for (size_t i = 0; i < sizeof(whole); ++i) ASSERT_TRUE(client.Send(reinterpret_cast<const char*>(&whole) + i, 1));
  tcp::ResponseHead response;
  ASSERT_TRUE(client.Receive(&response, sizeof(response)));
  EXPECT_EQ(response.code, 0u);
  EXPECT_EQ(std::memcmp(memory_->data() + 8192, "abcd", 4), 0);
}

// Whoever sits on the line can cut it, and then deliver late what was sent before: the client must not take the cut for
// the node's word that nothing more is written.
TEST_F(TcpTls, ACutConnectionLeavesAWriteUnconfirmed) {
  const auto source = Pattern(8_MiB, 9);
  std::vector<std::byte> local = source;
  const Op op{local.data(), {1, 1}, 4096, local.size()};
  {
    Relay relay(address());
    relay.CutAfter(3_MiB);
    auto link = tcp::Connect(relay.address(), {.tls = Of("client"), .connections = 1}, Soon());
    ASSERT_TRUE(link.ok()) << link.status().ToString();
    EXPECT_EQ((*link)->Execute(Direction::kWrite, {&op, 1}, Soon()).code(), Code::kUnconfirmed);
  }
  Relay relay(address());
  relay.CutAfter(3_MiB);
  auto link = tcp::Connect(relay.address(), {.tls = Of("client"), .connections = 1}, Soon());
  ASSERT_TRUE(link.ok()) << link.status().ToString();
  EXPECT_EQ((*link)->Execute(Direction::kRead, {&op, 1}, Soon()).code(), Code::kPeerUnreachable);
}

TEST_F(TcpTls, BytesThatAreChangedOnTheWayEndTheConnection) {
  Relay relay(address());
  relay.FlipAfter(1_MiB);
  auto link = tcp::Connect(relay.address(), {.tls = Of("client"), .connections = 1}, Soon());
  ASSERT_TRUE(link.ok()) << link.status().ToString();
  auto source = Pattern(4_MiB, 9);
  const Op op{source.data(), {1, 1}, 4096, source.size()};
  const Code code = (*link)->Execute(Direction::kWrite, {&op, 1}, Soon()).code();
  EXPECT_TRUE(code == Code::kUnconfirmed || code == Code::kPeerUnreachable) << CodeName(code);
}

TEST_F(TcpTls, NothingTravelsInTheClear) {
  auto secret = Pattern(64_KiB, 21);
  const std::string mark(reinterpret_cast<const char*>(secret.data()) + 1000, 32);
  const auto seen = [&](const std::string& target, std::shared_ptr<security::TlsContext> tls) {
    Relay relay(target);
    relay.Record();
    auto link = tcp::Connect(relay.address(), {.tls = std::move(tls), .connections = 1}, Soon());
    EXPECT_TRUE(link.ok()) << link.status().ToString();
    const Op op{secret.data(), {1, 1}, 4096, secret.size()};
    EXPECT_TRUE((*link)->Execute(Direction::kWrite, {&op, 1}, Soon()).ok());
    EXPECT_TRUE((*link)->Execute(Direction::kRead, {&op, 1}, Soon()).ok());
    (*link)->Close();
    const std::string recorded = relay.Recorded();
    EXPECT_GT(recorded.size(), 2 * secret.size());
    return recorded.find(mark) != std::string::npos;
  };
  EXPECT_FALSE(seen(address(), Of("client")));
  ListenOptions options;
  options.address = "127.0.0.1:0";
  auto clear = tcp::Listen(options, regions_);
  ASSERT_TRUE(clear.ok());
  EXPECT_TRUE(seen((*clear)->endpoint().address, nullptr)) << "the test cannot fail";
}

// New certificates count from the next connection on; those that are open go on, but for those of the revoked.
TEST_F(TcpTls, AReloadDropsTheRevokedAndNobodyElse) {
  Certificates own({"--node", "node-a"});
  ListenOptions options;
  options.address = "127.0.0.1:0";
  options.tls = own.ContextOf("local");
  auto listener = tcp::Listen(options, regions_);
  ASSERT_TRUE(listener.ok());
  const std::string address = (*listener)->endpoint().address;
  const auto client = own.ContextOf("client");
  auto link = tcp::Connect(address, {.tls = client, .connections = 1}, Soon());
  ASSERT_TRUE(link.ok()) << link.status().ToString();
  auto other = tcp::Connect(address, {.tls = own.ContextOf("admin"), .connections = 1}, Soon());
  ASSERT_TRUE(other.ok()) << other.status().ToString();
  RawTls idle(address, {.cert = own.CertOf("client"), .key = own.KeyOf("client")});
  ASSERT_EQ(idle.Greet(), Code::kOk);
  std::byte byte{};
  const Op op{&byte, {1, 1}, 0, 1};
  ASSERT_TRUE((*link)->Execute(Direction::kRead, {&op, 1}, Soon()).ok());
  ASSERT_TRUE(options.tls->Reload().ok());
  EXPECT_TRUE((*link)->Execute(Direction::kRead, {&op, 1}, Soon()).ok()) << "nothing has changed";
  own.Revoke("client");
  ASSERT_TRUE(options.tls->Reload().ok());
  EXPECT_EQ((*link)->Execute(Direction::kRead, {&op, 1}, Soon()).code(), Code::kPeerUnreachable);
  char rest = 0;
  EXPECT_FALSE(idle.Receive(&rest, 1)) << "it asks for nothing, and is hung up on all the same";
  EXPECT_TRUE((*other)->Execute(Direction::kRead, {&op, 1}, Soon()).ok()) << "its connection is the one it had";
  const auto next = tcp::Connect(address, {.tls = client, .connections = 1}, Soon());
  EXPECT_EQ(next.code(), Code::kPermission);
  EXPECT_NE(next.status().message().find("revoked"), std::string::npos) << next.status().message();
  EXPECT_TRUE(tcp::Connect(address, {.tls = own.ContextOf("admin")}, Soon()).ok());
}

}  // namespace
}  // namespace mmc::fabric::contract
