#include <algorithm>

#include "client_sdk/src/client_impl.h"
#include "client_sdk/src/get.h"
#include "client_sdk/src/put.h"
#include "common/security/tls_context.h"

namespace mmc {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kCloseTime{2000};

std::atomic<client::LocalConnector> local_connector{nullptr};

Status CheckOptions(const ClientOptions& options) {
  const auto wrong = [](const std::string& what) {
    return Status(Code::kInvalidArgument, "client options: " + what);
  };
  if (options.timeout.count() <= 0) return wrong("timeout must be positive");
  if (options.connect_retry.count() < 0 || options.lease.count() < 0)
    return wrong("a time is negative");
  if (std::max({options.timeout, options.connect_retry, options.lease}) > client::kLongestTime) {
    return wrong("a time is over a year");
  }
  if (options.tcp_connections < 1 || options.tcp_connections > 64)
    return wrong("tcp_connections must be 1 to 64");
  if (options.copy_threads < 0 || options.copy_threads > 64)
    return wrong("copy_threads must be 0 to 64");
  if (options.async_threads < 1 || options.async_threads > 64)
    return wrong("async_threads must be 1 to 64");
  if (options.async_queue < 1) return wrong("async_queue must be at least 1");
  if (options.integrity > Integrity::kVerify) return wrong("integrity must be off, put or verify");
  return Status::Ok();
}

Result<std::vector<client::MetaRoute>> RoutesOf(const ClientOptions& options) {
  const std::string& urls = options.meta_url;
  MMC_ASSIGN_OR_RETURN(const auto tls, security::TlsContext::LoadFor(options.tls));
  std::vector<client::MetaRoute> routes;
  size_t begin = 0;
  while (begin <= urls.size()) {
    const size_t comma = std::min(urls.find(',', begin), urls.size());
    std::string url = urls.substr(begin, comma - begin);
    begin = comma + 1;
    std::erase(url, ' ');
    rpc::ChannelOptions channel;
    channel.url = url;
    channel.tls = tls;
    MMC_ASSIGN_OR_RETURN(auto made, rpc::MakeTcpChannel(channel));
    routes.push_back({std::move(url), std::move(made)});
  }
  return routes;
}

}  // namespace

namespace client {

Result<std::unique_ptr<Client>> ConnectOver(const ClientOptions& options,
                                            std::vector<MetaRoute> routes,
                                            std::shared_ptr<void> held) {
  MMC_RETURN_IF_ERROR(CheckOptions(options));
  auto core = std::make_shared<Core>();
  core->options = options;
  MMC_ASSIGN_OR_RETURN(core->session, Session::Open(options, std::move(routes)));
  if (options.location_cache)
    core->cache = std::make_unique<LocationCache>(options.location_cache_keys);
  return std::unique_ptr<Client>(std::make_unique<ClientImpl>(std::move(core), std::move(held)));
}

void SetLocalConnector(LocalConnector connector) { local_connector = connector; }

}  // namespace client

Result<Integrity> IntegrityFrom(std::string_view text) {
  if (text == "off") return Integrity::kOff;
  if (text == "put") return Integrity::kPut;
  if (text == "verify") return Integrity::kVerify;
  return Status(Code::kInvalidArgument,
                "integrity '" + std::string(text) + "' is not off, put or verify");
}

Result<std::unique_ptr<Client>> Client::Connect(const ClientOptions& options) {
  if (options.meta_url.starts_with("local://")) {
    const client::LocalConnector connector = local_connector;
    if (connector == nullptr) {
      return Status(Code::kUnsupported,
                    options.meta_url + ": this program has no embedded pool; link mmc_embedded");
    }
    return connector(options);
  }
  MMC_ASSIGN_OR_RETURN(auto routes, RoutesOf(options));
  return client::ConnectOver(options, std::move(routes));
}

ClientImpl::ClientImpl(std::shared_ptr<client::Core> core, std::shared_ptr<void> held)
    : core_(std::move(core)),
      held_(std::move(held)),
      pool_(core_->options.async_threads, core_->options.async_queue) {}

ClientImpl::~ClientImpl() { Close(); }

std::vector<Status> ClientImpl::PutUntil(std::span<const PutItem> items, const PutOptions& options,
                                         TimePoint deadline) {
  return client::PutBatch(*core_, items, options, deadline).Run();
}

std::vector<Status> ClientImpl::Put(std::span<const PutItem> items, const PutOptions& options) {
  return PutUntil(items, options, core_->DeadlineFor(options.timeout));
}

std::vector<GetResult> ClientImpl::GetInto(std::span<const GetItem> items,
                                           const GetOptions& options) {
  return client::GetBatch(*core_, core_->DeadlineFor(options.timeout)).Run(items);
}

std::vector<Result<std::string>> ClientImpl::Get(std::span<const std::string_view> keys,
                                                 const GetOptions& options) {
  std::vector<std::string> values;
  const auto results =
      client::GetBatch(*core_, core_->DeadlineFor(options.timeout)).Run(keys, &values);
  std::vector<Result<std::string>> out;
  out.reserve(results.size());
  for (size_t i = 0; i < results.size(); ++i) {
    if (results[i].status.ok()) {
      out.emplace_back(std::move(values[i]));
    } else {
      out.emplace_back(results[i].status);
    }
  }
  return out;
}

ClientStats ClientImpl::stats() const {
  const client::Counters& c = core_->counters;
  ClientStats out;
  out.put_bytes = c.put_bytes;
  out.get_bytes = c.get_bytes;
  out.shm_bytes = c.shm_bytes;
  out.tcp_bytes = c.tcp_bytes;
  out.failovers = c.failovers;
  out.location_cache_hits = c.location_cache_hits;
  out.expired_reads = c.expired_reads;
  out.corrupt_reads = c.corrupt_reads;
  return out;
}

// The deadline of an asynchronous call runs from here: the time in the queue counts.
Status ClientImpl::PutAsync(std::vector<PutItem> items, PutOptions options,
                            std::function<void(std::vector<Status>)> done) {
  const TimePoint deadline = core_->DeadlineFor(options.timeout);
  return pool_.Submit([this, deadline, items = std::move(items), options = std::move(options),
                       done = std::move(done)] { done(PutUntil(items, options, deadline)); });
}

Status ClientImpl::GetIntoAsync(std::vector<GetItem> items, GetOptions options,
                                std::function<void(std::vector<GetResult>)> done) {
  const TimePoint deadline = core_->DeadlineFor(options.timeout);
  return pool_.Submit([this, deadline, items = std::move(items), done = std::move(done)] {
    done(client::GetBatch(*core_, deadline).Run(items));
  });
}

std::future<std::vector<Status>> Client::PutFuture(std::vector<PutItem> items, PutOptions options) {
  auto promise = std::make_shared<std::promise<std::vector<Status>>>();
  auto future = promise->get_future();
  const size_t n = items.size();
  const Status started = PutAsync(
      std::move(items), std::move(options),
      [promise](std::vector<Status> statuses) { promise->set_value(std::move(statuses)); });
  if (!started.ok()) promise->set_value(std::vector<Status>(n, started));
  return future;
}

std::future<std::vector<GetResult>> Client::GetIntoFuture(std::vector<GetItem> items,
                                                          GetOptions options) {
  auto promise = std::make_shared<std::promise<std::vector<GetResult>>>();
  auto future = promise->get_future();
  const size_t n = items.size();
  const Status started = GetIntoAsync(
      std::move(items), options,
      [promise](std::vector<GetResult> results) { promise->set_value(std::move(results)); });
  if (!started.ok()) promise->set_value(std::vector<GetResult>(n, GetResult{started, 0, 0}));
  return future;
}

void ClientImpl::Close() {
  MutexLock lock(close_mutex_);
  pool_.Close();
  core_->session->Close(Clock::Real().Now() + kCloseTime);
  held_.reset();
}

}  // namespace mmc
