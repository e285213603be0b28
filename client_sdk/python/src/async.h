// Calls that do not wait: a transfer or question is started, and its end makes a file descriptor
// readable.
//
// A queue holds the buffers of its calls until they have ended, also when the queue itself is gone
// before. Thread safety: with the GIL. Ownership: a queue keeps its client's connection.
#pragma once

#include <pybind11/pybind11.h>

#include <chrono>
#include <cstdint>
#include <memory>

#include "client_sdk/python/src/batch.h"
#include "client_sdk/python/src/questions.h"

namespace mmc::python {

class AsyncCore;

class AsyncQueue {
 public:
  explicit AsyncQueue(std::shared_ptr<ClientState> state);
  ~AsyncQueue();
  AsyncQueue(const AsyncQueue&) = delete;
  AsyncQueue& operator=(const AsyncQueue&) = delete;

  // An eventfd: readable while calls have ended that were not taken. Closed with the queue.
  int fd() const;
  // Tokens of started calls. Raise QueueFullError, ClosedError.
  uint64_t Put(const py::object& items, const py::object& groups, PutOptions options);
  uint64_t GetInto(const py::object& items, bool allow_short, std::chrono::milliseconds timeout);
  uint64_t Start(std::unique_ptr<Question> question);
  // [(token, ok, answer or exception)] of the calls that have ended.
  py::list Take();

  const std::shared_ptr<ClientState>& state() const { return state_; }

 private:
  std::shared_ptr<ClientState> state_;
  std::shared_ptr<AsyncCore> core_;
};

void BindAsync(py::module_& m);

}  // namespace mmc::python
