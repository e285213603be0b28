// Memory of tensors that speak DLPack: ABI 1, which says whether memory may be written, and the one
// before, which cannot name memory that may not.
//
// Thread safety: with the GIL. Ownership: TakeDlpack's owner is given back with ReleaseDlpack,
// once.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>

namespace mmc::python {

struct DlpackMemory {
  uint64_t address = 0;
  uint64_t bytes = 0;
  void* owner = nullptr;
};

// Raises MmcError: UNSUPPORTED (memory of a device), INVALID_ARGUMENT (strided; `writable`, and it is read-only or a
// copy).
DlpackMemory TakeDlpack(PyObject* object, bool writable);
void ReleaseDlpack(void* owner);

}  // namespace mmc::python
