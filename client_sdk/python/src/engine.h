// The transfer engine for Python: see client_sdk/engine/engine.h.
//
// Thread safety: all with the GIL, which is released in everything that may wait or copy. Ownership: an engine belongs
// to its Python object; one that lives when the interpreter ends is closed then. In a forked process it answers
// "closed".
#pragma once

#include <pybind11/pybind11.h>

namespace mmc::python {

void BindEngine(pybind11::module_& m);

}  // namespace mmc::python
