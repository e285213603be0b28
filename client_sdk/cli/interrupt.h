// Ctrl-C as a question that long work asks between steps. The second Ctrl-C ends the process at
// once.
//
// Thread safety: all from any thread. Installing touches SIGINT and SIGTERM of the process, so only
// commands do it.
#pragma once

namespace mmc::cli {

void CatchInterrupt();
bool Interrupted();
// For tests and for a command that runs twice in one process.
void SetInterrupted(bool value);

}  // namespace mmc::cli
