// Logs of the daemons: glog with the conf's level, and files that rotate by size and by count.
//
// A library must not write to its application's stderr, and glog does so until it is set up. So
// nobody uses glog's LOG directly: MMC_LOG says nothing in a process that has not called
// InitLogging, and only daemons call it. The client library never does; what it has to say it says
// in a Status.
//
// Thread safety: InitLogging once, from main(), before other threads log; the macros from any
// thread.
#pragma once

#include <glog/logging.h>

#include <atomic>
#include <cstdint>
#include <string>

#include "common/base/status.h"

namespace mmc::obs {

struct LogOptions {
  std::string name = "mmc";         // of the file: <directory>/<name>.log
  std::string level = "info";       // debug, info, warn, error
  std::string directory;            // is made when it is not there; empty: stderr
  uint64_t file_bytes = 20u << 20;  // a file is closed before it grows past this
  int file_count = 50;              // files kept, the current one included
};

// Errors: kConfig naming the directory or file that cannot be made or written.
Status InitLogging(const LogOptions& options);

// "<path>/logs"; a relative path starts at the folder above the program's. Empty stays empty.
std::string LogDirectory(const std::string& path);

// Private to the macros.
extern std::atomic<bool> g_logs_on;
extern std::atomic<bool> g_debug_on;

}  // namespace mmc::obs

// MMC_LOG(INFO) << "...": INFO, WARNING, ERROR. One line, no newline. Nothing per request at INFO.
#define MMC_LOG(severity) LOG_IF(severity, ::mmc::obs::g_logs_on.load(std::memory_order_relaxed))
// At log_level debug only; costs one load otherwise.
#define MMC_LOG_DEBUG() LOG_IF(INFO, ::mmc::obs::g_debug_on.load(std::memory_order_relaxed))
