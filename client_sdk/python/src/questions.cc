#include "client_sdk/python/src/questions.h"

#include <functional>
#include <optional>

#include "client_sdk/python/src/gil.h"
#include "client_sdk/python/src/status.h"
#include "client_sdk/python/src/values.h"
#include "client_sdk/python/src/view.h"
#include "common/base/limits.h"

namespace mmc::python {
namespace {

// The usual shape: keys, one call, one conversion.
template <typename T>
class KeyQuestion final : public Question {
 public:
  using Call = std::function<Result<T>(Client&, const KeyBatch&)>;
  using Convert = std::function<py::object(T&)>;

  // `about`: the key that errors name; None when there is no one key.
  KeyQuestion(const py::object& keys, Call call, Convert convert, py::object about)
      : keys_(keys.ptr()),
        call_(std::move(call)),
        convert_(std::move(convert)),
        about_(std::move(about)) {}

  void Ask(ClientState& state) override { result_ = call_(state.client(), keys_); }
  py::object Answer() override {
    if (!result_->ok()) Raise(result_->status(), about_.ptr());
    return convert_(result_->value());
  }

 private:
  const KeyBatch keys_;
  const Call call_;
  const Convert convert_;
  const py::object about_;
  std::optional<Result<T>> result_;
};

template <typename T>
std::unique_ptr<Question> Make(const py::object& keys, typename KeyQuestion<T>::Call call,
                               typename KeyQuestion<T>::Convert convert,
                               py::object about = py::none()) {
  return std::make_unique<KeyQuestion<T>>(keys, std::move(call), std::move(convert),
                                          std::move(about));
}

// One key or prefix, as text of its own.
std::string TextOf(const py::object& key) {
  std::string_view view;
  if (!ViewOfKey(key.ptr(), &view))
    RaiseInvalid("the text cannot be written as UTF-8; give it as bytes");
  return std::string(view);
}

// What the service is asked about are keys that can be; what cannot be a key is not there.
Result<std::vector<uint8_t>> ExistsOf(Client& client, const KeyBatch& keys,
                                      const ExistsOptions& options) {
  std::vector<std::string_view> good;
  std::vector<size_t> positions;
  keys.Good(&good, &positions);
  MMC_ASSIGN_OR_RETURN(const std::vector<uint8_t> present, client.Exists(good, options));
  std::vector<uint8_t> out(keys.keys().size());
  for (size_t i = 0; i < positions.size(); ++i) out[positions[i]] = present[i];
  return out;
}

Result<uint32_t> PrefixOf(Client& client, const KeyBatch& keys) {
  std::vector<std::string_view> good;
  std::vector<size_t> positions;
  keys.Good(&good, &positions);
  size_t n = 0;
  while (n < positions.size() && positions[n] == n) ++n;
  return client.Prefix(std::span(good).first(n));
}

py::list CodesOf(const std::vector<Status>& statuses) {
  py::list out(statuses.size());
  for (size_t i = 0; i < statuses.size(); ++i) out[i] = static_cast<uint32_t>(statuses[i].code());
  return out;
}

struct PyListPage {
  py::list keys;
  py::list sizes;
  py::bytes next_page_token;
};

py::object PageToPython(ListPage& page) {
  PyListPage out;
  for (const std::string& key : page.keys) out.keys.append(KeyToPython(key));
  for (const uint64_t size : page.sizes) out.sizes.append(size);
  out.next_page_token = py::bytes(page.next_page_token);
  return py::cast(std::move(out));
}

class ValuesQuestion final : public Question {
 public:
  ValuesQuestion(const py::object& keys, std::chrono::milliseconds timeout)
      : keys_(keys.ptr()), timeout_(timeout) {}

  void Ask(ClientState& state) override {
    const GilTake taken;
    try {
      values_ = ReadValues(state, keys_, timeout_);
    } catch (py::error_already_set& error) {
      error.restore();
      PyErr_Clear();
      failed_ = Status(Code::kInternal, "no memory for the values");
    }
  }
  py::object Answer() override {
    RaiseUnlessOk(failed_);
    py::list out(values_.size());
    for (size_t i = 0; i < values_.size(); ++i) {
      out[i] = py::make_tuple(ToPython(values_[i].status), std::move(values_[i].bytes));
    }
    return out;
  }

 private:
  const KeyBatch keys_;
  const std::chrono::milliseconds timeout_;
  std::vector<Value> values_;
  Status failed_;
};

}  // namespace

std::unique_ptr<Question> AskExists(const py::object& keys, const ExistsOptions& options,
                                    bool as_codes) {
  const auto ask = [options](Client& client, const KeyBatch& batch) {
    return ExistsOf(client, batch, options);
  };
  return Make<std::vector<uint8_t>>(keys, ask, [as_codes](std::vector<uint8_t>& present) {
    py::list out(present.size());
    for (size_t i = 0; i < present.size(); ++i) {
      out[i] = as_codes ? py::object(py::int_(present[i])) : py::object(py::bool_(present[i] != 0));
    }
    return out;
  });
}

std::unique_ptr<Question> AskPrefix(const py::object& keys) {
  return Make<uint32_t>(keys, &PrefixOf, [](uint32_t& n) { return py::int_(n); });
}

std::unique_ptr<Question> AskStat(const py::object& keys) {
  return Make<std::vector<ObjectInfo>>(
      keys, [](Client& client, const KeyBatch& batch) { return client.Stat(batch.keys()); },
      [](std::vector<ObjectInfo>& infos) {
        py::list out(infos.size());
        for (size_t i = 0; i < infos.size(); ++i) out[i] = py::cast(std::move(infos[i]));
        return out;
      });
}

std::unique_ptr<Question> AskSizes(const py::object& keys) {
  return Make<std::vector<ObjectInfo>>(
      keys, [](Client& client, const KeyBatch& batch) { return client.Stat(batch.keys()); },
      [](std::vector<ObjectInfo>& infos) {
        py::list out(infos.size());
        for (size_t i = 0; i < infos.size(); ++i) {
          const auto code = -static_cast<int64_t>(infos[i].status.code());
          out[i] = py::int_(code != 0 ? code : static_cast<int64_t>(infos[i].size));
        }
        return out;
      });
}

std::unique_ptr<Question> AskRemove(const py::object& keys, bool as_codes) {
  return Make<std::vector<Status>>(
      keys, [](Client& client, const KeyBatch& batch) { return client.Remove(batch.keys()); },
      [as_codes](std::vector<Status>& statuses) {
        return as_codes ? CodesOf(statuses) : ToPython(statuses);
      });
}

std::unique_ptr<Question> AskRemoveByPrefix(const py::object& prefix) {
  return Make<uint64_t>(
      py::tuple(),
      [text = TextOf(prefix)](Client& client, const KeyBatch&) {
        return client.RemoveByPrefix(text);
      },
      [](uint64_t& n) { return py::int_(n); });
}

std::unique_ptr<Question> AskRemoveAll() {
  return Make<uint64_t>(
      py::tuple(), [](Client& client, const KeyBatch&) { return client.RemoveAll(); },
      [](uint64_t& n) { return py::int_(n); });
}

std::unique_ptr<Question> AskList(const py::object& prefix, const py::bytes& page_token,
                                  uint32_t limit) {
  return Make<ListPage>(
      py::tuple(),
      [text = TextOf(prefix), token = std::string(page_token), limit](
          Client& client, const KeyBatch&) { return client.List(text, token, limit); },
      &PageToPython);
}

std::unique_ptr<Question> AskView(const py::object& key,
                                  const std::shared_ptr<ClientState>& state) {
  return Make<View>(
      py::tuple(),
      [text = TextOf(key)](Client& client, const KeyBatch&) { return client.MakeView(text); },
      // Not held: a question may end on a thread of the state itself. Who takes the answer holds
      // it.
      [weak = std::weak_ptr<ClientState>(state)](View& view) {
        return py::cast(PyView::Of(weak.lock(), std::move(view)));
      },
      key);
}

std::unique_ptr<Question> AskCluster() {
  return Make<ClusterStatus>(
      py::tuple(), [](Client& client, const KeyBatch&) { return client.Cluster(); },
      [](ClusterStatus& status) { return py::cast(std::move(status)); });
}

std::unique_ptr<Question> AskValues(const py::object& keys, std::chrono::milliseconds timeout) {
  return std::make_unique<ValuesQuestion>(keys, timeout);
}

void BindQuestions(py::module_& m) {
  py::class_<PyListPage>(
      m, "ListPage",
      "Keys (bytes where one is not UTF-8) and sizes; an empty token: the last page.")
      .def_readonly("keys", &PyListPage::keys)
      .def_readonly("sizes", &PyListPage::sizes)
      .def_readonly("next_page_token", &PyListPage::next_page_token)
      .def("__repr__", [](const PyListPage& page) {
        const std::string more =
            py::len(page.next_page_token) == 0 ? ", the last>" : ", more follow>";
        return "<ListPage of " + std::to_string(py::len(page.keys)) + " keys" + more;
      });
}

}  // namespace mmc::python
