#include "client_sdk/python/src/options.h"

#include <cmath>

#include "client_sdk/python/src/status.h"
#include "common/base/bytes.h"

namespace mmc::python {

using std::chrono::milliseconds;

Options::Options(std::string what, const py::dict& options)
    : what_(std::move(what)), left_(py::reinterpret_steal<py::dict>(PyDict_Copy(options.ptr()))) {}

py::object Options::TakeObject(const char* name) {
  known_ += known_.empty() ? name : ", " + std::string(name);
  const py::str key(name);
  if (!left_.contains(key)) return py::none();
  py::object value = left_[key];
  PyDict_DelItem(left_.ptr(), key.ptr());
  return value;
}

void Options::Wrong(const char* name, const py::object& value, const std::string& expected) const {
  RaiseInvalid(what_ + ": " + name + "=" + py::repr(value).cast<std::string>() + " is not " +
               expected);
}

void Options::Take(const char* name, std::string* out) {
  const py::object value = TakeObject(name);
  if (value.is_none()) return;
  if (!py::isinstance<py::str>(value)) Wrong(name, value, "text");
  Py_ssize_t size = 0;
  const char* text = PyUnicode_AsUTF8AndSize(value.ptr(), &size);
  if (text == nullptr) {
    PyErr_Clear();
    Wrong(name, value, "text that can be written as UTF-8");
  }
  out->assign(text, static_cast<size_t>(size));
}

void Options::Take(const char* name, bool* out) {
  const py::object value = TakeObject(name);
  if (value.is_none()) return;
  // A text is true whatever it says.
  if (py::isinstance<py::str>(value) || py::isinstance<py::bytes>(value)) Wrong(name, value, "True or False");
  const int truth = PyObject_IsTrue(value.ptr());
  if (truth < 0) throw py::error_already_set();
  *out = truth == 1;
}

void Options::Take(const char* name, milliseconds* out) {
  const py::object value = TakeObject(name);
  if (!value.is_none()) *out = ParseTimeout(value);
}

void Options::Take(const char* name, security::TlsOptions* out) {
  const py::object value = TakeObject(name);
  if (value.is_none()) return;
  if (!py::isinstance<py::dict>(value)) Wrong(name, value, "a dict of paths");
  Options paths(what_ + ": " + name, value.cast<py::dict>());
  paths.Take("ca_path", &out->ca_path);
  paths.Take("crl_path", &out->crl_path);
  paths.Take("cert_path", &out->cert_path);
  paths.Take("key_path", &out->key_path);
  paths.Take("key_pass_path", &out->key_pass_path);
  paths.Take("decrypter_path", &out->decrypter_path);
  paths.Finish();
  out->enable = true;
  out->prefix = std::string(name) + ": ";
}

void Options::TakeBytes(const char* name, uint64_t* out) {
  const py::object value = TakeObject(name);
  if (!value.is_none()) *out = ParseSize(value);
}

void Options::Finish() const {
  if (left_.empty()) return;
  const std::string name = py::repr(left_.begin()->first).cast<std::string>();
  throw py::type_error(what_ + "() got an unexpected keyword argument " + name + "; known are " + known_);
}

uint64_t ParseSize(const py::object& size) {
  if (py::isinstance<py::str>(size)) return ValueOrRaise(ParseBytes(size.cast<std::string>()));
  if (PyIndex_Check(size.ptr()) == 0)
    throw py::type_error("a size is an int of bytes, or text like '1GB'");
  const int64_t bytes = PyNumber_AsSsize_t(size.ptr(), nullptr);
  if (bytes == -1 && PyErr_Occurred() != nullptr) throw py::error_already_set();
  if (bytes < 0)
    RaiseInvalid("a size of " + std::to_string(bytes) + " bytes: it must not be negative");
  return static_cast<uint64_t>(bytes);
}

milliseconds ParseTimeout(const py::object& seconds) {
  if (seconds.is_none()) return milliseconds(0);
  const double value = PyFloat_AsDouble(seconds.ptr());
  if (value == -1.0 && PyErr_Occurred() != nullptr) throw py::error_already_set();
  if (std::isnan(value) || value < 0)
    RaiseInvalid("a time of " + py::str(seconds).cast<std::string>() + " seconds");
  constexpr double kLongest = 1e9;  // seconds; infinity too
  return milliseconds(static_cast<int64_t>(std::ceil(std::min(value, kLongest) * 1000.0)));
}

ExistsOptions MakeExistsOptions(const py::object& lease, const py::object& timeout) {
  ExistsOptions out;
  if (!lease.is_none()) out.lease = ParseTimeout(lease);
  out.timeout = ParseTimeout(timeout);
  return out;
}

ClientOptions TakeClientOptions(const std::string& meta_url, Options* options) {
  ClientOptions out;
  out.meta_url = meta_url;
  options->Take("name", &out.name);
  options->Take("timeout", &out.timeout);
  options->Take("tenant", &out.tenant);
  options->Take("connect_retry", &out.connect_retry);
  options->Take("lease", &out.lease);
  options->Take("location_cache", &out.location_cache);
  options->TakeInt("location_cache_keys", &out.location_cache_keys);
  options->Take("same_host", &out.same_host);
  options->TakeInt("tcp_connections", &out.tcp_connections);
  options->Take("tcp_congestion_control", &out.tcp_congestion_control);
  options->TakeInt("copy_threads", &out.copy_threads);
  options->TakeInt("async_threads", &out.async_threads);
  options->TakeInt("async_queue", &out.async_queue);
  std::string integrity;
  options->Take("integrity", &integrity);
  if (!integrity.empty()) out.integrity = ValueOrRaise(IntegrityFrom(integrity));
  options->Take("tls", &out.tls);
  options->Take("data_tls", &out.data_tls);
  return out;
}

}  // namespace mmc::python
