#include "client_sdk/python/src/batch.h"

#include <algorithm>

#include "client_sdk/python/src/dlpack.h"
#include "client_sdk/python/src/status.h"
#include "common/base/limits.h"

namespace mmc::python {
namespace {

constexpr uint64_t kPageBytes = 4096;  // the smallest that memory is mapped by

// False for an int that is out of range. Raises TypeError for what is no int.
bool TryUint(PyObject* number, const char* what, uint64_t* out) {
  if (PyLong_Check(number) != 0) {
    *out = PyLong_AsUnsignedLongLong(number);
    if (*out != ~uint64_t{0} || PyErr_Occurred() == nullptr) return true;
    PyErr_Clear();
    return false;
  }
  const py::object index = py::reinterpret_steal<py::object>(PyNumber_Index(number));
  if (!index) {
    PyErr_Clear();
    PyErr_Format(PyExc_TypeError, "%s must be an int, not %.100s", what, Py_TYPE(number)->tp_name);
    throw py::error_already_set();
  }
  return TryUint(index.ptr(), what, out);
}

std::string NotUint(PyObject* number, const char* what) {
  return std::string(what) + " " + py::repr(number).cast<std::string>() +
         ": 0 to 2^64 - 1 are possible";
}

// What Python said, as one line, and no error any more.
std::string TakeError() {
  const py::error_already_set error;
  return py::str(error.value()).cast<std::string>();
}

std::string TypeName(PyObject* object) { return Py_TYPE(object)->tp_name; }

}  // namespace

uint64_t ToUint(PyObject* number, const char* what) {
  uint64_t out = 0;
  if (!TryUint(number, what, &out)) RaiseInvalid(NotUint(number, what));
  return out;
}

FastSequence::FastSequence(PyObject* object, const char* what) {
  if (PyUnicode_Check(object) != 0 || PyBytes_Check(object) != 0) {
    PyErr_Format(PyExc_TypeError, "%s must be a sequence, not one %.100s", what,
                 Py_TYPE(object)->tp_name);
    throw py::error_already_set();
  }
  if (PyList_Check(object) != 0 || PyTuple_Check(object) != 0) {  // no message is needed, and none made
    held_ = py::reinterpret_borrow<py::object>(object);
    return;
  }
  const std::string message = std::string(what) + " must be a sequence, not " + TypeName(object);
  held_ = py::reinterpret_steal<py::object>(PySequence_Fast(object, message.c_str()));
  if (!held_) throw py::error_already_set();
}

py::object FastSequence::operator[](size_t i) const {
  if (i >= size()) RaiseInvalid("a list became shorter while it was read");
  return py::reinterpret_borrow<py::object>(
      PySequence_Fast_GET_ITEM(held_.ptr(), static_cast<Py_ssize_t>(i)));
}

bool ViewOfKey(PyObject* key, std::string_view* out) {
  if (PyUnicode_Check(key) != 0) {
    Py_ssize_t size = 0;
    const char* text = PyUnicode_AsUTF8AndSize(key, &size);
    if (text == nullptr) {
      PyErr_Clear();
      return false;
    }
    *out = {text, static_cast<size_t>(size)};
    return true;
  }
  if (PyBytes_Check(key) != 0) {
    *out = {PyBytes_AS_STRING(key), static_cast<size_t>(PyBytes_GET_SIZE(key))};
    return true;
  }
  PyErr_Format(PyExc_TypeError, "a key is str or bytes, not %.100s", Py_TYPE(key)->tp_name);
  throw py::error_already_set();
}

KeyBatch::KeyBatch(PyObject* keys) {
  const FastSequence sequence(keys, "keys");
  keys_.resize(sequence.size());
  for (size_t i = 0; i < keys_.size(); ++i) (void)ViewOfKey(sequence[i].ptr(), &keys_[i]);
  held_.reserve(keys_.size());
  for (size_t i = 0; i < keys_.size(); ++i) held_.push_back(sequence[i].release().ptr());
}

KeyBatch::~KeyBatch() {
  for (PyObject* key : held_) Py_DECREF(key);
}

void KeyBatch::Good(std::vector<std::string_view>* keys, std::vector<size_t>* positions) const {
  for (size_t i = 0; i < keys_.size(); ++i) {
    if (keys_[i].empty() || keys_[i].size() > kMaxKeyBytes) continue;
    keys->push_back(keys_[i]);
    positions->push_back(i);
  }
}

ItemBatch::~ItemBatch() {
  for (Py_buffer& buffer : buffers_) PyBuffer_Release(&buffer);
  for (const auto& [release, what] : releases_) release(what);
  for (PyObject* object : held_) Py_DECREF(object);
}

void ItemBatch::Begin(PyObject* key) {
  Entry& entry = entries_.emplace_back();
  entry.first = use_ == Use::kRead ? sources_.size() : targets_.size();
  if (!ViewOfKey(key, &entry.key)) SetWrong("the key cannot be written as UTF-8; give it as bytes");
  Py_INCREF(key);
  held_.push_back(key);
}

void ItemBatch::SetWrong(std::string message) { SetWrong(&entries_.back(), std::move(message)); }

void ItemBatch::SetWrong(Entry* entry, std::string message) {
  if (entry->wrong.ok()) ++wrong_;
  entry->wrong = Status(Code::kInvalidArgument, std::move(message));
}

void ItemBatch::Push(uint64_t address, uint64_t bytes) {
  if (bytes == 0) return;
  if (address == 0)
    return SetWrong("the address of a piece of " + std::to_string(bytes) + " bytes is 0");
  ++entries_.back().pieces;
  auto* data =
      reinterpret_cast<void*>(static_cast<uintptr_t>(address));  // NOLINT: the caller's address
  if (use_ == Use::kRead) {
    sources_.push_back({data, bytes});
  } else {
    targets_.push_back({data, bytes});
  }
}

void ItemBatch::PushRaw(uint64_t address, uint64_t bytes) {
  if (bytes > 0 && address > ~uint64_t{0} - (bytes - 1))
    return SetWrong("a piece of " + std::to_string(bytes) + " bytes does not end in memory");
  Push(address, bytes);
  LookAt(address, bytes);
}

void ItemBatch::PushTensor(uint64_t address, uint64_t bytes) {
  Push(address, bytes);
  if (use_ == Use::kWrite) LookAt(address, bytes);
}

void ItemBatch::LookAt(uint64_t address, uint64_t bytes) {
  if (bytes == 0 || address == 0 || Registered({address, bytes})) return;
  if (use_ == Use::kWrite) {
    raw_targets_.push_back({address, bytes});
    raw_target_entries_.push_back(entries_.size() - 1);
  }
  for (const uint64_t end : {address, address + bytes - 1}) {
    // One look at a page of an item is enough.
    if (!raw_ends_.empty() && raw_entries_.back() == entries_.size() - 1 &&
        reinterpret_cast<uintptr_t>(raw_ends_.back()) / kPageBytes == end / kPageBytes) {
      continue;
    }
    raw_ends_.push_back(reinterpret_cast<const void*>(static_cast<uintptr_t>(end)));  // NOLINT
    raw_entries_.push_back(entries_.size() - 1);
  }
}

bool ItemBatch::Registered(const MemoryRange& piece) const {
  if (registered_ == nullptr) return false;
  return (use_ == Use::kWrite ? registered_->writable : registered_->readable).Contain(piece);
}

void ItemBatch::CheckRaw() {
  const bool written = use_ == Use::kWrite;
  for (const size_t at : written ? UnwritableBytes(raw_ends_) : Unreadable(raw_ends_)) {
    SetWrong(&entries_[raw_entries_[at]],
             "byte " + std::to_string(reinterpret_cast<uintptr_t>(raw_ends_[at])) +
                 " of a piece is not in memory that this process can " + (written ? "write" : "read"));
  }
  for (const size_t at : Unwritable(raw_targets_)) {
    Entry& entry = entries_[raw_target_entries_[at]];
    if (!entry.wrong.ok()) continue;
    const MemoryRange& range = raw_targets_[at];
    SetWrong(&entry, "a piece of " + std::to_string(range.bytes) + " bytes at " + std::to_string(range.address) +
                         " cannot be written by this process");
  }
}

void ItemBatch::AddItems(PyObject* items, bool ranges) {
  py::object pairs = py::reinterpret_borrow<py::object>(items);
  if (PyList_Check(items) == 0 && PyTuple_Check(items) == 0 && PyMapping_Check(items) != 0 &&
      PyObject_HasAttrString(items, "items") != 0) {
    pairs = py::reinterpret_steal<py::object>(PyMapping_Items(items));
    if (!pairs) throw py::error_already_set();
  }
  const FastSequence sequence(pairs.ptr(), "items");
  entries_.reserve(sequence.size());
  for (size_t i = 0; i < sequence.size(); ++i) {
    const FastSequence item(sequence[i].ptr(), "an item");
    if (item.size() != 2 && !(ranges && item.size() == 3)) {
      RaiseInvalid("item " + std::to_string(i) + " has " + std::to_string(item.size()) +
                   " members, not (key, pieces" + (ranges ? ") or (key, pieces, offset)" : ")"));
    }
    AddItem(item[0].ptr(), item[1].ptr(), item.size() == 3 ? item[2].ptr() : nullptr);
  }
  CheckRaw();
}

void ItemBatch::AddItem(PyObject* key, PyObject* pieces, PyObject* offset) {
  Begin(key);
  if (offset != nullptr) entries_.back().offset = ToUint(offset, "an offset");
  AddPieces(pieces);
}

void ItemBatch::AddPieces(PyObject* pieces) {
  const bool many = PyList_Check(pieces) != 0 || PyTuple_Check(pieces) != 0;
  if (!many || AddRawPair(pieces)) {
    if (!many) AddPiece(pieces);
    return;
  }
  const FastSequence sequence(pieces, "pieces");
  for (size_t i = 0; i < sequence.size(); ++i) AddPiece(sequence[i].ptr());
}

bool ItemBatch::AddRawPair(PyObject* piece) {
  if (PyTuple_Check(piece) == 0 || PyTuple_GET_SIZE(piece) != 2) return false;
  PyObject* address = PyTuple_GET_ITEM(piece, 0);
  PyObject* bytes = PyTuple_GET_ITEM(piece, 1);
  // Arrays of one int have an index too, but are sequences.
  const auto is_int = [](PyObject* o) { return PyIndex_Check(o) != 0 && PySequence_Check(o) == 0; };
  if (!is_int(address) || !is_int(bytes)) return false;
  PushRaw(ToUint(address, "an address"), ToUint(bytes, "a byte count"));
  return true;
}

void ItemBatch::AddPiece(PyObject* piece) {
  if (AddRawPair(piece)) return;
  if (PyObject_CheckBuffer(piece) != 0) return AddBuffer(piece);
  if (PyObject_HasAttrString(piece, "data_ptr") != 0) return AddTensor(piece);
  if (PyObject_HasAttrString(piece, "__dlpack__") != 0) return AddDlpack(piece);
  PyErr_Format(
      PyExc_TypeError,
      "%.100s is no buffer: bytes, numpy arrays, memoryviews, CPU tensors and (address, bytes) are",
      Py_TYPE(piece)->tp_name);
  throw py::error_already_set();
}

void ItemBatch::AddBuffer(PyObject* piece) {
  Py_buffer& buffer = buffers_.emplace_back();
  if (PyObject_GetBuffer(piece, &buffer, use_ == Use::kWrite ? PyBUF_WRITABLE : PyBUF_SIMPLE) ==
      0) {
    return Push(reinterpret_cast<uint64_t>(buffer.buf), static_cast<uint64_t>(buffer.len));
  }
  buffers_.pop_back();
  const std::string said = TakeError();
  // Element types without a format character (bfloat16): DLPack knows them.
  if (PyObject_HasAttrString(piece, "__dlpack__") != 0 &&
      said.find("contiguous") == std::string::npos && said.find("read-only") == std::string::npos) {
    return AddDlpack(piece);
  }
  RaiseInvalid("a " + TypeName(piece) + " cannot be used as " +
               (use_ == Use::kWrite ? "a target: " : "a source: ") + said +
               " (C-contiguous buffers are needed)");
}

void ItemBatch::AddTensor(PyObject* piece) {
  const py::handle tensor(piece);
  const std::string device =
      py::str(py::getattr(tensor, "device", py::str("cpu"))).cast<std::string>();
  if (!device.starts_with("cpu")) {
    Raise(Status(Code::kUnsupported,
                 "a tensor on " + device + ": only tensors in host memory are possible"));
  }
  if (py::hasattr(tensor, "is_contiguous") && !tensor.attr("is_contiguous")().cast<bool>()) {
    RaiseInvalid("a " + TypeName(piece) + " is not contiguous; use .contiguous()");
  }
  const py::object bytes = py::hasattr(tensor, "nbytes")
                               ? py::object(tensor.attr("nbytes"))
                               : tensor.attr("numel")() * tensor.attr("element_size")();
  Py_INCREF(piece);
  held_.push_back(piece);
  PushTensor(ToUint(py::object(tensor.attr("data_ptr")()).ptr(), "data_ptr()"), ToUint(bytes.ptr(), "nbytes"));
}

void ItemBatch::AddDlpack(PyObject* piece) {
  const DlpackMemory memory = TakeDlpack(piece, use_ == Use::kWrite);
  releases_.emplace_back(&ReleaseDlpack, memory.owner);
  PushTensor(memory.address, memory.bytes);
}

void ItemBatch::AddPointers(PyObject* keys, PyObject* ptrs, PyObject* sizes, PyObject* offsets) {
  const FastSequence all_keys(keys, "keys");
  const FastSequence all_ptrs(ptrs, "ptrs");
  const FastSequence all_sizes(sizes, "sizes");
  const FastSequence all_offsets(offsets == nullptr ? keys : offsets, "offsets");
  const size_t n = all_keys.size();
  if (all_ptrs.size() != n || all_sizes.size() != n || all_offsets.size() != n) {
    RaiseInvalid(
        std::to_string(n) + " keys with " + std::to_string(all_ptrs.size()) +
        " lists of addresses and " + std::to_string(all_sizes.size()) + " of sizes" +
        (offsets == nullptr ? "" : " and " + std::to_string(all_offsets.size()) + " offsets") +
        ": as many as keys are needed");
  }
  entries_.reserve(n);
  held_.reserve(n);
  for (size_t i = 0; i < n; ++i) {
    Begin(all_keys[i].ptr());
    if (offsets != nullptr &&
        !TryUint(all_offsets[i].ptr(), "an offset", &entries_.back().offset)) {
      SetWrong(NotUint(all_offsets[i].ptr(), "an offset"));
    }
    AddPointerPieces(i, all_ptrs[i].ptr(), all_sizes[i].ptr());
  }
  CheckRaw();
}

void ItemBatch::AddPointerPieces(size_t i, PyObject* ptrs, PyObject* sizes) {
  const FastSequence addresses(ptrs, "the addresses of a key");
  const FastSequence bytes(sizes, "the sizes of a key");
  if (addresses.size() != bytes.size()) {
    RaiseInvalid("key " + std::to_string(i) + " has " + std::to_string(addresses.size()) +
                 " addresses and " + std::to_string(bytes.size()) + " sizes");
  }
  for (size_t j = 0; j < bytes.size(); ++j) {
    const py::object address = addresses[j];
    const py::object size = bytes[j];
    uint64_t at = 0;
    uint64_t n = 0;
    if (!TryUint(address.ptr(), "an address", &at)) {
      SetWrong(NotUint(address.ptr(), "an address"));
    } else if (!TryUint(size.ptr(), "a size", &n)) {
      SetWrong(NotUint(size.ptr(), "a size"));
    } else {
      PushRaw(at, n);
    }
  }
}

void ItemBatch::AddGroups(PyObject* groups) {
  if (groups == Py_None) return;
  const FastSequence names(groups, "groups");
  if (names.size() != entries_.size()) {
    RaiseInvalid(std::to_string(names.size()) + " groups for " + std::to_string(entries_.size()) +
                 " items: as many are needed");
  }
  for (size_t i = 0; i < entries_.size(); ++i) {
    py::object name = names[i];
    if (name.is_none()) continue;
    if (!ViewOfKey(name.ptr(), &entries_[i].group)) {
      SetWrong(&entries_[i], "the group cannot be written as UTF-8; give it as bytes");
    }
    held_.push_back(name.release().ptr());
  }
}

std::vector<PutItem> ItemBatch::PutItems() const {
  std::vector<PutItem> out;
  out.reserve(entries_.size() - wrong_);
  for (const Entry& entry : entries_) {
    if (!entry.wrong.ok()) continue;
    out.push_back({entry.key, std::span(sources_).subspan(entry.first, entry.pieces), entry.group});
  }
  return out;
}

std::vector<GetItem> ItemBatch::GetItems(bool allow_short) const {
  std::vector<GetItem> out;
  out.reserve(entries_.size() - wrong_);
  for (const Entry& entry : entries_) {
    if (!entry.wrong.ok()) continue;
    out.push_back({entry.key, std::span(targets_).subspan(entry.first, entry.pieces), entry.offset,
                   allow_short});
  }
  return out;
}

template <typename R>
std::vector<R> ItemBatch::Merge(std::vector<R> tried) const {
  if (wrong_ == 0) return tried;
  std::vector<R> out;
  out.reserve(entries_.size());
  size_t next = 0;
  for (const Entry& entry : entries_) {
    out.push_back(entry.wrong.ok() ? std::move(tried[next++]) : R{entry.wrong});
  }
  return out;
}

std::vector<Status> ItemBatch::All(std::vector<Status> tried) const {
  return Merge(std::move(tried));
}
std::vector<GetResult> ItemBatch::All(std::vector<GetResult> tried) const {
  return Merge(std::move(tried));
}

}  // namespace mmc::python
