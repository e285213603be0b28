#include "common/security/tls_options.h"

namespace mmc::security {

TlsOptions TlsOptionsFrom(const config::Values& values, std::string_view prefix) {
  TlsOptions out;
  out.prefix = prefix;
  out.enable = values.GetBool(out.prefix + "enable");
  const auto text = [&](const char* name) {
    return values.Has(out.prefix + name) ? values.GetString(out.prefix + name) : std::string();
  };
  const std::string top = text("top.path");
  const auto path = [&](const char* name) {
    std::string value = text(name);
    if (value.empty() || value.front() == '/' || top.empty()) return value;
    return top + (top.back() == '/' ? "" : "/") + value;
  };
  out.ca_path = path("ca.path");
  out.crl_path = path("ca.crl.path");
  out.cert_path = path("cert.path");
  out.key_path = path("key.path");
  out.key_pass_path = path("key.pass.path");
  out.package_path = path("package.path");
  out.decrypter_path = path("decrypter.path");
  return out;
}

}  // namespace mmc::security
