// PEM into OpenSSL's objects, and what those objects say: identity, names, dates.
//
// Thread safety: pure functions. Ownership: the pointers own; views borrow.
#pragma once

#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/status.h"
#include "common/security/identity.h"

namespace mmc::security {

struct OpenSslFree {
  void operator()(X509* p) const { X509_free(p); }
  void operator()(X509_CRL* p) const { X509_CRL_free(p); }
  void operator()(ASN1_TIME* p) const { ASN1_TIME_free(p); }
  void operator()(EVP_PKEY* p) const { EVP_PKEY_free(p); }
  void operator()(SSL_CTX* p) const { SSL_CTX_free(p); }
  void operator()(SSL* p) const { SSL_free(p); }
  void operator()(BIO* p) const { BIO_free_all(p); }
};
template <typename T>
using OpenSslPtr = std::unique_ptr<T, OpenSslFree>;

// Errors of all three: kConfig, "<what>: ..." Each gives at least one object.
Result<std::vector<OpenSslPtr<X509>>> ParseCertificates(std::string_view pem, const std::string& what);
Result<std::vector<OpenSslPtr<X509_CRL>>> ParseRevocationLists(std::string_view pem, const std::string& what);
// Never asks a person for a pass phrase.
Result<OpenSslPtr<EVP_PKEY>> ParseKey(std::string_view pem, std::string_view pass_phrase, const std::string& what);

// Errors: kPermission naming what is missing, twice there or malformed.
Result<Identity> IdentityOf(const X509* certificate);
std::string SubjectOf(const X509* certificate);  // "CN=node-1,O=pool", control characters escaped
// "localhost, 127.0.0.1, ::1"; "no host" without any.
std::string HostsOf(const X509* certificate);

// Seconds since 1970; INT64_MAX for a missing time.
int64_t UnixTime(const ASN1_TIME* time);
// "2026-11-20 10:45:00 UTC".
std::string DateText(int64_t unix_time);

// The oldest error that OpenSSL has noted on this thread, as text; empties the list.
std::string TakeOpenSslError();

}  // namespace mmc::security
