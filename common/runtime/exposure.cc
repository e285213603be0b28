#include "common/runtime/exposure.h"

#include "common/rpc/url.h"

namespace mmc::runtime {

std::string ExposureWarning(const config::Values& values, const std::string& url_key, const std::string& tls_key,
                            const std::string& what) {
  const std::string& text = values.GetString(url_key);
  const Result<rpc::Url> url = rpc::ParseUrl(text);
  if (!url.ok() || rpc::IsLoopback(url->host) || values.GetBool(tls_key)) return "";
  return url_key + " = " + text + " without TLS: " + what + "; set " + tls_key +
         " = true, or take a loopback address";
}

}  // namespace mmc::runtime
