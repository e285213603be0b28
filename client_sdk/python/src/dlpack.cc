#include "client_sdk/python/src/dlpack.h"

#include <string>

#include "client_sdk/python/src/status.h"

namespace mmc::python {
namespace {

// The structs of the DLPack interface; their layout is fixed by it.
struct DlTensor {
  void* data;
  int32_t device_type;
  int32_t device_id;
  int32_t ndim;
  uint8_t type_code;
  uint8_t type_bits;
  uint16_t type_lanes;
  int64_t* shape;
  int64_t* strides;  // null: C-contiguous
  uint64_t byte_offset;
};
struct DlManagedTensor {
  DlTensor tensor;
  void* manager_context;
  void (*deleter)(DlManagedTensor*);
};

constexpr int32_t kCpu = 1;
constexpr int32_t kCudaHost = 3;
constexpr int32_t kRocmHost = 11;
constexpr const char* kFresh = "dltensor";
constexpr const char* kUsed = "used_dltensor";

bool IsContiguous(const DlTensor& tensor) {
  if (tensor.strides == nullptr) return true;
  int64_t expected = 1;
  for (int32_t i = tensor.ndim - 1; i >= 0; --i) {
    if (tensor.shape[i] != 1 && tensor.strides[i] != expected) return false;
    expected *= tensor.shape[i];
  }
  return true;
}

}  // namespace

DlpackMemory TakeDlpack(PyObject* object, bool writable) {
  const py::handle handle(object);
  const std::string type = Py_TYPE(object)->tp_name;
  py::object capsule;
  try {
    capsule = handle.attr("__dlpack__")();
  } catch (const py::error_already_set& error) {
    RaiseInvalid("a " + type + " gives no DLPack memory" + (writable ? " to write to: " : ": ") +
                 py::str(error.value()).cast<std::string>());
  }
  auto* managed = static_cast<DlManagedTensor*>(PyCapsule_GetPointer(capsule.ptr(), kFresh));
  if (managed == nullptr) throw py::error_already_set();
  const DlTensor& tensor = managed->tensor;
  // Until it is marked as used, the capsule gives the memory back by itself.
  if (tensor.device_type != kCpu && tensor.device_type != kCudaHost && tensor.device_type != kRocmHost) {
    Raise(Status(Code::kUnsupported, "a " + type + " on DLPack device " + std::to_string(tensor.device_type) +
                                         ": only host memory is possible"));
  }
  if (!IsContiguous(tensor)) RaiseInvalid("a " + type + " is not C-contiguous");
  uint64_t elements = 1;
  for (int32_t i = 0; i < tensor.ndim; ++i) elements *= static_cast<uint64_t>(tensor.shape[i]);
  const uint64_t bits = uint64_t{tensor.type_bits} * tensor.type_lanes;
  PyCapsule_SetName(capsule.ptr(), kUsed);
  return {reinterpret_cast<uint64_t>(tensor.data) + tensor.byte_offset, (elements * bits + 7) / 8, managed};
}

void ReleaseDlpack(void* owner) {
  auto* managed = static_cast<DlManagedTensor*>(owner);
  if (managed->deleter != nullptr) managed->deleter(managed);
}

}  // namespace mmc::python
