// A meta service and a node inside this process, for Python.
//
// Thread safety: all with the GIL, which is released while a service starts or stops. Ownership: by their Python objects;
// what lives when the interpreter ends is stopped then. In a forked process they are neither stopped nor destroyed.
#pragma once

#include <pybind11/pybind11.h>

#include "client_sdk/python/src/options.h"
#include "local_service/options.h"

namespace mmc::python {

// What a node lends, from keyword options (dram, name, data_url, ...).
local::LocalOptions TakeLocalOptions(Options* options);

void BindServices(py::module_& m);

}  // namespace mmc::python
