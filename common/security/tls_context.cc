#include "common/security/tls_context.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>

#include <algorithm>
#include <ctime>

#include "common/security/secret_file.h"
#include "common/security/tls_loaded.h"

namespace mmc::security {
namespace {

constexpr std::chrono::milliseconds kLookEvery{500};
constexpr long kMaxChainBytes = 64 * 1024;

Status Refuse(const std::string& what, const std::string& why) { return Status(Code::kConfig, what + ": " + why); }

struct Material {
  std::vector<OpenSslPtr<X509>> authorities;
  std::vector<OpenSslPtr<X509_CRL>> revoked;
  std::vector<OpenSslPtr<X509>> chain;  // the own certificate first
  OpenSslPtr<EVP_PKEY> key;
};

Status Needed(const TlsOptions& options, const std::string& path, const char* name) {
  if (!path.empty()) return Status::Ok();
  return Refuse(options.prefix + name, "is empty, and TLS is on");
}

Result<Material> ReadMaterial(const TlsOptions& options) {
  MMC_RETURN_IF_ERROR(Needed(options, options.ca_path, "ca.path"));
  MMC_RETURN_IF_ERROR(Needed(options, options.cert_path, "cert.path"));
  MMC_RETURN_IF_ERROR(Needed(options, options.key_path, "key.path"));
  Material out;
  MMC_ASSIGN_OR_RETURN(const std::string authorities, ReadPublicFile(options.ca_path));
  MMC_ASSIGN_OR_RETURN(out.authorities, ParseCertificates(authorities, options.ca_path));
  if (!options.crl_path.empty()) {
    MMC_ASSIGN_OR_RETURN(const std::string lists, ReadPublicFile(options.crl_path));
    MMC_ASSIGN_OR_RETURN(out.revoked, ParseRevocationLists(lists, options.crl_path));
  }
  MMC_ASSIGN_OR_RETURN(const std::string chain, ReadPublicFile(options.cert_path));
  MMC_ASSIGN_OR_RETURN(out.chain, ParseCertificates(chain, options.cert_path));
  MMC_ASSIGN_OR_RETURN(const Secret key, ReadSecretFile(options.key_path));
  Secret pass_phrase;
  if (!options.key_pass_path.empty()) {
    MMC_ASSIGN_OR_RETURN(pass_phrase, ReadPassPhrase(options.key_pass_path, options.decrypter_path));
  }
  MMC_ASSIGN_OR_RETURN(out.key, ParseKey(key.text(), pass_phrase.text(), options.key_path));
  return out;
}

TlsFile Dated(const char* kind, const std::string& path, const X509* certificate) {
  return {kind, path, SubjectOf(certificate), UnixTime(X509_get0_notBefore(certificate)),
          UnixTime(X509_get0_notAfter(certificate))};
}

Status CheckDates(const TlsFile& file) {
  const std::time_t now = std::time(nullptr);
  if (now < file.not_before) {
    return Refuse(file.path, "the certificate (" + file.subject + ") is valid from " + DateText(file.not_before) +
                                 ", and it is " + DateText(now) + " now");
  }
  if (now > file.not_after) {
    return Refuse(file.path, "the certificate (" + file.subject + ") ended on " + DateText(file.not_after) +
                                 "; replace it");
  }
  return Status::Ok();
}

Status AddTrust(const Material& material, const TlsOptions& options, SSL_CTX* context) {
  X509_STORE* store = SSL_CTX_get_cert_store(context);
  for (const auto& authority : material.authorities) {
    if (X509_STORE_add_cert(store, authority.get()) != 1) return Refuse(options.ca_path, TakeOpenSslError());
  }
  for (const auto& list : material.revoked) {
    if (X509_STORE_add_crl(store, list.get()) != 1) return Refuse(options.crl_path, TakeOpenSslError());
  }
  // VerifyPeer lets authorities pass that no list is there for; the certificate of the peer itself needs one.
  if (!material.revoked.empty()) X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
  return Status::Ok();
}

Result<OpenSslPtr<SSL_CTX>> MakeContext(const Material& material, const TlsOptions& options, bool server) {
  ERR_clear_error();
  OpenSslPtr<SSL_CTX> context(SSL_CTX_new(server ? TLS_server_method() : TLS_client_method()));
  if (!context) return Status(Code::kInternal, "OpenSSL: " + TakeOpenSslError());
  SSL_CTX* const raw = context.get();
  SSL_CTX_set_min_proto_version(raw, TLS1_3_VERSION);
  SSL_CTX_set_max_proto_version(raw, TLS1_3_VERSION);
  SSL_CTX_set_options(raw, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                               SSL_OP_IGNORE_UNEXPECTED_EOF);
  SSL_CTX_set_num_tickets(raw, 0);
  SSL_CTX_set_session_cache_mode(raw, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_mode(raw,
                   SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_read_ahead(raw, 1);
  SSL_CTX_set_max_cert_list(raw, kMaxChainBytes);
  MMC_RETURN_IF_ERROR(AddTrust(material, options, raw));
  if (SSL_CTX_use_certificate(raw, material.chain.front().get()) != 1) {
    return Refuse(options.cert_path, TakeOpenSslError());
  }
  for (size_t i = 1; i < material.chain.size(); ++i) {
    if (SSL_CTX_add1_chain_cert(raw, material.chain[i].get()) != 1) {
      return Refuse(options.cert_path, TakeOpenSslError());
    }
  }
  if (SSL_CTX_use_PrivateKey(raw, material.key.get()) != 1 || SSL_CTX_check_private_key(raw) != 1) {
    ERR_clear_error();
    return Refuse(options.key_path, "the key does not belong to the certificate in " + options.cert_path);
  }
  return context;
}

// Counts what makes this side compute and carries nothing.
void CountMessages(int sent, int /*version*/, int type, const void* bytes, size_t length, SSL* /*ssl*/, void* state) {
  if (sent != 0 || type != SSL3_RT_HANDSHAKE || length == 0) return;
  if (*static_cast<const unsigned char*>(bytes) == SSL3_MT_KEY_UPDATE) ++static_cast<TlsState*>(state)->key_updates;
}

// Passes over all that can be wrong with a certificate but one thing.
int OnlyRevoked(int ok, X509_STORE_CTX* store) {
  return ok != 0 || X509_STORE_CTX_get_error(store) != X509_V_ERR_CERT_REVOKED ? 1 : 0;
}

struct StoreFree {
  void operator()(X509_STORE_CTX* p) const { X509_STORE_CTX_free(p); }
};

bool IsRevoked(const TlsContext::Loaded& loaded, X509* certificate, STACK_OF(X509)* chain) {
  const std::unique_ptr<X509_STORE_CTX, StoreFree> check(X509_STORE_CTX_new());
  X509_STORE* const store = SSL_CTX_get_cert_store(loaded.server.get());
  // Without memory for the question there is no answer: that is no reason to let the peer go on.
  if (!check || X509_STORE_CTX_init(check.get(), store, certificate, chain) != 1) return true;
  X509_STORE_CTX_set_verify_cb(check.get(), &OnlyRevoked);
  const bool revoked = X509_verify_cert(check.get()) != 1 &&
                       X509_STORE_CTX_get_error(check.get()) == X509_V_ERR_CERT_REVOKED;
  ERR_clear_error();
  return revoked;
}

Result<SslPtr> NewSsl(SSL_CTX* context, std::unique_ptr<TlsState> state) {
  ERR_clear_error();
  SslPtr ssl(SSL_new(context));
  TlsState* const raw = state.get();
  if (!ssl || !AttachState(ssl.get(), std::move(state))) {
    return Status(Code::kInternal, "OpenSSL: " + TakeOpenSslError());
  }
  SSL_set_msg_callback(ssl.get(), &CountMessages);
  SSL_set_msg_callback_arg(ssl.get(), raw);
  return ssl;
}

bool IsAddress(const std::string& host) {
  unsigned char bytes[16];
  return ::inet_pton(AF_INET, host.c_str(), bytes) == 1 || ::inet_pton(AF_INET6, host.c_str(), bytes) == 1;
}

Status DemandHost(SSL* ssl, const std::string& host) {
  if (host.empty()) return Status::Ok();
  X509_VERIFY_PARAM* const param = SSL_get0_param(ssl);
  X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
  const bool set = IsAddress(host) ? X509_VERIFY_PARAM_set1_ip_asc(param, host.c_str()) == 1
                                   : X509_VERIFY_PARAM_set1_host(param, host.c_str(), host.size()) == 1 &&
                                         SSL_set_tlsext_host_name(ssl, host.c_str()) == 1;
  if (set) return Status::Ok();
  ERR_clear_error();
  return Status(Code::kInvalidArgument, "'" + host.substr(0, 255) + "' cannot be the name of a host");
}

void DeleteState(void* /*parent*/, void* state, CRYPTO_EX_DATA* /*data*/, int /*index*/, long /*argl*/,
                 void* /*argp*/) {
  delete static_cast<TlsState*>(state);
}

int StateIndex() {
  static const int index = SSL_get_ex_new_index(0, nullptr, nullptr, nullptr, &DeleteState);
  return index;
}

Result<std::shared_ptr<const TlsContext::Loaded>> LoadFiles(const TlsOptions& options) {
  MMC_ASSIGN_OR_RETURN(const Material material, ReadMaterial(options));
  auto out = std::make_shared<TlsContext::Loaded>();
  out->options = options;
  out->files.push_back(Dated("certificate", options.cert_path, material.chain.front().get()));
  MMC_RETURN_IF_ERROR(CheckDates(out->files.front()));
  for (const auto& authority : material.authorities) {
    out->files.push_back(Dated("authority", options.ca_path, authority.get()));
  }
  for (const auto& list : material.revoked) {
    const int64_t next = UnixTime(X509_CRL_get0_nextUpdate(list.get()));
    out->files.push_back({"revocation list", options.crl_path, out->files.back().subject,
                          UnixTime(X509_CRL_get0_lastUpdate(list.get())), next});
  }
  Result<Identity> own = IdentityOf(material.chain.front().get());
  if (!own.ok()) return Refuse(options.cert_path, "the certificate cannot be used: " + own.status().message());
  out->own = std::make_shared<const Identity>(std::move(own).value());
  MMC_ASSIGN_OR_RETURN(out->server, MakeContext(material, options, true));
  MMC_ASSIGN_OR_RETURN(out->client, MakeContext(material, options, false));
  return std::shared_ptr<const TlsContext::Loaded>(std::move(out));
}

}  // namespace

void SslFree::operator()(ssl_st* ssl) const { SSL_free(ssl); }

TlsState* StateOf(const SSL* ssl) { return static_cast<TlsState*>(SSL_get_ex_data(ssl, StateIndex())); }

bool AttachState(SSL* ssl, std::unique_ptr<TlsState> state) {
  if (SSL_set_ex_data(ssl, StateIndex(), state.get()) != 1) return false;
  (void)state.release();  // the SSL's now
  return true;
}

Result<std::shared_ptr<TlsContext>> TlsContext::Load(const TlsOptions& options) {
  std::shared_ptr<TlsContext> out(new TlsContext(options));
  MMC_RETURN_IF_ERROR(out->Reload());
  return out;
}

Result<std::shared_ptr<TlsContext>> TlsContext::LoadFor(const TlsOptions& options, const std::vector<Role>& roles) {
  if (!options.enable) return std::shared_ptr<TlsContext>();
  MMC_ASSIGN_OR_RETURN(std::shared_ptr<TlsContext> out, Load(options));
  const Role own = out->own()->role;
  if (roles.empty() || std::find(roles.begin(), roles.end(), own) != roles.end()) return out;
  std::string wanted;
  for (const Role role : roles) wanted += (wanted.empty() ? "" : " or ") + std::string(RoleName(role));
  return Refuse(options.cert_path,
                "the certificate's role is " + std::string(RoleName(own)) + ", and " + wanted + " is needed here");
}

TlsContext::TlsContext(TlsOptions options) : options_(std::move(options)), current_(std::make_shared<Current>()) {}

TlsContext::~TlsContext() = default;

std::shared_ptr<const TlsContext::Loaded> TlsContext::loaded() const { return current_->Get(); }

bool TlsContext::PeerRevoked(ssl_st* ssl) {
  TlsState* const state = StateOf(ssl);
  if (state == nullptr) return false;
  const uint64_t number = state->current->number.load(std::memory_order_acquire);
  if (number == state->judged) return state->revoked;
  state->judged = number;
  X509* const certificate = SSL_get0_peer_certificate(ssl);
  state->revoked = state->revoked || (certificate != nullptr && IsRevoked(*state->current->Get(), certificate,
                                                                          SSL_get_peer_cert_chain(ssl)));
  return state->revoked;
}

std::string TlsContext::Fingerprint() const {
  std::string out;
  for (const std::string* path : {&options_.ca_path, &options_.crl_path, &options_.cert_path, &options_.key_path,
                                  &options_.key_pass_path, &options_.decrypter_path}) {
    struct stat info {};
    if (path->empty() || ::stat(path->c_str(), &info) != 0) {
      out += "-;";
      continue;
    }
    for (const int64_t part : {static_cast<int64_t>(info.st_dev), static_cast<int64_t>(info.st_ino),
                               static_cast<int64_t>(info.st_size), static_cast<int64_t>(info.st_mtim.tv_sec),
                               static_cast<int64_t>(info.st_mtim.tv_nsec), static_cast<int64_t>(info.st_ctim.tv_sec),
                               static_cast<int64_t>(info.st_ctim.tv_nsec)}) {
      out += std::to_string(part) + ",";
    }
  }
  return out;
}

Status TlsContext::Reload() {
  // Taken before the files are read: a change while they are read is seen by the next look.
  std::string fingerprint = Fingerprint();
  auto fresh = LoadFiles(options_);
  MutexLock lock(mutex_);
  fingerprint_ = std::move(fingerprint);
  looked_at_ = std::chrono::steady_clock::now();
  if (!fresh.ok()) return fresh.status();
  current_->Set(std::move(fresh).value());
  return Status::Ok();
}

Status TlsContext::ReloadIfChanged(bool* reloaded) {
  if (reloaded != nullptr) *reloaded = false;
  {
    MutexLock lock(mutex_);
    const TimePoint now = std::chrono::steady_clock::now();
    if (now - looked_at_ < kLookEvery) return Status::Ok();
    looked_at_ = now;
  }
  const std::string fingerprint = Fingerprint();
  {
    MutexLock lock(mutex_);
    if (fingerprint == fingerprint_) return Status::Ok();
  }
  MMC_RETURN_IF_ERROR(Reload());
  if (reloaded != nullptr) *reloaded = true;
  return Status::Ok();
}

Result<SslPtr> TlsContext::NewServer(ClientCertificate client) {
  auto state = std::make_unique<TlsState>();
  state->current = current_;
  state->judged = current_->number.load(std::memory_order_acquire);  // before: what comes after it is looked at again
  state->loaded = loaded();
  state->server = true;
  SSL_CTX* const context = state->loaded->server.get();
  MMC_ASSIGN_OR_RETURN(SslPtr ssl, NewSsl(context, std::move(state)));
  const int needed = client == ClientCertificate::kRequired ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0;
  SSL_set_verify(ssl.get(), SSL_VERIFY_PEER | needed, &VerifyPeer);
  SSL_set_accept_state(ssl.get());
  return ssl;
}

Result<SslPtr> TlsContext::NewClient(const PeerWanted& wanted) {
  // Files that are half replaced: the ones that are loaded serve on.
  (void)ReloadIfChanged();
  auto state = std::make_unique<TlsState>();
  state->current = current_;
  state->judged = current_->number.load(std::memory_order_acquire);  // before: what comes after it is looked at again
  state->loaded = loaded();
  state->wanted = wanted;
  SSL_CTX* const context = state->loaded->client.get();
  MMC_ASSIGN_OR_RETURN(SslPtr ssl, NewSsl(context, std::move(state)));
  MMC_RETURN_IF_ERROR(DemandHost(ssl.get(), wanted.host));
  SSL_set_verify(ssl.get(), SSL_VERIFY_PEER, &VerifyPeer);
  SSL_set_connect_state(ssl.get());
  return ssl;
}

std::shared_ptr<const Identity> TlsContext::own() const { return loaded()->own; }

std::vector<TlsFile> TlsContext::Files() const { return loaded()->files; }

std::vector<std::string> TlsContext::EndingWithin(std::chrono::hours time) const {
  const std::time_t now = std::time(nullptr);
  std::vector<std::string> out;
  for (const TlsFile& file : loaded()->files) {
    const int64_t left = file.not_after - now;
    if (left > std::chrono::seconds(time).count()) continue;
    out.push_back(file.path + ": the " + file.kind + " (" + file.subject + ") " + (left < 0 ? "ended" : "ends") +
                  " on " + DateText(file.not_after) +
                  (left < 0 ? std::string() : ", in " + std::to_string(left / 86'400) + " days") + "; replace it");
  }
  return out;
}

Status TlsContext::CheckOwn() const {
  const std::shared_ptr<const Loaded> now = loaded();
  SSL_CTX* const context = now->server.get();
  X509* const own = SSL_CTX_get0_certificate(context);
  STACK_OF(X509)* chain = nullptr;
  SSL_CTX_get0_chain_certs(context, &chain);
  const std::unique_ptr<X509_STORE_CTX, StoreFree> check(X509_STORE_CTX_new());
  if (!check || X509_STORE_CTX_init(check.get(), SSL_CTX_get_cert_store(context), own, chain) != 1) {
    return Status(Code::kInternal, "OpenSSL: " + TakeOpenSslError());
  }
  if (X509_verify_cert(check.get()) == 1) return Status::Ok();
  const int error = X509_STORE_CTX_get_error(check.get());
  ERR_clear_error();
  if (error == X509_V_ERR_UNABLE_TO_GET_CRL && X509_STORE_CTX_get_error_depth(check.get()) > 0) return Status::Ok();
  return Status(Code::kPermission, options_.cert_path + ": peers will refuse this certificate: " +
                                       VerifyWords(error, X509_STORE_CTX_get_current_cert(check.get()), *now, {}));
}

}  // namespace mmc::security
