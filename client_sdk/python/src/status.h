// Statuses and results as Python objects, and failures as Python exceptions.
//
// Thread safety: all with the GIL. Ownership: the Python types handed to BindStatus are kept till the process ends.
#pragma once

#include <pybind11/pybind11.h>

#include <vector>

#include "client_sdk/include/mmc/client.h"

namespace mmc::python {

namespace py = pybind11;

// Raises the MmcError of this status; `key` (borrowed, may be null) is what it is about.
[[noreturn]] void Raise(const Status& status, PyObject* key = nullptr);
[[noreturn]] void RaiseInvalid(const std::string& message);
// The exception itself, for futures. New reference.
py::object ErrorOf(const Status& status, PyObject* key = nullptr);

inline void RaiseUnlessOk(const Status& status) {
  if (!status.ok()) Raise(status);
}
template <typename T>
T ValueOrRaise(Result<T> result) {
  if (!result.ok()) Raise(result.status());
  return std::move(result).value();
}

// One shared object for OK.
py::object ToPython(const Status& status);
py::list ToPython(const std::vector<Status>& statuses);
py::list ToPython(const std::vector<GetResult>& results);
// Text where it is UTF-8, else bytes.
py::object KeyToPython(const std::string& key);

// Status, GetResult and the plain structs of the client.
void BindStatus(py::module_& m);
void BindRecords(py::module_& m);

}  // namespace mmc::python
