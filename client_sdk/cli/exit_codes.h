// What the exit status of `mmc` means; `mmc help exit-codes` prints the same table.
//
//   0    done; every key was there, every byte was right
//   1    the operation failed, a key is absent, a verification or a check of `mmc doctor` failed
//   2    wrong command line or configuration
//   3    the meta service (or the link to it) could not be reached
//   4    the deadline passed; the effect is unknown
//   130  stopped by Ctrl-C (bench and replay print their summary so far)
//   141  the reader of our output went away
//
// Thread safety: constants and a pure function.
#pragma once

#include "common/base/status.h"

namespace mmc::cli {

enum ExitCode : int {
  kExitOk = 0,
  kExitFailed = 1,
  kExitUsage = 2,
  kExitUnreachable = 3,
  kExitDeadline = 4,
  kExitInterrupted = 130,
  kExitBrokenPipe = 141,
};

struct ExitCodeInfo {
  ExitCode code;
  const char* meaning;
};
inline constexpr ExitCodeInfo kExitCodes[] = {
    {kExitOk, "done; every key was there, every byte was right"},
    {kExitFailed,
     "the operation failed, a key is absent, a verification or a check of doctor failed"},
    {kExitUsage, "wrong command line or configuration"},
    {kExitUnreachable, "the meta service, or the link to it, could not be reached"},
    {kExitDeadline, "the deadline passed; the effect is unknown"},
    {kExitInterrupted, "stopped by Ctrl-C; bench and replay print their summary so far"},
    {kExitBrokenPipe, "the reader of the output went away"},
};

inline ExitCode ExitCodeOf(const Status& status) {
  switch (status.code()) {
    case Code::kOk:
      return kExitOk;
    case Code::kInvalidArgument:
    case Code::kConfig:
      return kExitUsage;
    case Code::kUnavailable:
    case Code::kConnectionLost:
    case Code::kClosed:
    case Code::kShuttingDown:
      return kExitUnreachable;
    case Code::kDeadline:
      return kExitDeadline;
    case Code::kCancelled:
      return kExitInterrupted;
    default:
      return kExitFailed;
  }
}

}  // namespace mmc::cli
