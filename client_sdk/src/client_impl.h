// The client behind mmc::Client: checks, then the flow classes (put.h, get.h) or one call to the
// meta service.
//
// Thread safety and ownership: as mmc::Client says.
#pragma once

#include <memory>

#include "client_sdk/src/async_pool.h"
#include "client_sdk/src/core.h"

namespace mmc {

class ClientImpl final : public Client {
 public:
  // `held` is kept until the client is closed (the services of an embedded pool).
  ClientImpl(std::shared_ptr<client::Core> core, std::shared_ptr<void> held);
  ~ClientImpl() override;

  std::vector<Status> Put(std::span<const PutItem> items, const PutOptions& options) override;
  std::vector<GetResult> GetInto(std::span<const GetItem> items,
                                 const GetOptions& options) override;
  std::vector<Result<std::string>> Get(std::span<const std::string_view> keys,
                                       const GetOptions& options) override;

  Result<std::vector<uint8_t>> Exists(std::span<const std::string_view> keys,
                                      const ExistsOptions& options) override;
  Result<uint32_t> Prefix(std::span<const std::string_view> keys) override;
  Result<std::vector<ObjectInfo>> Stat(std::span<const std::string_view> keys) override;
  Result<std::vector<Status>> Remove(std::span<const std::string_view> keys) override;
  Result<uint64_t> RemoveByPrefix(std::string_view prefix) override;
  Result<uint64_t> RemoveAll() override;
  Result<ListPage> List(std::string_view prefix, std::string_view page_token,
                        uint32_t limit) override;
  Result<View> MakeView(std::string_view key) override;
  Result<ClusterStatus> Cluster() override;
  ClientStats stats() const override;
  Status Drain(std::string_view node, bool cancel) override;
  Result<uint64_t> Scrub(std::string_view node, uint64_t bytes_per_second) override;
  Result<ScrubProgress> ScrubStatus(uint64_t id) override;

  Status PutAsync(std::vector<PutItem> items, PutOptions options,
                  std::function<void(std::vector<Status>)> done) override;
  Status GetIntoAsync(std::vector<GetItem> items, GetOptions options,
                      std::function<void(std::vector<GetResult>)> done) override;
  void Close() override;

 private:
  std::vector<Status> PutUntil(std::span<const PutItem> items, const PutOptions& options,
                               TimePoint deadline);
  // One question; kSessionLost: to be asked again under another session.
  Status StatOnce(const client::OpenedSession& opened, const proto::StatRequest& request,
                  const std::vector<uint32_t>& good, TimePoint deadline,
                  std::vector<ObjectInfo>* out);
  // A lookup with a pin; its row is OK.
  Status LookupPinned(const client::OpenedSession& opened, std::string_view key, TimePoint deadline,
                      proto::LookupReply* reply);
  // Pieces of the value at a same-host replica.
  Result<View> ViewOf(const client::OpenedSession& opened, const client::Location& location,
                      TimePoint deadline);

  std::shared_ptr<client::Core> core_;
  std::shared_ptr<void> held_;
  client::AsyncPool pool_;
  Mutex close_mutex_;
};

namespace client {

// A client over channels that are there already: inside a process, or in tests.
Result<std::unique_ptr<Client>> ConnectOver(const ClientOptions& options,
                                            std::vector<MetaRoute> routes,
                                            std::shared_ptr<void> held = nullptr);

// How Client::Connect serves "local://..." urls; set by mmc_embedded when it is linked.
using LocalConnector = Result<std::unique_ptr<Client>> (*)(const ClientOptions& options);
void SetLocalConnector(LocalConnector connector);

}  // namespace client
}  // namespace mmc
