// drain, scrub.
#include <poll.h>

#include <algorithm>

#include "client_sdk/cli/commands.h"
#include "client_sdk/cli/interrupt.h"
#include "client_sdk/cli/text.h"
#include "common/base/bytes.h"
#include "common/base/clock.h"

namespace mmc::cli {
namespace {

constexpr int kLookEveryMs = 100;
constexpr std::chrono::seconds kLineEvery{1};

struct Left {
  std::string state;
  uint64_t objects = 0;
  uint64_t bytes = 0;
};

Result<Left> LeftOn(Client& client, const std::string& name) {
  MMC_ASSIGN_OR_RETURN(const ClusterStatus status, client.Cluster());
  for (const NodeInfo& node : status.nodes) {
    if (node.name == name) return Left{node.state, node.drain_left_objects, node.drain_left_bytes};
  }
  return Status(Code::kNotFound, "node '" + name + "' is not in the pool any more");
}

std::string LeftText(const Left& left) {
  return std::to_string(left.objects) + " objects, " + FormatBytes(left.bytes) + " left";
}

void PrintLeft(const Context& context, const std::string& name, const Left& left) {
  context.PrintJson({{"node", name},
                     {"state", left.state},
                     {"drain_left_objects", left.objects},
                     {"drain_left_bytes", left.bytes}});
}

// Until the node is empty, or nothing has left it for `stall`.
int WaitDrained(Context& context, Client& client, const std::string& name,
                std::chrono::milliseconds stall) {
  CatchInterrupt();
  TimePoint next_line = Clock::Real().Now();
  TimePoint moved = next_line;
  uint64_t fewest = UINT64_MAX;
  for (;;) {
    const Result<Left> left = LeftOn(client, name);
    if (!left.ok()) return context.Fail(left.status());
    const TimePoint now = Clock::Real().Now();
    if (left->state == "drained") {
      if (context.json()) PrintLeft(context, name, *left);
      context.Say(name + " is drained: it may leave");
      return kExitOk;
    }
    if (left->state == "serving") {
      if (context.json()) PrintLeft(context, name, *left);
      return context.Fail(Status(Code::kNotFound,
                                 name + " is not being drained any more: somebody cancelled it, or the meta "
                                        "service was started again without ock.mmc.meta.state_path; drain it again"));
    }
    if (left->bytes < fewest) moved = now;
    fewest = std::min(fewest, left->bytes);
    if (now >= next_line) {
      context.Say(name + ": " + LeftText(*left));
      next_line = now + kLineEvery;
    }
    if (now - moved >= stall) {
      if (context.json()) PrintLeft(context, name, *left);
      return context.Fail(Status(Code::kNoSpace, name + ": " + LeftText(*left) +
                                                     " that fit nowhere else or are pinned; add "
                                                     "memory, or drain --cancel"));
    }
    if (Interrupted()) return kExitInterrupted;
    poll(nullptr, 0, kLookEveryMs);
  }
}

int RunDrain(Context& context) {
  const std::string& name = context.args.operands()[0];
  const auto stall =
      context.args.Time("stall", std::chrono::milliseconds(100), std::chrono::hours(24));
  if (!stall.ok()) return context.Fail(stall.status());
  auto client = ConnectFor(context);
  if (!client.ok()) return context.Fail(client.status());
  const bool cancel = context.args.Switch("cancel");
  if (const Status status = (*client)->Drain(name, cancel); !status.ok()) {
    return context.Fail(status);
  }
  if (cancel || !context.args.Switch("wait")) {
    context.Say(cancel ? name + " takes objects again" : name + " is being emptied: see mmc nodes");
    if (context.json()) context.PrintJson({{"node", name}, {"draining", !cancel}});
    return kExitOk;
  }
  return WaitDrained(context, **client, name, *stall);
}

int WaitScrubbed(Context& context, Client& client, uint64_t id) {
  CatchInterrupt();
  TimePoint next_line = Clock::Real().Now();
  for (;;) {
    const Result<ScrubProgress> progress = client.ScrubStatus(id);
    if (!progress.ok()) return context.Fail(progress.status());
    const bool over = progress->nodes_done >= progress->nodes;
    if (over || Clock::Real().Now() >= next_line) {
      context.Say(std::to_string(progress->checked_objects) + " objects, " +
                  FormatBytes(progress->checked_bytes) + " checked, " +
                  std::to_string(progress->bad_replicas) + " bad, " +
                  std::to_string(progress->skipped_objects) + " without a checksum; " +
                  std::to_string(progress->nodes_done) + " of " + std::to_string(progress->nodes) +
                  " nodes done");
      next_line = Clock::Real().Now() + kLineEvery;
    }
    if (over) {
      if (context.json()) {
        context.PrintJson({{"id", id},
                           {"nodes", progress->nodes},
                           {"checked_objects", progress->checked_objects},
                           {"checked_bytes", progress->checked_bytes},
                           {"skipped_objects", progress->skipped_objects},
                           {"bad_replicas", progress->bad_replicas}});
      }
      return progress->bad_replicas == 0 ? kExitOk : kExitFailed;
    }
    if (Interrupted()) return kExitInterrupted;
    poll(nullptr, 0, kLookEveryMs);
  }
}

int RunScrub(Context& context) {
  const Result<uint64_t> rate = context.args.Bytes("rate", 0, UINT64_MAX >> 1);
  if (!rate.ok()) return context.Fail(rate.status());
  auto client = ConnectFor(context);
  if (!client.ok()) return context.Fail(client.status());
  const std::vector<std::string>& names = context.args.operands();
  const Result<uint64_t> id = (*client)->Scrub(names.empty() ? "" : names[0], *rate);
  if (!id.ok()) return context.Fail(id.status());
  if (context.args.Switch("wait")) return WaitScrubbed(context, **client, *id);
  context.Say("check " + std::to_string(*id) + " has begun; bad replicas will be dropped");
  if (context.json()) context.PrintJson({{"id", *id}});
  return kExitOk;
}

}  // namespace

std::vector<Command> UpkeepCommands() {
  return {
      {.name = "drain",
       .operands = "NODE",
       .summary = "empty a node, so that it can leave and nothing is lost",
       .details = "Nothing new is placed on the node, and its objects are copied to others, where\n"
                  "there is room. mmc nodes shows what is left; at 0 its state is drained. A drain\n"
                  "goes on after a restart of the meta service that has ock.mmc.meta.state_path.",
       .min_operands = 1,
       .max_operands = 1,
       .flags = {{"cancel", "", "", "end it: the node takes objects again"},
                 {"wait", "", "", "until the node is empty"},
                 {"stall", "TIME", "30s", "with --wait: give up when nothing has left for so long"}},
       .run = RunDrain},
      {.name = "scrub",
       .operands = "[NODE]",
       .summary = "check stored objects against their checksums; bad replicas are dropped",
       .details = "All nodes check at the same time, each its own memory. Exit code 1 when --wait\n"
                  "has seen a bad replica.",
       .max_operands = 1,
       .flags = {{"rate", "BYTES", "256MB", "that a node may read per second; 0: no limit"},
                 {"wait", "", "", "until all nodes are done"}},
       .run = RunScrub},
  };
}

}  // namespace mmc::cli
