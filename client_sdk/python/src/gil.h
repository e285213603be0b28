// The GIL, left and taken so that neither the end of the interpreter nor fork() can bring the process down.
//
// A thread that asks for the GIL of an interpreter that is ending never gets it: Python ends the thread by unwinding it,
// which C++ destructors turn into std::terminate. Such a thread is stopped here instead, until the process is gone.
// Thread safety: GilRelease on a thread that holds the GIL; GilTake on any other. Ownership: both belong to a scope.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>

namespace mmc::python {

// Without the GIL for this scope.
class GilRelease {
 public:
  GilRelease() : state_(PyEval_SaveThread()) {}
  ~GilRelease();
  GilRelease(const GilRelease&) = delete;
  GilRelease& operator=(const GilRelease&) = delete;

 private:
  PyThreadState* state_;
};

// With the GIL for this scope, on a thread of the library.
class GilTake {
 public:
  GilTake();
  ~GilTake() { PyGILState_Release(state_); }
  GilTake(const GilTake&) = delete;
  GilTake& operator=(const GilTake&) = delete;

 private:
  PyGILState_STATE state_;
};

// Runs `f` without the GIL, whether this thread holds it or not: for destructors.
template <typename F>
void WithoutGil(F&& f) {
  if (Py_IsInitialized() != 0 && PyGILState_Check() != 0) {
    const GilRelease released;
    f();
  } else {
    f();
  }
}

// How many forks lie between the first process and this one. What was made under another number belongs to another
// process: it has no threads here, and is neither used nor destroyed.
uint32_t ForkCount();
// Begins to count. Once, from the module's initialisation.
void CountForks();

}  // namespace mmc::python
