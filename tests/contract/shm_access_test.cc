// Goal: the shm listener lets in whom it should, and a read-only client cannot write, whatever it tries.
// Method: helper processes under other users (when run as root), raw packets, the files as they are passed, and a
// listener that is not the one meant.
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <thread>

#include "fabric/address.h"
#include "fabric/shm/shm.h"
#include "fabric/shm/socket.h"
#include "fabric/shm/wire.h"
#include "tests/contract/contract_fixture.h"

namespace mmc::fabric::contract {
namespace {

constexpr uid_t kNobody = 65534;
constexpr gid_t kOtherGroup = 65533;

class ShmAccess : public testing::Test {
 protected:
  void SetUp() override {
    auto memory = SegmentMemory::Create({.name = "access", .size = 4_MiB, .prefault = false});
    ASSERT_TRUE(memory.ok());
    memory_ = *memory;
    ASSERT_TRUE(regions_.Add({{1, 1}, {memory_->data(), 4_MiB}, Access::kReadWrite, MemoryKind::kHost, memory_}).ok());
    ASSERT_EQ(chmod(dir_.path().c_str(), 0755), 0);
    ASSERT_TRUE(Listen({}).ok());
  }
  Status Listen(ListenOptions options) {
    listener_.reset();
    options.address = path();
    auto listener = shm::Listen(options, regions_);
    if (!listener.ok()) return listener.status();
    listener_ = std::move(*listener);
    return Status::Ok();
  }
  std::string path() const { return dir_.path() + "/access.sock"; }

  // What Connect answers in a process of that user and group.
  Code ConnectAs(uid_t user, gid_t group) {
    const pid_t child = fork();
    if (child == 0) {
      if (setgroups(0, nullptr) != 0 || setgid(group) != 0 || setuid(user) != 0) _exit(255);
      auto socket = shm::ConnectTo(path(), Soon());
      if (!socket.ok()) _exit(static_cast<int>(socket.code()));
      // Not a whole link: it would start threads in a forked process.
      shm::Packet hello;
      static_cast<void>(shm::SendPacket(socket->get(), hello, -1));
      auto answer = shm::ReceivePacketUntil(socket->get(), Soon());
      if (!answer.ok()) _exit(254);
      _exit(answer->packet.kind == shm::PacketKind::kRefused ? static_cast<int>(answer->packet.code) : 0);
    }
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    return WIFEXITED(status) ? static_cast<Code>(WEXITSTATUS(status)) : Code::kInternal;
  }

  TempDir dir_;
  std::shared_ptr<SegmentMemory> memory_;
  RegionTable regions_;
  std::unique_ptr<Listener> listener_;
};

TEST_F(ShmAccess, AnotherUserIsKeptOutByTheSocketFile) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root to become another user";
  EXPECT_EQ(ConnectAs(kNobody, kOtherGroup), Code::kPermission);
}

TEST_F(ShmAccess, AnotherUserIsRefusedByItsCredentialsToo) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root to become another user";
  ASSERT_EQ(chmod(path().c_str(), 0666), 0);
  EXPECT_EQ(ConnectAs(kNobody, kOtherGroup), Code::kPermission);
  EXPECT_EQ(ConnectAs(0, 0), Code::kOk);
}

TEST_F(ShmAccess, AMemberOfTheConfiguredGroupIsLetIn) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root to become another user";
  const struct group* const group = getgrnam("nogroup");
  if (group == nullptr) GTEST_SKIP() << "no group nogroup";
  ASSERT_TRUE(Listen({.allowed_group = "nogroup"}).ok());
  EXPECT_EQ(ConnectAs(kNobody, group->gr_gid), Code::kOk);
  EXPECT_EQ(ConnectAs(kNobody, kOtherGroup), Code::kPermission);
}

// As another user with a file that was passed to it: every way to make it writable that comes to mind. 0: none works.
int TryToWrite(int fd) {
  const std::string again = "/proc/self/fd/" + std::to_string(fd);
  if (mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) != MAP_FAILED) return 1;
  void* const readable = mmap(nullptr, 4096, PROT_READ, MAP_SHARED, fd, 0);
  if (readable == MAP_FAILED) return 2;
  if (mprotect(readable, 4096, PROT_READ | PROT_WRITE) == 0) return 3;
  if (open(again.c_str(), O_RDWR) >= 0) return 4;
  if (fchmod(fd, 0666) == 0) return 5;
  if (ftruncate(fd, 0) == 0 || pwrite(fd, "x", 1, 0) == 1) return 6;
  return 0;
}

TEST_F(ShmAccess, AMemberOfAGroupThatMayReadGetsMemoryThatItCannotWrite) {
  const struct group* const group = getgrnam("nogroup");
  if (geteuid() != 0 || group == nullptr) GTEST_SKIP() << "needs root to become another user, and a group nogroup";
  ASSERT_TRUE(Listen({.allowed_group = "nogroup", .group_access = Access::kReadOnly}).ok());
  const pid_t child = fork();
  if (child == 0) {
    if (setgroups(0, nullptr) != 0 || setgid(group->gr_gid) != 0 || setuid(kNobody) != 0) _exit(255);
    auto socket = shm::ConnectTo(path(), Soon());
    shm::Packet hello;
    hello.access = static_cast<uint32_t>(Access::kReadWrite);
    if (!socket.ok() || !shm::SendPacket(socket->get(), hello, -1).ok()) _exit(254);
    for (const auto kind : {shm::PacketKind::kWelcome, shm::PacketKind::kSegment}) {
      auto answer = shm::ReceivePacketUntil(socket->get(), Soon());
      if (!answer.ok() || answer->packet.kind != kind) _exit(253);
      if (kind == shm::PacketKind::kSegment && answer->packet.access != 0) _exit(252);
      if (const int way = TryToWrite(answer->fd.get()); way != 0) _exit(way);
    }
    _exit(0);
  }
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST_F(ShmAccess, WhoWasNotToldTheWholeAddressIsRefused) {
  ASSERT_TRUE(Listen({.require_nonce = true}).ok());
  EXPECT_EQ(shm::Connect(path(), {}, Soon()).code(), Code::kPermission);
  EXPECT_TRUE(shm::Connect(listener_->endpoint().address, {}, Soon()).ok());
}

TEST_F(ShmAccess, TheAddressForReadersGivesReadingOnly) {
  ASSERT_TRUE(Listen({.require_nonce = true}).ok());
  const std::string address = ReaderAddress(listener_->endpoint().address);
  auto link = shm::Connect(address, {.access = Access::kReadWrite}, Soon());
  ASSERT_TRUE(link.ok()) << link.status().ToString();
  std::byte local{1};
  const Op op{&local, {1, 1}, 0, 1};
  EXPECT_EQ((*link)->Execute(Direction::kWrite, {&op, 1}, Soon()).code(), Code::kReadOnly);
  EXPECT_TRUE((*link)->Execute(Direction::kRead, {&op, 1}, Soon()).ok());
  // It does not lead back to the other one.
  const HostAddress reader = ParseHostAddress(address);
  EXPECT_EQ(shm::Connect(FormatHostAddress({reader.place, reader.nonce}), {}, Soon())
                .value_or(nullptr)
                ->Execute(Direction::kWrite, {&op, 1}, Soon())
                .code(),
            Code::kReadOnly);
}

// A process that has made a socket at the path where the client looks for the node: it would be handed every value.
TEST_F(ShmAccess, AListenerThatDoesNotKnowTheAddressIsNotBelieved) {
  const HostAddress meant{dir_.path() + "/impostor.sock", 0x1234567};
  auto impostor = shm::ListenAt(meant.place, static_cast<gid_t>(-1));
  ASSERT_TRUE(impostor.ok());
  std::thread server([&] {
    pollfd wait{impostor->get(), POLLIN, 0};
    poll(&wait, 1, 60'000);
    const UniqueFd socket(accept(impostor->get(), nullptr, nullptr));
    auto hello = shm::ReceivePacketUntil(socket.get(), Soon());
    shm::Packet welcome;
    welcome.kind = shm::PacketKind::kWelcome;
    if (hello.ok()) welcome.proof = hello->packet.proof;  // all that it was told
    static_cast<void>(shm::SendPacket(socket.get(), welcome, memory_->fd()));
    shm::Packet ready;
    ready.kind = shm::PacketKind::kReady;
    static_cast<void>(shm::SendPacket(socket.get(), ready, -1));
  });
  EXPECT_EQ(shm::Connect(FormatHostAddress(meant), {}, Soon()).code(), Code::kPermission);
  server.join();
}

TEST_F(ShmAccess, AGroupThatDoesNotExistIsAnError) {
  EXPECT_EQ(Listen({.allowed_group = "no-such-group"}).code(), Code::kInvalidArgument);
}

TEST_F(ShmAccess, TheFileOfAReadOnlyClientCannotBeMappedForWriting) {
  auto socket = shm::ConnectTo(path(), Soon());
  ASSERT_TRUE(socket.ok());
  shm::Packet hello;
  hello.access = static_cast<uint32_t>(Access::kReadOnly);
  ASSERT_TRUE(shm::SendPacket(socket->get(), hello, -1).ok());
  auto welcome = shm::ReceivePacketUntil(socket->get(), Soon());
  ASSERT_TRUE(welcome.ok());
  ASSERT_EQ(welcome->packet.kind, shm::PacketKind::kWelcome);
  auto segment = shm::ReceivePacketUntil(socket->get(), Soon());
  ASSERT_TRUE(segment.ok());
  ASSERT_EQ(segment->packet.kind, shm::PacketKind::kSegment);
  for (const int fd : {welcome->fd.get(), segment->fd.get()}) {
    ASSERT_GE(fd, 0);
    EXPECT_EQ(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
    EXPECT_EQ(ftruncate(fd, 0), -1);
    void* const readable = mmap(nullptr, 4096, PROT_READ, MAP_SHARED, fd, 0);
    ASSERT_NE(readable, MAP_FAILED);
    EXPECT_EQ(mprotect(readable, 4096, PROT_READ | PROT_WRITE), -1);
    munmap(readable, 4096);
  }
}

TEST_F(ShmAccess, AnotherListenerAtThePathIsNotMistakenForTheOneMeant) {
  HostAddress wrong = ParseHostAddress(listener_->endpoint().address);
  ASSERT_NE(wrong.nonce, 0u);
  wrong.nonce += 2;
  EXPECT_EQ(shm::Connect(FormatHostAddress(wrong), {}, Soon()).code(), Code::kPeerUnreachable);
  EXPECT_TRUE(shm::Connect(path(), {}, Soon()).ok()) << "without a nonce any listener will do";
}

TEST_F(ShmAccess, PacketsThatCannotBeAreHungUpOn) {
  const auto refused = [&](const void* data, size_t size) {
    auto socket = shm::ConnectTo(path(), Soon());
    ASSERT_TRUE(socket.ok());
    ASSERT_GE(send(socket->get(), data, size, MSG_NOSIGNAL), 0);
    auto answer = shm::ReceivePacketUntil(socket->get(), Soon());
    EXPECT_TRUE(!answer.ok() || answer->packet.kind == shm::PacketKind::kRefused);
  };
  shm::Packet packet;
  refused(&packet, 7);
  packet.magic = 1;
  refused(&packet, sizeof(packet));
  packet = {};
  packet.version = 9;
  refused(&packet, sizeof(packet));
  packet = {};
  packet.kind = shm::PacketKind::kBye;
  refused(&packet, sizeof(packet));
  packet = {};
  packet.access = 5;
  refused(&packet, sizeof(packet));
  EXPECT_TRUE(shm::Connect(path(), {}, Soon()).ok());
}

TEST_F(ShmAccess, AClientThatTalksAfterItsHelloIsSentAway) {
  auto socket = shm::ConnectTo(path(), Soon());
  ASSERT_TRUE(socket.ok());
  shm::Packet hello;
  ASSERT_TRUE(shm::SendPacket(socket->get(), hello, -1).ok());
  ASSERT_TRUE(shm::SendPacket(socket->get(), hello, -1).ok());
  Status status;
  while (status.ok()) {
    auto answer = shm::ReceivePacketUntil(socket->get(), Soon());
    status = answer.status();
    if (answer.ok() && answer->packet.kind == shm::PacketKind::kBye) break;
  }
  EXPECT_NE(status.code(), Code::kDeadline);
}

TEST_F(ShmAccess, ASilentClientIsDropped) {
  ASSERT_TRUE(Listen({.stall_timeout = std::chrono::milliseconds(10)}).ok());
  auto socket = shm::ConnectTo(path(), Soon());
  ASSERT_TRUE(socket.ok());
  EXPECT_EQ(shm::ReceivePacketUntil(socket->get(), Soon()).code(), Code::kPeerUnreachable);
}

TEST_F(ShmAccess, ASecondListenerAtThePathIsAnErrorAndAnAbandonedFileIsNot) {
  ListenOptions options;
  options.address = path();
  EXPECT_EQ(shm::Listen(options, regions_).code(), Code::kIo);
  {
    ServerProcess server("shm", dir_.path() + "/left.sock");
    ASSERT_FALSE(server.address().empty());
    server.Kill();
  }
  struct stat info {};
  options.address = dir_.path() + "/left.sock";
  ASSERT_EQ(stat(options.address.c_str(), &info), 0) << "the killed process left its socket file";
  EXPECT_TRUE(shm::Listen(options, regions_).ok());
  options.address = std::string(200, 'x');
  EXPECT_EQ(shm::Listen(options, regions_).code(), Code::kInvalidArgument);
}

// The fence waits for the kernel: a stopped client holds it, a killed one ends it.
TEST_F(ShmAccess, AFenceEndsWhenTheKernelHasClosedTheSocketOfAHungClient) {
  int ready[2];
  ASSERT_EQ(pipe2(ready, O_CLOEXEC), 0);
  UniqueFd input(ready[0]);
  UniqueFd output(ready[1]);
  const std::string target = path();
  const pid_t child = fork();
  if (child == 0) {
    // A client that connects and then never reads its socket again.
    auto socket = shm::ConnectTo(target, Soon());
    shm::Packet hello;
    hello.session = 5;
    if (!socket.ok() || !shm::SendPacket(socket->get(), hello, -1).ok() ||
        !shm::ReceivePacketUntil(socket->get(), Soon()).ok() || write(output.get(), "x", 1) != 1) {
      _exit(1);
    }
    for (;;) pause();
  }
  char byte = 0;
  ASSERT_EQ(read(input.get(), &byte, 1), 1);
  Latch fenced;
  Latch other;
  listener_->Fence(5, [&] { fenced.Hit(); });
  // The listener has answered a later fence: it had every chance to answer the first.
  listener_->Fence(6, [&] { other.Hit(); });
  EXPECT_TRUE(other.Wait(1, Soon()));
  EXPECT_EQ(fenced.count(), 0);
  kill(child, SIGKILL);
  EXPECT_TRUE(fenced.Wait(1, Soon()));
  while (waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
  }
}

}  // namespace
}  // namespace mmc::fabric::contract
