// The client's side of its session: calls to the meta service (several URLs in turn), the session's
// id and the links that carry it, heartbeats, the directory of nodes, and the unpins that destroyed
// views leave behind.
//
// Thread safety: all methods from any thread. Ownership: shared by the client and its views;
// Close() ends the session, its thread and its channels, after which every call answers kClosed.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "client_sdk/include/mmc/client.h"
#include "client_sdk/src/directory.h"
#include "common/base/clock.h"
#include "common/base/mutex.h"
#include "common/rpc/channel.h"
#include "fabric/fabric.h"
#include "proto/methods.h"

namespace mmc::client {

// One way to a meta service.
struct MetaRoute {
  std::string url;  // for messages
  std::shared_ptr<rpc::Channel> channel;
};

// One opened session and the links that carry its id. A grant is used only with the links of its
// own session, so that fencing that session stops every write made under the grant.
struct OpenedSession {
  uint64_t id = 0;
  uint64_t term = 0;  // of the meta service that opened it
  std::chrono::milliseconds heartbeat{1000};
  std::chrono::milliseconds expiry{10'000};
  std::chrono::milliseconds lease{0};  // of lookups that ask for none
  std::shared_ptr<fabric::Fabric> fabric;
};

// What a call that may have reached the service does when its answer is lost.
enum class OnLostAnswer : uint8_t {
  kRepeat,  // it has no effect, or the same one again
  kReport,  // answer kConnectionLost or kDeadline: the caller asks what became of it
};

class Session {
 public:
  // Reaches one of the routes (tried in turn for options.connect_retry, at least once each) and
  // opens a session. Errors: kUnavailable with every URL and what it answered, kDeadline.
  static Result<std::shared_ptr<Session>> Open(const ClientOptions& options,
                                               std::vector<MetaRoute> routes);
  ~Session();

  // Calls the meta service. What the recovery of a code says is done here, with growing pauses
  // until the deadline: the next URL for kUnavailable, kNotLeader, kShuttingDown; again later for
  // kQueueFull, kRecovering. kSessionLost is returned: what to do with the session's grants and
  // pins is up to the caller (then Reopen).
  template <typename Req, typename Rep>
  Status Call(const rpc::Method<Req, Rep>& method, const Req& request, Rep* reply,
              TimePoint deadline, OnLostAnswer on_lost = OnLostAnswer::kRepeat) {
    return CallRaw(method.id, method.name, request, reply, deadline, on_lost);
  }

  std::shared_ptr<const OpenedSession> current() const;
  // Opens a new session unless somebody has since `lost`; old links and the directory are left
  // behind.
  Status Reopen(const OpenedSession& lost, TimePoint deadline);

  // Ends a session that may hold grants nobody knows of (the answer that carried them was lost),
  // and opens a new one.
  Status Abandon(const OpenedSession& opened, TimePoint deadline);

  // The directory of the session's term, asked for again when the cached one is not of `version`;
  // 0: any of that term will do. Errors: kSessionLost when the meta service is in another term, in
  // which node ids that were given under this session may name other nodes.
  Result<std::shared_ptr<const Directory>> DirectoryAt(const OpenedSession& opened,
                                                       uint64_t version, TimePoint deadline);
  // The cached one, of whatever term: for preferences and messages.
  std::shared_ptr<const Directory> directory() const;

  // The link of `opened` to a node; connecting takes at most kConnectTime. Errors:
  // kPeerUnreachable, kStaleNode, kSessionLost (see DirectoryAt).
  Result<std::shared_ptr<fabric::Link>> LinkTo(const OpenedSession& opened, uint32_t node,
                                               TimePoint deadline);

  // Tells the meta service that a node could not be read or written. Does not wait.
  void ReportReplica(const OpenedSession& opened, uint32_t node, const Status& met);
  // Tells it that the bytes of one replica are not those of their checksum. Does not wait.
  void ReportCorrupt(const OpenedSession& opened, uint32_t node, std::string_view key,
                     uint64_t generation);
  // Ends one pin, soon, on the session's own thread; repeated until the service has answered. Never
  // blocks.
  void Unpin(uint64_t session, std::string key, uint64_t generation);

  // A number for one removal, the same for all attempts of it.
  uint64_t NextRemoval() { return next_removal_.fetch_add(1, std::memory_order_relaxed); }

  // Waits `pause`. False when the session is closed or the deadline would pass first; then it has
  // not waited.
  bool Pause(Duration pause, TimePoint deadline);
  bool closed() const { return closed_.load(); }

  // Sends what is left (unpins, end of session) until `deadline`. Idempotent.
  void Close(TimePoint deadline);

 private:
  struct PendingUnpin {
    uint64_t session;
    std::string key;
    uint64_t generation;
  };

  Session(const ClientOptions& options, std::vector<MetaRoute> routes,
          std::shared_ptr<security::TlsContext> data_tls);

  Status CallRaw(uint16_t method, const char* name, const google::protobuf::MessageLite& request,
                 google::protobuf::MessageLite* reply, TimePoint deadline, OnLostAnswer on_lost);
  void Report(const proto::ReportReplicaRequest& request);
  Status OpenOnce(TimePoint deadline, bool one_round);
  // One attempt at each route, from the current one on.
  Status TryRoutes(const proto::OpenSessionRequest& request, proto::OpenSessionReply* reply,
                   TimePoint deadline);
  void Run();
  void Beat();
  void ReopenInBackground(const OpenedSession& lost);
  void FlushUnpins(TimePoint deadline);

  const ClientOptions options_;
  const std::shared_ptr<security::TlsContext> data_tls_;  // null: none
  const std::vector<MetaRoute> routes_;
  const std::string host_id_;
  std::atomic<size_t> route_{0};
  std::atomic<bool> closed_{false};
  std::atomic<uint64_t> next_removal_{1};

  Mutex reopen_mutex_;  // one reopening at a time; held over its calls, taken before mutex_
  mutable Mutex mutex_;
  CondVar wake_;
  bool stopping_ MMC_GUARDED_BY(mutex_) = false;
  std::shared_ptr<const OpenedSession> opened_ MMC_GUARDED_BY(mutex_);
  std::shared_ptr<const Directory> directory_ MMC_GUARDED_BY(mutex_);
  std::vector<PendingUnpin> unpins_ MMC_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace mmc::client
