// The native half of pymmc: the client and its calls. What a Python user sees is in pymmc/.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "client_sdk/python/src/async.h"
#include "client_sdk/python/src/engine.h"
#include "client_sdk/python/src/gil.h"
#include "client_sdk/python/src/options.h"
#include "client_sdk/python/src/params.h"
#include "client_sdk/python/src/probe.h"
#include "client_sdk/python/src/questions.h"
#include "client_sdk/python/src/services.h"
#include "client_sdk/python/src/status.h"
#include "client_sdk/python/src/values.h"
#include "client_sdk/python/src/view.h"

namespace mmc::python {
namespace {

using State = std::shared_ptr<ClientState>;
using Names = std::vector<std::string>;

State Connect(const std::string& meta_url, const py::dict& keywords) {
  Options options("Client", keywords);
  const ClientOptions client = TakeClientOptions(meta_url, &options);
  const py::object dram = options.TakeObject("contribute_dram");
  const py::object contribute = options.TakeObject("contribute");
  options.Finish();
  local::LocalOptions lend;
  const bool lends = !dram.is_none() || !contribute.is_none();
  if (lends) {
    const py::dict given = contribute.is_none() ? py::dict() : py::dict(contribute);
    const auto of = py::reinterpret_steal<py::dict>(PyDict_Copy(given.ptr()));  // the caller's stays as it is
    if (!dram.is_none()) of["dram"] = dram;
    Options lent("contribute", of);
    lend = TakeLocalOptions(&lent);
    lent.Finish();
    if (meta_url.starts_with("local://"))
      RaiseInvalid("contribute_dram: " + meta_url + " is a pool of this process already");
  }
  Result<State> made = Status(Code::kInternal, "not connected");
  {
    const GilRelease released;
    made = ClientState::Connect(client, lends ? &lend : nullptr);
  }
  return ValueOrRaise(std::move(made));
}

py::object Wait(ClientState& state, const std::unique_ptr<Question>& question) {
  static_cast<void>(state.client());  // of this process?
  {
    const GilRelease released;
    question->Ask(state);
  }
  return question->Answer();
}

std::vector<Status> PutBatch(ClientState& state, const ItemBatch& batch,
                             const PutOptions& options) {
  Client& client = state.client();
  const std::vector<PutItem> items = batch.PutItems();
  std::vector<Status> out;
  {
    const GilRelease released;
    out = client.Put(items, options);
  }
  return batch.All(std::move(out));
}

std::vector<GetResult> GetBatch(ClientState& state, const ItemBatch& batch, bool allow_short,
                                const py::object& timeout) {
  Client& client = state.client();
  const std::vector<GetItem> items = batch.GetItems(allow_short);
  const GetOptions options{ParseTimeout(timeout)};
  std::vector<GetResult> out;
  {
    const GilRelease released;
    out = client.GetInto(items, options);
  }
  return batch.All(std::move(out));
}

py::list Put(ClientState& state, const py::object& items, uint32_t replicas, Names nodes,
             bool prefer_local, const py::object& timeout, const py::object& soft_pin, bool hard_pin,
             const py::object& groups) {
  ItemBatch batch(ItemBatch::Use::kRead, state.memory().known());
  batch.AddItems(items.ptr(), /*ranges=*/false);
  batch.AddGroups(groups.ptr());
  return ToPython(PutBatch(
      state, batch, MakePutOptions(replicas, std::move(nodes), prefer_local, timeout, soft_pin, hard_pin)));
}

py::list GetInto(ClientState& state, const py::object& items, bool allow_short,
                 const py::object& timeout) {
  ItemBatch batch(ItemBatch::Use::kWrite, state.memory().known());
  batch.AddItems(items.ptr(), /*ranges=*/true);
  return ToPython(GetBatch(state, batch, allow_short, timeout));
}

py::list Get(ClientState& state, const py::object& keys, const py::object& timeout) {
  const KeyBatch batch(keys.ptr());
  std::vector<Value> values = ReadValues(state, batch, ParseTimeout(timeout));
  py::list out(values.size());
  for (size_t i = 0; i < values.size(); ++i) out[i] = std::move(values[i].bytes);
  return out;
}

py::list GetResults(ClientState& state, const py::object& keys, const py::object& timeout) {
  const KeyBatch batch(keys.ptr());
  std::vector<Value> values = ReadValues(state, batch, ParseTimeout(timeout));
  py::list out(values.size());
  for (size_t i = 0; i < values.size(); ++i) {
    out[i] = py::make_tuple(ToPython(values[i].status), std::move(values[i].bytes));
  }
  return out;
}

py::list PutPtrs(ClientState& state, const py::object& keys, const py::object& ptrs,
                 const py::object& sizes, uint32_t replicas, Names nodes, bool prefer_local,
                 const py::object& timeout, const py::object& soft_pin, bool hard_pin,
                 const py::object& groups) {
  ItemBatch batch(ItemBatch::Use::kRead, state.memory().known());
  batch.AddPointers(keys.ptr(), ptrs.ptr(), sizes.ptr(), nullptr);
  batch.AddGroups(groups.ptr());
  const std::vector<Status> statuses = PutBatch(
      state, batch, MakePutOptions(replicas, std::move(nodes), prefer_local, timeout, soft_pin, hard_pin));
  py::list out(statuses.size());
  for (size_t i = 0; i < statuses.size(); ++i) out[i] = static_cast<uint32_t>(statuses[i].code());
  return out;
}

py::tuple CodesAndBytes(const std::vector<GetResult>& results) {
  py::list codes(results.size());
  py::list bytes(results.size());
  for (size_t i = 0; i < results.size(); ++i) {
    codes[i] = static_cast<uint32_t>(results[i].status.code());
    bytes[i] = results[i].bytes;
  }
  return py::make_tuple(codes, bytes);
}

py::tuple GetPtrs(ClientState& state, const py::object& keys, const py::object& ptrs,
                  const py::object& sizes, bool allow_short, const py::object& timeout) {
  ItemBatch batch(ItemBatch::Use::kWrite, state.memory().known());
  batch.AddPointers(keys.ptr(), ptrs.ptr(), sizes.ptr(), nullptr);
  return CodesAndBytes(GetBatch(state, batch, allow_short, timeout));
}

py::tuple GetRanges(ClientState& state, const py::object& keys, const py::object& offsets,
                    const py::object& ptrs, const py::object& sizes, const py::object& timeout) {
  ItemBatch batch(ItemBatch::Use::kWrite, state.memory().known());
  batch.AddPointers(keys.ptr(), ptrs.ptr(), sizes.ptr(), offsets.ptr());
  return CodesAndBytes(GetBatch(state, batch, /*allow_short=*/true, timeout));
}

bool Readable(const std::vector<uint64_t>& addresses, const std::vector<uint64_t>& sizes) {
  if (addresses.size() != sizes.size()) RaiseInvalid("as many addresses as sizes are needed");
  std::vector<const void*> ends;
  for (size_t i = 0; i < sizes.size(); ++i) {
    if (sizes[i] == 0) continue;
    for (const uint64_t end : {addresses[i], addresses[i] + (sizes[i] - 1)}) {
      ends.push_back(reinterpret_cast<const void*>(static_cast<uintptr_t>(end)));  // NOLINT: the caller's
    }
  }
  const GilRelease released;
  return Unreadable(ends).empty();
}

void Register(ClientState& state, const py::object& address, const py::object& bytes) {
  static_cast<void>(state.client());  // of this process?
  const MemoryRange range{ToUint(address.ptr(), "an address"), ToUint(bytes.ptr(), "a byte count")};
  Status status;
  {
    const GilRelease released;
    status = state.memory().Add(range);
  }
  RaiseUnlessOk(status);
}

void Unregister(ClientState& state, const py::object& address) {
  static_cast<void>(state.client());
  RaiseUnlessOk(state.memory().Remove(ToUint(address.ptr(), "an address")));
}

void Close(ClientState& state) {
  const GilRelease released;
  state.Close();
}

using ClientClass = py::class_<ClientState, State>;

void BindTransfers(ClientClass& c) {
  c.def("put", &Put, py::arg("items"), py::kw_only(), py::arg("replicas") = 1,
        py::arg("preferred_nodes") = py::tuple(), py::arg("prefer_local") = true,
        py::arg("timeout") = py::none(), py::arg("soft_pin") = py::none(), py::arg("hard_pin") = false,
        py::arg("groups") = py::none(),
        "Stores values: a mapping of key to pieces, or pairs (key, pieces). One Status per item; "
        "EXISTS where a key was there already (its value stays), NO_SPACE in a full pool. At most "
        "16384 items. replicas: copies, each on a node of its own; preferred_nodes: names, tried "
        "first; prefer_local: nodes of this host next; timeout: seconds. soft_pin: seconds for which "
        "they are evicted after all others (0: the service's default); hard_pin: they are not evicted. "
        "groups: a name or None per item; values of one group are leased and evicted together. Raises "
        "TypeError and InvalidArgumentError for what is no item or buffer, UnsupportedError for memory "
        "of devices.")
      .def("get", &Get, py::arg("keys"), py::kw_only(), py::arg("timeout") = py::none(),
           "Whole values as bytes; None where one could not be read (get_results() says why).")
      .def("get_results", &GetResults, py::arg("keys"), py::kw_only(),
           py::arg("timeout") = py::none(), "(Status, bytes or None) per key; timeout in seconds.")
      .def("get_into", &GetInto, py::arg("items"), py::kw_only(), py::arg("allow_short") = false,
           py::arg("timeout") = py::none(),
           "Reads into writable buffers: a mapping of key to pieces, or (key, pieces[, offset]). "
           "From offset 0 without "
           "allow_short the pieces must hold exactly the value, else SIZE_MISMATCH. One GetResult "
           "per item; timeout in seconds. Raises as put().")
      .def("put_ptrs", &PutPtrs, py::arg("keys"), py::arg("ptrs"), py::arg("sizes"),
           py::arg("replicas") = 1, py::arg("preferred_nodes") = py::tuple(),
           py::arg("prefer_local") = true, py::arg("timeout") = py::none(),
           py::arg("soft_pin") = py::none(), py::arg("hard_pin") = false, py::arg("groups") = py::none(),
           "Like put, from lists of addresses and byte counts per key; codes as ints.")
      .def("get_ptrs", &GetPtrs, py::arg("keys"), py::arg("ptrs"), py::arg("sizes"),
           py::arg("allow_short") = false, py::arg("timeout") = py::none(),
           "(codes, bytes read), from lists of addresses and byte counts per key.")
      .def("get_ranges", &GetRanges, py::arg("keys"), py::arg("offsets"), py::arg("ptrs"),
           py::arg("sizes"), py::arg("timeout") = py::none(),
           "(codes, bytes read); entry i reads from byte offsets[i] as much as its pieces hold and "
           "the value has.")
      .def("register", &Register, py::arg("address"), py::arg("bytes"),
           "Memory that stays as it is until unregister(): pieces inside it, given as addresses, are not looked at in "
           "each call. INVALID_ARGUMENT where not all of it is memory of the host that this process can read.")
      .def("unregister", &Unregister, py::arg("address"),
           "Takes register() of this address back, before its memory goes. NOT_FOUND when there was none.");
}

void BindKeyCalls(ClientClass& c) {
  c.def(
       "exists",
       [](ClientState& s, const py::object& keys, const py::object& lease,
          const py::object& timeout) {
         return Wait(s, AskExists(keys, MakeExistsOptions(lease, timeout), false));
       },
       py::arg("keys"), py::kw_only(), py::arg("lease") = py::none(),
       py::arg("timeout") = py::none(),
       "One bool per key. Neither pins nor blocks eviction, unless a lease (seconds; 0: the "
       "service's default) is asked for: what is there then counts as used, and stays so long.")
      .def(
          "exists_codes",
          [](ClientState& s, const py::object& keys, const py::object& lease,
             const py::object& timeout) {
            return Wait(s, AskExists(keys, MakeExistsOptions(lease, timeout), true));
          },
          py::arg("keys"), py::arg("lease") = py::none(), py::arg("timeout") = py::none(),
          "Exactly 1 or 0 per key.")
      .def(
          "prefix", [](ClientState& s, const py::object& keys) { return Wait(s, AskPrefix(keys)); },
          py::arg("keys"), "How many of these keys, from the first on, are there: one call.")
      .def(
          "stat", [](ClientState& s, const py::object& keys) { return Wait(s, AskStat(keys)); },
          py::arg("keys"), "One ObjectInfo per key.")
      .def(
          "sizes", [](ClientState& s, const py::object& keys) { return Wait(s, AskSizes(keys)); },
          py::arg("keys"), "Bytes of each value; minus the code where there is none.")
      .def(
          "remove",
          [](ClientState& s, const py::object& keys) { return Wait(s, AskRemove(keys, false)); },
          py::arg("keys"), "One Status per key; NOT_FOUND where there was none.")
      .def(
          "remove_codes",
          [](ClientState& s, const py::object& keys) { return Wait(s, AskRemove(keys, true)); },
          py::arg("keys"), "Like remove; codes as ints.")
      .def(
          "view", [](const State& s, const py::object& key) { return Wait(*s, AskView(key, s)); },
          py::arg("key"),
          "The value in place, pinned. Raises NotFoundError; UnsupportedError when no replica is "
          "on this host.");
}

void BindPoolCalls(ClientClass& c) {
  c.def(
       "remove_by_prefix",
       [](ClientState& s, const py::object& prefix) { return Wait(s, AskRemoveByPrefix(prefix)); },
       py::arg("prefix"), "Number of values removed.")
      .def(
          "remove_all", [](ClientState& s) { return Wait(s, AskRemoveAll()); },
          "Number of values removed.")
      .def(
          "list",
          [](ClientState& s, const py::object& prefix, const py::bytes& page_token,
             uint32_t limit) { return Wait(s, AskList(prefix, page_token, limit)); },
          py::arg("prefix") = "", py::kw_only(), py::arg("page_token") = py::bytes(),
          py::arg("limit") = 1000, "One page of keys with this prefix, at most 10000.")
      .def(
          "cluster", [](ClientState& s) { return Wait(s, AskCluster()); },
          "What the meta service knows of the pool.")
      .def(
          "stats", [](ClientState& s) { return s.client().stats(); }, "Counters of this client.")
      .def("close", &Close, "Ends the session. Idempotent.")
      .def_property_readonly("closed", &ClientState::closed)
      .def_property_readonly("meta_url", &ClientState::meta_url)
      .def_property_readonly(
          "node_name",
          [](const ClientState& s) -> py::object {
            if (s.node_name().empty()) return py::none();
            return py::str(s.node_name());
          },
          "Of the memory that this client contributes; None when it does not.");
}

}  // namespace
}  // namespace mmc::python

PYBIND11_MODULE(_pymmc, m) {
  using namespace mmc::python;  // NOLINT(google-build-using-namespace): the body of the module
  CountForks();
  BindStatus(m);
  BindRecords(m);
  BindView(m);
  BindQuestions(m);
  ClientClass client(m, "Client");
  client.def(py::init(&Connect), py::arg("meta_url"), py::arg("options"));
  BindTransfers(client);
  BindKeyCalls(client);
  BindPoolCalls(client);
  BindAsync(m);
  BindServices(m);
  BindEngine(m);
  m.def("parse_size", &ParseSize, py::arg("size"),
        "Bytes of \"1GB\", \"512 MiB\", 4096: powers of 1024.");
  m.def("readable", &Readable, py::arg("addresses"), py::arg("sizes"),
        "Whether this process can read the first and last byte of all these pieces of memory.");
  m.def("end_all", [] {
    const GilRelease released;
    EndAll();
  });
  m.attr("__version__") = MMC_VERSION;
}
