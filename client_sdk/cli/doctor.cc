// The conf file, the ports, the pool; and how the checks are shown.
#include "client_sdk/cli/doctor.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "client_sdk/cli/probe_socket.h"
#include "client_sdk/cli/text.h"
#include "common/base/clock.h"
#include "common/config/local_conf.h"
#include "common/rpc/url.h"

namespace mmc::cli {
namespace {

constexpr size_t kMaxWarnings = 20;

struct CloseFd {
  int fd = -1;
  ~CloseFd() {
    if (fd >= 0) close(fd);
  }
};

// The first 4 KiB at most of what the server answers to `request`.
Result<std::string> Exchange(const rpc::Url& url, const std::string& request, TimePoint deadline) {
  MMC_ASSIGN_OR_RETURN(const ProbeSocket probe, ProbeSocket::Connect(url, deadline));
  // A request of a few dozen bytes fits the empty send buffer of a new connection.
  if (send(probe.fd(), request.data(), request.size(), MSG_NOSIGNAL) !=
      static_cast<ssize_t>(request.size())) {
    return ErrnoStatus("send to " + url.ToString(), errno);
  }
  std::string answer;
  while (answer.size() < 4096 && answer.find("\r\n") == std::string::npos) {
    if (!probe.WaitFor(POLLIN, deadline))
      return Status(Code::kDeadline, url.ToString() + " did not answer");
    char chunk[1024];
    const ssize_t got = recv(probe.fd(), chunk, sizeof(chunk), 0);
    if (got == 0) break;
    if (got < 0) return ErrnoStatus("receive from " + url.ToString(), errno);
    answer.append(chunk, static_cast<size_t>(got));
  }
  return answer;
}

Check DataPort(const std::string& text) {
  Check check{.name = "data port", .saw = text};
  const Result<rpc::Url> url = rpc::ParseUrl(text);
  if (!url.ok()) {
    check.verdict = Verdict::kFail;
    check.remedy = url.status().message();
    return check;
  }
  const auto addresses = Resolve(*url);
  if (!addresses.ok()) {
    check.verdict = Verdict::kFail;
    check.saw = addresses.status().message();
    check.remedy = "name an address of this machine in ock.mmc.local_service.hcom_url";
    return check;
  }
  const CloseFd probe{socket((*addresses)->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  const int on = 1;
  setsockopt(probe.fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  if (bind(probe.fd, (*addresses)->ai_addr, (*addresses)->ai_addrlen) == 0) {
    check.saw += " is free";
    return check;
  }
  check.saw += ": " + std::string(std::strerror(errno));
  if (errno == EADDRINUSE) {
    check.remedy =
        "fine when a local service runs here; else choose another port in "
        "ock.mmc.local_service.hcom_url";
    return check;
  }
  check.verdict = Verdict::kFail;
  check.remedy = "name an address of this machine in ock.mmc.local_service.hcom_url";
  return check;
}

Check SocketFolder(const std::string& folder) {
  Check check{.name = "shared memory folder", .saw = folder};
  if (access(folder.c_str(), F_OK) != 0) {
    check.saw += " is not there yet";
    return check;
  }
  if (access(folder.c_str(), R_OK | X_OK) == 0) {
    check.saw += access(folder.c_str(), W_OK) == 0 ? " can be read and written" : " can be read";
    return check;
  }
  check.verdict = Verdict::kFail;
  check.saw += ": " + std::string(std::strerror(errno));
  check.remedy =
      "let this user enter it, or take another one in ock.mmc.local_service.shm.directory";
  return check;
}

// Sockets of nodes of this host: their paths are there.
void CheckSockets(const ClusterStatus& status, std::vector<Check>* checks) {
  for (const NodeInfo& node : status.nodes) {
    for (const std::string& endpoint : node.endpoints) {
      if (endpoint.rfind("shm ", 0) != 0) continue;
      const std::string path = endpoint.substr(4);
      const bool there = access(path.c_str(), F_OK) == 0;
      if (!there && errno == ENOENT) continue;  // a node of another host
      if (there && access(path.c_str(), W_OK) == 0) continue;
      checks->push_back(
          {.name = "shared memory of " + node.name,
           .verdict = Verdict::kWarn,
           .saw = path + ": " + std::strerror(errno),
           .remedy =
               "run as the same user, or share a group by ock.mmc.local_service.shm.group; until "
               "then TCP is used"});
    }
  }
}

Check NodesCheck(const ClusterStatus& status) {
  const auto serving = std::count_if(status.nodes.begin(), status.nodes.end(),
                                     [](const NodeInfo& node) { return node.state == "serving"; });
  Check check{
      .name = "nodes",
      .saw = std::to_string(serving) + " of " + std::to_string(status.nodes.size()) + " serving"};
  if (serving == 0) {
    check.verdict = Verdict::kFail;
    check.remedy = "nothing can be stored: start mmc_local_service on at least one machine";
  } else if (static_cast<size_t>(serving) < status.nodes.size()) {
    check.verdict = Verdict::kWarn;
    check.remedy = "see mmc nodes for those that do not serve, and their logs";
  }
  return check;
}

}  // namespace

std::vector<Check> CheckConf(const std::string& path, std::optional<config::Values>* values) {
  Check check{.name = "conf file", .saw = path.empty() ? "none; defaults are used" : path};
  if (path.empty())
    check.remedy = "name one with --config FILE or MMC_LOCAL_CONFIG_PATH if you have one";
  Result<config::Values> loaded = config::LocalConf().Load(path, {});
  if (!loaded.ok()) {
    check.verdict = Verdict::kFail;
    check.saw = loaded.status().message();
    check.remedy = "mend that line; mmc_local_service --dump-conf prints a complete file";
    return {check};
  }
  std::vector<Check> checks = {check};
  for (const config::Warning& warning : loaded->warnings()) {
    if (checks.size() > kMaxWarnings) break;
    checks.push_back(
        {.name = "conf file", .verdict = Verdict::kWarn, .saw = warning.text, .remedy = ""});
  }
  *values = std::move(*loaded);
  return checks;
}

std::vector<Check> CheckLocalService(const config::Values& values) {
  std::vector<Check> checks;
  if (values.GetBool("ock.mmc.local_service.tcp.enable")) {
    checks.push_back(DataPort(values.GetString("ock.mmc.local_service.hcom_url")));
  }
  const std::string& folder = values.GetString("ock.mmc.local_service.shm.directory");
  if (!folder.empty()) checks.push_back(SocketFolder(folder));
  return checks;
}

std::vector<Check> CheckPool(const ClientOptions& options, const PoolConnector& connect) {
  Check check{.name = "meta service"};
  Result<std::unique_ptr<Client>> client = connect(options);
  if (!client.ok()) {
    check.verdict = Verdict::kFail;
    check.saw = options.meta_url + ": " + client.status().ToString();
    check.remedy =
        "start mmc_meta_service there, or name the right address: --meta, MMC_META_URL, --config";
    return {check};
  }
  constexpr int kCalls = 5;
  auto best = Duration::max();
  Result<ClusterStatus> status = Status(Code::kInternal, "never asked");
  for (int i = 0; i < kCalls; ++i) {
    const TimePoint start = Clock::Real().Now();
    status = (*client)->Cluster();
    if (!status.ok()) {
      check.verdict = Verdict::kFail;
      check.saw = options.meta_url + ": " + status.status().ToString();
      check.remedy = "see the log of the meta service";
      return {check};
    }
    best = std::min<Duration>(best, Clock::Real().Now() - start);
  }
  check.saw = options.meta_url + " version " + status->version + " answers in " + FormatTime(best);
  if (best > std::chrono::milliseconds(20)) {
    check.verdict = Verdict::kWarn;
    check.remedy = "every get asks it: run it nearer, or look at its load";
  }
  std::vector<Check> checks = {check, NodesCheck(*status)};
  CheckSockets(*status, &checks);
  return checks;
}

Check CheckReady(const std::string& url, std::chrono::milliseconds timeout) {
  Check check{.name = "HTTP /ready"};
  const auto fail = [&](const std::string& saw) {
    check.verdict = Verdict::kFail;
    check.saw = saw;
    check.remedy = "see ock.mmc.meta_service.metrics_url of the meta service, and its log";
    return check;
  };
  const Result<rpc::Url> parsed = rpc::ParseUrl(url);
  if (!parsed.ok()) return fail(parsed.status().message());
  const Result<std::string> answer = Exchange(
      *parsed, "GET /ready HTTP/1.1\r\nHost: " + parsed->host + "\r\nConnection: close\r\n\r\n",
      Clock::Real().Now() + timeout);
  if (!answer.ok()) return fail(answer.status().message());
  const std::string line = answer->substr(0, answer->find("\r\n"));
  if (line.rfind("HTTP/1.1 200", 0) != 0)
    return fail(url + " answers '" + PrintableKey(line.substr(0, 80)) + "'");
  check.saw = url + " is ready";
  return check;
}

bool AnyFailed(const std::vector<Check>& checks) {
  return std::any_of(checks.begin(), checks.end(),
                     [](const Check& c) { return c.verdict == Verdict::kFail; });
}

std::string VerdictName(Verdict verdict) {
  switch (verdict) {
    case Verdict::kOk:
      return "ok";
    case Verdict::kWarn:
      return "warn";
    case Verdict::kFail:
      return "fail";
  }
  return "fail";
}

boost::json::object DoctorJson(const std::vector<Check>& checks) {
  boost::json::array list;
  for (const Check& check : checks) {
    boost::json::object object = {{"name", check.name},
                                  {"verdict", VerdictName(check.verdict)},
                                  {"saw", PrintableKey(check.saw)}};
    if (!check.remedy.empty()) object["remedy"] = PrintableKey(check.remedy);
    list.push_back(std::move(object));
  }
  return {{"ok", !AnyFailed(checks)}, {"checks", std::move(list)}};
}

std::string DoctorText(const std::vector<Check>& checks) {
  std::string text;
  for (const Check& check : checks) {
    std::string verdict = VerdictName(check.verdict);
    verdict.resize(6, ' ');
    text += verdict + check.name + ": " + check.saw + "\n";
    if (!check.remedy.empty()) text += "      -> " + check.remedy + "\n";
  }
  return text;
}

}  // namespace mmc::cli
