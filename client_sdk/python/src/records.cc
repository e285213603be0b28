// The plain structs of the client, read-only.
#include <pybind11/stl.h>

#include "client_sdk/python/src/status.h"

namespace mmc::python {
namespace {

void BindGetResult(py::module_& m) {
  py::class_<GetResult>(m, "GetResult",
                        "Outcome of reading one value into buffers: true when it was read.")
      .def_property_readonly("status", [](const GetResult& r) { return ToPython(r.status); })
      .def_property_readonly(
          "code", [](const GetResult& r) { return py::object(ToPython(r.status).attr("code")); })
      .def_property_readonly("ok", [](const GetResult& r) { return r.status.ok(); })
      .def_readonly("bytes", &GetResult::bytes,
                    "Read; 0 when not ok, and the buffers then hold anything.")
      .def_readonly("size", &GetResult::size, "Of the whole value, when known.")
      .def("__bool__", [](const GetResult& r) { return r.status.ok(); })
      .def("__repr__", [](const GetResult& r) {
        return "<GetResult " + r.status.ToString() + ", " + std::to_string(r.bytes) + " of " +
               std::to_string(r.size) + " bytes>";
      });
}

void BindObjectInfo(py::module_& m) {
  py::class_<ReplicaInfo>(m, "ReplicaInfo")
      .def_readonly("node", &ReplicaInfo::node)
      .def_readonly("medium", &ReplicaInfo::medium, "\"dram\" or \"hbm\".")
      .def_readonly("bytes", &ReplicaInfo::bytes)
      .def_readonly("extents", &ReplicaInfo::extents)
      .def("__repr__",
           [](const ReplicaInfo& r) { return "<ReplicaInfo " + r.medium + " of " + r.node + ">"; });
  py::class_<ObjectInfo>(m, "ObjectInfo")
      .def_property_readonly("status", [](const ObjectInfo& o) { return ToPython(o.status); })
      .def_property_readonly("ok", [](const ObjectInfo& o) { return o.status.ok(); })
      .def_readonly("size", &ObjectInfo::size, "Bytes.")
      .def_readonly("generation", &ObjectInfo::generation)
      .def_readonly("checksum", &ObjectInfo::checksum, "0: put without one.")
      .def_property_readonly(
          "lease_left",
          [](const ObjectInfo& o) { return static_cast<double>(o.lease_left.count()) / 1000.0; },
          "Seconds.")
      .def_readonly("pins", &ObjectInfo::pins)
      .def_readonly("replicas", &ObjectInfo::replicas)
      .def("__bool__", [](const ObjectInfo& o) { return o.status.ok(); })
      .def("__repr__", [](const ObjectInfo& o) {
        return "<ObjectInfo " + o.status.ToString() + ", " + std::to_string(o.size) + " bytes, " +
               std::to_string(o.replicas.size()) + " replicas>";
      });
}

void BindNode(py::module_& m) {
  py::class_<NodeInfo>(m, "NodeInfo")
      .def_readonly("name", &NodeInfo::name)
      .def_readonly("state", &NodeInfo::state,
                    "\"serving\", \"suspect\", \"dead\", \"leaving\", \"recovering\", \"draining\" or \"drained\".")
      .def_readonly("host_id", &NodeInfo::host_id)
      .def_readonly("endpoints", &NodeInfo::endpoints)
      .def_readonly("capacity_bytes", &NodeInfo::capacity_bytes)
      .def_readonly("used_bytes", &NodeInfo::used_bytes)
      .def_readonly("objects", &NodeInfo::objects)
      .def_readonly("silent_ms", &NodeInfo::silent_ms)
      .def_readonly("drain_left_objects", &NodeInfo::drain_left_objects, "While it drains; at 0 it is drained.")
      .def_readonly("drain_left_bytes", &NodeInfo::drain_left_bytes)
      .def("__repr__",
           [](const NodeInfo& n) { return "<NodeInfo " + n.name + ", " + n.state + ">"; });
}

void BindCluster(py::module_& m) {
  using C = ClusterStatus;
  py::class_<C>(m, "ClusterStatus")
      .def_readonly("version", &C::version)
      .def_readonly("term", &C::term)
      .def_readonly("uptime_ms", &C::uptime_ms)
      .def_readonly("objects", &C::objects)
      .def_readonly("value_bytes", &C::value_bytes)
      .def_readonly("capacity_bytes", &C::capacity_bytes)
      .def_readonly("used_bytes", &C::used_bytes)
      .def_readonly("sessions", &C::sessions)
      .def_readonly("grants", &C::grants)
      .def_readonly("pins", &C::pins)
      .def_readonly("waiting_to_free_bytes", &C::waiting_to_free_bytes)
      .def_readonly("lookups_hit", &C::lookups_hit)
      .def_readonly("lookups_missed", &C::lookups_missed)
      .def_readonly("evicted_objects", &C::evicted_objects)
      .def_readonly("evicted_bytes", &C::evicted_bytes)
      .def_readonly("puts", &C::puts)
      .def_readonly("gets", &C::gets)
      .def_readonly("removes", &C::removes)
      .def_readonly("recovering", &C::recovering)
      .def_readonly("under_replicated", &C::under_replicated)
      .def_readonly("copies_in_flight", &C::copies_in_flight)
      .def_readonly("soft_pinned", &C::soft_pinned)
      .def_readonly("hard_pinned", &C::hard_pinned)
      .def_readonly("evict_threshold_high", &C::evict_threshold_high)
      .def_readonly("evict_threshold_low", &C::evict_threshold_low)
      .def_readonly("nodes", &C::nodes)
      .def("__repr__", [](const C& c) {
        return "<ClusterStatus " + std::to_string(c.nodes.size()) + " nodes, " +
               std::to_string(c.objects) + " objects, " + std::to_string(c.used_bytes) + " of " +
               std::to_string(c.capacity_bytes) + " bytes>";
      });
}

void BindStats(py::module_& m) {
  py::class_<ClientStats>(m, "ClientStats")
      .def_readonly("put_bytes", &ClientStats::put_bytes)
      .def_readonly("get_bytes", &ClientStats::get_bytes)
      .def_readonly("shm_bytes", &ClientStats::shm_bytes)
      .def_readonly("tcp_bytes", &ClientStats::tcp_bytes)
      .def_readonly("failovers", &ClientStats::failovers)
      .def_readonly("location_cache_hits", &ClientStats::location_cache_hits)
      .def_readonly("expired_reads", &ClientStats::expired_reads)
      .def_readonly("corrupt_reads", &ClientStats::corrupt_reads)
      .def("__repr__", [](const ClientStats& s) {
        return "<ClientStats put " + std::to_string(s.put_bytes) + " bytes, get " +
               std::to_string(s.get_bytes) + " bytes>";
      });
}

}  // namespace

void BindRecords(py::module_& m) {
  BindGetResult(m);
  BindObjectInfo(m);
  BindNode(m);
  BindCluster(m);
  BindStats(m);
}

}  // namespace mmc::python
