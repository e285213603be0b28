// Whole values of unknown size, read straight into new bytes objects.
//
// Thread safety: with the GIL, which is released while values are read. Ownership: the answer is the caller's.
#pragma once

#include <pybind11/pybind11.h>

#include <chrono>
#include <vector>

#include "client_sdk/python/src/batch.h"
#include "client_sdk/python/src/state.h"

namespace mmc::python {

struct Value {
  Status status;
  py::object bytes;  // None unless the status is OK
};

// One per key. The first read goes into objects of the size that values of this client had lately; those that turn out
// to be larger are read again. Raises only MemoryError.
std::vector<Value> ReadValues(ClientState& state, const KeyBatch& keys, std::chrono::milliseconds timeout);

}  // namespace mmc::python
