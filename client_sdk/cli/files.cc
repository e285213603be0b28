#include "client_sdk/cli/files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "common/base/bytes.h"

namespace mmc::cli {
namespace {

Result<std::string> ReadAll(int fd, const std::string& name, size_t limit) {
  std::string bytes;
  struct stat info {};
  if (fstat(fd, &info) == 0 && S_ISREG(info.st_mode)) {
    bytes.reserve(std::min<size_t>(static_cast<size_t>(info.st_size), limit) + 1);
  }
  constexpr size_t kChunk = 1 << 20;
  while (true) {
    const size_t have = bytes.size();
    bytes.resize(have + std::min(kChunk, limit + 1 - have));
    const ssize_t got = read(fd, bytes.data() + have, bytes.size() - have);
    bytes.resize(have + static_cast<size_t>(std::max<ssize_t>(got, 0)));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return ErrnoStatus("cannot read '" + name + "'", errno);
    if (got == 0) return bytes;
    if (bytes.size() > limit) {
      return Status(Code::kTooLarge, "'" + name + "' has more than " + FormatBytes(limit) +
                                         ", the most a value can have");
    }
  }
}

Status WriteAll(int fd, const std::string& name, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = write(fd, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return ErrnoStatus("cannot write '" + name + "'", errno);
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return Status::Ok();
}

bool IsRegularOrAbsent(const std::string& path) {
  struct stat info {};
  return stat(path.c_str(), &info) != 0 || S_ISREG(info.st_mode);
}

}  // namespace

Result<std::string> ReadWholeFile(const std::string& path, size_t limit) {
  if (path == "-") return ReadAll(STDIN_FILENO, "stdin", limit);
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return ErrnoStatus("cannot open '" + path + "'", errno);
  Result<std::string> bytes = ReadAll(fd, path, limit);
  close(fd);
  return bytes;
}

Status WriteWholeFile(const std::string& path, std::string_view bytes) {
  const bool replace = IsRegularOrAbsent(path);  // a device or pipe is written in place
  const std::string target = replace ? path + ".partial-" + std::to_string(getpid()) : path;
  const int fd = open(target.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (fd < 0) return ErrnoStatus("cannot create '" + target + "'", errno);
  Status status = WriteAll(fd, target, bytes);
  if (close(fd) != 0 && status.ok()) status = ErrnoStatus("cannot close '" + target + "'", errno);
  if (!replace) return status;
  if (status.ok() && rename(target.c_str(), path.c_str()) != 0) {
    status = ErrnoStatus("cannot rename '" + target + "' to '" + path + "'", errno);
  }
  if (!status.ok()) unlink(target.c_str());
  return status;
}

}  // namespace mmc::cli
