#include "client_sdk/python/src/services.h"

#include <pybind11/stl.h>
#include <unistd.h>

#include <atomic>

#include "client_sdk/python/src/gil.h"
#include "client_sdk/python/src/live.h"
#include "client_sdk/python/src/status.h"
#include "common/base/bytes.h"
#include "common/base/limits.h"
#include "common/base/mutex.h"
#include "common/config/schema.h"
#include "common/rpc/url.h"
#include "common/security/tls_context.h"
#include "local_service/local_service.h"
#include "meta_service/http/http_server.h"
#include "meta_service/http/pool_view.h"
#include "meta_service/http/router.h"
#include "meta_service/meta_service.h"
#include "meta_service/options.h"

namespace mmc::python {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kStopTime{5000};

TimePoint After(milliseconds time) { return Clock::Real().Now() + time; }

std::string WithPort(const std::string& url, uint16_t port) {
  Result<rpc::Url> parsed = rpc::ParseUrl(url);
  if (!parsed.ok()) return url;
  parsed->port = port;
  return parsed->ToString();
}

// Common to both: ended once, by Stop(), the destructor or the end of the interpreter.
class Service : public Endable {
 public:
  Service() : forks_(ForkCount()) {}

  bool running() const { return running_; }
  void End() override { Stop(kStopTime); }
  // Without the GIL.
  void Stop(milliseconds timeout) {
    if (foreign()) return;
    MutexLock lock(stop_mutex_);
    if (running_.exchange(false)) StopNow(After(timeout));
  }

 protected:
  bool foreign() const { return ForkCount() != forks_; }
  virtual void StopNow(TimePoint deadline) = 0;
  std::atomic<bool> running_{false};

 private:
  const uint32_t forks_;
  Mutex stop_mutex_;
};

class PyMetaService final : public Service {
 public:
  ~PyMetaService() override {
    if (foreign()) {
      (void)http_.release();
      (void)router_.release();
      (void)view_.release();
      (void)service_.release();
      return;
    }
    WithoutGil([this] {
      Stop(kStopTime);
      http_.reset();
      router_.reset();
      EndView();
      service_.reset();
    });
  }

  Status Start(const meta::MetaOptions& options) {
    MMC_ASSIGN_OR_RETURN(service_, meta::MetaService::Create(options));
    MMC_RETURN_IF_ERROR(service_->Start());
    running_ = true;
    url_ = WithPort(options.url, service_->port());
    return options.metrics_url.empty() ? Status::Ok() : StartHttp(options);
  }

  const std::string& url() const { return url_; }
  uint16_t port() const { return service_->port(); }
  uint16_t http_port() const { return http_ == nullptr ? 0 : http_->port(); }
  std::string Metrics() { return service_->metrics().Expose(); }
  // Without the GIL.
  Status Drain(const std::string& node, bool cancel) {
    if (foreign() || !running_) return Status(Code::kClosed, "this meta service does not run");
    return View().Drain(node, cancel);
  }

 private:
  void EndView() {
    MutexLock lock(view_mutex_);
    view_.reset();
  }
  // What pages and calls of this process ask. REQUIRES: started.
  meta::http::RpcPoolView& View() {
    MutexLock lock(view_mutex_);
    if (view_ == nullptr) {
      view_ = std::make_unique<meta::http::RpcPoolView>(
          service_->InProcessChannel(), service_->metrics(), [this] { return service_->ready(); },
          [this] { return service_->recovering(); });
    }
    return *view_;
  }

  Status StartHttp(const meta::MetaOptions& options) {
    router_ = std::make_unique<meta::http::Router>(
        View(), meta::http::PageInfo{.rpc_url = url_, .version = MMC_VERSION});
    meta::http::HttpOptions http;
    http.url = options.metrics_url;
    http.url_key = "metrics_url";
    http.token_path = options.http_token_path;
    MMC_ASSIGN_OR_RETURN(http.tls,
                         security::TlsContext::LoadFor(service_->options().tls, {security::Role::kMeta}));
    service_->tls_keeper().Add("http", http.tls);
    http_ = std::make_unique<meta::http::HttpServer>(http, *router_);
    return http_->Start();
  }

  void StopNow(TimePoint deadline) override {
    service_->Stop(deadline);
    if (http_ != nullptr) http_->Stop(After(milliseconds(500)));
  }

  std::string url_;
  std::unique_ptr<meta::MetaService> service_;
  Mutex view_mutex_;
  std::unique_ptr<meta::http::RpcPoolView> view_ MMC_GUARDED_BY(view_mutex_);
  std::unique_ptr<meta::http::Router> router_;
  std::unique_ptr<meta::http::HttpServer> http_;
};

class PyLocalService final : public Service {
 public:
  ~PyLocalService() override {
    if (foreign()) {
      (void)service_.release();
      new std::shared_ptr<rpc::Channel>(std::move(channel_));  // kept: its threads are not here
      return;
    }
    WithoutGil([this] {
      Stop(kStopTime);
      service_.reset();
      channel_.reset();
    });
  }

  Status Start(local::LocalOptions options) {
    rpc::ChannelOptions channel;
    channel.url = options.meta_url.substr(0, options.meta_url.find(','));
    MMC_ASSIGN_OR_RETURN(channel.tls, security::TlsContext::LoadFor(options.tls));
    // The meta service takes it under no other name.
    if (options.name.empty() && channel.tls != nullptr) options.name = channel.tls->own()->name;
    MMC_ASSIGN_OR_RETURN(channel_, rpc::MakeTcpChannel(channel));
    MMC_ASSIGN_OR_RETURN(service_, local::LocalService::Create(std::move(options), channel_));
    MMC_RETURN_IF_ERROR(service_->Start());
    running_ = true;
    return Status::Ok();
  }

  std::string name() const { return service_->name(); }
  std::vector<std::string> endpoints() const {
    std::vector<std::string> out;
    for (const fabric::Endpoint& endpoint : service_->endpoints()) {
      out.push_back(endpoint.transport + " " + endpoint.address);
    }
    return out;
  }

 private:
  void StopNow(TimePoint deadline) override {
    service_->Stop(deadline);
    channel_->Close();
  }

  std::shared_ptr<rpc::Channel> channel_;
  std::unique_ptr<local::LocalService> service_;
};

template <typename Service, typename Made>
std::shared_ptr<Service> Started(Rank rank, Made options) {
  auto out = std::make_shared<Service>();
  Status started;
  {
    const GilRelease released;
    started = out->Start(std::move(options));
  }
  RaiseUnlessOk(started);
  NoteLive(rank, out);
  return out;
}

std::shared_ptr<PyMetaService> StartMeta(const std::string& url, const py::dict& keywords) {
  Options options("MetaService", keywords);
  meta::MetaOptions meta;
  meta.url = url;
  meta.metrics_url.clear();
  options.Take("metrics_url", &meta.metrics_url);
  options.TakeInt("io_threads", &meta.io_threads);
  options.TakeInt("evict_threshold_high", &meta.evict_threshold_high);
  options.TakeInt("evict_threshold_low", &meta.evict_threshold_low);
  options.Take("evict_policy", &meta.evict_policy);
  options.Take("lease", &meta.lease);
  options.Take("max_lease", &meta.max_lease);
  options.Take("soft_pin", &meta.soft_pin);
  options.Take("max_soft_pin", &meta.max_soft_pin);
  options.Take("evict_soft_pinned", &meta.evict_soft_pinned);
  options.Take("grant", &meta.grant);
  options.Take("recovery", &meta.recovery);
  options.Take("heartbeat", &meta.heartbeat);
  options.Take("session_expiry", &meta.session_expiry);
  options.Take("node_suspect", &meta.node_suspect);
  options.Take("node_grace", &meta.node_grace);
  options.TakeInt("max_sessions", &meta.max_sessions);
  options.TakeInt("max_connections", &meta.max_connections);
  options.Take("tls", &meta.tls);
  options.Finish();
  if (meta.io_threads < 1 || meta.io_threads > 64)
    RaiseInvalid("MetaService: io_threads must be 1 to 64");
  return Started<PyMetaService>(Rank::kMeta, std::move(meta));
}

config::Values ReadMetaConf(const std::string& path, const std::vector<std::string>& settings) {
  return ValueOrRaise(meta::MetaSchema().Load(path, settings));
}

std::shared_ptr<PyMetaService> StartMetaOfConf(const std::string& path,
                                               const std::vector<std::string>& settings) {
  return Started<PyMetaService>(Rank::kMeta, meta::MetaOptionsFrom(ReadMetaConf(path, settings)));
}

py::tuple MetaConf(const std::string& path, const std::vector<std::string>& settings) {
  const config::Values values = ReadMetaConf(path, settings);
  py::dict texts;
  for (const config::Setting& setting : meta::MetaSchema().settings()) {
    texts[py::str(setting.names[0])] = values.GetString(setting.names[0]);
  }
  py::list warnings;
  for (const config::Warning& warning : values.warnings()) warnings.append(warning.text);
  return py::make_tuple(texts, warnings);
}

std::shared_ptr<PyLocalService> StartLocal(const std::string& meta_url, const py::dict& keywords) {
  Options options("LocalService", keywords);
  local::LocalOptions local = TakeLocalOptions(&options);
  options.Take("join_timeout", &local.join_timeout);
  options.Finish();
  local.meta_url = meta_url;
  return Started<PyLocalService>(Rank::kNode, std::move(local));
}

// One of the texts that a conf file has for it; leaves *out alone when the option is absent.
void TakeAccess(Options* options, const char* name, local::DataAccess* out) {
  std::string text;
  options->Take(name, &text);
  if (text.empty()) return;
  if (text != "none" && text != "read" && text != "write") {
    RaiseInvalid("LocalService: " + std::string(name) + "='" + text + "': none, read and write are possible");
  }
  *out = text == "none"   ? local::DataAccess::kNone
         : text == "read" ? local::DataAccess::kRead
                          : local::DataAccess::kWrite;
}

template <typename T>
void StopWithin(T& service, const py::object& timeout) {
  const milliseconds time = ParseTimeout(timeout);
  const GilRelease released;
  service.Stop(time);
}

}  // namespace

local::LocalOptions TakeLocalOptions(Options* options) {
  static std::atomic<uint32_t> next{1};
  local::LocalOptions out;
  out.prefault = false;
  out.data_url = "tcp://127.0.0.1:0";
  out.data_url_set = true;
  options->TakeBytes("dram", &out.dram_bytes);
  out.dram_bytes = out.dram_bytes > kMaxSegmentBytes ? out.dram_bytes
                                                     : AlignUp(out.dram_bytes, kSegmentAlignment);
  options->Take("name", &out.name);
  options->Take("data_url", &out.data_url);
  options->Take("tcp", &out.tcp_enable);
  options->TakeInt("tcp_threads", &out.tcp_threads);
  options->Take("tcp_congestion_control", &out.tcp_congestion_control);
  options->Take("shm", &out.shm_enable);
  options->Take("shm_directory", &out.shm_directory);
  options->Take("shm_group", &out.shm_group);
  options->Take("shm_group_writes", &out.shm_group_writes);
  options->TakeInt("numa_node", &out.numa_node);
  options->Take("hugepages", &out.hugepages);
  options->Take("prefault", &out.prefault);
  options->Take("catalog_directory", &out.catalog_directory);
  options->Take("tls", &out.tls);
  if (!out.tcp_enable) {
    out.protocol = "host_shm";
    out.transport = "shm";
    if (out.name.empty())
      out.name = "pymmc-" + std::to_string(getpid()) + "-" + std::to_string(next++);
  }
  options->Take("data_tls", &out.data_tls);
  options->Take("data_tickets", &out.data_tickets);
  TakeAccess(options, "client_access", &out.client_access);
  TakeAccess(options, "admin_access", &out.admin_access);
  TakeAccess(options, "local_access", &out.local_access);
  return out;
}

void BindServices(py::module_& m) {
  m.def("meta_conf", &MetaConf, py::arg("path"), py::arg("settings"),
        "({key: text} of all settings, warnings) of a conf file of the meta service with \"key=value\" on top. Raises "
        "ConfigError.");
  py::class_<PyMetaService, std::shared_ptr<PyMetaService>>(m, "MetaService")
      .def(py::init(&StartMeta), py::arg("url"), py::arg("options"))
      .def(py::init(&StartMetaOfConf), py::arg("path"), py::arg("settings"))
      .def_property_readonly("url", &PyMetaService::url)
      .def_property_readonly("port", &PyMetaService::port)
      .def_property_readonly("http_port", &PyMetaService::http_port)
      .def_property_readonly("running", &PyMetaService::running)
      .def("metrics", &PyMetaService::Metrics, "In the Prometheus text format.")
      .def(
          "drain",
          [](PyMetaService& service, const std::string& node, bool cancel) {
            Status done;
            {
              const GilRelease released;
              done = service.Drain(node, cancel);
            }
            RaiseUnlessOk(done);
          },
          py::arg("node"), py::kw_only(), py::arg("cancel") = false,
          "Begins to empty a node, or gives it up: see the states and drain_left_* of NodeInfo.")
      .def("stop", &StopWithin<PyMetaService>, py::arg("timeout") = 5.0,
           "Ends waiting calls, lets running ones finish within `timeout` seconds. Idempotent.");
  py::class_<PyLocalService, std::shared_ptr<PyLocalService>>(m, "LocalService")
      .def(py::init(&StartLocal), py::arg("meta_url"), py::arg("options"))
      .def_property_readonly("name", &PyLocalService::name)
      .def_property_readonly("endpoints", &PyLocalService::endpoints)
      .def_property_readonly("running", &PyLocalService::running)
      .def("stop", &StopWithin<PyLocalService>, py::arg("timeout") = 5.0,
           "Leaves the pool: what was stored here is gone. Idempotent.");
}

}  // namespace mmc::python
