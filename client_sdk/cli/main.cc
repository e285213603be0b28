// mmc: the command line of the pool. See commands.h.
#include <signal.h>
#include <unistd.h>

#include "client_sdk/cli/commands.h"

int main(int argc, char** argv) {
  signal(SIGPIPE, SIG_IGN);  // a reader that goes away shows as EPIPE of a write, see output.h
  mmc::cli::Output out(STDOUT_FILENO);
  mmc::cli::Output err(STDERR_FILENO);
  return mmc::cli::RunCli({argv + 1, argv + argc}, out, err, mmc::Client::Connect);
}
