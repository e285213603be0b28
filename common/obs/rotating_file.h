// A log file that is replaced when it is full: name.log is written, name.log.1 is the one before
// it, and so on; of all of them only so many are kept. Files are locked by process: a second
// process with the same name takes name-2.log.
//
// Thread safety: all methods from any thread. Ownership: owns its file descriptors.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "common/base/mutex.h"
#include "common/base/status.h"

namespace mmc::obs {

class RotatingFile {
 public:
  // Makes the directory (and those above it). Errors: kConfig naming what cannot be made, locked or
  // opened.
  static Result<std::unique_ptr<RotatingFile>> Open(const std::string& directory,
                                                    const std::string& name, uint64_t file_bytes,
                                                    int file_count);
  ~RotatingFile();
  RotatingFile(const RotatingFile&) = delete;
  RotatingFile& operator=(const RotatingFile&) = delete;

  // Not buffered: what was written survives the process. When the disk refuses, the text goes to
  // stderr instead.
  void Write(std::string_view text);
  const std::string& path() const { return path_; }

 private:
  RotatingFile(std::string path, uint64_t file_bytes, int file_count, int lock_fd);
  Status OpenCurrent() MMC_REQUIRES(mutex_);
  void Rotate() MMC_REQUIRES(mutex_);
  void RemoveSurplus() const;

  const std::string path_;
  const uint64_t file_bytes_;
  const int file_count_;
  const int lock_fd_;
  Mutex mutex_;
  int fd_ MMC_GUARDED_BY(mutex_) = -1;
  uint64_t size_ MMC_GUARDED_BY(mutex_) = 0;
};

}  // namespace mmc::obs
