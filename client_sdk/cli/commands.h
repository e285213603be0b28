// The table of all commands, and the one function that runs a command line.
//
// Thread safety: RunCli is called by one thread at a time (bench and replay watch Ctrl-C of the
// whole process).
#pragma once

#include <span>
#include <string>
#include <vector>

#include "client_sdk/cli/context.h"

namespace mmc::cli {

std::span<const Command> Commands();

// `words` are the arguments behind the program's name. Answers the exit code.
int RunCli(std::vector<std::string> words, Output& out, Output& err, const Connector& connect);

// One function per file that implements them; each answers its commands.
std::vector<Command> DataCommands();     // put get exists stat rm ls
std::vector<Command> ClusterCommands();  // nodes status top
std::vector<Command> LoadCommands();     // bench replay
std::vector<Command> UpkeepCommands();   // drain scrub
Command DoctorCommand();

}  // namespace mmc::cli
