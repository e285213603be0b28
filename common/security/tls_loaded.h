// Private to common/security: one set of files as OpenSSL has it, and what is known about one connection.
//
// Thread safety: Loaded is const; TlsState belongs to its connection. Ownership: an SSL owns its state.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/base/mutex.h"
#include "common/security/certificate.h"
#include "common/security/tls_context.h"

namespace mmc::security {

struct TlsContext::Loaded {
  TlsOptions options;
  OpenSslPtr<SSL_CTX> server;
  OpenSslPtr<SSL_CTX> client;
  std::shared_ptr<const Identity> own;
  std::vector<TlsFile> files;  // the own certificate first
};

struct TlsContext::Current {
  std::shared_ptr<const Loaded> Get() const {
    MutexLock lock(mutex);
    return loaded;
  }
  void Set(std::shared_ptr<const Loaded> fresh) {
    MutexLock lock(mutex);
    loaded = std::move(fresh);
    number.fetch_add(1, std::memory_order_release);
  }
  mutable Mutex mutex;
  std::shared_ptr<const Loaded> loaded MMC_GUARDED_BY(mutex);
  std::atomic<uint64_t> number{0};  // of times that it was set
};

// Hangs on each SSL that NewServer and NewClient make.
struct TlsState {
  std::shared_ptr<const TlsContext::Loaded> loaded;
  PeerWanted wanted;
  bool server = false;
  uint64_t key_updates = 0;
  std::string refusal;  // why this side refused the peer's certificate
  std::shared_ptr<TlsContext::Current> current;
  uint64_t judged = 0;  // the number of `current` by which the peer was looked at last
  bool revoked = false;
};

// Null for an SSL of others.
TlsState* StateOf(const SSL* ssl);
bool AttachState(SSL* ssl, std::unique_ptr<TlsState> state);

// SSL_CTX_set_verify's callback: adds what OpenSSL does not know of to the judgement, and notes refusals in words.
int VerifyPeer(int ok, X509_STORE_CTX* store);
// Why OpenSSL does not take `certificate`.
std::string VerifyWords(int error, const X509* certificate, const TlsContext::Loaded& loaded,
                        const PeerWanted& wanted);

}  // namespace mmc::security
