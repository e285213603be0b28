#include "client_sdk/embedded/embedded.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>

#include "client_sdk/src/client_impl.h"
#include "common/base/bytes.h"
#include "common/base/limits.h"
#include "common/security/tls_context.h"
#include "local_service/local_service.h"
#include "meta_service/meta_service.h"

namespace mmc {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kStopTime{3000};

TimePoint StopDeadline() { return Clock::Real().Now() + kStopTime; }

// The services of one embedded pool; stopped in the order in which they need each other.
struct EmbeddedPool {
  std::unique_ptr<meta::MetaService> meta;
  std::unique_ptr<local::LocalService> node;

  ~EmbeddedPool() {
    const TimePoint deadline = StopDeadline();
    if (node != nullptr) node->Stop(deadline);
    node.reset();  // its channel must not outlive the meta service
    if (meta != nullptr) meta->Stop(deadline);
  }
};

std::string UniqueName() {
  static std::atomic<uint32_t> next{1};
  return "embedded-" + std::to_string(getpid()) + "-" + std::to_string(next++);
}

Status SetParameter(std::string_view name, std::string_view value, EmbeddedOptions* out) {
  if (name == "dram") {
    MMC_ASSIGN_OR_RETURN(const uint64_t bytes, ParseBytes(value));
    if (bytes == 0 || bytes > kMaxSegmentBytes) {
      return Status(Code::kInvalidArgument,
                    "dram=" + std::string(value) + ": 2MB to 1TB are possible");
    }
    out->dram_bytes = AlignUp(bytes, kSegmentAlignment);
    return Status::Ok();
  }
  if (name == "name" && !value.empty() && value.size() <= kMaxNodeNameBytes) {
    out->name = value;
    return Status::Ok();
  }
  if (name == "transport" && (value == "shm" || value == "loopback")) {
    out->transport = value;
    return Status::Ok();
  }
  if (name == "prefault" && (value == "0" || value == "1")) {
    out->prefault = value == "1";
    return Status::Ok();
  }
  return Status(
      Code::kInvalidArgument,
      "'" + std::string(name) + "=" + std::string(value) +
          "': dram=<size>, name=<text>, transport=shm|loopback and prefault=0|1 are known");
}

Status StartPool(const EmbeddedOptions& options, EmbeddedPool* pool) {
  meta::MetaOptions meta;
  meta.url.clear();
  meta.metrics_url.clear();
  meta.io_threads = 1;
  MMC_ASSIGN_OR_RETURN(pool->meta, meta::MetaService::Create(std::move(meta)));
  MMC_RETURN_IF_ERROR(pool->meta->Start());

  local::LocalOptions node;
  node.meta_url = "in this process";
  node.name = options.name.empty() ? UniqueName() : options.name;
  node.dram_bytes = options.dram_bytes;
  node.prefault = options.prefault;
  node.tcp_enable = false;
  node.shm_enable = options.transport == "shm";
  node.loopback_enable = options.transport == "loopback";
  node.protocol = "host_shm";
  node.transport = "shm";
  MMC_ASSIGN_OR_RETURN(
      pool->node, local::LocalService::Create(std::move(node), pool->meta->InProcessChannel()));
  return pool->node->Start();
}

// The first url of a list: a node has one meta service.
std::string FirstUrl(const std::string& urls) { return urls.substr(0, urls.find(',')); }

}  // namespace

Result<EmbeddedOptions> ParseEmbeddedUrl(std::string_view url) {
  constexpr std::string_view kScheme = "local://";
  if (!url.starts_with(kScheme)) {
    return Status(Code::kInvalidArgument,
                  "'" + std::string(url) + "' is not of the form local://?dram=1GB");
  }
  std::string_view rest = url.substr(kScheme.size());
  EmbeddedOptions out;
  if (rest.empty()) return out;
  if (rest.front() != '?') {
    return Status(Code::kInvalidArgument, "'" + std::string(url) +
                                              "': only parameters follow local://, as in "
                                              "local://?dram=1GB");
  }
  rest.remove_prefix(1);
  while (!rest.empty()) {
    const std::string_view pair = rest.substr(0, rest.find('&'));
    rest.remove_prefix(std::min(rest.size(), pair.size() + 1));
    const size_t equals = std::min(pair.find('='), pair.size());
    const std::string_view value =
        equals == pair.size() ? std::string_view() : pair.substr(equals + 1);
    MMC_RETURN_IF_ERROR(SetParameter(pair.substr(0, equals), value, &out).Annotate(url));
  }
  return out;
}

Result<std::unique_ptr<Client>> ConnectEmbedded(const ClientOptions& options) {
  MMC_ASSIGN_OR_RETURN(const EmbeddedOptions embedded, ParseEmbeddedUrl(options.meta_url));
  auto pool = std::make_shared<EmbeddedPool>();
  MMC_RETURN_IF_ERROR(StartPool(embedded, pool.get()).Annotate(options.meta_url));
  std::vector<client::MetaRoute> routes;
  routes.push_back({options.meta_url, pool->meta->InProcessChannel()});
  return client::ConnectOver(options, std::move(routes), std::move(pool));
}

struct ContributingClient::Impl {
  std::shared_ptr<rpc::Channel> channel;
  std::unique_ptr<local::LocalService> node;
  std::unique_ptr<Client> client;
};

ContributingClient::ContributingClient() : impl_(std::make_unique<Impl>()) {}

ContributingClient::~ContributingClient() { Close(); }

Result<std::unique_ptr<ContributingClient>> ContributingClient::Connect(
    const ClientOptions& options, local::LocalOptions lend) {
  std::unique_ptr<ContributingClient> out(new ContributingClient());
  MMC_ASSIGN_OR_RETURN(out->impl_->client, Client::Connect(options));
  rpc::ChannelOptions channel;
  channel.url = FirstUrl(options.meta_url);
  // The certificate of the memory it lends, when that has one of its own.
  if (!lend.tls.enable) lend.tls = options.tls;
  MMC_ASSIGN_OR_RETURN(channel.tls, security::TlsContext::LoadFor(lend.tls));
  // The meta service takes it under no other name.
  if (lend.name.empty() && channel.tls != nullptr) lend.name = channel.tls->own()->name;
  MMC_ASSIGN_OR_RETURN(out->impl_->channel, rpc::MakeTcpChannel(channel));
  lend.meta_url = channel.url;
  // The memory is this application's: it ends with it.
  lend.warm_restart = lend.keep_on_stop = false;
  lend.join_timeout = std::max<milliseconds>(options.timeout, milliseconds(1));
  MMC_ASSIGN_OR_RETURN(out->impl_->node,
                       local::LocalService::Create(std::move(lend), out->impl_->channel));
  MMC_RETURN_IF_ERROR(out->impl_->node->Start());
  return out;
}

Client& ContributingClient::client() { return *impl_->client; }

const std::string& ContributingClient::node_name() const { return impl_->node->name(); }

void ContributingClient::Close() {
  if (impl_->client != nullptr) impl_->client->Close();
  if (impl_->node != nullptr) impl_->node->Stop(StopDeadline());
  if (impl_->channel != nullptr) impl_->channel->Close();
}

}  // namespace mmc

// Named in a linker option of mmc_embedded (-u): it takes this file, and with it the registration
// below, into every program that links the library.
extern "C" {
extern const int MmcEmbeddedPoolIsLinked;
const int MmcEmbeddedPoolIsLinked = [] {
  mmc::client::SetLocalConnector(&mmc::ConnectEmbedded);
  return 1;
}();
}
