// Certificates for tests, made by scripts/make_certs in a folder of the test's own.
//
// Thread safety: each object by one thread. Ownership: a folder goes with its object.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "common/security/tls_context.h"

namespace mmc::fabric::contract {

class Certificates {
 public:
  // An authority of its own; `options` as make_certs takes them, e.g. {"--node", "node-a"}.
  explicit Certificates(const std::vector<std::string>& options = {});
  ~Certificates();
  Certificates(const Certificates&) = delete;
  Certificates& operator=(const Certificates&) = delete;

  // The folder of the whole process: node-a is the name in local.cert.pem.
  static Certificates& Shared();

  const std::string& path() const { return path_; }
  std::string CertOf(const std::string& name) const { return path_ + "/" + name + ".cert.pem"; }
  std::string KeyOf(const std::string& name) const { return path_ + "/" + name + ".key.pem"; }
  std::string Authority() const { return path_ + "/ca.cert.pem"; }
  // One more pair, or a revocation.
  void Issue(const std::string& name, const std::string& role, const std::vector<std::string>& options = {});
  void Revoke(const std::string& name);

  security::TlsOptions OptionsOf(const std::string& name) const;
  // Null when they cannot be loaded; a test failure then.
  std::shared_ptr<security::TlsContext> ContextOf(const std::string& name) const;

 private:
  void Run(std::vector<std::string> arguments) const;
  std::string path_;
};

}  // namespace mmc::fabric::contract
