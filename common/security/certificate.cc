#include "common/security/certificate.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <cstring>
#include <ctime>
#include <limits>
#include <optional>

#include "common/base/limits.h"

namespace mmc::security {
namespace {

constexpr size_t kMaxObjects = 1024;  // of one file

struct NamesFree {
  void operator()(GENERAL_NAMES* names) const { GENERAL_NAMES_free(names); }
};
using Names = std::unique_ptr<GENERAL_NAMES, NamesFree>;

Names AlternativeNames(const X509* certificate) {
  return Names(
      static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)));
}

std::string_view TextOf(const ASN1_STRING* string) {
  return {reinterpret_cast<const char*>(ASN1_STRING_get0_data(string)),
          static_cast<size_t>(ASN1_STRING_length(string))};
}

bool IsPlain(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c < 0x7f; });
}

OpenSslPtr<BIO> Memory(std::string_view text) {
  return OpenSslPtr<BIO>(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

// A pass phrase that is at hand, or none: without a callback OpenSSL would ask on the terminal.
int PassPhrase(char* out, int room, int /*writing*/, void* data) {
  const auto& phrase = *static_cast<const std::string_view*>(data);
  if (phrase.empty() || phrase.size() > static_cast<size_t>(room)) return -1;
  std::memcpy(out, phrase.data(), phrase.size());
  return static_cast<int>(phrase.size());
}

// All objects of one kind in a PEM file; other kinds are passed over.
template <typename T, typename ReadNext>
Result<std::vector<OpenSslPtr<T>>> ParseAll(std::string_view pem, const std::string& what, const char* kind,
                                            ReadNext read) {
  ERR_clear_error();
  const OpenSslPtr<BIO> in = Memory(pem);
  std::vector<OpenSslPtr<T>> out;
  std::string_view none;
  while (in) {
    OpenSslPtr<T> next(read(in.get(), nullptr, &PassPhrase, &none));
    if (!next) break;
    if (out.size() >= kMaxObjects) return Status(Code::kConfig, what + ": has more than 1024 " + kind + "s");
    out.push_back(std::move(next));
  }
  const unsigned long error = ERR_peek_last_error();
  const bool at_the_end = ERR_GET_LIB(error) == ERR_LIB_PEM && ERR_GET_REASON(error) == PEM_R_NO_START_LINE;
  if (!out.empty() && (error == 0 || at_the_end)) {
    ERR_clear_error();
    return out;
  }
  const std::string why = TakeOpenSslError();
  if (at_the_end || why.empty()) return Status(Code::kConfig, what + ": has no " + kind + " in PEM form");
  return Status(Code::kConfig, what + ": has a damaged " + kind + ": " + why);
}

Status Refuse(const std::string& why) { return Status(Code::kPermission, why); }

std::string IpText(std::string_view bytes) {
  char text[INET6_ADDRSTRLEN];
  const int family = bytes.size() == 4 ? AF_INET : AF_INET6;
  if (bytes.size() != 4 && bytes.size() != 16) return "?";
  return ::inet_ntop(family, bytes.data(), text, sizeof(text)) == nullptr ? "?" : text;
}

// Puts the rest of `uri` after `prefix` into `out`; false when it was there already.
bool Once(std::string_view uri, std::string_view prefix, std::optional<std::string>* out) {
  if (!uri.starts_with(prefix)) return true;
  if (out->has_value()) return false;
  *out = std::string(uri.substr(prefix.size()));
  return true;
}

}  // namespace

std::string TakeOpenSslError() {
  const unsigned long error = ERR_peek_error();
  const char* reason = error == 0 ? nullptr : ERR_reason_error_string(error);
  std::string out;
  if (error != 0) out = reason != nullptr ? reason : "error " + std::to_string(error);
  ERR_clear_error();
  return out;
}

Result<std::vector<OpenSslPtr<X509>>> ParseCertificates(std::string_view pem, const std::string& what) {
  return ParseAll<X509>(pem, what, "certificate", &PEM_read_bio_X509);
}

Result<std::vector<OpenSslPtr<X509_CRL>>> ParseRevocationLists(std::string_view pem, const std::string& what) {
  return ParseAll<X509_CRL>(pem, what, "revocation list", &PEM_read_bio_X509_CRL);
}

Result<OpenSslPtr<EVP_PKEY>> ParseKey(std::string_view pem, std::string_view pass_phrase, const std::string& what) {
  ERR_clear_error();
  const OpenSslPtr<BIO> in = Memory(pem);
  OpenSslPtr<EVP_PKEY> key(PEM_read_bio_PrivateKey(in.get(), nullptr, &PassPhrase, &pass_phrase));
  if (key) {
    ERR_clear_error();
    return key;
  }
  const std::string why = TakeOpenSslError();
  const bool encrypted = pem.find("ENCRYPTED") != std::string_view::npos;
  if (encrypted && pass_phrase.empty()) {
    return Status(Code::kConfig, what + ": the key is encrypted and no pass phrase is given");
  }
  if (encrypted) return Status(Code::kConfig, what + ": the pass phrase does not open the key");
  return Status(Code::kConfig, what + ": has no private key in PEM form: " + why);
}

Result<Identity> IdentityOf(const X509* certificate) {
  Identity out;
  out.subject = SubjectOf(certificate);
  std::optional<std::string> role, tenant, node;
  const Names names = AlternativeNames(certificate);
  for (int i = 0; names != nullptr && i < sk_GENERAL_NAME_num(names.get()); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names.get(), i);
    if (name->type != GEN_URI) continue;
    const std::string_view uri = TextOf(name->d.uniformResourceIdentifier);
    if (!uri.starts_with("mmc:")) continue;
    if (!IsPlain(uri)) return Refuse("it has a name mmc:... with characters that do not belong there");
    if (!Once(uri, kRoleUri, &role) || !Once(uri, kTenantUri, &tenant) || !Once(uri, kNodeUri, &node)) {
      return Refuse("it names two roles, tenants or nodes; it must name one");
    }
  }
  if (!role) return Refuse("it names no role; it needs a URI name such as mmc:role:client");
  const std::optional<Role> known = ParseRole(*role);
  if (!known) return Refuse("its role '" + role->substr(0, 64) + "' is none of meta, local, client, admin");
  if (tenant && !IsTenantName(*tenant)) {
    return Refuse("its tenant is not 1 to 64 letters, digits, '.', '_' or '-'");
  }
  if (node && (node->empty() || node->size() > kMaxNodeNameBytes)) {
    return Refuse("its node name is empty or longer than " + std::to_string(kMaxNodeNameBytes) + " bytes");
  }
  out.role = *known;
  out.tenant = tenant.value_or("");
  out.name = node.value_or("");
  return out;
}

std::string SubjectOf(const X509* certificate) {
  const OpenSslPtr<BIO> out(BIO_new(BIO_s_mem()));
  // RFC 2253 escapes what could break a log line.
  if (!out || X509_NAME_print_ex(out.get(), X509_get_subject_name(certificate), 0, XN_FLAG_RFC2253) < 0) return "?";
  const char* text = nullptr;
  const long length = BIO_get_mem_data(out.get(), &text);
  if (length <= 0) return "no subject";
  return std::string(text, std::min<size_t>(static_cast<size_t>(length), 256));
}

std::string HostsOf(const X509* certificate) {
  std::string out;
  const Names names = AlternativeNames(certificate);
  for (int i = 0; names != nullptr && i < sk_GENERAL_NAME_num(names.get()); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names.get(), i);
    std::string host;
    if (name->type == GEN_DNS) host = IsPlain(TextOf(name->d.dNSName)) ? TextOf(name->d.dNSName) : "?";
    if (name->type == GEN_IPADD) host = IpText(TextOf(name->d.iPAddress));
    if (host.empty()) continue;
    if (out.size() > 256) return out + ", ...";
    out += (out.empty() ? "" : ", ") + host;
  }
  return out.empty() ? "no host" : out;
}

int64_t UnixTime(const ASN1_TIME* time) {
  std::tm parts{};
  if (time == nullptr || ASN1_TIME_to_tm(time, &parts) != 1) return std::numeric_limits<int64_t>::max();
  return ::timegm(&parts);
}

std::string DateText(int64_t unix_time) {
  const std::time_t at = unix_time;
  std::tm parts{};
  char text[64];
  if (unix_time == std::numeric_limits<int64_t>::max() || ::gmtime_r(&at, &parts) == nullptr ||
      std::strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S UTC", &parts) == 0) {
    return "no date";
  }
  return text;
}

}  // namespace mmc::security
