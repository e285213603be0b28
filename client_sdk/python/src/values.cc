#include "client_sdk/python/src/values.h"

#include <algorithm>

#include "client_sdk/python/src/gil.h"
#include "common/base/bytes.h"

namespace mmc::python {
namespace {

constexpr uint64_t kGuessedAtOnce = 256_MiB;  // of a batch, before its sizes are known
constexpr uint64_t kLargestGuess = 64_MiB;
constexpr uint64_t kSmallestGuess = 4_KiB;
constexpr int kRounds = 4;  // a value may be replaced by one of another size between two rounds

struct Reading {
  size_t position;
  uint64_t room;
  PyObject* bytes;  // owned
};

class ValueReader {
 public:
  ValueReader(ClientState& state, const KeyBatch& keys, std::chrono::milliseconds timeout)
      : state_(state), keys_(keys.keys()), timeout_(timeout), out_(keys_.size()) {}
  ~ValueReader() {
    for (const Reading& reading : readings_) Py_XDECREF(reading.bytes);
  }

  std::vector<Value> Run() {
    const uint64_t share = kGuessedAtOnce / std::max<size_t>(keys_.size(), 1);
    const uint64_t guess = std::min(state_.typical_size.load(), std::max(share, kSmallestGuess));
    for (size_t i = 0; i < keys_.size(); ++i) Add(i, guess);
    for (int round = 0; round < kRounds && !readings_.empty(); ++round) Round(round > 0);
    for (const Reading& reading : readings_) {
      out_[reading.position].status = Status(Code::kSizeMismatch, "the value was replaced again and again while it was read");
    }
    for (Value& value : out_) {
      if (!value.bytes) value.bytes = py::none();
    }
    return std::move(out_);
  }

 private:
  void Add(size_t position, uint64_t room) {
    PyObject* bytes = PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(room));
    if (bytes == nullptr) throw py::error_already_set();
    readings_.push_back({position, room, bytes});
  }

  // Reads what is to be read; keeps what has to be read again, with the right room.
  void Round(bool exact) {
    std::vector<Buffer> buffers(readings_.size());
    std::vector<GetItem> items(readings_.size());
    for (size_t i = 0; i < readings_.size(); ++i) {
      buffers[i] = {PyBytes_AS_STRING(readings_[i].bytes), readings_[i].room};
      items[i] = {keys_[readings_[i].position], {&buffers[i], 1}, 0, !exact};
    }
    Client& client = state_.client();
    std::vector<GetResult> results;
    {
      const GilRelease released;
      results = client.GetInto(items, {timeout_});
    }
    std::vector<Reading> read;
    read.swap(readings_);
    size_t i = 0;
    try {
      for (; i < read.size(); ++i) Settle(std::exchange(read[i].bytes, nullptr), read[i], results[i]);
    } catch (...) {
      for (const Reading& rest : read) Py_XDECREF(rest.bytes);
      throw;
    }
  }

  // Takes `bytes`.
  void Settle(PyObject* bytes, const Reading& reading, const GetResult& result) {
    Value& value = out_[reading.position];
    value.status = result.status;
    const bool again = (result.status.ok() && result.bytes != result.size) ||
                       (result.status.code() == Code::kSizeMismatch && result.size > 0);
    if (again) {
      Py_DECREF(bytes);
      return Add(reading.position, result.size);
    }
    if (!result.status.ok()) {
      Py_DECREF(bytes);
      return;
    }
    state_.typical_size = std::clamp(result.size, kSmallestGuess, kLargestGuess);
    if (result.bytes != reading.room && _PyBytes_Resize(&bytes, static_cast<Py_ssize_t>(result.bytes)) != 0) {
      throw py::error_already_set();
    }
    value.bytes = py::reinterpret_steal<py::object>(bytes);
  }

  ClientState& state_;
  const std::span<const std::string_view> keys_;
  const std::chrono::milliseconds timeout_;
  std::vector<Value> out_;
  std::vector<Reading> readings_;
};

}  // namespace

std::vector<Value> ReadValues(ClientState& state, const KeyBatch& keys, std::chrono::milliseconds timeout) {
  return ValueReader(state, keys, timeout).Run();
}

}  // namespace mmc::python
