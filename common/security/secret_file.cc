#include "common/security/secret_file.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <vector>

namespace mmc::security {
namespace {

constexpr size_t kMaxFileBytes = 1u << 20;
constexpr size_t kMaxCipherBytes = 10'000;

struct Decrypter {
  int (*run)(const char* cipher_text, size_t cipher_length, char* plain_text, size_t plain_length);
};

Status Refuse(const std::string& path, const std::string& why) { return Status(Code::kConfig, path + ": " + why); }

class File {
 public:
  explicit File(const std::string& path) : fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {}
  ~File() {
    if (fd_ >= 0) ::close(fd_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  int fd() const { return fd_; }

 private:
  const int fd_;
};

std::string Octal(mode_t mode) {
  std::string out = "0";
  for (int shift = 6; shift >= 0; shift -= 3) out += static_cast<char>('0' + ((mode >> shift) & 7));
  return out;
}

Status CheckOwner(const std::string& path, const struct stat& info) {
  if (info.st_uid == 0 || info.st_uid == ::geteuid()) return Status::Ok();
  return Refuse(path, "belongs to user " + std::to_string(info.st_uid) + ", not to this program's user " +
                          std::to_string(::geteuid()) + " or root");
}

Status CheckPrivate(const std::string& path, const struct stat& info) {
  MMC_RETURN_IF_ERROR(CheckOwner(path, info));
  const mode_t forbidden = info.st_uid == 0 ? 0037 : 0077;
  if ((info.st_mode & forbidden) == 0) return Status::Ok();
  return Refuse(path, "has mode " + Octal(info.st_mode) + ", others may read or change it; run chmod 0600 on it");
}

Result<std::string> ReadOpen(const std::string& path, int fd) {
  std::string text;
  std::vector<char> buffer(65536);
  for (;;) {
    const ssize_t n = ::read(fd, buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Refuse(path, std::string("cannot be read: ") + std::strerror(errno));
    if (n == 0) break;
    if (text.size() + static_cast<size_t>(n) > kMaxFileBytes) return Refuse(path, "has more than 1 MiB");
    text.append(buffer.data(), static_cast<size_t>(n));
  }
  OPENSSL_cleanse(buffer.data(), buffer.size());
  return text;
}

Result<std::string> ReadAny(const std::string& path, bool secret) {
  const File file(path);
  if (file.fd() < 0) return Refuse(path, std::string("cannot be opened: ") + std::strerror(errno));
  struct stat info {};
  if (::fstat(file.fd(), &info) != 0) return Refuse(path, std::string("cannot be examined: ") + std::strerror(errno));
  if (!S_ISREG(info.st_mode)) return Refuse(path, "is not a regular file");
  if (secret) MMC_RETURN_IF_ERROR(CheckPrivate(path, info));
  return ReadOpen(path, file.fd());
}

// Code that runs in this process: nobody else may have written it.
Result<Decrypter> LoadDecrypter(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return Refuse(path, std::string("cannot be opened: ") + std::strerror(errno));
  if (!S_ISREG(info.st_mode)) return Refuse(path, "is not a regular file");
  MMC_RETURN_IF_ERROR(CheckOwner(path, info));
  if ((info.st_mode & 0022) != 0) {
    return Refuse(path, "has mode " + Octal(info.st_mode) + ", others may change it; run chmod go-w on it");
  }
  // A path without '/' would be looked for in the system's folders.
  const std::string full = path.find('/') == std::string::npos ? "./" + path : path;
  void* library = ::dlopen(full.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return Refuse(path, std::string("is no library that can be loaded: ") + ::dlerror());
  const Decrypter out{reinterpret_cast<decltype(Decrypter::run)>(::dlsym(library, "DecryptPassword"))};
  if (out.run != nullptr) return out;
  ::dlclose(library);
  return Refuse(path, "has no function DecryptPassword");
}

}  // namespace

Secret::~Secret() { Wipe(); }
Secret::Secret(Secret&& other) noexcept { *this = std::move(other); }
Secret& Secret::operator=(Secret&& other) noexcept {
  if (this != &other) {
    Wipe();
    text_.swap(other.text_);
  }
  return *this;
}
void Secret::Wipe() {
  if (!text_.empty()) OPENSSL_cleanse(text_.data(), text_.size());
  text_.clear();
}

Result<std::string> ReadPublicFile(const std::string& path) { return ReadAny(path, false); }

Result<Secret> ReadSecretFile(const std::string& path) {
  MMC_ASSIGN_OR_RETURN(std::string text, ReadAny(path, true));
  return Secret(std::move(text));
}

Result<Secret> ReadPassPhrase(const std::string& pass_path, const std::string& decrypter_path) {
  MMC_ASSIGN_OR_RETURN(const Secret file, ReadSecretFile(pass_path));
  Secret line(file.text().substr(0, file.text().find_first_of("\r\n")));
  if (line.empty()) return Refuse(pass_path, "begins with an empty line; a pass phrase is expected there");
  if (decrypter_path.empty()) return line;
  if (line.text().size() > kMaxCipherBytes) return Refuse(pass_path, "has a first line of more than 10000 bytes");
  MMC_ASSIGN_OR_RETURN(const Decrypter decrypter, LoadDecrypter(decrypter_path));
  const size_t length = line.text().size();
  Secret plain(std::string(length + 1, '\0'));
  auto* out = const_cast<char*>(plain.text().data());
  if (const int failed = decrypter.run(line.text().data(), length, out, length); failed != 0) {
    return Refuse(decrypter_path, "DecryptPassword answers " + std::to_string(failed) + " for the content of " +
                                      pass_path);
  }
  return Secret(std::string(plain.text().c_str()));
}

}  // namespace mmc::security
