// A value in place as a Python object with the buffer protocol.
//
// Thread safety: with the GIL. Ownership: a view keeps its client's connection, so that the pin lasts as long as the view
// and everything that was made from it.
#pragma once

#include <pybind11/pybind11.h>

#include <memory>

#include "client_sdk/python/src/state.h"

namespace mmc::python {

namespace py = pybind11;

class PinnedValue;

// One view, or one piece of it.
class PyView {
 public:
  static PyView Of(std::shared_ptr<ClientState> state, View view);
  ~PyView();
  PyView(PyView&&) noexcept = default;
  PyView(const PyView&) = default;
  PyView& operator=(const PyView&) = delete;

  uint64_t size() const;
  bool released() const;
  py::bytes ToBytes() const;
  py::tuple Pieces() const;
  // Raises BufferError while buffers of it are in use.
  void Release();

  int GetBuffer(PyObject* self, Py_buffer* buffer, int flags);
  void ReleaseBuffer();

 private:
  explicit PyView(std::shared_ptr<PinnedValue> value, int piece) : value_(std::move(value)), piece_(piece) {}

  std::shared_ptr<PinnedValue> value_;
  int piece_;  // -1: all of it
};

void BindView(py::module_& m);

}  // namespace mmc::python
