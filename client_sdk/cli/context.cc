#include "client_sdk/cli/context.h"

#include <array>
#include <cstdlib>

#include "common/base/limits.h"
#include "common/config/local_conf.h"
#include "common/security/tls_options.h"

namespace mmc::cli {
namespace {

constexpr std::array kGlobalFlags = {
    Flag{"meta", "URL", "",
         "meta service: tcp://HOST:PORT[,...], or local://?dram=1GB for a pool in this process"},
    Flag{"config", "FILE", "", "conf file with ock.mmc.meta_service_url and ock.mmc.client.* keys"},
    Flag{"json", "", "", "print one JSON object instead of text"},
    Flag{"quiet", "", "", "print results only: no notes, no progress"},
    Flag{"timeout", "TIME", "60s", "deadline of each call: 250ms, 10s, 2m"},
    Flag{"tenant", "NAME", "", "whose keys; empty: those of the default tenant"},
    Flag{"replicas", "N", "1", "copies on distinct nodes, for commands that store"},
    Flag{"integrity", "MODE", "put",
         "off, put (store a checksum with each value), or verify (and check whole reads against "
         "it)"},
    Flag{"tls-ca", "FILE", "", "authorities that the meta service's certificate may come from; turns TLS on"},
    Flag{"tls-cert", "FILE", "", "own certificate, in place of the conf file's; turns TLS on"},
    Flag{"tls-key", "FILE", "", "its private key"},
    Flag{"tls-crl", "FILE", "", "revocation lists of the authorities"},
    Flag{"tls-key-pass", "FILE", "", "file with the pass phrase of the key"},
    Flag{"help", "", "", "print this", 'h'},
};

const char* Env(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr && *value != '\0' ? value : nullptr;
}

// Flags win over the conf file, each by itself; the first two turn TLS on.
void TakeTlsFlags(const Arguments& args, security::TlsOptions* tls) {
  const std::pair<const char*, std::string*> paths[] = {{"tls-ca", &tls->ca_path},
                                                        {"tls-cert", &tls->cert_path},
                                                        {"tls-key", &tls->key_path},
                                                        {"tls-crl", &tls->crl_path},
                                                        {"tls-key-pass", &tls->key_pass_path}};
  for (const auto& [flag, path] : paths) {
    if (args.Has(flag)) *path = args.Text(flag);
  }
  tls->enable |= args.Has("tls-ca") || args.Has("tls-cert");
  // A pass phrase of the conf file belongs to the key of the conf file.
  if (args.Has("tls-key") && !args.Has("tls-key-pass")) tls->key_pass_path.clear();
}

}  // namespace

std::span<const Flag> GlobalFlags() { return kGlobalFlags; }

void Context::Say(std::string_view line) const {
  if (!json() && !quiet()) out.Write(std::string(line) + "\n");
}

void Context::PrintJson(const boost::json::object& object) const {
  out.Write(boost::json::serialize(object) + "\n");
}

void Context::Warn(std::string_view line) const {
  if (!quiet()) err.Write("mmc " + std::string(command.name) + ": " + std::string(line) + "\n");
}

int Context::Fail(const Status& status) const {
  err.Write("mmc " + std::string(command.name) + ": " + status.ToString() + "\n");
  if (json())
    PrintJson({{"error", {{"code", CodeName(status.code())}, {"message", status.message()}}}});
  return ExitCodeOf(status);
}

std::string ConfPath(const Arguments& args) {
  if (args.Has("config")) return args.Text("config");
  const char* path = Env("MMC_LOCAL_CONFIG_PATH");
  return path == nullptr ? std::string() : path;
}

Result<ClientOptions> ClientOptionsFor(const Context& context) {
  ClientOptions options;
  options.name = "mmc-cli";
  const Arguments& args = context.args;
  bool conf_names_meta = false;
  if (const std::string path = ConfPath(args); !path.empty()) {
    MMC_ASSIGN_OR_RETURN(const config::Values values, config::LocalConf().Load(path, {}));
    const config::ClientSettings conf = config::ClientSettingsFrom(values);
    conf_names_meta = values.IsSet("ock.mmc.meta_service_url");
    options.meta_url = conf.meta_url;
    options.tenant = conf.tenant;
    options.timeout = conf.timeout;
    options.connect_retry = conf.connect_retry;
    options.location_cache = conf.location_cache;
    options.location_cache_keys = conf.location_cache_keys;
    options.same_host = conf.same_host;
    options.tcp_connections = conf.tcp_connections;
    options.tcp_congestion_control = conf.tcp_congestion_control;
    options.copy_threads = conf.copy_threads;
    options.async_threads = conf.async_threads;
    MMC_ASSIGN_OR_RETURN(options.integrity, IntegrityFrom(conf.integrity));
    options.tls = security::TlsOptionsFrom(values, "ock.mmc.tls.");
    options.data_tls = security::DataTlsOptionsFrom(values);
  }
  TakeTlsFlags(args, &options.tls);
  const bool conf_was_asked_for = args.Has("config") && conf_names_meta;
  if (const char* url = Env("MMC_META_URL"); url != nullptr && !conf_was_asked_for)
    options.meta_url = url;
  if (args.Has("meta")) options.meta_url = args.Text("meta");
  if (args.Has("tenant")) options.tenant = args.Text("tenant");
  if (args.Has("integrity")) {
    MMC_ASSIGN_OR_RETURN(options.integrity, IntegrityFrom(args.Text("integrity")));
  }
  if (args.Has("timeout") || ConfPath(args).empty()) {
    MMC_ASSIGN_OR_RETURN(options.timeout,
                         args.Time("timeout", std::chrono::milliseconds(1), std::chrono::hours(1)));
  }
  return options;
}

Result<PutOptions> PutOptionsFor(const Context& context) {
  PutOptions options;
  MMC_ASSIGN_OR_RETURN(const int64_t replicas, context.args.Int("replicas", 1, kMaxReplicas));
  options.replicas = static_cast<uint32_t>(replicas);
  return options;
}

Result<std::unique_ptr<Client>> ConnectFor(const Context& context) {
  MMC_ASSIGN_OR_RETURN(const ClientOptions options, ClientOptionsFor(context));
  return context.connect(options);
}

}  // namespace mmc::cli
