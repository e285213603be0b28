#include "client_sdk/python/src/engine.h"

#include <pybind11/stl.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "client_sdk/engine/engine.h"
#include "client_sdk/python/src/gil.h"
#include "client_sdk/python/src/live.h"
#include "client_sdk/python/src/options.h"
#include "client_sdk/python/src/probe.h"
#include "client_sdk/python/src/status.h"

namespace mmc::python {
namespace {

using engine::Piece;
using fabric::Direction;
using std::chrono::milliseconds;
using Numbers = std::vector<uint64_t>;

class PyEngine final : public Endable {
 public:
  PyEngine() : forks_(ForkCount()), engine_(std::make_unique<engine::Engine>()) {}
  ~PyEngine() override {
    if (foreign()) {
      (void)engine_.release();
      return;
    }
    WithoutGil([this] { engine_.reset(); });
  }

  bool foreign() const { return ForkCount() != forks_; }
  // Raises ClosedError (with the GIL) in a forked process.
  engine::Engine& get() {
    if (foreign()) {
      Raise(Status(Code::kClosed, "this transfer engine was made before fork(); make one in this process"));
    }
    return *engine_;
  }
  // Without the GIL, here and below.
  Status Start(const engine::EngineOptions& options) {
    MutexLock lock(mutex_);
    return engine_->Start(options);
  }
  void End() override {
    if (foreign()) return;
    MutexLock lock(mutex_);
    engine_->Close();
  }

 private:
  const uint32_t forks_;
  Mutex mutex_;  // of Start and End
  std::unique_ptr<engine::Engine> engine_;
};

using Handle = std::shared_ptr<PyEngine>;

// What `call` answers, without the GIL.
template <typename F>
auto Released(F&& call) {
  const GilRelease released;
  return call();
}

Handle Make() {
  auto out = std::make_shared<PyEngine>();
  NoteLive(Rank::kClient, out);
  return out;
}

void Start(PyEngine& self, const std::string& url, const py::dict& keywords) {
  self.get();
  engine::EngineOptions made;
  made.url = url;
  Options options("TransferEngine", keywords);
  options.Take("same_host", &made.same_host);
  options.Take("timeout", &made.timeout);
  options.TakeInt("tcp_connections", &made.tcp_connections);
  options.TakeInt("tcp_threads", &made.tcp_threads);
  options.TakeInt("copy_threads", &made.copy_threads);
  options.TakeInt("async_threads", &made.async_threads);
  options.Take("tls", &made.tls);
  options.Finish();
  RaiseUnlessOk(Released([&] { return self.Start(made); }));
}

std::string About(const MemoryRange& range) {
  return std::to_string(range.bytes) + " bytes at address " + std::to_string(range.address);
}

const void* At(uint64_t address) {
  return reinterpret_cast<const void*>(static_cast<uintptr_t>(address));  // NOLINT: the user's address
}

void Register(PyEngine& self, uint64_t address, uint64_t bytes) {
  engine::Engine& engine = self.get();
  const MemoryRange range{address, bytes};
  const Status status = Released([&] {
    const MemoryRights rights = RightsOf(range);
    if (rights == MemoryRights::kNone) {
      return Status(Code::kInvalidArgument, About(range) + " are no memory of the host that this process can read");
    }
    return engine.Register(address, bytes,
                           rights == MemoryRights::kWrite ? fabric::Access::kReadWrite : fabric::Access::kReadOnly);
  });
  RaiseUnlessOk(status);
}

// Local memory as the call needs it: there, and writable when it is written to. What is registered was looked at then.
Status CheckLocal(const engine::Engine& engine, Direction direction, const std::vector<Piece>& pieces) {
  std::vector<const void*> ends;
  std::vector<MemoryRange> targets;
  for (const Piece& piece : pieces) {
    if (piece.bytes == 0) continue;
    const MemoryRange range{piece.local, piece.bytes};
    if (piece.local == 0 || piece.bytes - 1 > ~uint64_t{0} - piece.local) {
      return Status(Code::kInvalidArgument, About(range) + " are no memory");
    }
    if (direction == Direction::kRead) targets.push_back(range);
    if (engine.Holds(piece.local, piece.bytes)) continue;
    ends.push_back(At(piece.local));
    ends.push_back(At(piece.local + piece.bytes - 1));
  }
  if (const auto bad = Unreadable(ends); !bad.empty()) {
    return Status(Code::kInvalidArgument, "byte " + std::to_string(reinterpret_cast<uintptr_t>(ends[bad.front()])) +
                                              " is not in memory that this process can read");
  }
  if (const auto bad = Unwritable(targets); !bad.empty()) {
    return Status(Code::kInvalidArgument, About(targets[bad.front()]) + " cannot be written by this process");
  }
  return Status::Ok();
}

std::vector<Piece> PiecesOf(const Numbers& local, const Numbers& peer, const Numbers& sizes) {
  if (local.size() != peer.size() || local.size() != sizes.size()) {
    RaiseInvalid(std::to_string(local.size()) + " local addresses, " + std::to_string(peer.size()) +
                 " of the peer and " + std::to_string(sizes.size()) + " sizes: as many of each are needed");
  }
  std::vector<Piece> out;
  out.reserve(local.size());
  for (size_t i = 0; i < local.size(); ++i) out.push_back({local[i], peer[i], sizes[i]});
  return out;
}

void Transfer(PyEngine& self, Direction direction, const std::string& target, const Numbers& local,
              const Numbers& peer, const Numbers& sizes, const py::object& timeout) {
  engine::Engine& engine = self.get();
  const std::vector<Piece> pieces = PiecesOf(local, peer, sizes);
  const milliseconds time = ParseTimeout(timeout);
  RaiseUnlessOk(Released([&] {
    MMC_RETURN_IF_ERROR(CheckLocal(engine, direction, pieces));
    return engine.Transfer(direction, target, pieces, time);
  }));
}

uint64_t Submit(PyEngine& self, Direction direction, std::string target, const Numbers& local, const Numbers& peer,
                const Numbers& sizes, const py::object& timeout) {
  engine::Engine& engine = self.get();
  std::vector<Piece> pieces = PiecesOf(local, peer, sizes);
  const milliseconds time = ParseTimeout(timeout);
  return ValueOrRaise(Released([&]() -> Result<uint64_t> {
    MMC_RETURN_IF_ERROR(CheckLocal(engine, direction, pieces));
    return engine.Submit(direction, std::move(target), std::move(pieces), time);
  }));
}

py::object Poll(PyEngine& self, uint64_t number) {
  Status outcome;
  switch (self.get().Take(number, &outcome)) {
    case engine::Engine::Progress::kRunning:
      return py::none();
    case engine::Engine::Progress::kEnded:
      return ToPython(outcome);
    case engine::Engine::Progress::kUnknown:
      break;
  }
  Raise(Status(Code::kNotFound, "transfer " + std::to_string(number) + " was not submitted, or taken already"));
}

void Wait(PyEngine& self, uint64_t number) {
  engine::Engine& engine = self.get();
  RaiseUnlessOk(Released([&] { return engine.TakeWaiting(number); }));
}

py::list Notes(PyEngine& self) {
  engine::Engine& engine = self.get();
  const std::vector<engine::Note> notes = Released([&] { return engine.TakeNotes(); });
  py::list out;
  for (const engine::Note& note : notes) out.append(py::make_tuple(note.name, note.text));
  return out;
}

using EngineClass = py::class_<PyEngine, Handle>;

void BindMemory(EngineClass& c) {
  c.def("register", &Register, py::arg("address"), py::arg("bytes"),
        "Lends memory of this process: all of it must be readable; what this process may not write, others may only "
        "read. Raises InvalidArgumentError for what is no memory of the host.")
      .def(
          "unregister",
          [](PyEngine& self, uint64_t address) {
            engine::Engine& engine = self.get();
            RaiseUnlessOk(Released([&] { return engine.Unregister(address); }));
          },
          py::arg("address"),
          "No other process reads or writes it any more when this returns. Raises NotFoundError.")
      .def(
          "allocate",
          [](PyEngine& self, uint64_t bytes) {
            engine::Engine& engine = self.get();
            return ValueOrRaise(Released([&] { return engine.Allocate(bytes); }));
          },
          py::arg("bytes"), "The address of registered memory of zeros, aligned to pages.")
      .def(
          "free",
          [](PyEngine& self, uint64_t address) {
            engine::Engine& engine = self.get();
            RaiseUnlessOk(Released([&] { return engine.Free(address); }));
          },
          py::arg("address"), "Gives back what allocate() gave. Raises NotFoundError.")
      .def(
          "holds", [](PyEngine& self, uint64_t address, uint64_t bytes) { return self.get().Holds(address, bytes); },
          py::arg("address"), py::arg("bytes"), "Whether all these bytes are registered.");
}

constexpr char kMoves[] =
    "One contiguous move for each of local[i], remote[i] (addresses) and sizes[i] (bytes); timeout in seconds. Raises "
    "OutOfRangeError when some of it is in no registered memory of the peer \"host:port\": nothing of that is moved; "
    "UnavailableError, DeadlineError, MmcError (UNCONFIRMED) when it broke off: other pieces may have been moved.";
constexpr char kSubmits[] =
    "The same on a thread of the engine: a number for poll() or wait(). The memory must stay until then.";

template <Direction kWay>
void BindTransfers(EngineClass& c, const char* name, const char* submit) {
  c.def(
       name,
       [](PyEngine& self, const std::string& peer, const Numbers& local, const Numbers& remote, const Numbers& sizes,
          const py::object& timeout) { Transfer(self, kWay, peer, local, remote, sizes, timeout); },
       py::arg("peer"), py::arg("local"), py::arg("remote"), py::arg("sizes"), py::arg("timeout") = py::none(), kMoves)
      .def(
          submit,
          [](PyEngine& self, std::string peer, const Numbers& local, const Numbers& remote, const Numbers& sizes,
             const py::object& timeout) {
            return Submit(self, kWay, std::move(peer), local, remote, sizes, timeout);
          },
          py::arg("peer"), py::arg("local"), py::arg("remote"), py::arg("sizes"), py::arg("timeout") = py::none(),
          kSubmits);
}

}  // namespace

void BindEngine(py::module_& m) {
  EngineClass c(m, "TransferEngine");
  c.def(py::init(&Make))
      .def("start", &Start, py::arg("url"), py::arg("options"))
      .def(
          "close",
          [](PyEngine& self) {
            const GilRelease released;
            self.End();
          },
          "Fails what waits; transfers that move bytes end first, with their timeout at the latest. Idempotent.")
      .def_property_readonly("running", [](PyEngine& self) { return !self.foreign() && self.get().running(); })
      .def_property_readonly("port", [](PyEngine& self) { return self.get().port(); })
      .def_property_readonly("stats",
                             [](PyEngine& self) {
                               const engine::EngineStats stats = self.get().stats();
                               py::dict out;
                               out["shm_bytes"] = stats.shm_bytes;
                               out["tcp_bytes"] = stats.tcp_bytes;
                               return out;
                             })
      .def("poll", &Poll, py::arg("number"),
           "The Status of a submitted transfer, once; None: it runs. Raises NotFoundError: not submitted, or answered "
           "already.")
      .def("wait", &Wait, py::arg("number"), "Raises what the transfer met.")
      .def(
          "send_note",
          [](PyEngine& self, const std::string& peer, const std::string& name, const std::string& text) {
            engine::Engine& engine = self.get();
            RaiseUnlessOk(Released([&] { return engine.Send(peer, {name, text}); }));
          },
          py::arg("peer"), py::arg("name"), py::arg("text"),
          "A short message (1 MiB at most) that the peer finds in take_notes().")
      .def("take_notes", &Notes, "[(name, text)] of what peers have sent.")
      .def(
          "first_address",
          [](PyEngine& self, const std::string& peer) {
            engine::Engine& engine = self.get();
            return ValueOrRaise(Released([&] { return engine.FirstAddress(peer); }));
          },
          py::arg("peer"), "Of what the peer registered first; 0: nothing is.");
  BindMemory(c);
  BindTransfers<Direction::kRead>(c, "read", "submit_read");
  BindTransfers<Direction::kWrite>(c, "write", "submit_write");
}

}  // namespace mmc::python
