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

constexpr char kHeader[] = "mmc-members 2";
constexpr char kHeaderBefore[] = "mmc-members 1";
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

using Kind = MemberRow::Kind;

const char* WordOf(const MemberRow& row) {
  if (row.kind == Kind::kHere) return row.draining ? "drain" : "node";
  return row.kind == Kind::kMissing ? "missing" : "gone";
}

bool ParseRow(const std::string& word, const std::string& name, const std::string& number, MemberRow* out) {
  const auto plain = Unescape(name);
  const auto incarnation = Number(number);
  if (!plain || !incarnation) return false;
  *out = {.name = *plain, .incarnation = *incarnation, .draining = word == "drain"};
  for (const Kind kind : {Kind::kHere, Kind::kMissing, Kind::kGone}) {
    out->kind = kind;
    if (word == WordOf(*out)) return true;
  }
  return false;
}

bool Parse(std::istream& in, MembersFile* out) {
  std::string line, word, value, number;
  if (!std::getline(in, line) || (line != kHeader && line != kHeaderBefore)) return false;
  const bool named_only = line == kHeaderBefore;
  while (std::getline(in, line)) {
    std::istringstream words(line);
    if (!(words >> word >> value)) return false;
    if (word == "end") return Number(value) == out->rows.size();  // a file that was cut off has none
    if (word == "term") {
      const auto term = Number(value);
      if (!term) return false;
      out->term = *term;
      continue;
    }
    if (named_only) {
      if (word != "node") return false;
      number = "0";
    } else if (!(words >> number)) {
      return false;
    }
    MemberRow row;
    if (!ParseRow(word, value, number, &row)) return false;
    out->rows.push_back(std::move(row));
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

// The new name in the folder is on disk.
Status FlushFolder(const std::string& path) {
  const std::string folder = path.substr(0, path.rfind('/') + 1);
  const int fd = ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return IoError("cannot open", folder);
  const bool flushed = ::fsync(fd) == 0 || errno == EINVAL;  // not every file system has that for folders
  const Status status = flushed ? Status::Ok() : IoError("cannot flush", folder);
  ::close(fd);
  return status;
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
  for (const MemberRow& row : rows) {
    text += std::string(WordOf(row)) + " " + Escape(row.name) + " " + std::to_string(row.incarnation) + "\n";
  }
  text += "end " + std::to_string(rows.size()) + "\n";
  const std::string fresh = path + ".new";
  const int fd = ::open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
  if (fd < 0) return IoError("cannot open", fresh);
  const Status written = WriteAll(fd, text, fresh);
  ::close(fd);
  MMC_RETURN_IF_ERROR(written);
  if (::rename(fresh.c_str(), path.c_str()) != 0) return IoError("cannot rename to", path);
  return FlushFolder(path);
}

void MembersWriter::SaveIfChanged() {
  {
    MutexLock lock(mutex_);
    if (written_.has_value() && written_at_ == Mark()) return;
  }
  Save();
}

void MembersWriter::Save() {
  MutexLock lock(mutex_);
  written_at_ = Mark();  // before the look: what changes during it is looked at again
  std::vector<MemberRow> rows = state_.Members();
  if (written_ == rows) return;
  const Status stored = MembersFile{term_, rows}.Store(path_);
  if (stored.ok()) {
    written_ = std::move(rows);
    failures_ = 0;
    return;
  }
  written_.reset();
  // One that lacks a node would let the next start end its recovery too early.
  const bool none = ::unlink(path_.c_str()) == 0 || errno == ENOENT;
  if (failures_++ % kFailuresPerLine != 0) return;
  MMC_LOG(WARNING) << "members file: " << stored.message()
                   << (none ? "; a restart will wait its full recovery time"
                            : "; the old one is still there: a restart may not wait for all nodes");
}

}  // namespace mmc::meta
