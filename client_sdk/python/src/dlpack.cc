#include "client_sdk/python/src/dlpack.h"

#include <memory>
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
struct DlManagedTensorVersioned {
  uint32_t major;
  uint32_t minor;
  void* manager_context;
  void (*deleter)(DlManagedTensorVersioned*);
  uint64_t flags;
  DlTensor tensor;
};

constexpr int32_t kCpu = 1;
constexpr int32_t kCudaHost = 3;
constexpr int32_t kRocmHost = 11;
constexpr uint32_t kVersion = 1;  // of the ABI; another one may have other structs
constexpr uint64_t kReadOnly = 1;
constexpr uint64_t kCopied = 2;  // what is written there reaches nobody
constexpr const char* kFresh[] = {"dltensor", "dltensor_versioned"};
constexpr const char* kUsed[] = {"used_dltensor", "used_dltensor_versioned"};

// What a capsule held, to be given back.
struct Owned {
  DlManagedTensor* plain = nullptr;
  DlManagedTensorVersioned* versioned = nullptr;
};

bool IsContiguous(const DlTensor& tensor) {
  if (tensor.strides == nullptr) return true;
  int64_t expected = 1;
  for (int32_t i = tensor.ndim - 1; i >= 0; --i) {
    if (tensor.shape[i] != 1 && tensor.strides[i] != expected) return false;
    expected *= tensor.shape[i];
  }
  return true;
}

py::object Export(PyObject* object, const std::string& type, bool writable) {
  const py::object ask = py::reinterpret_borrow<py::object>(object).attr("__dlpack__");
  try {
    try {
      return ask(py::arg("max_version") = py::make_tuple(kVersion, 0));
    } catch (py::error_already_set& error) {
      if (!error.matches(PyExc_TypeError)) throw;
      return ask();  // one that knows of no versions
    }
  } catch (const py::error_already_set& error) {
    RaiseInvalid("a " + type + " gives no DLPack memory" + (writable ? " to write to: " : ": ") +
                 py::str(error.value()).cast<std::string>());
  }
}

void* Content(const py::object& capsule, const char* name) {
  void* content = PyCapsule_GetPointer(capsule.ptr(), name);
  if (content == nullptr) throw py::error_already_set();
  return content;
}

}  // namespace

DlpackMemory TakeDlpack(PyObject* object, bool writable) {
  const std::string type = Py_TYPE(object)->tp_name;
  const py::object capsule = Export(object, type, writable);
  const bool versioned = PyCapsule_IsValid(capsule.ptr(), kFresh[1]) != 0;
  Owned owned;
  uint64_t flags = 0;
  const DlTensor* tensor = nullptr;
  if (versioned) {
    owned.versioned = static_cast<DlManagedTensorVersioned*>(Content(capsule, kFresh[1]));
    if (owned.versioned->major != kVersion) {
      RaiseInvalid("a " + type + " gives DLPack memory of version " + std::to_string(owned.versioned->major));
    }
    flags = owned.versioned->flags;
    tensor = &owned.versioned->tensor;
  } else {
    owned.plain = static_cast<DlManagedTensor*>(Content(capsule, kFresh[0]));
    tensor = &owned.plain->tensor;
  }
  // Until it is marked as used, the capsule gives the memory back by itself.
  if (writable && (flags & (kReadOnly | kCopied)) != 0) {
    RaiseInvalid("a " + type + " cannot be used as a target: its DLPack memory is " +
                 ((flags & kReadOnly) != 0 ? "read-only" : "a copy"));
  }
  if (tensor->device_type != kCpu && tensor->device_type != kCudaHost && tensor->device_type != kRocmHost) {
    Raise(Status(Code::kUnsupported, "a " + type + " on DLPack device " + std::to_string(tensor->device_type) +
                                         ": only host memory is possible"));
  }
  if (!IsContiguous(*tensor)) RaiseInvalid("a " + type + " is not C-contiguous");
  uint64_t elements = 1;
  for (int32_t i = 0; i < tensor->ndim; ++i) elements *= static_cast<uint64_t>(tensor->shape[i]);
  const uint64_t bits = uint64_t{tensor->type_bits} * tensor->type_lanes;
  const DlpackMemory out{reinterpret_cast<uint64_t>(tensor->data) + tensor->byte_offset, (elements * bits + 7) / 8,
                         new Owned(owned)};
  PyCapsule_SetName(capsule.ptr(), kUsed[versioned ? 1 : 0]);
  return out;
}

void ReleaseDlpack(void* owner) {
  const std::unique_ptr<Owned> owned(static_cast<Owned*>(owner));
  if (owned->plain != nullptr && owned->plain->deleter != nullptr) owned->plain->deleter(owned->plain);
  if (owned->versioned != nullptr && owned->versioned->deleter != nullptr) {
    owned->versioned->deleter(owned->versioned);
  }
}

}  // namespace mmc::python
