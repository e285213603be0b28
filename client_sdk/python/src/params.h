// Parameters that several calls share.
//
// Thread safety: with the GIL. Ownership: values.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "client_sdk/python/src/options.h"
#include "client_sdk/python/src/status.h"

namespace mmc::python {

inline PutOptions MakePutOptions(uint32_t replicas, std::vector<std::string> preferred_nodes,
                                 bool prefer_local, const py::object& timeout,
                                 const py::object& soft_pin, bool hard_pin) {
  PutOptions out;
  out.replicas = replicas;
  out.preferred_nodes = std::move(preferred_nodes);
  out.prefer_local = prefer_local;
  out.timeout = ParseTimeout(timeout);
  if (!soft_pin.is_none() && hard_pin) RaiseInvalid("soft_pin and hard_pin: a value has one of them");
  if (!soft_pin.is_none()) {
    out.retention = Retention::kSoft;
    out.soft_pin = ParseTimeout(soft_pin);
  } else if (hard_pin) {
    out.retention = Retention::kHard;
  }
  return out;
}

}  // namespace mmc::python
