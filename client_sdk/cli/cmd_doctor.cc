// doctor.
#include "client_sdk/cli/commands.h"
#include "client_sdk/cli/doctor.h"
#include "client_sdk/cli/doctor_tls.h"
#include "common/base/bytes.h"

namespace mmc::cli {
namespace {

int RunDoctor(Context& context) {
  std::optional<config::Values> values;
  bool http_is_checked = false;
  std::vector<Check> checks = CheckConf(ConfPath(context.args), &values);
  const auto add = [&checks](std::vector<Check> more) {
    for (Check& check : more) checks.push_back(std::move(check));
  };
  const uint64_t dram = values ? values->GetBytes("ock.mmc.local_service.dram.size") : 128_MiB;
  add(CheckMachine(Machine::ThisOne(), dram));
  checks.push_back(CheckClock());
  if (values) {
    add(CheckLocalService(*values));
    const Result<ClientOptions> options = ClientOptionsFor(context);
    if (!options.ok()) return context.Fail(options.status());
    const bool https = context.args.Has("http") && context.args.Text("http").rfind("https://", 0) == 0;
    if (context.args.Has("tls"))
      add(CheckTls(*values, *options, https ? context.args.Text("http") : "", context.connect));
    add(CheckPool(*options, context.connect));
    if (https) http_is_checked = context.args.Has("tls");
  }
  if (context.args.Has("http") && !http_is_checked) {
    const Result<std::chrono::milliseconds> timeout =
        context.args.Time("timeout", std::chrono::milliseconds(1), std::chrono::hours(1));
    if (!timeout.ok()) return context.Fail(timeout.status());
    checks.push_back(
        CheckReady(context.args.Text("http"), std::min(*timeout, std::chrono::milliseconds(5000))));
  }
  if (context.json()) {
    context.PrintJson(DoctorJson(checks));
  } else {
    context.out.Write(DoctorText(checks));
  }
  return AnyFailed(checks) ? kExitFailed : kExitOk;
}

}  // namespace

Command DoctorCommand() {
  return {
      .name = "doctor",
      .summary = "check this machine, the conf file and the way to the pool, and say what to do",
      .details =
          "Each line starts with ok, warn or fail; a line with -> says what to do. Exits 1 when "
          "something failed.",
      .max_operands = 0,
      .flags = {{"tls", "", "",
                 "also look at each TLS file, and try a handshake with the meta service, the data ports and an "
                 "https:// page"},
                {"http", "URL", "",
                 "also ask /ready of the meta service's HTTP side, as http://127.0.0.1:8000; https:// with --tls"}},
      .run = RunDoctor};
}

}  // namespace mmc::cli
