// The calling side of RPC: one logical connection to one service, multiplexed, reconnecting.
//
// Thread safety: all methods from any thread. A sync caller drives the connection's I/O on its own thread when nobody
// else does (leader/follower), so that a call costs one round trip and no hand-over between threads.
// Ownership: callers share it by shared_ptr; Close() (also run by the destructor) completes every pending call.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>

#include "common/base/clock.h"
#include "common/base/status.h"
#include "common/rpc/method.h"
#include "common/security/identity.h"

namespace google::protobuf {
class MessageLite;
}

namespace mmc::security {
class TlsContext;
}

namespace mmc::rpc {

struct ChannelOptions {
  std::string url;  // "tcp://127.0.0.1:5000", "tcp://[::1]:5000", "tcp://host:5000"
  std::chrono::milliseconds connect_timeout{3000};           // within the call's own deadline
  uint32_t max_in_flight = 4096;                             // calls; more answer kQueueFull
  std::chrono::microseconds spin{20};                        // busy-poll before sleeping, where cores abound; 0 = off
  std::shared_ptr<security::TlsContext> tls;                 // null: plain TCP; its handshake is part of connecting
  security::Role peer_role = security::Role::kMeta;          // that the service's certificate must have
};

class Channel {
 public:
  virtual ~Channel() = default;

  // Sends `request`, waits for the reply. Errors: what the service answered; kUnavailable (never sent),
  // kPermission (a certificate was refused, nothing was
  // run), kConnectionLost (sent, no answer), kDeadline, kQueueFull, kTooLarge, kMalformed (reply), kClosed.
  virtual Status CallRaw(uint16_t method, const google::protobuf::MessageLite& request,
                         google::protobuf::MessageLite* reply, TimePoint deadline) = 0;

  // The same without waiting: `done` runs exactly once, on one of the library's threads (or inside Close()),
  // never inside CallRawAsync. `reply` must live until then; `request` is serialised before the return.
  virtual void CallRawAsync(uint16_t method, const google::protobuf::MessageLite& request,
                            google::protobuf::MessageLite* reply, TimePoint deadline,
                            std::function<void(Status)> done) = 0;

  // Fails what is pending with kClosed, refuses what comes. Idempotent.
  virtual void Close() = 0;

  // Counts connections made so far: a caller that sees it change has lost what the server kept per connection.
  virtual uint64_t connection_epoch() const = 0;

  template <typename Req, typename Rep>
  Status Call(const Method<Req, Rep>& method, const Req& request, Rep* reply, TimePoint deadline) {
    return CallRaw(method.id, request, reply, deadline);
  }
  template <typename Req, typename Rep>
  void CallAsync(const Method<Req, Rep>& method, const Req& request, TimePoint deadline,
                 std::type_identity_t<std::function<void(Status, std::shared_ptr<Rep>)>> done) {
    auto reply = std::make_shared<Rep>();
    Rep* raw = reply.get();
    CallRawAsync(method.id, request, raw, deadline,
                 [reply = std::move(reply), done = std::move(done)](Status status) { done(std::move(status), reply); });
  }
};

// Connects at the first call and again after a loss; never fails here except on a malformed URL.
Result<std::shared_ptr<Channel>> MakeTcpChannel(const ChannelOptions& options);

}  // namespace mmc::rpc
