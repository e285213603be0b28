#include "common/config/common_settings.h"

#include <iterator>
#include <utility>

namespace mmc::config {
namespace {

constexpr int kLowestPort = 1025;
constexpr int kHighestPort = 65535;
constexpr size_t kMaxTlsPath = 255;

constexpr char kControlTls[] = "ock.mmc.tls.";
constexpr char kStoreTls[] = "ock.mmc.config_store.tls.";

// The paths of one TLS block; `note` says when they are read.
std::vector<Setting> TlsPaths(const std::string& prefix, const std::string& note) {
  static constexpr std::pair<const char*, const char*> kPaths[] = {
      {"top.path", "Folder that relative TLS paths start from"},
      {"ca.path", "PEM file with the certificates of the authorities that peers may come from"},
      {"ca.crl.path", "PEM file with their revocation lists; empty: none are looked at"},
      {"cert.path", "PEM file with the own certificate, then those between it and the authority"},
      {"key.path", "PEM file with the own private key, that nobody else may read"},
      {"key.pass.path", "File with the pass phrase of the key in its first line; empty: the key has none"},
      {"decrypter.path", "Library whose function DecryptPassword turns that line into the pass phrase"}};
  std::vector<Setting> out;
  for (const auto& [name, doc] : kPaths) {
    out.push_back(Text(prefix + name, "", kMaxTlsPath, std::string(doc) + ". " + note));
  }
  out.push_back(Text(prefix + "package.path", "", kMaxTlsPath,
                     "Folder of the TLS library. Accepted and not read: the system's OpenSSL is linked."));
  return out;
}

std::vector<Setting> StoreTlsSettings() {
  std::vector<Setting> out = {Bool(std::string(kStoreTls) + "enable", "false",
                                   "TLS for the config store. Its work is done over the calls to the meta "
                                   "service: true needs ock.mmc.tls.enable = true.")};
  for (Setting& path : TlsPaths(kStoreTls, "Accepted and not read: there is no config store.")) {
    out.push_back(std::move(path));
  }
  return out;
}

Status CheckControlTls(const Values& values) {
  const std::string prefix = kControlTls;
  if (!values.GetBool(prefix + "enable")) {
    if (!values.GetBool(std::string(kStoreTls) + "enable")) return Status::Ok();
    return Status(Code::kConfig, std::string(kStoreTls) + "enable = true: the work of a config store is done over the "
                                 "calls to the meta service; set ock.mmc.tls.enable = true and its paths too");
  }
  for (const char* needed : {"ca.path", "cert.path", "key.path"}) {
    if (values.GetString(prefix + needed).empty()) {
      return Status(Code::kConfig, prefix + "enable = true needs " + prefix + needed);
    }
  }
  return Status::Ok();
}

}  // namespace

std::vector<Setting> LogSettings() {
  return {
      Enum("ock.mmc.log_level", "info", {"debug", "info", "warn", "error"},
           "Least severe messages that are logged."),
      Text("ock.mmc.log_path", "", 1023,
           "Logs go to <log_path>/logs/; empty: to stderr. A relative path starts at the folder "
           "above the program's, as "
           "`..` from bin/."),
      Int("ock.mmc.log_rotation_file_size", "20", 1, 500,
          "A log file is closed at this many MB and the next one begun."),
      Int("ock.mmc.log_rotation_file_count", "50", 1, 50,
          "So many log files are kept, the one being written included."),
  };
}

std::vector<Setting> TlsSettings() {
  std::vector<Setting> out = {Bool(std::string(kControlTls) + "enable", "false",
                                   "TLS 1.3 for the calls of clients and local services to the meta service. Both "
                                   "sides show a certificate, whose URI name mmc:role:... says what it may do.")};
  for (Setting& path : TlsPaths(kControlTls, "Not read while TLS is off.")) out.push_back(std::move(path));
  for (Setting& setting : StoreTlsSettings()) out.push_back(std::move(setting));
  return out;
}

Schema::Rule TlsRule() { return &CheckControlTls; }

Setting Bool(std::string name, std::string default_text, std::string doc) {
  return {.names = {std::move(name)},
          .type = Type::kBool,
          .default_text = std::move(default_text),
          .doc = std::move(doc)};
}

Setting Int(std::string name, std::string default_text, int64_t min, int64_t max, std::string doc) {
  return {.names = {std::move(name)},
          .type = Type::kInt,
          .default_text = std::move(default_text),
          .doc = std::move(doc),
          .min = min,
          .max = max};
}

Setting Bytes(std::string name, std::string default_text, uint64_t min, uint64_t max,
              std::string doc) {
  return {.names = {std::move(name)},
          .type = Type::kBytes,
          .default_text = std::move(default_text),
          .doc = std::move(doc),
          .min = static_cast<int64_t>(min),
          .max = static_cast<int64_t>(max)};
}

Setting Url(std::string name, std::string default_text, std::string scheme, std::string doc) {
  return {.names = {std::move(name)},
          .type = Type::kUrl,
          .default_text = std::move(default_text),
          .doc = std::move(doc),
          .min = kLowestPort,
          .max = kHighestPort,
          .choices = {std::move(scheme)}};
}

Setting Enum(std::string name, std::string default_text, std::vector<std::string> choices,
             std::string doc) {
  return {.names = {std::move(name)},
          .type = Type::kEnum,
          .default_text = std::move(default_text),
          .doc = std::move(doc),
          .choices = std::move(choices)};
}

Setting Text(std::string name, std::string default_text, size_t max_length, std::string doc) {
  return {.names = {std::move(name)},
          .type = Type::kString,
          .default_text = std::move(default_text),
          .doc = std::move(doc),
          .max_length = max_length};
}

Setting WithoutEffect(Setting setting, std::string why) {
  setting.note = std::move(why);
  return setting;
}

std::vector<Setting> Sections(std::vector<std::pair<std::string, std::vector<Setting>>> parts) {
  std::vector<Setting> out;
  for (auto& [headline, settings] : parts) {
    if (!settings.empty()) settings.front().section = headline;
    std::move(settings.begin(), settings.end(), std::back_inserter(out));
  }
  return out;
}

}  // namespace mmc::config
