// What went wrong in a handshake, in words.
#include <openssl/err.h>
#include <openssl/x509v3.h>

#include <cstring>
#include <ctime>

#include "common/security/tls_loaded.h"

namespace mmc::security {
namespace {

constexpr char kRefusedByPeer[] = "the peer refuses the certificate";

std::string ErrorText(int error) {
  char buffer[128];
  return strerror_r(error, buffer, sizeof(buffer));
}

// Notes why the peer's certificate is not taken; answers 0.
int Reject(X509_STORE_CTX* store, TlsState* state, int error, const std::string& why) {
  X509_STORE_CTX_set_error(store, error);
  if (state == nullptr) return 0;
  const X509* certificate = X509_STORE_CTX_get0_cert(store);
  state->refusal = "the certificate of the peer (" + SubjectOf(certificate) + ") is refused: " + why;
  return 0;
}

std::string OwnWords(const TlsContext::Loaded& loaded) {
  const TlsFile& own = loaded.files.front();
  return own.path + " (" + own.subject + ", role " + std::string(RoleName(loaded.own->role)) + ", valid from " +
         DateText(own.not_before) + " to " + DateText(own.not_after) + ")";
}

// A fatal alert that the peer has sent.
Status AlertWords(int alert, const TlsContext::Loaded& loaded) {
  const auto refused = [&](const std::string& why) {
    return Status(Code::kPermission, std::string(kRefusedByPeer) + " " + OwnWords(loaded) + ": " + why);
  };
  switch (alert) {
    case SSL_AD_BAD_CERTIFICATE:
      return refused("it does not fit there; a wrong host name, or a start date in its future, by the peer's clock");
    case SSL_AD_UNSUPPORTED_CERTIFICATE:
      return refused("it has another role or use than the peer demands");
    case SSL_AD_CERTIFICATE_REVOKED:
      return refused("it is revoked");
    case SSL_AD_CERTIFICATE_EXPIRED:
      return refused("by the peer's clock it has ended, or the peer's revocation list has");
    case SSL_AD_CERTIFICATE_UNKNOWN:
      return refused("the peer cannot judge it");
    case SSL_AD_UNKNOWN_CA:
      return refused("its authority is not among those that the peer trusts");
    case SSL_AD_ACCESS_DENIED:
      return refused("it may not do this");
    case SSL_AD_CERTIFICATE_REQUIRED:
      return Status(Code::kPermission, std::string(kRefusedByPeer) + ": none was shown, and it demands one");
    case SSL_AD_PROTOCOL_VERSION:
      return Status(Code::kUnavailable, "the peer does not speak TLS 1.3");
    default: {
      const char* name = SSL_alert_desc_string_long(alert);
      return Status(Code::kUnavailable, std::string("the peer ends the TLS handshake: ") + name);
    }
  }
}

Status LibraryWords(const SSL* ssl, const TlsState& state) {
  const unsigned long error = ERR_peek_error();
  const int reason = ERR_GET_LIB(error) == ERR_LIB_SSL ? ERR_GET_REASON(error) : 0;
  const std::string text = TakeOpenSslError();
  if (reason >= SSL_AD_REASON_OFFSET && reason < SSL_AD_REASON_OFFSET + 256) {
    return AlertWords(reason - SSL_AD_REASON_OFFSET, *state.loaded);
  }
  switch (reason) {
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
      return Status(Code::kPermission, "the peer shows no certificate; set cert.path and key.path there");
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_NO_PROTOCOLS_AVAILABLE:
    case SSL_R_VERSION_TOO_LOW:
      return Status(Code::kUnavailable, "the peer does not speak TLS 1.3");
    case SSL_R_HTTP_REQUEST:
    case SSL_R_WRONG_VERSION_NUMBER:
      return Status(Code::kUnavailable, "the peer does not speak TLS");
    default:
      return Status(Code::kUnavailable, std::string(SSL_is_init_finished(ssl) ? "TLS" : "TLS handshake") +
                                            " failed: " + (text.empty() ? "no reason is known" : text));
  }
}

}  // namespace

std::string VerifyWords(int error, const X509* certificate, const TlsContext::Loaded& loaded,
                        const PeerWanted& wanted) {
  const std::string now = ", it is " + DateText(std::time(nullptr)) + " here";
  switch (error) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
      return "it ended on " + DateText(UnixTime(X509_get0_notAfter(certificate))) + now;
    case X509_V_ERR_CERT_NOT_YET_VALID:
      return "it is valid from " + DateText(UnixTime(X509_get0_notBefore(certificate))) + now;
    case X509_V_ERR_CERT_REVOKED:
      return "it is revoked by " + loaded.options.crl_path;
    case X509_V_ERR_UNABLE_TO_GET_CRL:
      return loaded.options.crl_path + " has no revocation list of its authority";
    case X509_V_ERR_CRL_HAS_EXPIRED:
      return "the revocation list " + loaded.options.crl_path + " is out of date; get a new one" + now;
    case X509_V_ERR_CRL_NOT_YET_VALID:
      return "the revocation list " + loaded.options.crl_path + " begins in the future" + now;
    case X509_V_ERR_CRL_SIGNATURE_FAILURE:
    case X509_V_ERR_UNABLE_TO_DECRYPT_CRL_SIGNATURE:
      return "the revocation list " + loaded.options.crl_path + " is not signed by its authority";
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_CERT_SIGNATURE_FAILURE:
      return "no authority in " + loaded.options.ca_path + " has signed it";
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
      return "it is for " + HostsOf(certificate) + ", not for " + wanted.host;
    case X509_V_ERR_INVALID_PURPOSE:
      return "its use is limited to others than this one";
    default:
      return X509_verify_cert_error_string(error);
  }
}

int VerifyPeer(int ok, X509_STORE_CTX* store) {
  const auto* ssl =
      static_cast<const SSL*>(X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()));
  TlsState* const state = ssl == nullptr ? nullptr : StateOf(ssl);
  const int error = X509_STORE_CTX_get_error(store);
  const int depth = X509_STORE_CTX_get_error_depth(store);
  const X509* certificate = X509_STORE_CTX_get_current_cert(store);
  if (state == nullptr) return 0;
  if (ok == 0) {
    // Lists are demanded for what an authority has signed last; of authorities above, those that are there count.
    if (error == X509_V_ERR_UNABLE_TO_GET_CRL && depth > 0) {
      X509_STORE_CTX_set_error(store, X509_V_OK);
      return 1;
    }
    std::string why = VerifyWords(error, certificate, *state->loaded, state->wanted);
    if (depth > 0) why = "its authority (" + SubjectOf(certificate) + "): " + why;
    return Reject(store, state, error, why);
  }
  if (depth > 0) return 1;
  const Result<Identity> identity = IdentityOf(certificate);
  if (!identity.ok()) return Reject(store, state, X509_V_ERR_INVALID_PURPOSE, identity.status().message());
  const PeerWanted& wanted = state->wanted;
  if (wanted.role != Role::kNone && identity->role != wanted.role) {
    return Reject(store, state, X509_V_ERR_INVALID_PURPOSE,
                  "its role is " + std::string(RoleName(identity->role)) + ", and " +
                      std::string(RoleName(wanted.role)) + " is expected here");
  }
  if (!wanted.node.empty() && identity->name != wanted.node) {
    return Reject(store, state, X509_V_ERR_INVALID_PURPOSE,
                  "it speaks for node '" + identity->name + "', not for '" + wanted.node + "'");
  }
  return 1;
}

Result<Identity> TlsContext::PeerIdentity(const ssl_st* ssl) {
  const X509* certificate = SSL_get0_peer_certificate(ssl);
  if (certificate == nullptr) return Identity();
  if (SSL_get_verify_result(ssl) != X509_V_OK) {
    return Status(Code::kPermission, X509_verify_cert_error_string(SSL_get_verify_result(ssl)));
  }
  return IdentityOf(certificate);
}

uint64_t TlsContext::KeyUpdates(const ssl_st* ssl) {
  const TlsState* const state = StateOf(ssl);
  return state == nullptr ? 0 : state->key_updates;
}

Status TlsContext::Describe(const ssl_st* ssl, int ssl_error, int system_error) {
  const TlsState* const state = StateOf(ssl);
  if (state != nullptr && !state->refusal.empty() && !SSL_is_init_finished(ssl)) {
    ERR_clear_error();
    return Status(Code::kPermission, state->refusal);
  }
  if (ssl_error == SSL_ERROR_SSL && state != nullptr) return LibraryWords(ssl, *state);
  ERR_clear_error();
  const std::string when = SSL_is_init_finished(ssl) ? "" : " during the TLS handshake";
  if (ssl_error == SSL_ERROR_SYSCALL && system_error != 0) {
    return Status(Code::kUnavailable, "the connection broke" + when + ": " + ErrorText(system_error));
  }
  return Status(Code::kUnavailable, "the peer closed the connection" + when);
}

bool TlsContext::RefusedByPeer(const Status& described) {
  return described.code() == Code::kPermission && described.message().starts_with(kRefusedByPeer);
}

}  // namespace mmc::security
