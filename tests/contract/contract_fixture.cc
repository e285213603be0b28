#include "tests/contract/contract_fixture.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "tests/contract/certificates.h"

extern char** environ;

namespace mmc::fabric::contract {

std::vector<FabricCase> AllCases() {
  return {{"loopback", "host", nullptr},
          {"shm", "host", nullptr},
          {"tcp", "host", nullptr},
          {"tcp", "host", nullptr, true},
          {"roce", "host", "this build has no RoCE transport"},
          {"tcp", "device", "this build has no device memory"},
          {"roce", "device", "this build has neither RoCE nor device memory"}};
}

std::string CaseName(const testing::TestParamInfo<FabricCase>& info) {
  return std::string(info.param.transport) + (info.param.tls ? "_tls_" : "_") + info.param.memory;
}

TimePoint InMs(int64_t ms) { return std::chrono::steady_clock::now() + std::chrono::milliseconds(ms); }
TimePoint Soon() { return InMs(60'000); }

std::vector<std::byte> Pattern(uint64_t size, uint64_t seed) {
  std::vector<std::byte> bytes(size);
  uint64_t state = seed * 0x9e3779b97f4a7c15u + 1;
  // Word by word: byte by byte takes most of a test's time under ThreadSanitizer.
  for (uint64_t at = 0; at < size; at += sizeof(state)) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    const uint64_t word = state ^ (state >> 29);  // the low bits alone repeat soon
    std::memcpy(bytes.data() + at, &word, std::min<uint64_t>(sizeof(word), size - at));
  }
  return bytes;
}

void Latch::Hit() {
  MutexLock lock(mutex_);
  ++count_;
  changed_.NotifyAll();
}

bool Latch::Wait(int count, TimePoint deadline) {
  MutexLock lock(mutex_);
  while (count_ < count) {
    if (!changed_.WaitUntil(mutex_, deadline)) return count_ >= count;
  }
  return true;
}

int Latch::count() const {
  MutexLock lock(mutex_);
  return count_;
}

TempDir::TempDir() {
  std::string name = "/tmp/mmc-contract-XXXXXX";
  if (mkdtemp(name.data()) != nullptr) path_ = name;
}

TempDir::~TempDir() {
  std::error_code ignored;
  if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
}

ServerProcess::ServerProcess(const std::string& transport, const std::string& address,
                             const std::string& certificates) {
  int input[2];
  int output[2];
  if (pipe2(input, O_CLOEXEC) != 0 || pipe2(output, O_CLOEXEC) != 0) return;
  UniqueFd child_input(input[0]);
  UniqueFd child_output(output[1]);
  UniqueFd answer(output[0]);
  input_ = UniqueFd(input[1]);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, child_input.get(), 0);
  posix_spawn_file_actions_adddup2(&actions, child_output.get(), 1);
  std::string program = MMC_REGION_SERVER;
  std::string kind = transport;
  std::string place = address;
  std::string folder = certificates;
  char* const argv[] = {program.data(), kind.data(), place.data(), folder.empty() ? nullptr : folder.data(), nullptr};
  if (posix_spawn(&pid_, program.c_str(), &actions, nullptr, argv, environ) != 0) pid_ = -1;
  posix_spawn_file_actions_destroy(&actions);
  child_output.Reset(-1);
  char letter = 0;
  while (read(answer.get(), &letter, 1) == 1 && letter != '\n') address_ += letter;
}

ServerProcess::~ServerProcess() {
  if (pid_ > 0) Kill();
}

void ServerProcess::Stop() {
  kill(pid_, SIGSTOP);
  while (waitpid(pid_, nullptr, WUNTRACED) < 0 && errno == EINTR) {
  }
}

void ServerProcess::Kill() {
  kill(pid_, SIGKILL);
  while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
}

std::string TransportContract::NewAddress() {
  static std::atomic<int> counter{0};
  const std::string unique = std::to_string(getpid()) + "-" + std::to_string(counter++);
  if (IsTcp()) return "127.0.0.1:0";
  return IsLoopback() ? "contract-" + unique : dir_.path() + "/" + unique + ".sock";
}

void TransportContract::SetUp() {
  if (GetParam().absent != nullptr) GTEST_SKIP() << GetParam().absent;
  transport_ = FindTransport(GetParam().transport);
  ASSERT_NE(transport_, nullptr);
  const auto make = [](uint64_t size) {
    auto memory = SegmentMemory::Create({.name = "contract", .size = size, .prefault = false});
    EXPECT_TRUE(memory.ok()) << memory.status().ToString();
    return memory.value_or(nullptr);
  };
  data_ = make(kDataBytes);
  flags_ = make(2_MiB);
  fixed_ = make(2_MiB);
  ASSERT_TRUE(data_ && flags_ && fixed_);
  seen_ = SegmentMemory::Map(dup(data_->fd()), kDataBytes, Access::kReadWrite, false).value_or(nullptr);
  flags_seen_ = SegmentMemory::Map(dup(flags_->fd()), 2_MiB, Access::kReadWrite, false).value_or(nullptr);
  ASSERT_TRUE(seen_ && flags_seen_);
  const auto add = [&](RegionRef ref, const std::shared_ptr<SegmentMemory>& memory, Access access) {
    ASSERT_TRUE(regions_.Add({ref, {memory->data(), memory->size()}, access, MemoryKind::kHost, memory}).ok());
  };
  add(kData, data_, Access::kReadWrite);
  add(kFlags, flags_, Access::kReadWrite);
  add(kFixed, fixed_, Access::kReadOnly);
  ListenOptions options;
  options.address = NewAddress();
  if (GetParam().tls) options.tls = Certificates::Shared().ContextOf("local");
  auto listener = transport_->Listen(options, regions_);
  ASSERT_TRUE(listener.ok()) << listener.status().ToString();
  listener_ = std::move(*listener);
}

void TransportContract::TearDown() { listener_.reset(); }

LinkOptions TransportContract::Secured(LinkOptions options) const {
  if (!GetParam().tls) return options;
  static const std::shared_ptr<security::TlsContext> client = Certificates::Shared().ContextOf("client");
  options.tls = client;
  options.node = "node-a";
  return options;
}

Result<std::shared_ptr<Link>> TransportContract::Dial(const std::string& address, LinkOptions options,
                                                      TimePoint deadline) {
  return transport_->Connect(address, Secured(std::move(options)), deadline);
}

std::unique_ptr<ServerProcess> TransportContract::Serve() {
  return std::make_unique<ServerProcess>(GetParam().transport, NewAddress(),
                                         GetParam().tls ? Certificates::Shared().path() : "");
}

std::shared_ptr<Link> TransportContract::Connect(LinkOptions options) {
  auto link = Dial(listener_->endpoint().address, std::move(options), Soon());
  EXPECT_TRUE(link.ok()) << link.status().ToString();
  return link.value_or(nullptr);
}

}  // namespace mmc::fabric::contract
