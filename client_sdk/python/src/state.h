// What lies behind a Python client: the connection, memory lent to the pool, and the threads of
// asynchronous questions.
//
// Thread safety: all methods from any thread. Ownership: shared by the Python client, its views and
// its asynchronous queues; the last of them closes it. In a process forked from the one that made
// it, it answers "closed" and is not destroyed, since its threads are not there.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>

#include "client_sdk/embedded/embedded.h"
#include "client_sdk/include/mmc/client.h"
#include "client_sdk/python/src/live.h"
#include "client_sdk/python/src/registered.h"
#include "client_sdk/src/async_pool.h"
#include "common/base/mutex.h"

namespace mmc::python {

class ClientState final : public Endable {
 public:
  static Result<std::shared_ptr<ClientState>> Connect(const ClientOptions& options,
                                                      const local::LocalOptions* contribute);
  ~ClientState() override;
  ClientState(const ClientState&) = delete;
  ClientState& operator=(const ClientState&) = delete;

  // Raises ClosedError (with the GIL) in a forked process.
  mmc::Client& client();
  const std::string& meta_url() const { return meta_url_; }
  // Empty when nothing is contributed.
  const std::string& node_name() const { return node_name_; }
  bool closed() const { return closed_; }
  bool foreign() const;  // of another process
  RegisteredMemory& memory() { return memory_; }

  // Runs a question to the meta service on a thread of a small pool. `job` runs before Close() has
  // ended.
  Status Submit(std::function<void()> job) { return questions_.Submit(std::move(job)); }

  // Idempotent; without the GIL.
  void Close();
  void End() override { Close(); }

  // Bytes to expect of a value whose size is not known yet.
  std::atomic<uint64_t> typical_size{64 << 10};

 private:
  ClientState();

  const uint32_t forks_;
  std::string meta_url_;
  std::string node_name_;
  std::atomic<bool> closed_{false};
  RegisteredMemory memory_;
  Mutex close_mutex_;
  std::unique_ptr<ContributingClient> contributing_;
  std::unique_ptr<Client> own_;
  Client* client_ = nullptr;
  client::AsyncPool questions_;
};

}  // namespace mmc::python
