#include "tests/contract/certificates.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/wait.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>

extern char** environ;

namespace mmc::fabric::contract {

Certificates::Certificates(const std::vector<std::string>& options) {
  std::string name = "/tmp/mmc-certificates-XXXXXX";
  if (mkdtemp(name.data()) == nullptr) return;
  path_ = name;
  Run(options);
}

Certificates::~Certificates() {
  std::error_code ignored;
  if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
}

Certificates& Certificates::Shared() {
  static Certificates shared({"--node", "node-a"});
  return shared;
}

void Certificates::Run(std::vector<std::string> arguments) const {
  arguments.insert(arguments.begin(), MMC_MAKE_CERTS);
  arguments.push_back(path_);
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 2, (path_ + ".log").c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  pid_t pid = -1;
  const int failed = posix_spawn(&pid, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  ASSERT_EQ(failed, 0) << argv[0];
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  EXPECT_EQ(status, 0) << "make_certs says why in " << path_ << ".log";
  if (status == 0) std::filesystem::remove(path_ + ".log");
}

void Certificates::Issue(const std::string& name, const std::string& role, const std::vector<std::string>& options) {
  std::vector<std::string> arguments{"--issue", name, "--role", role};
  arguments.insert(arguments.end(), options.begin(), options.end());
  Run(std::move(arguments));
}

void Certificates::Revoke(const std::string& name) { Run({"--revoke", name}); }

security::TlsOptions Certificates::OptionsOf(const std::string& name) const {
  security::TlsOptions options;
  options.enable = true;
  options.ca_path = Authority();
  options.crl_path = path_ + "/ca.crl.pem";
  options.cert_path = CertOf(name);
  options.key_path = KeyOf(name);
  return options;
}

std::shared_ptr<security::TlsContext> Certificates::ContextOf(const std::string& name) const {
  auto context = security::TlsContext::Load(OptionsOf(name));
  EXPECT_TRUE(context.ok()) << context.status().ToString();
  return context.value_or(nullptr);
}

}  // namespace mmc::fabric::contract
