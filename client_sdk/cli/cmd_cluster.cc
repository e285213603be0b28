// nodes, status, top.
#include <poll.h>

#include <algorithm>

#include "client_sdk/cli/commands.h"
#include "client_sdk/cli/interrupt.h"
#include "client_sdk/cli/render.h"
#include "common/base/clock.h"

namespace mmc::cli {
namespace {

int RunNodes(Context& context) {
  auto client = ConnectFor(context);
  if (!client.ok()) return context.Fail(client.status());
  const Result<ClusterStatus> status = (*client)->Cluster();
  if (!status.ok()) return context.Fail(status.status());
  if (context.json()) {
    context.PrintJson(NodesJson(status->nodes));
  } else {
    context.out.Write(NodesText(status->nodes));
  }
  return kExitOk;
}

int RunStatus(Context& context) {
  auto client = ConnectFor(context);
  if (!client.ok()) return context.Fail(client.status());
  const Result<ClusterStatus> status = (*client)->Cluster();
  if (!status.ok()) return context.Fail(status.status());
  if (context.json()) {
    context.PrintJson(StatusJson(*status));
  } else {
    context.out.Write(StatusText(*status));
  }
  return kExitOk;
}

// Until the deadline or Ctrl-C.
void WaitUntil(TimePoint deadline) {
  while (!Interrupted()) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::Real().Now());
    if (left.count() <= 0) return;
    poll(nullptr, 0, static_cast<int>(std::min<int64_t>(left.count(), 100)));
  }
}

int RunTop(Context& context) {
  const auto interval =
      context.args.Time("interval", std::chrono::milliseconds(50), std::chrono::hours(1));
  if (!interval.ok()) return context.Fail(interval.status());
  const Result<int64_t> frames = context.args.Int("count", 0, INT64_MAX);
  if (!frames.ok()) return context.Fail(frames.status());
  auto client = ConnectFor(context);
  if (!client.ok()) return context.Fail(client.status());
  Result<ClusterStatus> before = (*client)->Cluster();
  if (!before.ok()) return context.Fail(before.status());
  CatchInterrupt();
  const bool screen = context.out.IsTerminal() && !context.json();
  TimePoint last = Clock::Real().Now();
  for (int64_t frame = 0; (*frames == 0 || frame < *frames) && context.out.error() == 0; ++frame) {
    WaitUntil(last + *interval);
    if (Interrupted()) break;
    Result<ClusterStatus> now = (*client)->Cluster();
    if (!now.ok()) return context.Fail(now.status());
    const TimePoint at = Clock::Real().Now();
    const double seconds = std::chrono::duration<double>(at - last).count();
    if (context.json()) {
      context.PrintJson(TopJson(*before, *now, seconds));
    } else {
      context.out.Write((screen ? "\x1b[H\x1b[2J" : "") + TopText(*before, *now, seconds) +
                        (screen ? "" : "\n"));
    }
    before = std::move(now);
    last = at;
  }
  return kExitOk;
}

}  // namespace

std::vector<Command> ClusterCommands() {
  return {
      {.name = "nodes",
       .summary = "list the nodes of the pool",
       .details = "state is serving, suspect, dead, leaving, recovering, draining (with the number\n"
                  "of objects left) or drained (it may leave). --json prints {\"nodes\": [...]},\n"
                  "each node with name, state, host, endpoints, capacity_bytes, used_bytes,\n"
                  "objects, silent_ms, drain_left_objects and drain_left_bytes.",
       .max_operands = 0,
       .run = RunNodes},
      {.name = "status",
       .summary = "show the state of the whole pool",
       .max_operands = 0,
       .run = RunStatus},
      {.name = "top",
       .summary = "show rates and nodes, refreshing",
       .details = "Refreshes the screen on a terminal; elsewhere prints one block, or with --json\n"
                  "one line, per interval. Ctrl-C ends it, exit code 0.",
       .max_operands = 0,
       .flags = {{"interval", "TIME", "1s", "between two views"},
                 {"count", "N", "0", "views; 0: until Ctrl-C", 'n'}},
       .run = RunTop},
  };
}

}  // namespace mmc::cli
