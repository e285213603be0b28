#include "client_sdk/cli/output.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace mmc::cli {

void Output::Write(std::string_view bytes) {
  while (!bytes.empty() && error_ == 0) {
    const ssize_t written = write(fd_, bytes.data(), std::min<size_t>(bytes.size(), 1 << 20));
    if (written > 0) {
      bytes.remove_prefix(static_cast<size_t>(written));
    } else if (errno == EAGAIN) {
      pollfd wait{fd_, POLLOUT, 0};  // a terminal or pipe that someone made non-blocking
      poll(&wait, 1, 1000);
    } else if (errno != EINTR) {
      error_ = errno;
    }
  }
}

bool Output::IsTerminal() const { return isatty(fd_) == 1; }

}  // namespace mmc::cli
