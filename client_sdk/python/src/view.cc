#include "client_sdk/python/src/view.h"

#include <cstring>
#include <optional>

#include "client_sdk/python/src/gil.h"
#include "client_sdk/python/src/status.h"

namespace mmc::python {

// The pin that a view and its pieces share. With the GIL.
class PinnedValue {
 public:
  PinnedValue(std::shared_ptr<ClientState> state, View view)
      : state_(std::move(state)), view_(std::move(view)), size_(view_->size()) {}
  ~PinnedValue() {
    if (state_->foreign()) {
      auto* leaked = new View(std::move(*view_));  // its pin belongs to the process that made it
      static_cast<void>(leaked);
      return;
    }
    Drop();
    WithoutGil([this] { state_.reset(); });
  }
  PinnedValue(const PinnedValue&) = delete;
  PinnedValue& operator=(const PinnedValue&) = delete;

  void Drop() {
    if (!view_) return;
    View view = std::move(*view_);
    view_.reset();
    WithoutGil([&view] { const View ended = std::move(view); });
  }

  std::shared_ptr<ClientState> state_;
  std::optional<View> view_;  // empty once released
  const uint64_t size_;
  int exports_ = 0;  // buffers in use
};

namespace {

int GetBufferSlot(PyObject* self, Py_buffer* buffer, int flags) {
  buffer->obj = nullptr;
  try {
    return py::cast<PyView&>(py::handle(self)).GetBuffer(self, buffer, flags);
  } catch (const py::cast_error&) {
    PyErr_SetString(PyExc_BufferError, "the view was never made");
    return -1;
  }
}

void ReleaseBufferSlot(PyObject* self, Py_buffer*) { py::cast<PyView&>(py::handle(self)).ReleaseBuffer(); }

void SetBufferSlots(PyHeapTypeObject* type) {
  type->as_buffer.bf_getbuffer = &GetBufferSlot;
  type->as_buffer.bf_releasebuffer = &ReleaseBufferSlot;
  type->ht_type.tp_as_buffer = &type->as_buffer;
}

}  // namespace

PyView PyView::Of(std::shared_ptr<ClientState> state, View view) {
  return PyView(std::make_shared<PinnedValue>(std::move(state), std::move(view)), -1);
}

PyView::~PyView() = default;

uint64_t PyView::size() const {
  if (piece_ >= 0 && value_->view_) return value_->view_->pieces()[static_cast<size_t>(piece_)].size;
  return value_->size_;
}

bool PyView::released() const { return !value_->view_.has_value(); }

py::bytes PyView::ToBytes() const {
  if (released()) RaiseInvalid("the view is released");
  PyObject* out = PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(value_->size_));
  if (out == nullptr) throw py::error_already_set();
  char* to = PyBytes_AS_STRING(out);
  ++value_->exports_;
  {
    const GilRelease released_gil;
    for (const ConstBuffer& piece : value_->view_->pieces()) {
      std::memcpy(to, piece.data, piece.size);
      to += piece.size;
    }
  }
  --value_->exports_;
  return py::reinterpret_steal<py::bytes>(out);
}

py::tuple PyView::Pieces() const {
  if (released()) RaiseInvalid("the view is released");
  const size_t n = value_->view_->pieces().size();
  py::tuple out(n);
  for (size_t i = 0; i < n; ++i) {
    const py::object piece = py::cast(PyView(value_, static_cast<int>(i)));
    out[i] = py::reinterpret_steal<py::object>(PyMemoryView_FromObject(piece.ptr()));
  }
  return out;
}

void PyView::Release() {
  if (value_->exports_ > 0) {
    PyErr_Format(PyExc_BufferError, "%d buffers of this view are in use", value_->exports_);
    throw py::error_already_set();
  }
  value_->Drop();
}

int PyView::GetBuffer(PyObject* self, Py_buffer* buffer, int flags) {
  if (released()) {
    PyErr_SetString(PyExc_BufferError, "the view is released");
    return -1;
  }
  const auto pieces = value_->view_->pieces();
  if (piece_ < 0 && pieces.size() != 1) {
    PyErr_Format(PyExc_BufferError, "the value lies in %zd pieces; use pieces() or bytes()",
                 static_cast<Py_ssize_t>(pieces.size()));
    return -1;
  }
  const ConstBuffer& piece = pieces[piece_ < 0 ? 0 : static_cast<size_t>(piece_)];
  const int filled = PyBuffer_FillInfo(buffer, self, const_cast<void*>(piece.data),
                                       static_cast<Py_ssize_t>(piece.size), /*readonly=*/1, flags);
  if (filled == 0) ++value_->exports_;
  return filled;
}

void PyView::ReleaseBuffer() { --value_->exports_; }

void BindView(py::module_& m) {
  py::class_<PyView>(m, "View",
                     "A value in place: read-only bytes of the pool, pinned until release() or until the view and all "
                     "that was made from it are gone.",
                     py::custom_type_setup(&SetBufferSlots))
      .def_property_readonly("nbytes", &PyView::size)
      .def_property_readonly("released", &PyView::released)
      .def("pieces", &PyView::Pieces, "Read-only memoryviews; more than one when the value lies in several extents.")
      .def("release", &PyView::Release, "Ends the pin. BufferError while memoryviews of it live. Idempotent.")
      .def("__len__", &PyView::size)
      .def("__bytes__", &PyView::ToBytes)
      .def("__enter__", [](const py::object& self) { return self; })
      .def("__exit__", [](PyView& self, const py::args&) { self.Release(); })
      .def("__repr__", [](const PyView& v) {
        return "<View of " + std::to_string(v.size()) + (v.released() ? " bytes, released>" : " bytes>");
      });
}

}  // namespace mmc::python
