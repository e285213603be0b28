#include "common/obs/rotating_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <system_error>

namespace mmc::obs {
namespace {

constexpr int kMaxProcesses = 1024;  // that share one directory and name

Status Refuse(const std::string& what, int error) {
  return Status(Code::kConfig, "log file " + what + ": " + std::strerror(error) +
                                   "; set ock.mmc.log_path to a folder that can be written");
}

bool WriteAll(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = write(fd, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    text.remove_prefix(static_cast<size_t>(n));
  }
  return true;
}

// The first name of name.log, name-2.log ... that no living process writes; `*lock_fd` holds its
// lock.
Result<std::string> LockName(const std::string& directory, const std::string& name, int* lock_fd) {
  for (int i = 1; i <= kMaxProcesses; ++i) {
    const std::string stem = i == 1 ? name : name + "-" + std::to_string(i);
    const std::string lock = directory + "/." + stem + ".lock";
    const int fd = open(lock.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
    if (fd < 0) return Refuse(lock, errno);
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
      *lock_fd = fd;
      return directory + "/" + stem + ".log";
    }
    const int error = errno;
    close(fd);
    if (error != EWOULDBLOCK && error != EINTR) return Refuse(lock, error);
  }
  return Refuse(directory + "/" + name + ".log", EBUSY);
}

}  // namespace

Result<std::unique_ptr<RotatingFile>> RotatingFile::Open(const std::string& directory,
                                                         const std::string& name,
                                                         uint64_t file_bytes, int file_count) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) return Refuse(directory, error.value());
  int lock_fd = -1;
  MMC_ASSIGN_OR_RETURN(const std::string path, LockName(directory, name, &lock_fd));
  std::unique_ptr<RotatingFile> file(new RotatingFile(path, file_bytes, file_count, lock_fd));
  MutexLock lock(file->mutex_);
  MMC_RETURN_IF_ERROR(file->OpenCurrent());
  file->RemoveSurplus();
  return file;
}

RotatingFile::RotatingFile(std::string path, uint64_t file_bytes, int file_count, int lock_fd)
    : path_(std::move(path)), file_bytes_(file_bytes), file_count_(file_count), lock_fd_(lock_fd) {}

RotatingFile::~RotatingFile() {
  MutexLock lock(mutex_);
  if (fd_ >= 0) close(fd_);
  close(lock_fd_);
}

Status RotatingFile::OpenCurrent() {
  fd_ = open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0640);
  if (fd_ < 0) return Refuse(path_, errno);
  struct stat info {};
  size_ = fstat(fd_, &info) == 0 ? static_cast<uint64_t>(info.st_size) : 0;
  return Status::Ok();
}

void RotatingFile::Write(std::string_view text) {
  MutexLock lock(mutex_);
  if (size_ > 0 && size_ + text.size() > file_bytes_) Rotate();
  if (fd_ < 0 && !OpenCurrent().ok()) fd_ = -1;
  if (fd_ >= 0 && WriteAll(fd_, text)) {
    size_ += text.size();
  } else {
    WriteAll(STDERR_FILENO, text);
  }
}

void RotatingFile::Rotate() {
  if (fd_ >= 0) close(fd_);
  fd_ = -1;
  size_ = 0;
  RemoveSurplus();
  const auto numbered = [this](int n) { return n == 0 ? path_ : path_ + "." + std::to_string(n); };
  unlink(numbered(file_count_ - 1).c_str());
  for (int n = file_count_ - 1; n > 0; --n)
    std::rename(numbered(n - 1).c_str(), numbered(n).c_str());
}

// A smaller count than that of the last start leaves files with higher numbers.
void RotatingFile::RemoveSurplus() const {
  const std::filesystem::path path(path_);
  const std::string prefix = path.filename().string() + ".";
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(path.parent_path(), error)) {
    const std::string name = entry.path().filename().string();
    if (name.compare(0, prefix.size(), prefix) != 0) continue;
    int number = 0;
    const char* const end = name.data() + name.size();
    const auto parsed = std::from_chars(name.data() + prefix.size(), end, number);
    if (parsed.ec == std::errc() && parsed.ptr == end && number >= file_count_)
      unlink(entry.path().c_str());
  }
}

}  // namespace mmc::obs
