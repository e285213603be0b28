#include "client_sdk/python/src/gil.h"

#include <pthread.h>
#include <unistd.h>

#include <atomic>

namespace mmc::python {
namespace {

std::atomic<uint32_t> forks{0};

// Never returns: an exception handler that a forced unwinding entered must not be left.
[[noreturn]] void StandStill() {
  while (true) pause();
}

}  // namespace

GilRelease::~GilRelease() {
  try {
    PyEval_RestoreThread(state_);
  } catch (...) {
    StandStill();
  }
}

GilTake::GilTake() {
  try {
    state_ = PyGILState_Ensure();
  } catch (...) {
    StandStill();
  }
}

uint32_t ForkCount() { return forks.load(std::memory_order_relaxed); }

void CountForks() {
  pthread_atfork(nullptr, nullptr, [] { forks.fetch_add(1, std::memory_order_relaxed); });
}

}  // namespace mmc::python
