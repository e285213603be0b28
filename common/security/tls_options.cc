#include "common/security/tls_options.h"

#include "common/config/schema.h"

namespace mmc::security {

namespace {

constexpr char kControl[] = "ock.mmc.tls.";
constexpr char kData[] = "ock.mmc.local_service.hcom.tls.";

TlsOptions From(const config::Values& values, std::string_view prefix, std::string_view top_prefix) {
  TlsOptions out;
  out.prefix = prefix;
  out.enable = values.GetBool(out.prefix + "enable");
  const auto text = [&](const char* name) {
    return values.Has(out.prefix + name) ? values.GetString(out.prefix + name) : std::string();
  };
  const std::string top_name = std::string(top_prefix) + "top.path";
  const std::string top = values.Has(top_name) ? values.GetString(top_name) : std::string();
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

}  // namespace

TlsOptions TlsOptionsFrom(const config::Values& values, std::string_view prefix) {
  return From(values, prefix, prefix);
}

TlsOptions DataTlsOptionsFrom(const config::Values& values) {
  // The data plane has no folder of its own for relative paths.
  TlsOptions out = From(values, kData, kControl);
  if (!out.ca_path.empty() || !out.cert_path.empty() || !out.key_path.empty()) return out;
  TlsOptions control = From(values, kControl, kControl);
  control.enable = out.enable;
  control.prefix = kData;
  return control;
}

}  // namespace mmc::security
