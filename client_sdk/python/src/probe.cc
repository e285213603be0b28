#include "client_sdk/python/src/probe.h"

#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <climits>
#include <cstdio>
#include <cstring>
#include <memory>
#include <utility>

#include "client_sdk/python/src/gil.h"
#include "common/base/mutex.h"

namespace mmc::python {
namespace {

// What is written there is never read: a write is what makes the kernel look at an address without
// a signal, and of all ways to ask it is the cheapest (no page is pinned).
int Sink() {
  static const int fd = memfd_create("pymmc-probe", MFD_CLOEXEC);
  return fd;
}

// One of this process alone: what is written there is read again. With the GIL.
int Echo() {
  static int fd = -1;
  static uint32_t forks = 0;
  if (fd < 0 || forks != ForkCount()) {
    if (fd >= 0) close(fd);
    fd = memfd_create("pymmc-echo", MFD_CLOEXEC);
    forks = ForkCount();
  }
  return fd;
}

// Those of `bytes` (as positions) that `move` refuses: it answers like pwritev(), of one byte each.
template <typename Move>
std::vector<size_t> Refused(const std::vector<const void*>& bytes, const Move& move) {
  std::vector<size_t> bad;
  iovec pieces[IOV_MAX];
  size_t at = 0;
  while (at < bytes.size()) {
    const size_t n = std::min<size_t>(bytes.size() - at, IOV_MAX);
    for (size_t i = 0; i < n; ++i) {
      // The kernel looks at one after the other; their misses of the caches overlap when they begin here.
      __builtin_prefetch(bytes[at + i]);
      pieces[i] = {const_cast<void*>(bytes[at + i]), 1};
    }
    const ssize_t done = move(pieces, static_cast<int>(n));
    if (done < 0 && errno == EINTR) continue;
    if (done < 0 && errno != EFAULT) return bad;
    at += done < 0 ? 0 : static_cast<size_t>(done);
    // The first that was refused is asked about alone.
    if (done < static_cast<ssize_t>(n)) {
      if (move(&pieces[done < 0 ? 0 : done], 1) < 0 && errno == EFAULT) bad.push_back(at);
      ++at;
    }
  }
  return bad;
}

// Null where the system does not say.
std::shared_ptr<const KnownMemory> ReadMappings() {
  const std::unique_ptr<FILE, int (*)(FILE*)> file(std::fopen("/proc/self/maps", "re"), &std::fclose);
  if (file == nullptr) return nullptr;
  auto out = std::make_shared<KnownMemory>();
  char line[512];
  bool begins = true;  // of a line: names may be longer than `line`
  while (std::fgets(line, sizeof(line), file.get()) != nullptr) {
    uint64_t from = 0;
    uint64_t to = 0;
    char rights[5] = "";
    if (begins && std::sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s", &from, &to, rights) == 3) {
      if (rights[0] == 'r') out->readable.Add(from, to);
      if (rights[0] == 'r' && rights[1] == 'w') out->writable.Add(from, to);
    }
    begins = std::strchr(line, '\n') != nullptr;
  }
  return out->readable.empty() ? nullptr : out;
}

// The mappings as they were seen last.
class LastSeen {
 public:
  std::shared_ptr<const KnownMemory> Get() {
    MutexLock lock(mutex_);
    return mapped_;
  }
  void Set(std::shared_ptr<const KnownMemory> mapped) {
    MutexLock lock(mutex_);
    mapped_ = std::move(mapped);
  }

 private:
  Mutex mutex_;
  std::shared_ptr<const KnownMemory> mapped_ MMC_GUARDED_BY(mutex_);
};

LastSeen& last_seen() {
  static LastSeen* const kept = new LastSeen();
  return *kept;
}

}  // namespace

void MemoryRanges::Add(uint64_t begin, uint64_t end) {
  if (!runs_.empty() && begin <= runs_.back().second) {
    runs_.back().second = std::max(runs_.back().second, end);
  } else {
    runs_.emplace_back(begin, end);
  }
}

bool MemoryRanges::Contain(const MemoryRange& range) const {
  if (range.bytes > ~uint64_t{0} - range.address) return false;
  const auto behind = std::upper_bound(runs_.begin(), runs_.end(), range.address,
                                       [](uint64_t at, const auto& run) { return at < run.first; });
  return behind != runs_.begin() && range.address + range.bytes <= std::prev(behind)->second;
}

std::vector<size_t> Unreadable(const std::vector<const void*>& bytes) {
  const int fd = Sink();
  if (fd < 0) return {};
  return Refused(bytes, [fd](const iovec* pieces, int n) { return pwritev(fd, pieces, n, 0); });
}

std::vector<size_t> UnwritableBytes(const std::vector<const void*>& bytes) {
  const int fd = Echo();
  if (fd < 0) return {};
  return Refused(bytes, [fd](const iovec* pieces, int n) {
    const ssize_t kept = pwritev(fd, pieces, n, 0);
    return kept <= 0 ? kept : preadv(fd, pieces, static_cast<int>(kept), 0);
  });
}

std::vector<size_t> Unwritable(const std::vector<MemoryRange>& ranges) {
  std::vector<size_t> bad;
  std::shared_ptr<const KnownMemory> mapped = last_seen().Get();
  bool fresh = false;
  for (size_t i = 0; i < ranges.size(); ++i) {
    if (mapped != nullptr && mapped->writable.Contain(ranges[i])) continue;
    if (!fresh) {
      fresh = true;
      mapped = ReadMappings();
      if (mapped == nullptr) return {};
      last_seen().Set(mapped);
    }
    if (!mapped->writable.Contain(ranges[i])) bad.push_back(i);
  }
  return bad;
}

MemoryRights RightsOf(const MemoryRange& range) {
  if (range.bytes == 0 || range.bytes - 1 > ~uint64_t{0} - range.address) return MemoryRights::kNone;
  const auto at = [](uint64_t address) {
    return reinterpret_cast<const void*>(static_cast<uintptr_t>(address));  // NOLINT: the caller's address
  };
  if (!Unreadable({at(range.address), at(range.address + range.bytes - 1)}).empty()) return MemoryRights::kNone;
  const std::shared_ptr<const KnownMemory> mapped = ReadMappings();
  if (mapped == nullptr || mapped->writable.Contain(range)) return MemoryRights::kWrite;
  return mapped->readable.Contain(range) ? MemoryRights::kRead : MemoryRights::kNone;
}

}  // namespace mmc::python
