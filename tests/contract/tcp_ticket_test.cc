// Goal: where tickets are wanted, no byte moves over TCP but by one that says just that, and not after its end.
// Method: tickets of every wrong kind against our listener, with our links and with OpenSSL itself as a client that
// goes by no rules.
#include <signal.h>

#include <cstring>
#include <functional>
#include <vector>

#include "fabric/tcp/tcp.h"
#include "tests/contract/certificates.h"
#include "tests/contract/contract_fixture.h"
#include "tests/contract/raw_tls.h"

namespace mmc::fabric::contract {
namespace {

using security::Role;

constexpr RegionRef kRegion{1, 7};
constexpr uint64_t kClock = 1'000'000;       // what the clock that ends are told on shows at the start
constexpr uint64_t kLater = kClock + 600'000;
constexpr uint64_t kSession = 42;
constexpr uint64_t kSize = 16_MiB;

class TcpTicket : public testing::Test {
 protected:
  static Certificates& Certs() { return Certificates::Shared(); }
  static void SetUpTestSuite() { signal(SIGPIPE, SIG_IGN); }
  void SetUp() override {
    auto memory = SegmentMemory::Create({.name = "ticket", .size = kSize, .prefault = false});
    ASSERT_TRUE(memory.ok());
    memory_ = *memory;
    ASSERT_TRUE(
        regions_.Add({kRegion, {memory_->data(), kSize}, Access::kReadWrite, MemoryKind::kHost, memory_}).ok());
    judge_->LearnKey(key_);
    judge_->LearnClock(kClock, std::chrono::steady_clock::now());
    ListenOptions options;
    options.address = "127.0.0.1:0";
    options.tls = Certs().ContextOf("local");
    options.tickets = judge_;
    options.report = [this](const std::string& line) {
      MutexLock lock(mutex_);
      reports_ += line + "\n";
    };
    options.stall_timeout = std::chrono::seconds(5);
    auto listener = tcp::Listen(options, regions_);
    ASSERT_TRUE(listener.ok()) << listener.status().ToString();
    listener_ = std::move(*listener);
  }
  std::shared_ptr<Link> LinkOf(const std::string& name, uint64_t session = kSession, int connections = 1) {
    auto link = tcp::Connect(listener_->endpoint().address,
                             {.tls = Certs().ContextOf(name), .session = session, .connections = connections,
                              .stripe_bytes = 1_MiB},
                             Soon());
    EXPECT_TRUE(link.ok()) << link.status().ToString();
    return link.ok() ? *link : nullptr;
  }
  TicketScope Scope(const std::string& name, Direction direction, uint64_t session = kSession) {
    return {HolderOf(*Certs().ContextOf(name)->own()), session, kRegion, direction};
  }
  Ticket Sealed(const TicketScope& scope, uint64_t offset, uint64_t length, uint64_t end_ms = kLater) {
    Ticket ticket{.offset = offset, .length = length, .end_ms = end_ms};
    EXPECT_TRUE(SealTicket(key_, scope, &ticket));
    return ticket;
  }
  static Code Move(Link& link, Direction direction, std::vector<std::byte>* bytes, uint64_t offset,
                   const Ticket* ticket) {
    const Op op{.local = bytes->data(),
                .remote = kRegion,
                .remote_offset = offset,
                .length = bytes->size(),
                .ticket = ticket};
    return link.Execute(direction, {&op, 1}, Soon()).code();
  }

  bool Reported(const std::string& part) {
    MutexLock lock(mutex_);
    return reports_.find(part) != std::string::npos;
  }

  const TicketKey key_ = NewTicketKey();
  Mutex mutex_;
  std::string reports_ MMC_GUARDED_BY(mutex_);
  const std::shared_ptr<TicketJudge> judge_ = std::make_shared<TicketJudge>();
  std::shared_ptr<SegmentMemory> memory_;
  RegionTable regions_;
  std::unique_ptr<Listener> listener_;
};

TEST_F(TcpTicket, GivesWhatItSays) {
  const auto link = LinkOf("client");
  std::vector<std::byte> there = Pattern(300'001, 3);
  const Ticket write = Sealed(Scope("client", Direction::kWrite), 4096, 500'000);
  ASSERT_EQ(Move(*link, Direction::kWrite, &there, 8192, &write), Code::kOk) << "any part of its run";
  std::vector<std::byte> back(there.size());
  const Ticket read = Sealed(Scope("client", Direction::kRead), 8192, there.size());
  ASSERT_EQ(Move(*link, Direction::kRead, &back, 8192, &read), Code::kOk);
  EXPECT_EQ(back, there);
}

TEST_F(TcpTicket, GivesNothingElse) {
  const std::vector<std::byte> secret = Pattern(4096, 9);
  std::memcpy(memory_->data() + 8192, secret.data(), secret.size());
  const TicketScope read = Scope("client", Direction::kRead);
  const TicketScope write = Scope("client", Direction::kWrite);
  std::vector<Ticket> wrong = {
      {},
      Sealed(write, 8192, 4096),                                    // to write
      Sealed(Scope("admin", Direction::kRead), 8192, 4096),         // of another certificate
      Sealed(Scope("client", Direction::kRead, 43), 8192, 4096),    // of another session
      Sealed(read, 8192, 4095), Sealed(read, 8193, 4096), Sealed(read, 0, 4096), Sealed(read, 8192, 0),
  };
  TicketScope elsewhere = read;
  elsewhere.region.epoch = 8;
  wrong.push_back(Sealed(elsewhere, 8192, 4096));
  elsewhere.region = {2, 7};
  wrong.push_back(Sealed(elsewhere, 8192, 4096));
  Ticket stretched = Sealed(read, 0, 4096);
  stretched.length = kSize;
  wrong.push_back(stretched);
  Ticket longer = Sealed(read, 8192, 4096);
  longer.end_ms += 1;
  wrong.push_back(longer);
  const auto link = LinkOf("client");
  std::vector<std::byte> got(4096);
  EXPECT_EQ(Move(*link, Direction::kRead, &got, 8192, nullptr), Code::kPermission) << "none at all";
  EXPECT_TRUE(Reported("a request of session 42 over TCP is refused: it has no tickets"));
  for (const Ticket& ticket : wrong) {
    EXPECT_EQ(Move(*link, Direction::kRead, &got, 8192, &ticket), Code::kPermission) << &ticket - wrong.data();
  }
  EXPECT_EQ(got, std::vector<std::byte>(4096));
  EXPECT_TRUE(Reported("its ticket is for other bytes"));
  EXPECT_TRUE(Reported("not of this node for this certificate, session and access"));
  // A ticket to read does not let write, and a refused write leaves no byte.
  const Ticket to_read = Sealed(read, 8192, 4096);
  std::vector<std::byte> evil(4096, std::byte{0x66});
  EXPECT_EQ(Move(*link, Direction::kWrite, &evil, 8192, &to_read), Code::kPermission);
  EXPECT_EQ(Move(*link, Direction::kWrite, &evil, 8192, nullptr), Code::kPermission);
  EXPECT_EQ(std::memcmp(memory_->data() + 8192, secret.data(), secret.size()), 0);
  // One that was stolen, with the session of him it was stolen from.
  const auto thief = LinkOf("admin");
  EXPECT_EQ(Move(*thief, Direction::kRead, &got, 8192, &to_read), Code::kPermission);
  EXPECT_EQ(Move(*link, Direction::kRead, &got, 8192, &to_read), Code::kOk) << "the connection is still good";
  EXPECT_EQ(got, secret);
}

TEST_F(TcpTicket, IsOverAtItsEnd) {
  const auto link = LinkOf("client");
  std::vector<std::byte> bytes(4096, std::byte{0x66});
  const Ticket read = Sealed(Scope("client", Direction::kRead), 0, 4096, kClock - 1);
  EXPECT_EQ(Move(*link, Direction::kRead, &bytes, 0, &read), Code::kLeaseExpired);
  const Ticket write = Sealed(Scope("client", Direction::kWrite), 0, 4096, kClock - 1);
  EXPECT_EQ(Move(*link, Direction::kWrite, &bytes, 0, &write), Code::kLeaseExpired);
  EXPECT_EQ(memory_->data()[0], std::byte{0});
  const Ticket good = Sealed(Scope("client", Direction::kWrite), 0, 4096);
  EXPECT_EQ(Move(*link, Direction::kWrite, &bytes, 0, &good), Code::kOk);
  // The clock of the meta service shows more by now.
  judge_->LearnClock(kLater + 1, std::chrono::steady_clock::now());
  EXPECT_EQ(Move(*link, Direction::kWrite, &bytes, 0, &good), Code::kLeaseExpired);
}

// Whoever holds a write open until the space is another's writes nothing there.
TEST_F(TcpTicket, ARequestUnderWayEndsWithIt) {
  constexpr uint32_t kLength = 1 << 20;
  RawTls client(listener_->endpoint().address, {.cert = Certs().CertOf("client"), .key = Certs().KeyOf("client")});
  ASSERT_TRUE(client.Shake());
  tcp::Hello hello;
  hello.access = 1;
  hello.session = kSession;
  tcp::HelloReply reply;
  ASSERT_TRUE(client.Send(&hello, sizeof(hello)) && client.Receive(&reply, sizeof(reply)));
  ASSERT_EQ(reply.code, 0u);
  judge_->LearnClock(kClock, std::chrono::steady_clock::now());
  const Ticket ticket = Sealed(Scope("client", Direction::kWrite), 0, kLength, kClock + 1000);
  tcp::RequestHead head;
  head.direction = 1;
  head.ticketed = 1;
  head.op_count = 1;
  head.total = kLength;
  const tcp::WireOp op{kRegion.segment, kRegion.epoch, 0, kLength};
  const std::vector<std::byte> half(kLength / 2, std::byte{0x66});
  ASSERT_TRUE(client.Send(&head, sizeof(head)) && client.Send(&op, sizeof(op)) &&
              client.Send(&ticket, sizeof(ticket)) && client.Send(half.data(), half.size()));
  char byte = 0;
  EXPECT_FALSE(client.Receive(&byte, 1)) << "the listener has closed";
  client.Send(half.data(), half.size());
  EXPECT_EQ(memory_->data()[kLength / 2], std::byte{0});
  EXPECT_EQ(memory_->data()[kLength - 1], std::byte{0});
}

TEST_F(TcpTicket, ListsOfTicketsHaveABound) {
  const auto open = [&](uint32_t ops) {
    auto client = std::make_unique<RawTls>(
        listener_->endpoint().address, RawTlsOptions{.cert = Certs().CertOf("client"), .key = Certs().KeyOf("client")});
    EXPECT_EQ(client->Greet(), Code::kOk);
    tcp::RequestHead head;
    head.ticketed = 1;
    head.op_count = ops;
    head.total = ops;
    const std::vector<tcp::WireOp> list(ops, {kRegion.segment, kRegion.epoch, 0, 1});
    const std::vector<Ticket> tickets(ops);
    client->Send(&head, sizeof(head));
    client->Send(list.data(), list.size() * sizeof(tcp::WireOp));
    client->Send(tickets.data(), tickets.size() * sizeof(Ticket));
    tcp::ResponseHead answer;
    return client->Receive(&answer, sizeof(answer)) ? CodeFromWire(answer.code) : Code::kPeerUnreachable;
  };
  EXPECT_EQ(open(tcp::kMaxTicketedOps), Code::kPermission);
  EXPECT_EQ(open(tcp::kMaxTicketedOps + 1), Code::kPeerUnreachable) << "that is no request of ours";
  // A link cuts what is longer.
  const auto link = LinkOf("client");
  std::vector<std::byte> bytes(3ull * tcp::kMaxTicketedOps);
  const Ticket ticket = Sealed(Scope("client", Direction::kRead), 0, kSize);
  const Op op{.local = bytes.data(),
              .remote = kRegion,
              .length = 1,
              .count = tcp::kMaxTicketedOps * 3,
              .local_stride = 1,
              .remote_stride = 2,
              .ticket = &ticket};
  const Status read = link->Execute(Direction::kRead, {&op, 1}, Soon());
  EXPECT_TRUE(read.ok()) << read.ToString();
}

TEST_F(TcpTicket, NodesCopyWithoutAndWriteNothing) {
  const auto node = LinkOf("local", 0);
  std::vector<std::byte> bytes(4096, std::byte{0x66});
  EXPECT_EQ(Move(*node, Direction::kWrite, &bytes, 0, nullptr), Code::kPermission);
  EXPECT_EQ(Move(*node, Direction::kRead, &bytes, 0, nullptr), Code::kOk);
  EXPECT_EQ(bytes[0], std::byte{0});
  const Ticket ticket = Sealed(Scope("local", Direction::kWrite, 0), 0, 4096);
  EXPECT_EQ(Move(*node, Direction::kWrite, &bytes, 0, &ticket), Code::kOk) << "a node that puts, as a client does";
}

TEST_F(TcpTicket, AValueOfManyBuffersAndExtents) {
  const auto link = LinkOf("client", kSession, 4);
  constexpr size_t kPiece = 96 << 10;
  constexpr size_t kPieces = 61;
  const std::vector<std::byte> there = Pattern(kPieces * kPiece, 11);
  std::vector<std::byte> back(there.size());
  // Three extents, far from each other, that meet nowhere near the ends of the buffers.
  const uint64_t cuts[] = {0, 1'000'003, 3'500'000, there.size()};
  const uint64_t places[] = {9_MiB, 128, 4_MiB};
  for (const Direction direction : {Direction::kWrite, Direction::kRead}) {
    std::vector<Ticket> tickets;
    for (int e = 0; e < 3; ++e) {
      tickets.push_back(Sealed(Scope("client", direction), places[e], cuts[e + 1] - cuts[e]));
    }
    std::vector<Op> ops;
    for (size_t at = 0; at < there.size();) {
      const int e = at < cuts[1] ? 0 : at < cuts[2] ? 1 : 2;
      const size_t length = std::min<uint64_t>(kPiece - at % kPiece, cuts[e + 1] - at);
      std::byte* const local = direction == Direction::kRead ? back.data() : const_cast<std::byte*>(there.data());
      ops.push_back({.local = local + at, .remote = kRegion, .remote_offset = places[e] + at - cuts[e],
                     .length = length, .ticket = &tickets[static_cast<size_t>(e)]});
      at += length;
    }
    const Status moved = link->Execute(direction, ops, Soon());
    ASSERT_TRUE(moved.ok()) << moved.ToString();
    tickets[1].seal[0] ^= 1;
    EXPECT_EQ(link->Execute(direction, ops, Soon()).code(), Code::kPermission) << "one of them is wrong";
    tickets[1].seal[0] ^= 1;
    ops[5].ticket = nullptr;
    EXPECT_EQ(link->Execute(direction, ops, Soon()).code(), Code::kInvalidArgument) << "all or none";
  }
  EXPECT_EQ(back, there);
}

TEST_F(TcpTicket, AnotherKeyEndsAllThatWereThere) {
  const auto link = LinkOf("client");
  std::vector<std::byte> bytes(4096);
  const Ticket old = Sealed(Scope("client", Direction::kRead), 0, 4096);
  EXPECT_EQ(Move(*link, Direction::kRead, &bytes, 0, &old), Code::kOk);
  const TicketKey next = NewTicketKey();
  judge_->LearnKey(next);
  EXPECT_EQ(Move(*link, Direction::kRead, &bytes, 0, &old), Code::kPermission);
  Ticket fresh{.offset = 0, .length = 4096, .end_ms = kLater};
  ASSERT_TRUE(SealTicket(next, Scope("client", Direction::kRead), &fresh));
  EXPECT_EQ(Move(*link, Direction::kRead, &bytes, 0, &fresh), Code::kOk);
  judge_->LearnKey({});
  EXPECT_EQ(Move(*link, Direction::kRead, &bytes, 0, &fresh), Code::kPermission) << "no key, no ticket";
}

}  // namespace
}  // namespace mmc::fabric::contract
