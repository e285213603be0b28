// Files that TLS is made of: read whole, small, and secret ones only when nobody else may read them.
//
// Thread safety: pure functions of the file system. Ownership: none; a decrypter library stays loaded for good.
#pragma once

#include <string>

#include "common/base/status.h"

namespace mmc::security {

// Text that is wiped from memory when it goes.
class Secret {
 public:
  Secret() = default;
  explicit Secret(std::string text) : text_(std::move(text)) {}
  ~Secret();
  Secret(Secret&& other) noexcept;
  Secret& operator=(Secret&& other) noexcept;
  Secret(const Secret&) = delete;
  Secret& operator=(const Secret&) = delete;

  const std::string& text() const { return text_; }
  bool empty() const { return text_.empty(); }

 private:
  void Wipe();
  std::string text_;
};

// Symbolic links are followed. Errors: kConfig naming the file: not there, not a regular file, over 1 MiB, unreadable.
Result<std::string> ReadPublicFile(const std::string& path);
// The same, and refuses a file that belongs to another user than this process's or root, or that others may read or
// write. Its group may read it when it belongs to root.
Result<Secret> ReadSecretFile(const std::string& path);

// The pass phrase: the first line of `pass_path`, or what the library `decrypter_path` makes of it. The library has
// a C function
//   int DecryptPassword(const char* cipher_text, size_t cipher_length, char* plain_text, size_t plain_length)
// that answers 0 and leaves at most plain_length bytes, ended by a zero byte when fewer. plain_length equals
// cipher_length. Errors: kConfig naming the file and what is wrong with it.
Result<Secret> ReadPassPhrase(const std::string& pass_path, const std::string& decrypter_path);

}  // namespace mmc::security
