#include "client_sdk/python/src/async.h"

#include <pybind11/stl.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <unordered_map>
#include <utility>
#include <vector>

#include "client_sdk/python/src/gil.h"
#include "client_sdk/python/src/params.h"
#include "client_sdk/python/src/status.h"
#include "common/base/mutex.h"

namespace mmc::python {
namespace {

// A call that runs. Destroyed with the GIL.
struct Call {
  std::unique_ptr<ItemBatch> items;    // of a transfer
  std::unique_ptr<Question> question;  // or this
  bool is_put = false;
  std::vector<Status> put;
  std::vector<GetResult> got;

  py::object Answer() {
    if (question != nullptr) return question->Answer();
    if (is_put) return ToPython(items->All(std::move(put)));
    return ToPython(items->All(std::move(got)));
  }
};

}  // namespace

// Shared with the library's threads. `calls` is guarded by the GIL, the rest by the mutex.
class AsyncCore {
 public:
  AsyncCore() : fd_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
    if (fd_ < 0) Raise(ErrnoStatus("eventfd", errno));
  }
  ~AsyncCore() { close(fd_); }
  AsyncCore(const AsyncCore&) = delete;
  AsyncCore& operator=(const AsyncCore&) = delete;

  // On a thread of the library: the call has ended.
  void End(uint64_t token) {
    bool orphaned = false;
    {
      MutexLock lock(mutex_);
      orphaned = orphaned_;
      if (!orphaned) ended_.push_back(token);
    }
    if (orphaned) {
      const GilTake taken;
      calls.erase(token);
      return;
    }
    const uint64_t one = 1;
    // Fails only when the counter is full, and the descriptor is readable then.
    [[maybe_unused]] const ssize_t written = write(fd_, &one, sizeof(one));
  }

  std::vector<uint64_t> TakeEnded() {
    uint64_t count = 0;
    [[maybe_unused]] const ssize_t got = read(fd_, &count, sizeof(count));
    MutexLock lock(mutex_);
    return std::exchange(ended_, {});
  }

  // Nobody asks any more: calls that end from now on are dropped, those that had ended are
  // returned.
  std::vector<uint64_t> Orphan() {
    MutexLock lock(mutex_);
    orphaned_ = true;
    return std::exchange(ended_, {});
  }

  int fd() const { return fd_; }

  std::unordered_map<uint64_t, Call> calls;
  uint64_t next_token = 1;

 private:
  const int fd_;
  Mutex mutex_;
  std::vector<uint64_t> ended_ MMC_GUARDED_BY(mutex_);
  bool orphaned_ MMC_GUARDED_BY(mutex_) = false;
};

AsyncQueue::AsyncQueue(std::shared_ptr<ClientState> state)
    : state_(std::move(state)), core_(std::make_shared<AsyncCore>()) {}

AsyncQueue::~AsyncQueue() {
  if (state_->foreign()) {
    // Its calls run in another process, and their buffers are of no use here, but neither may they
    // be touched.
    auto* leaked = new std::shared_ptr<AsyncCore>(std::move(core_));
    static_cast<void>(leaked);
    return;
  }
  for (const uint64_t token : core_->Orphan()) core_->calls.erase(token);
  WithoutGil([this] { state_.reset(); });
}

int AsyncQueue::fd() const { return core_->fd(); }

uint64_t AsyncQueue::Put(const py::object& items, const py::object& groups, PutOptions options) {
  Client& client = state_->client();
  auto batch = std::make_unique<ItemBatch>(ItemBatch::Use::kRead, state_->memory().known());
  batch->AddItems(items.ptr(), /*ranges=*/false);
  batch->AddGroups(groups.ptr());
  std::vector<PutItem> put = batch->PutItems();
  const uint64_t token = core_->next_token++;
  Call* call =
      &core_->calls[token];  // stays where it is; the library's thread hands it back with End()
  call->items = std::move(batch);
  call->is_put = true;
  const Status started = client.PutAsync(std::move(put), std::move(options),
                                         [core = core_, call, token](std::vector<Status> statuses) {
                                           call->put = std::move(statuses);
                                           core->End(token);
                                         });
  if (!started.ok()) {
    core_->calls.erase(token);
    Raise(started);
  }
  return token;
}

uint64_t AsyncQueue::GetInto(const py::object& items, bool allow_short,
                             std::chrono::milliseconds timeout) {
  Client& client = state_->client();
  auto batch = std::make_unique<ItemBatch>(ItemBatch::Use::kWrite, state_->memory().known());
  batch->AddItems(items.ptr(), /*ranges=*/true);
  std::vector<GetItem> get = batch->GetItems(allow_short);
  const uint64_t token = core_->next_token++;
  Call* call = &core_->calls[token];
  call->items = std::move(batch);
  const Status started = client.GetIntoAsync(
      std::move(get), {timeout}, [core = core_, call, token](std::vector<GetResult> results) {
        call->got = std::move(results);
        core->End(token);
      });
  if (!started.ok()) {
    core_->calls.erase(token);
    Raise(started);
  }
  return token;
}

uint64_t AsyncQueue::Start(std::unique_ptr<Question> question) {
  static_cast<void>(state_->client());  // of this process?
  const uint64_t token = core_->next_token++;
  Call* call = &core_->calls[token];
  call->question = std::move(question);
  // The state outlives its jobs: it ends them before it goes.
  const Status started = state_->Submit([core = core_, call, token, state = state_.get()] {
    call->question->Ask(*state);
    core->End(token);
  });
  if (!started.ok()) {
    core_->calls.erase(token);
    Raise(started);
  }
  return token;
}

py::list AsyncQueue::Take() {
  py::list out;
  for (const uint64_t token : core_->TakeEnded()) {
    const auto found = core_->calls.find(token);
    if (found == core_->calls.end()) continue;
    py::object answer;
    bool ok = true;
    try {
      answer = found->second.Answer();
    } catch (const py::error_already_set& error) {
      answer = error.value();
      ok = false;
    }
    core_->calls.erase(found);
    out.append(py::make_tuple(token, ok, answer));
  }
  return out;
}

void BindAsync(py::module_& m) {
  py::class_<AsyncQueue>(m, "AsyncQueue", "Calls of one asyncio loop; see AsyncClient.")
      .def(py::init([](const std::shared_ptr<ClientState>& state) {
             return std::make_unique<AsyncQueue>(state);
           }),
           py::arg("client").none(false))
      .def("fileno", &AsyncQueue::fd)
      .def("take", &AsyncQueue::Take)
      .def(
          "put",
          [](AsyncQueue& q, const py::object& items, uint32_t replicas,
             std::vector<std::string> preferred_nodes, bool prefer_local,
             const py::object& timeout, const py::object& soft_pin, bool hard_pin, const py::object& groups) {
            return q.Put(items, groups,
                         MakePutOptions(replicas, std::move(preferred_nodes), prefer_local, timeout, soft_pin,
                                        hard_pin));
          },
          py::arg("items"), py::kw_only(), py::arg("replicas") = 1,
          py::arg("preferred_nodes") = py::tuple(), py::arg("prefer_local") = true,
          py::arg("timeout") = py::none(), py::arg("soft_pin") = py::none(), py::arg("hard_pin") = false,
          py::arg("groups") = py::none())
      .def(
          "get_into",
          [](AsyncQueue& q, const py::object& items, bool allow_short, const py::object& timeout) {
            return q.GetInto(items, allow_short, ParseTimeout(timeout));
          },
          py::arg("items"), py::kw_only(), py::arg("allow_short") = false,
          py::arg("timeout") = py::none())
      .def(
          "get_results",
          [](AsyncQueue& q, const py::object& keys, const py::object& timeout) {
            return q.Start(AskValues(keys, ParseTimeout(timeout)));
          },
          py::arg("keys"), py::kw_only(), py::arg("timeout") = py::none())
      .def("exists",
           [](AsyncQueue& q, const py::object& keys, const py::object& lease,
              const py::object& timeout) {
             return q.Start(AskExists(keys, MakeExistsOptions(lease, timeout), false));
           },
           py::arg("keys"), py::kw_only(), py::arg("lease") = py::none(),
           py::arg("timeout") = py::none())
      .def("prefix", [](AsyncQueue& q, const py::object& keys) { return q.Start(AskPrefix(keys)); })
      .def("stat", [](AsyncQueue& q, const py::object& keys) { return q.Start(AskStat(keys)); })
      .def("remove",
           [](AsyncQueue& q, const py::object& keys) { return q.Start(AskRemove(keys, false)); })
      .def("remove_by_prefix",
           [](AsyncQueue& q, const py::object& prefix) {
             return q.Start(AskRemoveByPrefix(prefix));
           })
      .def("remove_all", [](AsyncQueue& q) { return q.Start(AskRemoveAll()); })
      .def(
          "list",
          [](AsyncQueue& q, const py::object& prefix, const py::bytes& page_token, uint32_t limit) {
            return q.Start(AskList(prefix, page_token, limit));
          },
          py::arg("prefix") = "", py::kw_only(), py::arg("page_token") = py::bytes(),
          py::arg("limit") = 1000)
      .def("view",
           [](AsyncQueue& q, const py::object& key) { return q.Start(AskView(key, q.state())); })
      .def("cluster", [](AsyncQueue& q) { return q.Start(AskCluster()); });
}

}  // namespace mmc::python
