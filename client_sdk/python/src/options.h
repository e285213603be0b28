// Keyword options out of a dict, each asked for by name; what nobody asked for is refused.
//
// Thread safety: with the GIL. Ownership: copies the dict.
// Sizes are ints or text ("1GB"), times are seconds. Errors: TypeError (unknown name, wrong type),
// INVALID_ARGUMENT.
#pragma once

#include <pybind11/pybind11.h>

#include <chrono>
#include <string>

#include "client_sdk/include/mmc/client.h"

namespace mmc::python {

namespace py = pybind11;

class Options {
 public:
  // `what` is named in errors: "Client".
  Options(std::string what, const py::dict& options);

  // Each leaves *out alone when the option is absent.
  void Take(const char* name, std::string* out);
  void Take(const char* name, bool* out);
  void Take(const char* name, std::chrono::milliseconds* out);
  template <typename Int>
  void TakeInt(const char* name, Int* out);
  void TakeBytes(const char* name, uint64_t* out);
  // A dict of paths: ca_path, cert_path and key_path; crl_path, key_pass_path, decrypter_path. Switches TLS on.
  void Take(const char* name, security::TlsOptions* out);
  // None when absent.
  py::object TakeObject(const char* name);
  // TypeError naming an option that was never asked for, and those that were.
  void Finish() const;

 private:
  [[noreturn]] void Wrong(const char* name, const py::object& value,
                          const std::string& expected) const;

  const std::string what_;
  py::dict left_;
  std::string known_;
};

// int, or text with a unit. Raises InvalidArgumentError, TypeError.
uint64_t ParseSize(const py::object& size);
// Seconds; None is zero (the library's default). Raises InvalidArgumentError for a negative one.
std::chrono::milliseconds ParseTimeout(const py::object& seconds);

// `lease` None: none is asked for. Both in seconds.
ExistsOptions MakeExistsOptions(const py::object& lease, const py::object& timeout);

ClientOptions TakeClientOptions(const std::string& meta_url, Options* options);

template <typename Int>
void Options::TakeInt(const char* name, Int* out) {
  const py::object value = TakeObject(name);
  if (value.is_none()) return;
  try {
    *out = value.cast<Int>();
  } catch (const py::cast_error&) {
    Wrong(name, value, "an int of its range");
  }
}

}  // namespace mmc::python
