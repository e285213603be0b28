// What a conf file or a caller says about TLS of one plane.
//
// Thread safety: values and pure functions.
#pragma once

#include <string>
#include <string_view>

namespace mmc::config {
class Values;
}

namespace mmc::security {

struct TlsOptions {
  bool enable = false;
  std::string ca_path;         // PEM: certificates of the authorities that peers may come from
  std::string crl_path;        // PEM: their revocation lists; empty: none is looked at
  std::string cert_path;       // PEM: own certificate, then those between it and the authority
  std::string key_path;        // PEM: own key; nobody else may read the file
  std::string key_pass_path;   // pass phrase of the key, first line of the file; empty: the key has none
  std::string package_path;    // accepted and without effect: the system's OpenSSL is linked
  std::string decrypter_path;  // library that turns the content of key_pass_path into the pass phrase
  std::string prefix = "tls.";  // of the settings' names, for messages: "ock.mmc.tls."
};

// The settings `<prefix>enable`, `<prefix>ca.path`, ... of `values`; `prefix` ends with a dot, as in "ock.mmc.tls.".
// Relative paths start at `<prefix>top.path` when that is set. Settings that the schema does not have stay empty.
TlsOptions TlsOptionsFrom(const config::Values& values, std::string_view prefix);

// The settings ock.mmc.local_service.hcom.tls.*, for blocks that travel over TCP. When they name neither authority nor
// certificate nor key, the files of ock.mmc.tls.* are used.
TlsOptions DataTlsOptionsFrom(const config::Values& values);

}  // namespace mmc::security
