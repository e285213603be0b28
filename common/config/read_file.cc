#include "common/config/read_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace mmc::config {
namespace {

constexpr size_t kMaxFileBytes = 10u << 20;

class File {
 public:
  explicit File(const std::string& path)
      : fd_(open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK)) {}
  ~File() {
    if (fd_ >= 0) close(fd_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  int fd() const { return fd_; }

 private:
  int fd_;
};

Status Refuse(const std::string& path, const std::string& why) {
  return Status(Code::kConfig, path + ": " + why);
}

}  // namespace

Result<std::string> ReadConfFile(const std::string& path) {
  const File file(path);
  if (file.fd() < 0) {
    const int error = errno;
    if (error == ELOOP) return Refuse(path, "is a symbolic link; name the file itself");
    return Refuse(path, std::string("cannot open the configuration file: ") + std::strerror(error));
  }
  struct stat info {};
  if (fstat(file.fd(), &info) != 0)
    return Refuse(path, std::string("cannot be examined: ") + std::strerror(errno));
  if (!S_ISREG(info.st_mode)) return Refuse(path, "is not a regular file");
  std::string text;
  char buffer[65536];
  for (;;) {
    const ssize_t n = read(file.fd(), buffer, sizeof(buffer));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Refuse(path, std::string("cannot be read: ") + std::strerror(errno));
    if (n == 0) return text;
    text.append(buffer, static_cast<size_t>(n));
    if (text.size() > kMaxFileBytes) return Refuse(path, "has more than 10 MB");
  }
}

}  // namespace mmc::config
