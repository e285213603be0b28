#include "client_sdk/cli/doctor_tls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <ctime>
#include <optional>
#include <span>

#include "client_sdk/cli/probe_socket.h"
#include "client_sdk/cli/text.h"
#include "common/rpc/frame.h"
#include "common/security/certificate.h"
#include "common/security/secret_file.h"
#include "common/security/tls_session.h"
#include "fabric/tcp/frame.h"
#include "proto/methods.h"

namespace mmc::cli {
namespace {

using security::DateText;
using security::PeerWanted;
using security::TlsContext;
using security::TlsOptions;
using security::TlsSession;

constexpr int64_t kSoon = 14 * 24 * 3600;  // seconds: an end that is worth a warning
constexpr std::chrono::milliseconds kPeerTimeout{5000};
constexpr size_t kMaxDataPorts = 16;

std::string Setting(const TlsOptions& options, const char* name) { return options.prefix + name; }

Check Good(std::string name, std::string saw) { return {.name = std::move(name), .saw = std::move(saw)}; }
Check Bad(std::string name, std::string saw, std::string remedy) {
  return {.name = std::move(name), .verdict = Verdict::kFail, .saw = std::move(saw), .remedy = std::move(remedy)};
}
Check Doubtful(std::string name, std::string saw, std::string remedy) {
  return {.name = std::move(name), .verdict = Verdict::kWarn, .saw = std::move(saw), .remedy = std::move(remedy)};
}

std::string DatesOf(const X509* certificate) {
  return "valid from " + DateText(security::UnixTime(X509_get0_notBefore(certificate))) + " to " +
         DateText(security::UnixTime(X509_get0_notAfter(certificate)));
}

// What the dates of one thing make of its check.
Check Dated(Check check, int64_t from, int64_t to, const std::string& renew) {
  const std::time_t now = std::time(nullptr);
  const std::string today = "; it is " + DateText(now) + " here";
  if (now < from) {
    check.verdict = Verdict::kFail;
    check.saw += ", which begins on " + DateText(from) + today;
    check.remedy = "set this machine's clock, or " + renew;
  } else if (now > to) {
    check.verdict = Verdict::kFail;
    check.saw += ", which ended on " + DateText(to) + today;
    check.remedy = renew;
  } else if (to - now < kSoon) {
    check.verdict = Verdict::kWarn;
    check.saw += ", which ends on " + DateText(to) + today;
    check.remedy = renew;
  }
  return check;
}

struct Files {
  std::vector<security::OpenSslPtr<X509>> authorities, chain;
};

void CheckAuthorities(const TlsOptions& options, Files* files, std::vector<Check>* checks) {
  const std::string name = Setting(options, "ca.path");
  if (options.ca_path.empty())
    return checks->push_back(Bad(name, "is empty", "name the file with the certificate of the authority"));
  const Result<std::string> text = security::ReadPublicFile(options.ca_path);
  auto parsed = text.ok() ? security::ParseCertificates(*text, options.ca_path) : text.status();
  if (!parsed.ok()) return checks->push_back(Bad(name, parsed.status().message(), "put the authority's file there"));
  for (const auto& authority : *parsed) {
    checks->push_back(Dated(
        Good(name, options.ca_path + ": " + security::SubjectOf(authority.get()) + ", " + DatesOf(authority.get())),
        security::UnixTime(X509_get0_notBefore(authority.get())),
        security::UnixTime(X509_get0_notAfter(authority.get())), "replace the authority on every host"));
  }
  files->authorities = std::move(parsed).value();
}

bool SignedByOne(X509_CRL* list, const Files& files) {
  for (const auto& authority : files.authorities) {
    if (X509_CRL_verify(list, X509_get0_pubkey(authority.get())) == 1) return true;
    ERR_clear_error();
  }
  return false;
}

void CheckRevocations(const TlsOptions& options, const Files& files, std::vector<Check>* checks) {
  const std::string name = Setting(options, "ca.crl.path");
  if (options.crl_path.empty())
    return checks->push_back(Doubtful(name, "is empty: a revoked certificate is taken", "name the revocation list"));
  const Result<std::string> text = security::ReadPublicFile(options.crl_path);
  auto parsed = text.ok() ? security::ParseRevocationLists(*text, options.crl_path) : text.status();
  if (!parsed.ok()) return checks->push_back(Bad(name, parsed.status().message(), "put the authority's list there"));
  for (const auto& list : *parsed) {
    const auto* revoked = X509_CRL_get_REVOKED(list.get());
    const int count = revoked == nullptr ? 0 : sk_X509_REVOKED_num(revoked);
    Check check = Good(name, options.crl_path + ": a list of " + std::to_string(count) + " revoked certificates");
    const int64_t from = security::UnixTime(X509_CRL_get0_lastUpdate(list.get()));
    const int64_t to = security::UnixTime(X509_CRL_get0_nextUpdate(list.get()));
    check = Dated(std::move(check), from, to, "get a new list from the authority: an old one refuses everybody");
    if (!files.authorities.empty() && !SignedByOne(list.get(), files)) {
      check = Bad(name, options.crl_path + ": no authority in " + options.ca_path + " has signed this list",
                  "take the list of the authority that ca.path names");
    }
    checks->push_back(std::move(check));
  }
}

void CheckCertificate(const TlsOptions& options, Files* files, std::vector<Check>* checks) {
  const std::string name = Setting(options, "cert.path");
  if (options.cert_path.empty())
    return checks->push_back(Bad(name, "is empty", "name the file with the own certificate"));
  const Result<std::string> text = security::ReadPublicFile(options.cert_path);
  auto parsed = text.ok() ? security::ParseCertificates(*text, options.cert_path) : text.status();
  if (!parsed.ok()) return checks->push_back(Bad(name, parsed.status().message(), "put the own certificate there"));
  const X509* own = parsed->front().get();
  const Result<security::Identity> identity = security::IdentityOf(own);
  if (!identity.ok()) {
    checks->push_back(Bad(name, options.cert_path + ": " + security::SubjectOf(own) + ": " +
                                    identity.status().message(),
                          "have it issued with the name mmc:role:ROLE, as scripts/make_certs does"));
  } else {
    std::string saw = options.cert_path + ": " + security::SubjectOf(own) + ", role " +
                      std::string(security::RoleName(identity->role));
    if (!identity->tenant.empty()) saw += ", tenant " + identity->tenant;
    if (!identity->name.empty()) saw += ", node " + identity->name;
    saw += ", for " + security::HostsOf(own) + ", " + DatesOf(own);
    checks->push_back(Dated(Good(name, saw), security::UnixTime(X509_get0_notBefore(own)),
                            security::UnixTime(X509_get0_notAfter(own)), "have the certificate issued anew"));
  }
  files->chain = std::move(parsed).value();
}

void CheckKey(const TlsOptions& options, const Files& files, std::vector<Check>* checks) {
  const std::string name = Setting(options, "key.path");
  if (options.key_path.empty()) return checks->push_back(Bad(name, "is empty", "name the file with the own key"));
  Result<security::Secret> text = security::ReadSecretFile(options.key_path);
  if (!text.ok()) return checks->push_back(Bad(name, text.status().message(), "mend the file, or its permissions"));
  security::Secret phrase;
  if (!options.key_pass_path.empty()) {
    Result<security::Secret> read = security::ReadPassPhrase(options.key_pass_path, options.decrypter_path);
    if (!read.ok()) {
      const std::string pass = Setting(options, "key.pass.path");
      return checks->push_back(Bad(pass, read.status().message(), "mend the file, or its permissions"));
    }
    phrase = std::move(read).value();
  }
  const auto key = security::ParseKey(text->text(), phrase.text(), options.key_path);
  if (!key.ok()) {
    return checks->push_back(
        Bad(name, key.status().message(),
            "an encrypted key needs its pass phrase in " + Setting(options, "key.pass.path")));
  }
  if (!files.chain.empty() && X509_check_private_key(files.chain.front().get(), key->get()) != 1) {
    ERR_clear_error();
    return checks->push_back(Bad(name, options.key_path + ": the key does not belong to the certificate in " +
                                           options.cert_path,
                                 "name the pair that was issued together"));
  }
  checks->push_back(Good(name, options.key_path + ": fits the certificate, and nobody else may read it"));
}

// What the peer shows, taken without judging it; empty: it shows nothing.
std::string Shown(TlsContext& context, const TlsPeer& peer, TimePoint deadline) {
  Result<ProbeSocket> socket = ProbeSocket::Connect(peer.url, deadline);
  Result<security::SslPtr> ssl = context.NewClient({});
  if (!socket.ok() || !ssl.ok()) return "";
  SSL_set_verify(ssl->get(), SSL_VERIFY_NONE, nullptr);
  SSL_set_fd(ssl->get(), socket->fd());
  for (int done = 0; done != 1;) {
    ERR_clear_error();
    done = SSL_connect(ssl->get());
    if (done == 1) break;
    const int error = SSL_get_error(ssl->get(), done);
    const bool waits = error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE;
    if (!waits || !socket->WaitFor(error == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT, deadline)) break;
  }
  ERR_clear_error();
  const X509* certificate = SSL_get0_peer_certificate(ssl->get());
  if (certificate == nullptr) return "";
  const Result<security::Identity> identity = security::IdentityOf(certificate);
  char issuer[256];
  X509_NAME_oneline(X509_get_issuer_name(certificate), issuer, sizeof(issuer));
  return security::SubjectOf(certificate) + ", " +
         (identity.ok() ? "role " + std::string(security::RoleName(identity->role)) : identity.status().message()) +
         ", for " + security::HostsOf(certificate) + ", " + DatesOf(certificate) + ", issued by " +
         PrintableKey(issuer);
}

struct Spoken {
  Status status;
  security::Identity peer;
};

// The handshake, and the answer to the probe: a service judges this side's certificate when the handshake is over here.
Spoken Speak(TlsContext& context, const TlsPeer& peer, TimePoint deadline) {
  Result<ProbeSocket> socket = ProbeSocket::Connect(peer.url, deadline);
  if (!socket.ok()) return {socket.status(), {}};
  Result<std::unique_ptr<TlsSession>> made = TlsSession::Client(context, socket->fd(), peer.wanted);
  if (!made.ok()) return {made.status(), {}};
  TlsSession& session = **made;
  enum class Step { kHandshake, kWrite, kRead };
  std::array<std::byte, 512> answer;
  size_t sent = 0;
  for (Step step = Step::kHandshake;;) {
    const TlsSession::Outcome outcome =
        step == Step::kHandshake ? session.Handshake()
        : step == Step::kWrite   ? session.Write(std::as_bytes(std::span(peer.probe).subspan(sent)))
                                 : session.Read(answer);
    if (outcome.end) return {Status(Code::kConnectionLost, "it closed the connection after the handshake"), {}};
    if (!outcome.failure.ok()) return {outcome.failure, {}};
    if (outcome.want != TlsSession::Want::kNothing) {
      const short events = outcome.want == TlsSession::Want::kRead ? POLLIN : POLLOUT;
      if (socket->WaitFor(events, deadline)) continue;
      return {Status(Code::kDeadline, step == Step::kHandshake ? "it did not end the handshake in time"
                                                               : "it did not answer after the handshake in time"),
              {}};
    }
    if (step == Step::kRead) return {Status::Ok(), *session.peer()};
    if (step == Step::kWrite) sent += outcome.bytes;
    step = sent < peer.probe.size() ? Step::kWrite : Step::kRead;
  }
}

std::string RemedyFor(const Status& failure, const TlsPeer& peer) {
  if (TlsContext::RefusedByPeer(failure)) {
    return "the peer judges by its own ca.path, ca.crl.path and clock: look at those there, and at its log";
  }
  if (failure.code() == Code::kPermission) {
    return "give " + peer.name + " a certificate that fits, or mend ca.path and ca.crl.path here";
  }
  if (failure.code() == Code::kUnavailable) return "see whether that is the right port, and whether TLS is on there";
  return "see whether the service runs there, and its log";
}

void Append(std::vector<Check> more, std::vector<Check>* checks) {
  for (Check& check : more) checks->push_back(std::move(check));
}

// The addresses of "tcp://a:1,tcp://b:2".
std::vector<rpc::Url> UrlsOf(const std::string& list) {
  std::vector<rpc::Url> urls;
  for (size_t at = 0; at <= list.size();) {
    const size_t end = std::min(list.find(',', at), list.size());
    const Result<rpc::Url> url = rpc::ParseUrl(list.substr(at, end - at));
    if (url.ok() && url->scheme == "tcp") urls.push_back(*url);
    at = end + 1;
  }
  return urls;
}

std::vector<Check> CheckDataPorts(TlsContext& context, const ClientOptions& options, const PoolConnector& connect) {
  std::vector<Check> checks;
  Result<std::unique_ptr<Client>> client = connect(options);
  if (!client.ok()) return checks;  // the check of the meta service says why
  const Result<ClusterStatus> status = (*client)->Cluster();
  if (!status.ok()) return checks;
  if (status->nodes.empty())
    return {Bad("TLS with the local services", "none has joined", "start mmc_local_service, and ask again")};
  for (const NodeInfo& node : status->nodes) {
    for (const std::string& endpoint : node.endpoints) {
      if (endpoint.rfind("tcp ", 0) != 0 || checks.size() == kMaxDataPorts) continue;
      const Result<rpc::Url> url = rpc::ParseUrl("tcp://" + endpoint.substr(4));
      if (url.ok()) checks.push_back(CheckTlsPeer(context, DataPeer(node.name, *url), kPeerTimeout));
    }
  }
  return checks;
}

}  // namespace

std::vector<Check> CheckTlsFiles(const TlsOptions& options, std::shared_ptr<TlsContext>* context) {
  std::vector<Check> checks;
  Files files;
  CheckAuthorities(options, &files, &checks);
  CheckRevocations(options, files, &checks);
  CheckCertificate(options, &files, &checks);
  CheckKey(options, files, &checks);
  if (AnyFailed(checks)) return checks;
  Result<std::shared_ptr<TlsContext>> loaded = TlsContext::Load(options);
  Status status = loaded.ok() ? (*loaded)->CheckOwn() : loaded.status();
  if (!status.ok()) {
    checks.push_back(Bad("own certificate", options.cert_path + ": " + status.message(),
                         "name a certificate, an authority and a list that belong together"));
    return checks;
  }
  *context = std::move(loaded).value();
  return checks;
}

TlsPeer MetaPeer(const rpc::Url& url) {
  std::array<std::byte, rpc::kHeaderBytes> frame;
  rpc::EncodeHeader({.method = proto::kDirectory.id, .request_id = 1, .deadline_or_status = 5000}, frame);
  return {.name = "the meta service",
          .url = url,
          .wanted = {.host = url.host, .role = security::Role::kMeta, .node = {}},
          .probe = std::string(reinterpret_cast<const char*>(frame.data()), frame.size())};
}

TlsPeer DataPeer(const std::string& node, const rpc::Url& url) {
  const fabric::tcp::Hello hello;
  return {.name = "the local service " + node,
          .url = url,
          .wanted = {.host = url.host, .role = security::Role::kLocal, .node = {}},
          .probe = std::string(reinterpret_cast<const char*>(&hello), sizeof(hello))};
}

TlsPeer HttpPeer(const rpc::Url& url) {
  return {.name = "the meta service's HTTP side",
          .url = url,
          .wanted = {.host = url.host, .role = security::Role::kMeta, .node = {}},
          .probe = "GET /ready HTTP/1.1\r\nHost: " + url.host + "\r\nConnection: close\r\n\r\n"};
}

Check CheckTlsPeer(TlsContext& context, const TlsPeer& peer, std::chrono::milliseconds timeout) {
  const std::string name = "TLS with " + peer.name;
  const Spoken spoken = Speak(context, peer, Clock::Real().Now() + timeout);
  if (spoken.status.ok()) {
    return Good(name, peer.url.ToString() + " is " + spoken.peer.subject + " (role " +
                          std::string(security::RoleName(spoken.peer.role)) + "), and takes " +
                          context.own()->subject);
  }
  std::string saw = peer.url.ToString() + ": " + spoken.status.message();
  const std::string shown = Shown(context, peer, Clock::Real().Now() + timeout);
  if (!shown.empty()) saw += "; it shows " + shown;
  return Bad(name, saw, RemedyFor(spoken.status, peer));
}

std::vector<Check> CheckTls(const config::Values& values, const ClientOptions& options, const std::string& http,
                            const PoolConnector& connect) {
  std::vector<Check> checks;
  const TlsOptions control = security::TlsOptionsFrom(values, "ock.mmc.tls.");
  if (!control.enable) {
    checks.push_back(Bad("TLS", "ock.mmc.tls.enable is false: calls go in the clear",
                         "set it to true, with ca.path, ca.crl.path, cert.path and key.path"));
    return checks;
  }
  std::shared_ptr<TlsContext> context;
  Append(CheckTlsFiles(control, &context), &checks);
  if (context != nullptr) {
    for (const rpc::Url& url : UrlsOf(options.meta_url))
      checks.push_back(CheckTlsPeer(*context, MetaPeer(url), kPeerTimeout));
    const Result<rpc::Url> page = rpc::ParseUrl(http);
    if (page.ok()) checks.push_back(CheckTlsPeer(*context, HttpPeer(*page), kPeerTimeout));
  }
  const TlsOptions data = security::DataTlsOptionsFrom(values);
  if (!data.enable) {
    checks.push_back(Doubtful("TLS", "ock.mmc.local_service.hcom.tls.enable is false: values go over TCP in the clear",
                              "set it to true, unless the network between the hosts is trusted"));
    return checks;
  }
  std::shared_ptr<TlsContext> data_context;
  Append(CheckTlsFiles(data, &data_context), &checks);
  if (data_context != nullptr && context != nullptr) Append(CheckDataPorts(*data_context, options, connect), &checks);
  return checks;
}

}  // namespace mmc::cli
