// Fuzzes the tcp server's side of a connection: any bytes, in any portions, must neither crash it, nor write outside
// the regions, nor write to a read-only one.
//
// Input: one byte per portion of the stream (its length; 0 = all the rest), up to a zero; then the bytes.
#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "fabric/tcp/connection.h"

namespace {

using mmc::fabric::Access;
using mmc::fabric::MemoryKind;

constexpr size_t kRegionBytes = 8192;
constexpr std::byte kGuard{0xa5};

// Gives out the input in portions and throws answers away, a few bytes at a time.
class InputStream final : public mmc::fabric::tcp::ByteStream {
 public:
  InputStream(const uint8_t* data, size_t size) {
    size_t i = 0;
    while (i < size && data[i] != 0) portions_.push_back(data[i++]);
    if (i < size) ++i;
    bytes_.assign(data + i, data + size);
  }
  int fd() const override { return -1; }
  ssize_t Readv(const iovec* parts, int count) override {
    if (at_ == bytes_.size()) return 0;
    if (blocked_ = !blocked_; blocked_) {
      errno = EAGAIN;
      return -1;
    }
    size_t left = portion_ < portions_.size() ? portions_[portion_++] : bytes_.size() - at_;
    left = std::min(left, bytes_.size() - at_);
    const size_t before = at_;
    for (int i = 0; i < count && left > 0; ++i) {
      const size_t take = std::min(left, parts[i].iov_len);
      std::memcpy(parts[i].iov_base, bytes_.data() + at_, take);
      at_ += take;
      left -= take;
    }
    return static_cast<ssize_t>(at_ - before);
  }
  ssize_t Writev(const iovec* parts, int count) override {
    if (blocked_ = !blocked_; blocked_) {
      errno = EAGAIN;
      return -1;
    }
    size_t total = 0;
    for (int i = 0; i < count; ++i) total += parts[i].iov_len;
    return static_cast<ssize_t>(std::min<size_t>(total, 1000));
  }
  void ShutdownWrite() override {}
  bool PeerGone() override { return false; }
  bool EndedByPeer(int) const override { return true; }

 private:
  std::vector<size_t> portions_;
  std::vector<uint8_t> bytes_;
  size_t at_ = 0;
  size_t portion_ = 0;
  bool blocked_ = false;
};

void Check(bool holds) {
  if (!holds) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::vector<std::byte> memory(kRegionBytes * 3, kGuard);
  std::vector<std::byte> fixed(kRegionBytes, kGuard);
  mmc::fabric::RegionTable regions;
  std::byte* const middle = memory.data() + kRegionBytes;
  Check(regions.Add({{1, 1}, {middle, kRegionBytes}, Access::kReadWrite, MemoryKind::kHost, nullptr}).ok());
  Check(regions.Add({{2, 1}, fixed, Access::kReadOnly, MemoryKind::kHost, nullptr}).ok());
  mmc::fabric::tcp::ConnectionOptions options;
  options.regions = &regions;
  options.admit = [](uint64_t session) {
    return session == 13 ? mmc::Code::kPermission : mmc::Code::kOk;
  };
  // Some inputs come where tickets are wanted: none that an input could make up is good for anything.
  static const mmc::fabric::TicketJudge* const judge = [] {
    auto* made = new mmc::fabric::TicketJudge();
    made->LearnKey(mmc::fabric::NewTicketKey());
    return made;
  }();
  const bool ticketed = size % 3 == 0;
  if (ticketed) options.tickets = judge;
  const mmc::TimePoint now(std::chrono::seconds(1000));
  mmc::fabric::tcp::Connection connection(std::make_unique<InputStream>(data, size),
                                          {.ceiling = Access::kReadWrite, .tickets_to_read = true}, options, now);
  // Every second call is blocked, and a portion has at least one byte: this is enough for any input.
  for (size_t i = 0; i < 4 * size + 100'000 && connection.Advance(now); ++i) {
    Check(connection.wants() != 0);
  }
  for (size_t i = 0; ticketed && i < kRegionBytes; ++i) Check(middle[i] == kGuard);
  for (size_t i = 0; i < kRegionBytes; ++i) {
    Check(memory[i] == kGuard && memory[2 * kRegionBytes + i] == kGuard && fixed[i] == kGuard);
  }
  return 0;
}
