#include "client_sdk/python/src/probe.h"

#include <sys/mman.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <climits>

namespace mmc::python {
namespace {

// What is written there is never read: a write is what makes the kernel look at an address without
// a signal, and of all ways to ask it is the cheapest (no page is pinned).
int Sink() {
  static const int fd = memfd_create("pymmc-probe", MFD_CLOEXEC);
  return fd;
}

}  // namespace

std::vector<size_t> Unreadable(const std::vector<const void*>& bytes) {
  std::vector<size_t> bad;
  iovec pieces[IOV_MAX];
  size_t at = 0;
  while (at < bytes.size() && Sink() >= 0) {
    const size_t n = std::min<size_t>(bytes.size() - at, IOV_MAX);
    for (size_t i = 0; i < n; ++i) {
      // The kernel looks at one after the other; their misses of the caches overlap when they begin here.
      __builtin_prefetch(bytes[at + i]);
      pieces[i] = {const_cast<void*>(bytes[at + i]), 1};
    }
    const ssize_t done = pwritev(Sink(), pieces, static_cast<int>(n), 0);
    if (done < 0 && errno == EINTR) continue;
    if (done < 0 && errno != EFAULT) return bad;
    at += done < 0 ? 0 : static_cast<size_t>(done);
    // The first that could not be written is asked about alone.
    if (done < static_cast<ssize_t>(n)) {
      if (pwritev(Sink(), &pieces[done < 0 ? 0 : done], 1, 0) < 0 && errno == EFAULT)
        bad.push_back(at);
      ++at;
    }
  }
  return bad;
}

}  // namespace mmc::python
