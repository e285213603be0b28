// What `mmc doctor` looks at: the machine, the conf file, the pool. Each check says what it saw and
// what to do.
//
// Thread safety: none. Ownership: values. A Machine is a root folder, so that tests can show it
// another machine.
#pragma once

#include <boost/json.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "client_sdk/include/mmc/client.h"
#include "common/base/status.h"
#include "common/config/schema.h"

namespace mmc::cli {

enum class Verdict : uint8_t { kOk, kWarn, kFail };

struct Check {
  std::string name;
  Verdict verdict = Verdict::kOk;
  std::string saw;
  std::string remedy;  // empty when there is nothing to do
};

struct Limits {
  uint64_t locked_bytes = 0;  // UINT64_MAX: unlimited
  uint64_t open_files = 0;
};

struct Machine {
  std::string root = "/";  // of /proc, /sys
  uint64_t shm_free_bytes = 0;
  uint64_t shm_total_bytes = 0;
  unsigned processors = 1;
  Limits limits;

  static Machine ThisOne();
  // The file's text without the white space at its end; nullopt when it cannot be read.
  std::optional<std::string> Read(const std::string& path) const;
  bool IsFolder(const std::string& path) const;
};

// `dram_bytes`: what a local service here would give to the pool.
std::vector<Check> CheckMachine(const Machine& machine, uint64_t dram_bytes);
Check CheckClock();

// Loads the file with the schema of local services and clients; `values` is set when that went
// well.
std::vector<Check> CheckConf(const std::string& path, std::optional<config::Values>* values);
// The port of the data endpoint and the folder of the unix socket that `values` name.
std::vector<Check> CheckLocalService(const config::Values& values);

using PoolConnector = std::function<Result<std::unique_ptr<Client>>(const ClientOptions&)>;
std::vector<Check> CheckPool(const ClientOptions& options, const PoolConnector& connect);
// GET `url` + "/ready" of a meta service's HTTP side ("http://127.0.0.1:8000").
Check CheckReady(const std::string& url, std::chrono::milliseconds timeout);

bool AnyFailed(const std::vector<Check>& checks);
std::string VerdictName(Verdict verdict);  // "ok", "warn", "fail"
boost::json::object DoctorJson(const std::vector<Check>& checks);
std::string DoctorText(const std::vector<Check>& checks);

}  // namespace mmc::cli
