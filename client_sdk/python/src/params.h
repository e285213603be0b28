// Parameters that several calls share.
//
// Thread safety: with the GIL. Ownership: values.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "client_sdk/python/src/options.h"

namespace mmc::python {

inline PutOptions MakePutOptions(uint32_t replicas, std::vector<std::string> preferred_nodes, bool prefer_local,
                                 const py::object& timeout) {
  PutOptions out;
  out.replicas = replicas;
  out.preferred_nodes = std::move(preferred_nodes);
  out.prefer_local = prefer_local;
  out.timeout = ParseTimeout(timeout);
  return out;
}

}  // namespace mmc::python
