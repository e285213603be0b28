#include "meta_service/http/access.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <sys/stat.h>

#include <algorithm>
#include <utility>

#include "common/obs/log.h"
#include "common/security/secret_file.h"

namespace mmc::meta::http {
namespace {

constexpr size_t kShortest = 16;
constexpr size_t kLongest = 256;

std::string_view Trimmed(std::string_view text) {
  const auto blank = [](char c) { return c == ' ' || c == '\t' || c == '\r'; };
  while (!text.empty() && blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && blank(text.back())) text.remove_suffix(1);
  return text;
}

// Up to the next blank; `text` is left with what comes after it.
std::string_view TakeWord(std::string_view* text) {
  const std::string_view word = text->substr(0, text->find_first_of(" \t"));
  *text = Trimmed(text->substr(word.size()));
  return word;
}

bool IsToken(std::string_view text) {
  return text.size() >= kShortest && text.size() <= kLongest &&
         std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c < 0x7f; });
}

// Takes "Bearer " off the front, whatever its case; false when it is not there.
bool TakeBearer(std::string_view* text) {
  constexpr std::string_view kBearer = "bearer ";
  if (text->size() < kBearer.size()) return false;
  for (size_t i = 0; i < kBearer.size(); ++i) {
    const char c = (*text)[i];
    if ((c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c) != kBearer[i]) return false;
  }
  *text = Trimmed(text->substr(kBearer.size()));
  return true;
}

}  // namespace

Tokens::Digest Tokens::DigestOf(std::string_view token) {
  Digest digest;
  SHA256(reinterpret_cast<const unsigned char*>(token.data()), token.size(), digest.data());
  return digest;
}

Tokens::Stamp Tokens::StampOf(const std::string& path) {
  struct stat file {};
  if (stat(path.c_str(), &file) != 0) return {};
  return {file.st_mtim.tv_sec, file.st_mtim.tv_nsec, file.st_size, file.st_ino};
}

std::optional<Tokens::Entry> Tokens::EntryOf(std::string_view line) {
  const std::string_view word = TakeWord(&line);
  const std::string_view token = TakeWord(&line);
  if ((word != "admin" && word != "read") || !IsToken(token)) return std::nullopt;
  Caller caller{word == "admin" ? Access::kAdmin : Access::kRead, {}};
  constexpr std::string_view kTenant = "tenant=";
  if (!line.empty()) {
    const std::string_view name = line.substr(std::min(line.size(), kTenant.size()));
    // What an admin changes is there for all tenants.
    if (word == "admin" || !line.starts_with(kTenant) || !security::IsTenantName(name)) return std::nullopt;
    caller.tenant = TenantNamed(name);
  }
  return Entry{DigestOf(token), std::move(caller)};
}

Result<std::vector<Tokens::Entry>> Tokens::Read() const {
  Result<security::Secret> file = security::ReadSecretFile(path_);
  if (!file.ok()) return Status(Code::kConfig, setting_ + ": " + file.status().message());
  std::vector<Entry> entries;
  std::string_view rest = file->text();
  for (int number = 1; !rest.empty(); ++number) {
    const size_t end = rest.find('\n');
    const std::string_view line = Trimmed(rest.substr(0, end));
    rest = end == std::string_view::npos ? std::string_view() : rest.substr(end + 1);
    if (line.empty() || line.front() == '#') continue;
    const std::string where = setting_ + ": " + path_ + " line " + std::to_string(number);
    std::optional<Entry> entry = EntryOf(line);
    if (!entry) {
      return Status(Code::kConfig, where + " must be 'admin TOKEN', 'read TOKEN' or 'read TOKEN tenant=NAME', a token "
                                           "of 16 to 256 visible characters");
    }
    if (entries.size() == kMaxTokens)
      return Status(Code::kConfig, where + ": more than " + std::to_string(kMaxTokens) + " tokens");
    entries.push_back(*std::move(entry));
  }
  return entries;
}

Status Tokens::Load() {
  if (!configured()) return Status::Ok();
  MutexLock lock(mutex_);
  stamp_ = StampOf(path_);
  MMC_ASSIGN_OR_RETURN(entries_, Read());
  return Status::Ok();
}

void Tokens::ReadIfChanged() {
  const Stamp now = StampOf(path_);
  if (now == stamp_) return;
  stamp_ = now;
  Result<std::vector<Entry>> entries = Read();
  if (entries.ok()) {
    entries_ = *std::move(entries);
    MMC_LOG(INFO) << setting_ << ": " << path_ << " has changed, " << entries_.size() << " tokens";
    return;
  }
  entries_.clear();
  MMC_LOG(WARNING) << entries.status().message() << "; no token is good until that is mended";
}

Caller Tokens::Of(std::string_view authorization) {
  if (!configured() || !TakeBearer(&authorization) || !IsToken(authorization)) return {};
  const Digest digest = DigestOf(authorization);
  MutexLock lock(mutex_);
  ReadIfChanged();
  const Entry* found = nullptr;
  for (const Entry& entry : entries_) {  // all of them, so that the time does not tell which one it is
    const bool same = CRYPTO_memcmp(entry.digest.data(), digest.data(), digest.size()) == 0;
    if (same && (found == nullptr || entry.caller.access > found->caller.access)) found = &entry;
  }
  return found == nullptr ? Caller() : found->caller;
}

Caller CallerOf(const security::Identity& identity) {
  if (identity.role != security::Role::kAdmin) return {};
  Caller caller{Access::kAdmin, {}};
  if (!identity.tenant.empty()) caller.tenant = TenantNamed(identity.tenant);
  return caller;
}

std::string TenantNamed(std::string_view name) { return name == "default" ? std::string() : std::string(name); }

}  // namespace mmc::meta::http
