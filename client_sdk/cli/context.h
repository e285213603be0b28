// What every command gets: its arguments, where to write, how to reach the pool, and how to say
// that something failed.
//
// Thread safety: none; a command runs on one thread (bench and replay start their own workers).
// Ownership: borrows all of it from main() or a test.
#pragma once

#include <boost/json.hpp>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "client_sdk/cli/args.h"
#include "client_sdk/cli/exit_codes.h"
#include "client_sdk/cli/output.h"
#include "client_sdk/include/mmc/client.h"

namespace mmc::cli {

using Connector = std::function<Result<std::unique_ptr<Client>>(const ClientOptions&)>;

struct Context {
  const Command& command;
  const Arguments& args;
  Output& out;
  Output& err;
  Connector connect;

  bool json() const { return args.Switch("json"); }
  bool quiet() const { return args.Switch("quiet"); }

  // A line for people: not with --json, not with --quiet.
  void Say(std::string_view line) const;
  void PrintJson(const boost::json::object& object) const;
  void Warn(std::string_view line) const;
  // Prints "mmc put: ..." on stderr, and {"error": {...}} on stdout with --json; answers the exit
  // code.
  int Fail(const Status& status) const;
};

// The flags that every command takes.
std::span<const Flag> GlobalFlags();

// The pool to talk to, by the first that names one: --meta, --config, MMC_META_URL,
// MMC_LOCAL_CONFIG_PATH, the default. The other client settings come from the conf file, where one
// is named; --timeout wins over it. Errors: kInvalidArgument, kConfig.
Result<ClientOptions> ClientOptionsFor(const Context& context);
// The conf file that is in force, or empty.
std::string ConfPath(const Arguments& args);
// --replicas. Errors: kInvalidArgument.
Result<PutOptions> PutOptionsFor(const Context& context);

Result<std::unique_ptr<Client>> ConnectFor(const Context& context);

}  // namespace mmc::cli
