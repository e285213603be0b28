// Pools inside the process. "local://?dram=1GB" runs a meta service, a local service and a client
// here, over in-process calls and shared memory: no ports, nothing to set up. A ContributingClient
// uses a pool elsewhere and lends it memory of this process.
//
// Link mmc_embedded, and Client::Connect serves "local://" urls. The parts that run here log
// nothing and touch no signals. Thread safety: functions from any thread; ContributingClient:
// Connect and Close from one thread, client() from any. Ownership: the client owns the services of
// its pool; Close() ends them, and what the pool held is gone.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "client_sdk/include/mmc/client.h"
#include "local_service/options.h"

namespace mmc {

// What "local://?name=value&..." can say.
struct EmbeddedOptions {
  uint64_t dram_bytes = 1ull << 30;  // dram=1GB; rounded up to 2 MiB
  std::string name;                  // name=...: of the node; unique by itself when not given
  std::string transport = "shm";     // transport=loopback: no unix socket, no views
  bool prefault = false;             // prefault=1: take all memory now
};

// Errors: kInvalidArgument naming the parameter and those that are known.
Result<EmbeddedOptions> ParseEmbeddedUrl(std::string_view url);

// options.meta_url is the "local://" url. Errors: kInvalidArgument (url), kIo (memory, socket
// directory).
Result<std::unique_ptr<Client>> ConnectEmbedded(const ClientOptions& options);

// A client of a pool elsewhere whose process also lends memory to that pool.
class ContributingClient {
 public:
  // `lend` says what; its meta_url and join_timeout are taken from `options`.
  // Errors: those of Client::Connect and of starting a local service.
  static Result<std::unique_ptr<ContributingClient>> Connect(const ClientOptions& options,
                                                             local::LocalOptions lend);
  ~ContributingClient();

  Client& client();
  const std::string& node_name() const;
  // Leaves the pool: what was stored here is gone for all. Idempotent.
  void Close();

 private:
  ContributingClient();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace mmc
