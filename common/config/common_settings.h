// The settings that every conf file has: logs and TLS.
//
// Thread safety: pure functions.
#pragma once

#include <vector>

#include "common/config/schema.h"

namespace mmc::config {

// ock.mmc.log_*; runtime::DaemonMain reads them.
std::vector<Setting> LogSettings();
// ock.mmc.tls.* and ock.mmc.config_store.tls.*. Paths are not looked at while TLS is off;
// security::TlsOptionsFrom reads them.
std::vector<Setting> TlsSettings();
// Errors: kConfig when TLS is turned on without its files, or for the config store alone.
Schema::Rule TlsRule();

// One setting, short to write in a table.
Setting Bool(std::string name, std::string default_text, std::string doc);
Setting Int(std::string name, std::string default_text, int64_t min, int64_t max, std::string doc);
Setting Bytes(std::string name, std::string default_text, uint64_t min, uint64_t max,
              std::string doc);
Setting Url(std::string name, std::string default_text, std::string scheme, std::string doc);
Setting Enum(std::string name, std::string default_text, std::vector<std::string> choices,
             std::string doc);
Setting Text(std::string name, std::string default_text, size_t max_length, std::string doc);
Setting WithoutEffect(Setting setting, std::string why);

// All of `parts`, in order; the first of each part gets the part's headline.
std::vector<Setting> Sections(std::vector<std::pair<std::string, std::vector<Setting>>> parts);

}  // namespace mmc::config
