// Memory of tensors that speak DLPack (ABI 0.x, the one that __dlpack__() answers when it is asked for nothing else).
//
// Thread safety: with the GIL. Ownership: TakeDlpack's owner is given back with ReleaseDlpack, once.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>

namespace mmc::python {

struct DlpackMemory {
  uint64_t address = 0;
  uint64_t bytes = 0;
  void* owner = nullptr;
};

// Raises MmcError: UNSUPPORTED (memory of a device), INVALID_ARGUMENT (strided, or `writable` was refused).
DlpackMemory TakeDlpack(PyObject* object, bool writable);
void ReleaseDlpack(void* owner);

}  // namespace mmc::python
