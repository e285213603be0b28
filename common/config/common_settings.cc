#include "common/config/common_settings.h"

#include <iterator>
#include <utility>

namespace mmc::config {
namespace {

constexpr int kLowestPort = 1025;
constexpr int kHighestPort = 65535;
constexpr size_t kMaxTlsPath = 255;

// The eight keys of one TLS block.
std::vector<Setting> TlsBlock(const std::string& prefix, const std::string& what) {
  std::vector<Setting> out = {
      Bool(prefix + "enable", "false",
           "TLS for " + what +
               ". This version has none: true is refused, so that nobody runs in the clear "
               "unaware."),
      Text(prefix + "top.path", "", kMaxTlsPath,
           "Folder that relative TLS paths start from. Not read while TLS is off.")};
  static constexpr std::pair<const char*, const char*> kPaths[] = {
      {"ca.path", "Certificate of the authority"},
      {"ca.crl.path", "Revocation list"},
      {"cert.path", "Own certificate"},
      {"key.path", "Own private key"},
      {"key.pass.path", "Pass phrase of the own key"},
      {"package.path", "Folder of the TLS library"},
      {"decrypter.path", "Library that decrypts the pass phrase"}};
  for (const auto& [name, doc] : kPaths) {
    out.push_back(
        Text(prefix + name, "", kMaxTlsPath, std::string(doc) + ". Not read while TLS is off."));
  }
  return out;
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
  std::vector<Setting> out = TlsBlock("ock.mmc.tls.", "calls between clients and services");
  for (Setting& setting : TlsBlock("ock.mmc.config_store.tls.", "the config store"))
    out.push_back(std::move(setting));
  return out;
}

Schema::Rule NoTlsRule(const std::vector<Setting>& settings) {
  constexpr std::string_view kEnable = "tls.enable";
  std::vector<std::string> names;
  for (const Setting& setting : settings) {
    if (std::string_view(setting.names[0]).ends_with(kEnable)) names.push_back(setting.names[0]);
  }
  return [names](const Values& values) {
    for (const std::string& name : names) {
      if (values.GetBool(name)) {
        return Status(Code::kConfig,
                      name + " = true: TLS is not supported by this version; set it to false");
      }
    }
    return Status::Ok();
  };
}

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
