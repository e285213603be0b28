// Goal: engines move the right bytes over both transports, refuse all that is not lent, and end in time when the other
// side goes. Method: two engines in this process, over its sockets; raw clients where a well-behaved one would not do.
#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "client_sdk/engine/engine.h"
#include "common/rpc/channel.h"
#include "fabric/transport.h"
#include "proto/engine_methods.h"
#include "tests/contract/certificates.h"
#include "tests/contract/raw_client.h"

namespace mmc::engine {
namespace {

using fabric::Access;
using fabric::Direction;
using fabric::contract::Certificates;
using std::chrono::milliseconds;

constexpr milliseconds kDefault{0};

uint64_t AddressOf(const void* at) { return reinterpret_cast<uint64_t>(at); }
TimePoint Soon() { return Clock::Real().Now() + std::chrono::seconds(60); }

std::vector<unsigned char> Bytes(size_t size, unsigned seed = 0) {
  std::vector<unsigned char> out(size);
  for (size_t i = 0; i < size; ++i) out[i] = static_cast<unsigned char>(i * 31 + (i >> 8) + seed * 17);
  return out;
}

// Not seen by the thread sanitizer: what makes the other thread's writes visible here is a fence, which it does not
// know.
#define MMC_UNSEEN __attribute__((no_sanitize("thread"), noinline))
MMC_UNSEEN void Fill(std::vector<unsigned char>* bytes, unsigned char value) {
  volatile unsigned char* const at = bytes->data();
  for (size_t i = 0; i < bytes->size(); ++i) at[i] = value;
}
MMC_UNSEEN void Copy(const std::vector<unsigned char>& from, std::vector<unsigned char>* to) {
  volatile unsigned char* const at = to->data();
  for (size_t i = 0; i < from.size(); ++i) at[i] = from[i];
}
MMC_UNSEEN bool HasOnly(const std::vector<unsigned char>& bytes, unsigned char value) {
  const volatile unsigned char* const at = bytes.data();
  for (size_t i = 0; i < bytes.size(); ++i) {
    if (at[i] != value) return false;
  }
  return true;
}

// An engine that runs. Memory that it lends outlives it: declared before.
class Running {
 public:
  explicit Running(EngineOptions options = {}) {
    const Status started = engine.Start(options);
    EXPECT_TRUE(started.ok()) << started.ToString();
  }
  std::string target() const { return "127.0.0.1:" + std::to_string(engine.port()); }
  Status Register(std::vector<unsigned char>& bytes, Access access = Access::kReadWrite) {
    return engine.Register(AddressOf(bytes.data()), bytes.size(), access);
  }
  Status Read(const Running& from, std::vector<unsigned char>& into, uint64_t address) {
    const Piece piece{AddressOf(into.data()), address, into.size()};
    return engine.Transfer(Direction::kRead, from.target(), {&piece, 1}, kDefault);
  }
  Status Write(const Running& to, const std::vector<unsigned char>& bytes, uint64_t address) {
    const Piece piece{AddressOf(bytes.data()), address, bytes.size()};
    return engine.Transfer(Direction::kWrite, to.target(), {&piece, 1}, kDefault);
  }
  Engine engine;
};

EngineOptions Timed(milliseconds timeout) {
  EngineOptions options;
  options.timeout = timeout;
  return options;
}

TEST(Engine, RegisteredMemoryTravelsOverTcp) {
  auto lent = Bytes(3'000'001);
  Running a, b;
  ASSERT_TRUE(b.Register(lent).ok());
  std::vector<unsigned char> got(lent.size());
  const Status read = a.Read(b, got, AddressOf(lent.data()));
  ASSERT_TRUE(read.ok()) << read.ToString();
  EXPECT_EQ(got, lent);
  const auto other = Bytes(lent.size(), 1);
  ASSERT_TRUE(a.Write(b, other, AddressOf(lent.data())).ok());
  EXPECT_EQ(lent, other);
  EXPECT_EQ(a.engine.stats().tcp_bytes, 2 * lent.size());
  EXPECT_EQ(a.engine.stats().shm_bytes, 0u);
}

TEST(Engine, AllocatedMemoryTravelsThroughSharedMemoryUnlessThatIsOff) {
  Running a, b;
  EngineOptions far_only;
  far_only.same_host = false;
  Running c(far_only);
  const uint64_t lent = b.engine.Allocate(1 << 20).value();
  const auto bytes = Bytes(1 << 20);
  ASSERT_TRUE(a.Write(b, bytes, lent).ok());
  EXPECT_EQ(std::memcmp(reinterpret_cast<const void*>(lent), bytes.data(), bytes.size()), 0);
  EXPECT_EQ(a.engine.stats().shm_bytes, bytes.size());
  std::vector<unsigned char> got(bytes.size());
  ASSERT_TRUE(c.Read(b, got, lent).ok());
  EXPECT_EQ(got, bytes);
  EXPECT_EQ(c.engine.stats().shm_bytes, 0u);
  EXPECT_EQ(c.engine.stats().tcp_bytes, bytes.size());
}

TEST(Engine, OneBatchMayUseBothAndHaveManyPieces) {
  constexpr size_t kPieces = 20'000;
  constexpr size_t kSize = 100;
  std::vector<unsigned char> far(kPieces * kSize);
  Running a, b;
  const uint64_t near = b.engine.Allocate(kPieces * kSize).value();
  ASSERT_TRUE(b.Register(far).ok());
  const auto source = Bytes(2 * kPieces * kSize);
  std::vector<unsigned char> back(source.size());
  std::vector<Piece> out, in;
  for (size_t i = 0; i < 2 * kPieces; ++i) {
    // Scattered: in reverse order, turn by turn in one and the other.
    const uint64_t base = i % 2 == 0 ? near : AddressOf(far.data());
    const uint64_t at = base + (kPieces - 1 - i / 2) * kSize;
    out.push_back({AddressOf(source.data()) + i * kSize, at, kSize});
    in.push_back({AddressOf(back.data()) + i * kSize, at, kSize});
  }
  out.push_back({0, 0, 0});  // empty ones are passed over
  ASSERT_TRUE(a.engine.Transfer(Direction::kWrite, b.target(), out, kDefault).ok());
  const auto number = a.engine.Submit(Direction::kRead, b.target(), in, kDefault);
  ASSERT_TRUE(number.ok());
  EXPECT_TRUE(a.engine.TakeWaiting(*number).ok());
  EXPECT_EQ(back, source);
  EXPECT_GT(a.engine.stats().shm_bytes, 0u);
  EXPECT_GT(a.engine.stats().tcp_bytes, 0u);
}

TEST(Engine, WhatIsNotLentIsRefused) {
  auto lent = Bytes(10'000);
  Running a, b;
  ASSERT_TRUE(b.Register(lent).ok());
  const auto before = lent;
  const uint64_t at = AddressOf(lent.data());
  std::vector<unsigned char> mine(5000);
  EXPECT_EQ(a.Read(b, mine, at + 5001).code(), Code::kOutOfRange);
  EXPECT_EQ(a.Write(b, mine, at - 1).code(), Code::kOutOfRange);
  EXPECT_EQ(a.Read(b, mine, ~uint64_t{0} - 100).code(), Code::kOutOfRange);
  EXPECT_EQ(a.Read(b, mine, 0).code(), Code::kOutOfRange);
  EXPECT_EQ(lent, before);
  ASSERT_TRUE(b.engine.Unregister(at).ok());
  EXPECT_EQ(a.Read(b, mine, at).code(), Code::kOutOfRange);
  ASSERT_TRUE(b.Register(lent, Access::kReadOnly).ok());
  EXPECT_TRUE(a.Read(b, mine, at).ok());
  EXPECT_EQ(a.Write(b, mine, at).code(), Code::kReadOnly);
  EXPECT_EQ(lent, before);
}

// One that does not ask before it acts.
struct Forger {
  explicit Forger(const Running& victim) {
    auto channel = rpc::MakeTcpChannel({.url = "tcp://" + victim.target()}).value();
    EXPECT_TRUE(channel->Call(proto::kDescribeEngine, {}, &lent, Soon()).ok());
    data = "127.0.0.1:" + std::to_string(lent.tcp_port());
    auto connected = fabric::FindTransport("tcp")->Connect(data, {}, Soon());
    EXPECT_TRUE(connected.ok());
    if (connected.ok()) link = *connected;
  }
  Status Write(std::vector<unsigned char>& bytes, fabric::RegionRef ref, uint64_t offset) {
    fabric::Op op;
    op.local = reinterpret_cast<std::byte*>(bytes.data());
    op.remote = ref;
    op.remote_offset = offset;
    op.length = bytes.size();
    return link->Execute(Direction::kWrite, {&op, 1}, Soon());
  }
  fabric::RegionRef ref() const { return {lent.regions(0).segment(), lent.epoch()}; }
  proto::DescribeEngineReply lent;
  std::string data;
  std::shared_ptr<fabric::Link> link;
};

TEST(Engine, TheFarSideRefusesWhoDoesNotAskBefore) {
  auto lent = Bytes(10'000);
  Running b;
  const auto before = lent;
  ASSERT_TRUE(b.Register(lent).ok());
  Forger forger(b);
  auto bytes = Bytes(100, 5);
  EXPECT_EQ(forger.Write(bytes, forger.ref(), 9'901).code(), Code::kOutOfRange);
  EXPECT_EQ(forger.Write(bytes, forger.ref(), uint64_t{1} << 45).code(), Code::kOutOfRange);
  EXPECT_EQ(forger.Write(bytes, {forger.ref().segment, forger.ref().epoch + 2}, 0).code(), Code::kStaleRegion);
  EXPECT_EQ(forger.Write(bytes, {forger.ref().segment + 1, forger.ref().epoch}, 0).code(), Code::kStaleRegion);
  ASSERT_TRUE(b.engine.Unregister(AddressOf(lent.data())).ok());
  ASSERT_TRUE(b.Register(lent).ok());
  EXPECT_EQ(forger.Write(bytes, forger.ref(), 0).code(), Code::kStaleRegion);  // its name is another one now
  EXPECT_EQ(lent, before);
}

TEST(Engine, RegisteredAgainIsFoundAgain) {
  auto lent = Bytes(10'000);
  Running a, b;
  const uint64_t at = AddressOf(lent.data());
  std::vector<unsigned char> got(lent.size());
  for (int round = 0; round < 3; ++round) {
    ASSERT_TRUE(b.Register(lent).ok());
    ASSERT_TRUE(a.Read(b, got, at).ok());
    EXPECT_EQ(got, lent);
    ASSERT_TRUE(b.engine.Unregister(at).ok());
    EXPECT_EQ(a.Read(b, got, at).code(), Code::kOutOfRange);
    const auto next = Bytes(lent.size(), static_cast<unsigned>(round) + 1);
    Copy(next, &lent);
  }
}

TEST(Engine, BuffersComeAndGoWithTheirLinks) {
  Running a, b;
  const auto bytes = Bytes(5000);
  // More than are freed between two cuts of the connections that keep them mapped.
  for (int round = 0; round < 70; ++round) {
    const uint64_t lent = b.engine.Allocate(5000).value();
    const Status written = a.Write(b, bytes, lent);
    ASSERT_TRUE(written.ok()) << round << ": " << written.ToString();
    ASSERT_EQ(std::memcmp(reinterpret_cast<const void*>(lent), bytes.data(), bytes.size()), 0);
    ASSERT_TRUE(b.engine.Free(lent).ok());
  }
  EXPECT_EQ(a.engine.FirstAddress(b.target()).value(), 0u);
}

// After Unregister() nobody touches the memory, even one who stopped in the middle of a write.
TEST(Engine, AnAccessThatDoesNotEndIsCut) {
  std::vector<unsigned char> lent(100'000);
  Running b;
  ASSERT_TRUE(b.Register(lent).ok());
  Forger known(b);
  fabric::contract::RawClient raw(known.data);
  ASSERT_EQ(raw.Greet(), Code::kOk);
  fabric::tcp::RequestHead head;
  head.direction = static_cast<uint8_t>(Direction::kWrite);
  head.op_count = 1;
  head.total = lent.size();
  head.request = 1;
  raw.Send(head);
  raw.Send(fabric::tcp::WireOp{known.ref().segment, known.ref().epoch, 0, lent.size()});
  const auto payload = Bytes(lent.size() / 2, 3);
  raw.Send(payload.data(), payload.size());
  const Status taken = b.engine.Unregister(AddressOf(lent.data()));
  ASSERT_TRUE(taken.ok()) << taken.ToString();
  Fill(&lent, 7);
  raw.Send(payload.data(), payload.size());
  // Cut off, or, when it was slower than Unregister(), refused.
  fabric::tcp::ResponseHead answer;
  const bool answered = raw.Receive(&answer, sizeof(answer));
  EXPECT_TRUE(!answered || answer.code != 0);
  EXPECT_TRUE(HasOnly(lent, 7));
}

TEST(Engine, APeerThatEndsIsAnErrorAndItsSuccessorIsFound) {
  Running a;
  auto lent = Bytes(10'000);
  std::vector<unsigned char> got(lent.size());
  auto b = std::make_unique<Running>();
  const uint64_t near = b->engine.Allocate(100).value();
  ASSERT_TRUE(b->Register(lent).ok());
  const uint16_t port = b->engine.port();
  ASSERT_TRUE(a.Read(*b, got, AddressOf(lent.data())).ok());
  std::vector<unsigned char> small(100);
  ASSERT_TRUE(a.Read(*b, small, near).ok());
  b->engine.Close();
  EXPECT_EQ(b->engine.port(), 0);
  const std::string target = "127.0.0.1:" + std::to_string(port);
  const Piece pieces[] = {{AddressOf(got.data()), AddressOf(lent.data()), got.size()},
                          {AddressOf(small.data()), near, small.size()}};
  for (const Piece& piece : pieces) {
    EXPECT_FALSE(a.engine.Transfer(Direction::kRead, target, {&piece, 1}, kDefault).ok());
  }
  EXPECT_FALSE(a.engine.FirstAddress(target).ok());
  EXPECT_FALSE(a.engine.Send(target, {"name", "text"}).ok());
  // What is registered stays; another engine may have the port by now, and then says so.
  EngineOptions again;
  again.url = "tcp://127.0.0.1:" + std::to_string(port);
  const Status restarted = b->engine.Start(again);
  if (restarted.ok()) {
    for (const Piece& piece : pieces) {
      const Status read = a.engine.Transfer(Direction::kRead, target, {&piece, 1}, kDefault);
      EXPECT_TRUE(read.ok()) << read.ToString();
    }
    EXPECT_EQ(got, lent);
  } else {
    EXPECT_EQ(restarted.code(), Code::kIo) << restarted.ToString();
  }
}

TEST(Engine, APeerThatSaysNothingEndsWithTheDeadline) {
  Running a(Timed(milliseconds(300)));
  // A listener whose connections nobody takes.
  auto listen = fabric::tcp::ListenAt("127.0.0.1:0");
  ASSERT_TRUE(listen.ok());
  const std::string target = fabric::tcp::AddressOf(listen->get());
  std::vector<unsigned char> bytes(10);
  const Piece piece{AddressOf(bytes.data()), 4096, bytes.size()};
  EXPECT_EQ(a.engine.Transfer(Direction::kRead, target, {&piece, 1}, kDefault).code(), Code::kDeadline);
  EXPECT_EQ(a.engine.FirstAddress(target).code(), Code::kDeadline);
}

TEST(Engine, CloseFailsWhatRuns) {
  Running a;
  auto listen = fabric::tcp::ListenAt("127.0.0.1:0");
  ASSERT_TRUE(listen.ok());
  const std::string target = fabric::tcp::AddressOf(listen->get());
  std::vector<unsigned char> bytes(10);
  std::vector<uint64_t> numbers;
  for (int i = 0; i < 20; ++i) {
    const std::vector<Piece> pieces{Piece{AddressOf(bytes.data()), 4096, 10}};
    numbers.push_back(a.engine.Submit(Direction::kRead, target, pieces, kDefault).value());
  }
  Status outcome;
  EXPECT_EQ(a.engine.Take(numbers[0], &outcome), Engine::Progress::kRunning);
  a.engine.Close();
  for (const uint64_t number : numbers) EXPECT_FALSE(a.engine.TakeWaiting(number).ok());
  EXPECT_EQ(a.engine.Take(numbers[0], &outcome), Engine::Progress::kUnknown);
  EXPECT_EQ(a.engine.TakeWaiting(77).code(), Code::kNotFound);
  EXPECT_EQ(a.engine.Submit(Direction::kRead, target, {}, kDefault).code(), Code::kClosed);
  a.engine.Close();
}

TEST(Engine, NotesArriveOnceAndAreBounded) {
  Running a, b;
  ASSERT_TRUE(a.engine.Send(b.target(), {"name", "first"}).ok());
  ASSERT_TRUE(a.engine.Send(b.target(), {"", "second"}).ok());
  const auto notes = b.engine.TakeNotes();
  ASSERT_EQ(notes.size(), 2u);
  EXPECT_EQ(notes[0].text + notes[0].name + notes[1].text, "firstnamesecond");
  EXPECT_TRUE(b.engine.TakeNotes().empty());
  EXPECT_EQ(a.engine.Send(b.target(), {"", std::string(Service::kMaxNoteBytes + 1, 'x')}).code(), Code::kTooLarge);
  const Note large{"", std::string(Service::kMaxNoteBytes, 'x')};
  for (size_t i = 0; i < Service::kMaxNotesBytes / Service::kMaxNoteBytes; ++i) {
    ASSERT_TRUE(a.engine.Send(b.target(), large).ok());
  }
  EXPECT_EQ(a.engine.Send(b.target(), large).code(), Code::kQueueFull);
  EXPECT_EQ(b.engine.TakeNotes().size(), Service::kMaxNotesBytes / Service::kMaxNoteBytes);
  EXPECT_TRUE(a.engine.Send(b.target(), large).ok());
}

TEST(Engine, ManyThreadsOverFewPeers) {
  constexpr size_t kThreads = 8;
  constexpr size_t kShare = 50'000;
  auto far = Bytes(kThreads * kShare);
  Running a, b, c;
  ASSERT_TRUE(b.Register(far).ok());
  const uint64_t near = c.engine.Allocate(far.size()).value();
  std::vector<std::thread> threads;
  for (size_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      std::vector<unsigned char> mine(kShare), back(kShare);
      for (int round = 0; round < 20; ++round) {
        ASSERT_TRUE(a.Read(b, mine, AddressOf(far.data()) + t * kShare).ok());
        ASSERT_TRUE(a.Write(c, mine, near + t * kShare).ok());
        ASSERT_TRUE(a.Read(c, back, near + t * kShare).ok());
        ASSERT_EQ(mine, back);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(std::memcmp(far.data(), reinterpret_cast<const void*>(near), far.size()), 0);
}

TEST(Engine, WhatCannotBeIsRefused) {
  Running a;
  EXPECT_EQ(a.engine.Start({}).code(), Code::kExists);
  std::vector<unsigned char> bytes(10);
  const Piece piece{AddressOf(bytes.data()), 4096, 10};
  for (const char* target : {"", "nobody", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:99999"}) {
    EXPECT_EQ(a.engine.Transfer(Direction::kRead, target, {&piece, 1}, kDefault).code(), Code::kInvalidArgument)
        << target;
  }
  const Piece wrong{~uint64_t{0} - 5, 4096, 10};
  EXPECT_EQ(a.engine.Transfer(Direction::kRead, a.target(), {&wrong, 1}, kDefault).code(), Code::kInvalidArgument);
  EXPECT_TRUE(a.engine.Transfer(Direction::kRead, "nobody", {}, kDefault).ok());  // nothing to do
  Engine fresh;
  EXPECT_EQ(fresh.Transfer(Direction::kRead, a.target(), {&piece, 1}, kDefault).code(), Code::kClosed);
  EngineOptions options;
  options.tcp_connections = 0;
  EXPECT_EQ(fresh.Start(options).code(), Code::kInvalidArgument);
  options = {};
  options.url = "tcp://" + a.target();
  EXPECT_EQ(fresh.Start(options).code(), Code::kIo);
  options.url = "nonsense";
  EXPECT_EQ(fresh.Start(options).code(), Code::kInvalidArgument);
}

EngineOptions Secured(const std::string& name) {
  EngineOptions options = Timed(std::chrono::seconds(10));
  options.tls = Certificates::Shared().OptionsOf(name);
  return options;
}

TEST(Engine, UnderTlsBothSidesNeedACertificateOfRoleLocal) {
  auto lent = Bytes(2'000'003);
  Running a(Secured("local")), b(Secured("local"));
  ASSERT_TRUE(b.Register(lent).ok());
  const uint64_t near = b.engine.Allocate(1000).value();
  std::vector<unsigned char> got(lent.size()), small(1000);
  const Status read = a.Read(b, got, AddressOf(lent.data()));
  ASSERT_TRUE(read.ok()) << read.ToString();
  EXPECT_EQ(got, lent);
  EXPECT_TRUE(a.Read(b, small, near).ok());
  Running plain(Timed(std::chrono::seconds(2)));
  EXPECT_FALSE(plain.Read(b, got, AddressOf(lent.data())).ok());
  EXPECT_FALSE(plain.engine.Send(b.target(), {"", "x"}).ok());
  EXPECT_FALSE(a.engine.FirstAddress(plain.target()).ok());
  Engine client;
  const Status started = client.Start(Secured("client"));
  EXPECT_EQ(started.code(), Code::kConfig) << started.ToString();
  // A client's certificate is good, and its role is not.
  const auto context = Certificates::Shared().ContextOf("client");
  auto channel = rpc::MakeTcpChannel({.url = "tcp://" + b.target(), .tls = context,
                                      .peer_role = security::Role::kLocal}).value();
  proto::DescribeEngineReply reply;
  EXPECT_EQ(channel->Call(proto::kDescribeEngine, {}, &reply, Soon()).code(), Code::kPermission);
  EXPECT_TRUE(b.engine.TakeNotes().empty());
}

}  // namespace
}  // namespace mmc::engine
