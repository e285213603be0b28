#include "meta_service/background/members_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cctype>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <fstream>
#include <sstream>

#include "common/obs/log.h"

namespace mmc::meta {

namespace {

constexpr char kHeader[] = "mmc-members 1";
constexpr uint64_t kFailuresPerLine = 100;  // of ten seconds

bool Plain(unsigned char c) { return std::isalnum(c) != 0 || c == '-' || c == '_' || c == '.' || c == ':'; }

std::string Escape(const std::string& name) {
  static constexpr char kHex[] = "0123456789ABCDEF";
  std::string out;
  for (const char letter : name) {
    const auto c = static_cast<unsigned char>(letter);
    if (Plain(c)) {
      out += letter;
    } else {
      out += {'%', kHex[c >> 4], kHex[c & 15]};
    }
  }
  return out;
}

std::optional<std::string> Unescape(const std::string& text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    unsigned value = 0;
    if (text.size() - i < 3) return std::nullopt;
    const char* begin = text.data() + i + 1;
    if (std::from_chars(begin, begin + 2, value, 16).ptr != begin + 2) return std::nullopt;
    out += static_cast<char>(value);
    i += 2;
  }
  return out;
}

std::optional<uint64_t> Number(const std::string& text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

Status IoError(const std::string& what, const std::string& path) {
  return Status(Code::kIo, what + " " + path + ": " + std::strerror(errno));
}

bool Parse(std::istream& in, MembersFile* out) {
  std::string line, word, value;
  if (!std::getline(in, line) || line != kHeader) return false;
  while (std::getline(in, line)) {
    std::istringstream words(line);
    if (!(words >> word >> value)) return false;
    if (word == "end") return Number(value) == out->names.size();  // a file that was cut off has none
    if (word == "term") {
      const auto term = Number(value);
      if (!term) return false;
      out->term = *term;
    } else if (word == "node") {
      auto name = Unescape(value);
      if (!name) return false;
      out->names.push_back(std::move(*name));
    } else {
      return false;
    }
  }
  return false;
}

Status WriteAll(int fd, const std::string& text, const std::string& path) {
  for (size_t done = 0; done < text.size();) {
    const ssize_t n = ::write(fd, text.data() + done, text.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return IoError("cannot write", path);
    done += static_cast<size_t>(n);
  }
  return ::fsync(fd) == 0 ? Status::Ok() : IoError("cannot flush", path);
}

}  // namespace

Result<std::optional<MembersFile>> MembersFile::Load(const std::string& path) {
  std::ifstream in(path);
  if (!in) {
    if (errno == ENOENT) return std::optional<MembersFile>();
    return IoError("cannot read", path);
  }
  MembersFile file;
  if (!Parse(in, &file)) {
    return Status(Code::kMalformed, path + " is no complete list of members: remove it to start without one");
  }
  return std::optional<MembersFile>(std::move(file));
}

Status MembersFile::Store(const std::string& path) const {
  std::string text = std::string(kHeader) + "\nterm " + std::to_string(term) + "\n";
  for (const std::string& name : names) text += "node " + Escape(name) + "\n";
  text += "end " + std::to_string(names.size()) + "\n";
  const std::string fresh = path + ".new";
  const int fd = ::open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
  if (fd < 0) return IoError("cannot open", fresh);
  const Status written = WriteAll(fd, text, fresh);
  ::close(fd);
  MMC_RETURN_IF_ERROR(written);
  return ::rename(fresh.c_str(), path.c_str()) == 0 ? Status::Ok() : IoError("cannot rename to", path);
}

void MembersWriter::Tick(TimePoint) {
  std::vector<std::string> names = state_.Members();
  if (written_ == names) return;
  const Status stored = MembersFile{term_, names}.Store(path_);
  if (stored.ok()) {
    written_ = std::move(names);
    failures_ = 0;
  } else if (failures_++ % kFailuresPerLine == 0) {
    MMC_LOG(WARNING) << "members file: " << stored.message() << "; a restart will wait its full recovery time";
  }
}

}  // namespace mmc::meta
