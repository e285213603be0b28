#include "local_service/presence.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <random>
#include <utility>

#include "common/base/clock.h"
#include "common/base/thread.h"
#include "common/obs/log.h"
#include "local_service/catalog.h"

namespace mmc::local {
namespace {

constexpr std::chrono::milliseconds kRetry{50};  // the kernel has no event for a lock that is free
constexpr std::chrono::seconds kLogEvery{5};
constexpr int kAttempts = 16;

std::vector<std::string> FilesWithPrefix(const std::string& prefix) {
  const size_t slash = prefix.rfind('/');
  const std::string directory = prefix.substr(0, slash);
  const std::string name = prefix.substr(slash + 1);
  std::vector<std::string> found;
  DIR* const folder = ::opendir(directory.c_str());
  if (folder == nullptr) return found;
  while (const dirent* entry = ::readdir(folder)) {
    if (std::string_view(entry->d_name).starts_with(name)) {
      found.push_back(directory + "/" + entry->d_name);
    }
  }
  ::closedir(folder);
  return found;
}

// -1: not a presence file of this user.
int OpenOwn(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  struct stat info {};
  if (fd >= 0 && ::fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && info.st_uid == ::geteuid()) {
    return fd;
  }
  if (fd >= 0) ::close(fd);
  MMC_LOG(WARNING) << path << " is not a file of this user; it is left alone";
  return -1;
}

}  // namespace

Result<std::unique_ptr<Presence>> Presence::Create(const std::string& directory,
                                                   const std::string& node, bool same_memory) {
  const std::string prefix = ServiceFilePath(directory, node, "presence-");
  std::unique_ptr<Presence> presence(new Presence());
  std::vector<Earlier> earlier;
  for (const std::string& path : FilesWithPrefix(prefix)) {
    const int fd = OpenOwn(path);
    if (fd >= 0) earlier.push_back({path, fd});
  }
  std::random_device random;
  int fd = -1;
  for (int i = 0; i < kAttempts && fd < 0; ++i) {
    presence->path_ = prefix + std::to_string(random());
    fd = ::open(presence->path_.c_str(), O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  }
  const int err = errno;
  if (fd >= 0) ::close(fd);
  {
    MutexLock lock(presence->mutex_);
    presence->earlier_ = std::move(earlier);
  }
  if (fd < 0) return ErrnoStatus("make presence file " + presence->path_, err);
  MutexLock lock(presence->mutex_);
  if (!same_memory) {
    for (const Earlier& file : presence->earlier_) {
      ::unlink(file.path.c_str());
      ::close(file.fd);
    }
    presence->earlier_.clear();
  }
  presence->TryAll();
  if (!presence->earlier_.empty()) {
    presence->thread_ = StartThread([self = presence.get()] { self->Watch(); });
  }
  return presence;
}

Presence::~Presence() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    changed_.NotifyAll();
  }
  if (thread_.joinable()) thread_.join();
  MutexLock lock(mutex_);
  for (const Earlier& file : earlier_) ::close(file.fd);
}

void Presence::TryAll() {
  std::erase_if(earlier_, [](const Earlier& file) {
    if (::flock(file.fd, LOCK_EX | LOCK_NB) != 0) return false;
    ::unlink(file.path.c_str());
    ::close(file.fd);
    return true;
  });
}

void Presence::Watch() {
  TimePoint next_line = Clock::Real().Now() + kLogEvery;
  for (;;) {
    std::vector<std::function<void()>> done;
    {
      MutexLock lock(mutex_);
      const TimePoint until = Clock::Real().Now() + kRetry;
      while (!stopping_ && Clock::Real().Now() < until) changed_.WaitUntil(mutex_, until);
      if (stopping_) return;
      TryAll();
      if (earlier_.empty()) {
        done.swap(waiting_);
      } else if (Clock::Real().Now() >= next_line) {
        next_line += kLogEvery;
        MMC_LOG(WARNING) << "clients of an earlier run of this node on this host still map its "
                            "memory; no free space is used until they end or let go";
      }
    }
    if (done.empty()) {
      MutexLock lock(mutex_);
      if (earlier_.empty() && waiting_.empty()) return;
      continue;
    }
    for (auto& call : done) call();
  }
}

void Presence::WhenEarlierGone(std::function<void()> done) {
  {
    MutexLock lock(mutex_);
    if (!earlier_.empty()) {
      waiting_.push_back(std::move(done));
      return;
    }
  }
  done();
}

size_t Presence::earlier() const {
  MutexLock lock(mutex_);
  return earlier_.size();
}

void Presence::Remove() {
  MutexLock lock(mutex_);
  ::unlink(path_.c_str());
  for (const Earlier& file : earlier_) ::unlink(file.path.c_str());
}

}  // namespace mmc::local
