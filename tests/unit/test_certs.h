// An authority that lives in memory, and certificates of every kind that a test may want from it.
//
// Thread safety: none. Ownership: TestCa owns its key; pairs are text in PEM form.
#pragma once

#include <gtest/gtest.h>
#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>

#include <ctime>
#include <string>
#include <vector>

#include "common/security/certificate.h"
#include "common/security/tls_options.h"
#include "tests/unit/temp_dir.h"

namespace mmc::test {

using security::OpenSslPtr;

struct CertSpec {
  std::string role = "client";  // empty: none
  std::string tenant = {};
  std::string node = {};
  std::string hosts = "DNS:localhost,IP:127.0.0.1,IP:::1";  // empty: none
  std::string more = {};        // further names, "URI:mmc:role:meta"
  int64_t from = -3600;         // seconds from now
  int64_t until = 86'400;
};

struct CertPair {
  std::string cert;
  std::string key;
};

inline std::string PemText(BIO* bio) {
  char* text = nullptr;
  const long length = BIO_get_mem_data(bio, &text);
  return std::string(text, static_cast<size_t>(length));
}

inline std::string KeyPem(EVP_PKEY* key, const std::string& pass_phrase = "") {
  const OpenSslPtr<BIO> out(BIO_new(BIO_s_mem()));
  EXPECT_EQ(PEM_write_bio_PKCS8PrivateKey(out.get(), key, pass_phrase.empty() ? nullptr : EVP_aes_256_cbc(),
                                          pass_phrase.empty() ? nullptr : pass_phrase.c_str(),
                                          static_cast<int>(pass_phrase.size()), nullptr, nullptr),
            1);
  return PemText(out.get());
}

class TestCa {
 public:
  explicit TestCa(const std::string& name = "test authority", int64_t until = 86'400)
      : key_(EVP_EC_gen("P-256")), certificate_(X509_new()) {
    Begin(certificate_.get(), name, -7200, until, key_.get());
    Add(certificate_.get(), NID_basic_constraints, "critical,CA:TRUE");
    Add(certificate_.get(), NID_key_usage, "critical,keyCertSign,cRLSign");
    EXPECT_GT(X509_sign(certificate_.get(), key_.get(), EVP_sha256()), 0);
  }

  std::string cert() const { return CertPem(certificate_.get()); }

  CertPair Issue(const CertSpec& spec, const std::string& pass_phrase = "") {
    const OpenSslPtr<EVP_PKEY> key(EVP_EC_gen("P-256"));
    const OpenSslPtr<X509> certificate(X509_new());
    Begin(certificate.get(), "test " + (spec.role.empty() ? "nobody" : spec.role), spec.from, spec.until, key.get());
    std::string names = spec.hosts;
    const auto name = [&](const std::string& text) { names += (names.empty() ? "" : ",") + text; };
    if (!spec.role.empty()) name("URI:mmc:role:" + spec.role);
    if (!spec.tenant.empty()) name("URI:mmc:tenant:" + spec.tenant);
    if (!spec.node.empty()) name("URI:mmc:node:" + spec.node);
    if (!spec.more.empty()) name(spec.more);
    if (!names.empty()) Add(certificate.get(), NID_subject_alt_name, names);
    Add(certificate.get(), NID_ext_key_usage, "serverAuth,clientAuth");
    EXPECT_GT(X509_sign(certificate.get(), key_.get(), EVP_sha256()), 0);
    return {CertPem(certificate.get()), KeyPem(key.get(), pass_phrase)};
  }

  // A list that revokes `pairs`.
  std::string Revoke(const std::vector<CertPair>& pairs, int64_t until = 86'400) {
    const OpenSslPtr<X509_CRL> list(X509_CRL_new());
    const OpenSslPtr<ASN1_TIME> then(ASN1_TIME_adj(nullptr, std::time(nullptr), 0, -3600));
    const OpenSslPtr<ASN1_TIME> next(ASN1_TIME_adj(nullptr, std::time(nullptr), 0, static_cast<long>(until)));
    X509_CRL_set_version(list.get(), 1);
    X509_CRL_set_issuer_name(list.get(), X509_get_subject_name(certificate_.get()));
    X509_CRL_set1_lastUpdate(list.get(), then.get());
    X509_CRL_set1_nextUpdate(list.get(), next.get());
    for (const CertPair& pair : pairs) {
      const auto parsed = security::ParseCertificates(pair.cert, "pair");
      EXPECT_TRUE(parsed.ok());
      X509_REVOKED* entry = X509_REVOKED_new();
      X509_REVOKED_set_serialNumber(entry, X509_get_serialNumber(parsed->front().get()));
      X509_REVOKED_set_revocationDate(entry, then.get());
      X509_CRL_add0_revoked(list.get(), entry);
    }
    X509_CRL_sort(list.get());
    EXPECT_GT(X509_CRL_sign(list.get(), key_.get(), EVP_sha256()), 0);
    const OpenSslPtr<BIO> out(BIO_new(BIO_s_mem()));
    EXPECT_EQ(PEM_write_bio_X509_CRL(out.get(), list.get()), 1);
    return PemText(out.get());
  }

 private:
  static std::string CertPem(X509* certificate) {
    const OpenSslPtr<BIO> out(BIO_new(BIO_s_mem()));
    EXPECT_EQ(PEM_write_bio_X509(out.get(), certificate), 1);
    return PemText(out.get());
  }
  void Begin(X509* certificate, const std::string& name, int64_t from, int64_t until, EVP_PKEY* key) {
    X509_set_version(certificate, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), next_serial_++);
    X509_time_adj_ex(X509_getm_notBefore(certificate), 0, static_cast<long>(from), nullptr);
    X509_time_adj_ex(X509_getm_notAfter(certificate), 0, static_cast<long>(until), nullptr);
    X509_set_pubkey(certificate, key);
    X509_NAME* subject = X509_get_subject_name(certificate);
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, reinterpret_cast<const unsigned char*>(name.c_str()), -1,
                               -1, 0);
    X509_set_issuer_name(certificate, X509_get_subject_name(certificate_.get()));
  }
  void Add(X509* certificate, int nid, const std::string& value) {
    X509V3_CTX context;
    X509V3_set_ctx(&context, certificate_.get(), certificate, nullptr, nullptr, 0);
    X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str());
    ASSERT_NE(extension, nullptr) << value;
    EXPECT_EQ(X509_add_ext(certificate, extension, -1), 1);
    X509_EXTENSION_free(extension);
  }

  OpenSslPtr<EVP_PKEY> key_;
  OpenSslPtr<X509> certificate_;
  long next_serial_ = 1;
};

// A file that is replaced in one step, as tools that renew certificates do; nobody else may read it.
inline std::string Replace(const TempDir& dir, const std::string& name, const std::string& text) {
  const std::string fresh = dir.Write(name + ".new", text);
  EXPECT_EQ(::chmod(fresh.c_str(), 0600), 0);
  EXPECT_EQ(std::rename(fresh.c_str(), dir.File(name).c_str()), 0);
  return dir.File(name);
}

// <name>.ca.pem, <name>.cert.pem, <name>.key.pem and, when there is a list, <name>.crl.pem in `dir`.
inline security::TlsOptions WriteTls(const TempDir& dir, const std::string& name, const std::string& authorities,
                                     const CertPair& pair, const std::string& revoked = "") {
  security::TlsOptions out;
  out.enable = true;
  out.ca_path = Replace(dir, name + ".ca.pem", authorities);
  out.cert_path = Replace(dir, name + ".cert.pem", pair.cert);
  out.key_path = Replace(dir, name + ".key.pem", pair.key);
  if (!revoked.empty()) out.crl_path = Replace(dir, name + ".crl.pem", revoked);
  return out;
}

}  // namespace mmc::test
