// Where a command writes: a file descriptor that may turn out to be a pipe nobody reads any more.
//
// Thread safety: none; one thread writes. Ownership: does not own the descriptor.
#pragma once

#include <string_view>

namespace mmc::cli {

class Output {
 public:
  explicit Output(int fd) : fd_(fd) {}

  // Writes all of it, or remembers the error; after an error nothing more is written.
  void Write(std::string_view bytes);
  bool IsTerminal() const;
  // errno of the first failed write (EPIPE: the reader went away), or 0.
  int error() const { return error_; }

 private:
  int fd_;
  int error_ = 0;
};

}  // namespace mmc::cli
