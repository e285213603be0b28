// Certificates, revocation lists, keys and what is read out of them, from any bytes. The first byte picks the kind;
// DER is tried as well, so that the fuzzer gets past base64.
#include <openssl/err.h>
#include <openssl/x509.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "common/security/certificate.h"

namespace {

using mmc::security::OpenSslPtr;

void Look(const X509* certificate) {
  const auto identity = mmc::security::IdentityOf(certificate);
  // What passes has one of the roles and a tenant that can be a name.
  if (identity.ok() && identity->role == mmc::security::Role::kNone) std::abort();
  if (identity.ok() && !identity->tenant.empty() && !mmc::security::IsTenantName(identity->tenant)) std::abort();
  for (const std::string& text : {mmc::security::SubjectOf(certificate), mmc::security::HostsOf(certificate),
                                  identity.status().message()}) {
    if (text.find('\n') != std::string::npos || text.size() > 1024) std::abort();
  }
  (void)mmc::security::DateText(mmc::security::UnixTime(X509_get0_notBefore(certificate)));
  (void)mmc::security::DateText(mmc::security::UnixTime(X509_get0_notAfter(certificate)));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  const unsigned char* der = data + 1;
  switch (data[0] % 5) {
    case 0: {
      const auto all = mmc::security::ParseCertificates(text, "fuzz");
      if (all.ok() && all->empty()) std::abort();
      for (size_t i = 0; all.ok() && i < all->size(); ++i) Look((*all)[i].get());
      break;
    }
    case 1: {
      const OpenSslPtr<X509> certificate(d2i_X509(nullptr, &der, static_cast<long>(text.size())));
      if (certificate) Look(certificate.get());
      break;
    }
    case 2: {
      const auto all = mmc::security::ParseRevocationLists(text, "fuzz");
      if (all.ok() && all->empty()) std::abort();
      break;
    }
    case 3: {
      const OpenSslPtr<X509_CRL> list(d2i_X509_CRL(nullptr, &der, static_cast<long>(text.size())));
      if (list) (void)mmc::security::DateText(mmc::security::UnixTime(X509_CRL_get0_nextUpdate(list.get())));
      break;
    }
    default: {
      const auto key = mmc::security::ParseKey(text, text.substr(0, 8), "fuzz");
      if (key.ok() && *key == nullptr) std::abort();
      break;
    }
  }
  ERR_clear_error();
  return 0;
}
