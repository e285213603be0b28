// Keys and buffers of one call, taken from Python objects and held until the call is over.
//
// A piece of a value is anything with the buffer protocol, a CPU tensor (data_ptr() or DLPack), or
// (address, bytes). Thread safety: with the GIL, but for the getters, which need none. Ownership:
// holds keys and buffers; must be destroyed with the GIL, after the transfer has ended.
#pragma once

#include <pybind11/pybind11.h>

#include <deque>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "client_sdk/include/mmc/client.h"
#include "client_sdk/python/src/probe.h"

namespace mmc::python {

namespace py = pybind11;

// A list or tuple as it is, anything else that can be iterated copied into a list. Raises TypeError
// with `what`.
class FastSequence {
 public:
  FastSequence(PyObject* object, const char* what);
  size_t size() const { return static_cast<size_t>(PySequence_Fast_GET_SIZE(held_.ptr())); }
  // Held, since a list may be changed while Python code of its members runs. Raises when it has
  // become too short.
  py::object operator[](size_t i) const;

 private:
  py::object held_;
};

// An int of 0 to 2^64 - 1. Raises TypeError for what is no int, InvalidArgumentError for others.
uint64_t ToUint(PyObject* number, const char* what);

// str (UTF-8) or bytes. Raises TypeError for other types; false for text that UTF-8 cannot say.
bool ViewOfKey(PyObject* key, std::string_view* out);

class KeyBatch {
 public:
  explicit KeyBatch(PyObject* keys);
  ~KeyBatch();
  KeyBatch(const KeyBatch&) = delete;
  KeyBatch& operator=(const KeyBatch&) = delete;

  std::span<const std::string_view> keys() const { return keys_; }
  // Those that a key can be (1..2048 bytes), and where they stood.
  void Good(std::vector<std::string_view>* keys, std::vector<size_t>* positions) const;

 private:
  std::vector<std::string_view> keys_;  // empty where a text is not UTF-8: no key is empty
  std::vector<PyObject*> held_;
};

class ItemBatch {
 public:
  enum class Use { kRead, kWrite };  // of the buffers, by the library

  // `registered`: memory of which raw pieces are not looked at; may be null.
  ItemBatch(Use use, std::shared_ptr<const KnownMemory> registered) : use_(use), registered_(std::move(registered)) {}
  ~ItemBatch();
  ItemBatch(const ItemBatch&) = delete;
  ItemBatch& operator=(const ItemBatch&) = delete;

  // A mapping, or pairs (key, pieces); with `ranges` also (key, pieces, offset).
  void AddItems(PyObject* items, bool ranges);
  // keys[i] with addresses ptrs[i] and byte counts sizes[i]; `offsets` may be null.
  void AddPointers(PyObject* keys, PyObject* ptrs, PyObject* sizes, PyObject* offsets);

  // The group of each item, as str, bytes or None; `groups` None: of none.
  void AddGroups(PyObject* groups);

  size_t size() const { return entries_.size(); }
  // Of the items that can be tried; valid as long as the batch.
  std::vector<PutItem> PutItems() const;
  std::vector<GetItem> GetItems(bool allow_short) const;
  // Results of what was tried and of what could not be, in the order of the items.
  std::vector<Status> All(std::vector<Status> tried) const;
  std::vector<GetResult> All(std::vector<GetResult> tried) const;

 private:
  struct Entry {
    std::string_view key;
    uint64_t offset = 0;
    size_t first = 0;  // piece
    size_t pieces = 0;
    std::string_view group;
    Status wrong;
  };

  void AddItem(PyObject* key, PyObject* pieces, PyObject* offset);
  void AddPointerPieces(size_t i, PyObject* ptrs, PyObject* sizes);
  void AddPieces(PyObject* pieces);
  void AddPiece(PyObject* piece);
  bool AddRawPair(PyObject* piece);
  void AddBuffer(PyObject* piece);
  void AddTensor(PyObject* piece);
  void AddDlpack(PyObject* piece);
  void Begin(PyObject* key);
  void SetWrong(std::string message);
  void SetWrong(Entry* entry, std::string message);
  void Push(uint64_t address, uint64_t bytes);
  // Of memory that is nobody's object: CheckRaw() looks whether it is there, and can be written where it is a target.
  // What is registered was looked at then.
  void PushRaw(uint64_t address, uint64_t bytes);
  // Of an object that does not say whether its memory may be written: CheckRaw() looks at targets.
  void PushTensor(uint64_t address, uint64_t bytes);
  void LookAt(uint64_t address, uint64_t bytes);  // in CheckRaw(), unless it is registered
  void CheckRaw();
  template <typename R>
  std::vector<R> Merge(std::vector<R> tried) const;

  bool Registered(const MemoryRange& piece) const;

  const Use use_;
  const std::shared_ptr<const KnownMemory> registered_;
  std::vector<Entry> entries_;
  size_t wrong_ = 0;                  // entries that are not tried
  std::vector<ConstBuffer> sources_;  // Use::kRead
  std::vector<Buffer> targets_;       // Use::kWrite
  std::vector<const void*> raw_ends_;  // first and last bytes of raw pieces
  std::vector<size_t> raw_entries_;    // whose they are
  std::vector<MemoryRange> raw_targets_;     // raw pieces, and tensors; Use::kWrite
  std::vector<size_t> raw_target_entries_;   // whose they are
  std::vector<PyObject*> held_;
  std::deque<Py_buffer> buffers_;
  std::vector<std::pair<void (*)(void*), void*>> releases_;
};

}  // namespace mmc::python
