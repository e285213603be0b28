#include "client_sdk/python/src/status.h"

#include <pybind11/stl.h>

namespace mmc::python {
namespace {

// Of pymmc/_errors.py; set once at import, never given back.
struct Types {
  py::object code;       // Code(int)
  py::object recovery;   // Recovery(str)
  py::object error_for;  // error_for(code, message, key) -> MmcError
  py::object ok;         // the Status of OK
};
Types& types() {
  static Types* const kept = new Types();
  return *kept;
}

py::object CodeToPython(Code code) { return types().code(static_cast<uint32_t>(code)); }

std::string LowerName(Recovery recovery) {
  std::string out;
  for (const char c : RecoveryName(recovery)) out.push_back(static_cast<char>(std::tolower(c)));
  return out;
}

bool EqualTo(const Status& status, const py::object& other) {
  if (py::isinstance<Status>(other)) return status == other.cast<const Status&>();
  if (PyLong_Check(other.ptr()) == 0) return false;
  return other.equal(py::int_(static_cast<uint32_t>(status.code())));
}

// [(name, number, meaning, recovery)]: what the enumerations are made of.
py::list CodeList() {
  py::list out;
  const CodeTable table = AllCodes();
  for (const CodeInfo* info = table.begin; info != table.end; ++info) {
    out.append(py::make_tuple(std::string(CodeName(info->code)), static_cast<uint32_t>(info->code), info->meaning,
                              LowerName(info->recovery)));
  }
  return out;
}

}  // namespace

py::object ErrorOf(const Status& status, PyObject* key) {
  const py::object about = key == nullptr ? py::none() : py::reinterpret_borrow<py::object>(key);
  return types().error_for(static_cast<uint32_t>(status.code()), status.message(), about);
}

void Raise(const Status& status, PyObject* key) {
  const py::object error = ErrorOf(status, key);
  PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(error.ptr())), error.ptr());
  throw py::error_already_set();
}

void RaiseInvalid(const std::string& message) { Raise(Status(Code::kInvalidArgument, message)); }

py::object ToPython(const Status& status) { return status.ok() ? types().ok : py::cast(status); }

py::list ToPython(const std::vector<Status>& statuses) {
  py::list out(statuses.size());
  for (size_t i = 0; i < statuses.size(); ++i) {
    PyList_SET_ITEM(out.ptr(), static_cast<Py_ssize_t>(i), ToPython(statuses[i]).release().ptr());
  }
  return out;
}

py::list ToPython(const std::vector<GetResult>& results) {
  py::list out(results.size());
  for (size_t i = 0; i < results.size(); ++i) {
    PyList_SET_ITEM(out.ptr(), static_cast<Py_ssize_t>(i), py::cast(results[i]).release().ptr());
  }
  return out;
}

py::object KeyToPython(const std::string& key) {
  const auto size = static_cast<Py_ssize_t>(key.size());
  PyObject* text = PyUnicode_DecodeUTF8(key.data(), size, nullptr);
  if (text == nullptr) {
    PyErr_Clear();
    text = PyBytes_FromStringAndSize(key.data(), size);
    if (text == nullptr) throw py::error_already_set();
  }
  return py::reinterpret_steal<py::object>(text);
}

void BindStatus(py::module_& m) {
  m.attr("CODES") = CodeList();
  py::class_<Status>(m, "Status", "Outcome for one key: true when OK. Equal to a status, Code or int of the same code.")
      .def_property_readonly("code", [](const Status& s) { return CodeToPython(s.code()); })
      .def_property_readonly("ok", &Status::ok)
      .def_property_readonly(
          "message", [](const Status& s) { return s.message().empty() ? std::string(CodeMeaning(s.code())) : s.message(); })
      .def_property_readonly("recovery", [](const Status& s) { return types().recovery(LowerName(s.recovery())); })
      .def("raise_for_error",
           [](const Status& s, const py::object& key) {
             if (!s.ok()) Raise(s, key.is_none() ? nullptr : key.ptr());
           },
           py::arg("key") = py::none(), "Raises the MmcError of this status unless it is OK.")
      .def("__bool__", &Status::ok)
      .def("__int__", [](const Status& s) { return static_cast<uint32_t>(s.code()); })
      .def("__eq__", &EqualTo)
      .def("__hash__", [](const Status& s) { return static_cast<uint32_t>(s.code()); })
      .def("__repr__", [](const Status& s) { return "<Status " + s.ToString() + ">"; });
  m.def("set_types", [](py::object code, py::object recovery, py::object error_for) {
    types() = {std::move(code), std::move(recovery), std::move(error_for), py::cast(Status())};
  });
}

}  // namespace mmc::python
