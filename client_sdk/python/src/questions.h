// Calls that are one question to the meta service: what they take and how their answers become
// Python objects. The same for clients that wait and for those that do not.
//
// Thread safety: Ask() on any thread, without the GIL; the rest with it. Ownership: a question
// holds its keys.
#pragma once

#include <pybind11/pybind11.h>

#include <memory>
#include <string>

#include "client_sdk/python/src/batch.h"
#include "client_sdk/python/src/state.h"

namespace mmc::python {

class Question {
 public:
  virtual ~Question() = default;
  virtual void Ask(ClientState& state) = 0;
  // After Ask(). Raises what the call met.
  virtual py::object Answer() = 0;
};

std::unique_ptr<Question> AskExists(const py::object& keys, const ExistsOptions& options,
                                    bool as_codes);
std::unique_ptr<Question> AskPrefix(const py::object& keys);
std::unique_ptr<Question> AskStat(const py::object& keys);
std::unique_ptr<Question> AskSizes(const py::object& keys);
std::unique_ptr<Question> AskRemove(const py::object& keys, bool as_codes);
std::unique_ptr<Question> AskRemoveByPrefix(const py::object& prefix);
std::unique_ptr<Question> AskRemoveAll();
std::unique_ptr<Question> AskList(const py::object& prefix, const py::bytes& page_token,
                                  uint32_t limit);
std::unique_ptr<Question> AskView(const py::object& key, const std::shared_ptr<ClientState>& state);
std::unique_ptr<Question> AskCluster();
// Takes the GIL by itself where it needs it.
std::unique_ptr<Question> AskValues(const py::object& keys, std::chrono::milliseconds timeout);

void BindQuestions(py::module_& m);

}  // namespace mmc::python
