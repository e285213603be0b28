// The serving side of RPC: methods, N io threads, one place for decoding, deadlines, limits, metrics and logs.
//
// Thread safety: Handle() before Start(); Start/Drain/Stop from one thread; the rest from any. Handlers run on io
// threads: they must not block. Ownership: the server owns its threads and connections.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <functional>
#include <memory>
#include <string>

#include "common/base/clock.h"
#include "common/base/status.h"
#include "common/rpc/channel.h"
#include "common/rpc/method.h"
#include "common/security/identity.h"

namespace google::protobuf {
class MessageLite;
}

namespace mmc::obs {
class Registry;
}

namespace mmc::rpc {

namespace asio = boost::asio;

struct CallContext {
  uint64_t request_id = 0;
  TimePoint deadline;          // on this machine's clock
  std::string_view peer;       // "127.0.0.1:40112", "in-process"
  uint64_t connection = 0;     // unique per connection of this server
  // Of the caller; never null. Without TLS, and inside the process: Role::kNone.
  std::shared_ptr<const security::Identity> identity = security::NoIdentity();
};

struct ServerOptions {
  std::string url;                               // listen address; port 0 takes a free one
  std::string url_key;                           // configuration key of the address, for "port taken"
  int io_threads = 2;
  uint32_t max_connections = 16384;
  uint32_t max_in_flight_per_connection = 1024;  // then the connection is not read any further (back-pressure)
  // Requests that arrive or wait, and answers that nobody has taken yet, of all connections together: then whoever
  // holds much is refused.
  uint64_t max_buffer_bytes = uint64_t{1} << 30;
  std::chrono::milliseconds frame_timeout{10'000};  // a frame that started must end within this (slow-loris)
  std::chrono::milliseconds default_deadline{60'000};  // for calls that carry none
  obs::Registry* metrics = nullptr;              // optional: per-method counters and latency histograms
  std::chrono::microseconds spin{0};             // io threads poll this long before they sleep, where cores abound
  std::shared_ptr<security::TlsContext> tls;     // null: plain TCP
  std::chrono::milliseconds handshake_timeout{5000};  // of TLS
  uint32_t max_handshakes = 256;                 // unfinished ones; then the oldest give way
};

class Server {
 public:
  using SyncBody = std::function<Status(const CallContext&, const google::protobuf::MessageLite&,
                                        google::protobuf::MessageLite*)>;
  using AsyncBody = std::function<asio::awaitable<Status>(CallContext, const google::protobuf::MessageLite&,
                                                          google::protobuf::MessageLite*)>;
  using MakeMessage = std::unique_ptr<google::protobuf::MessageLite> (*)();

  virtual ~Server() = default;

  // A method that answers at once: `Status F(const CallContext&, const Request&, Reply*)`.
  template <typename Req, typename Rep, typename F>
  void Handle(const Method<Req, Rep>& method, F body) {
    AddSync(method.id, method.name, &Make<Req>, &Make<Rep>,
            [body = std::move(body)](const CallContext& context, const google::protobuf::MessageLite& request,
                                     google::protobuf::MessageLite* reply) {
              return body(context, static_cast<const Req&>(request), static_cast<Rep*>(reply));
            });
  }
  // A method that may wait: `awaitable<Status> F(CallContext, const Request&, Reply*)`; both messages live until it
  // returns. It is cancelled (operation_aborted) when the server stops, its deadline passes or its caller is gone.
  template <typename Req, typename Rep, typename F>
  void HandleAsync(const Method<Req, Rep>& method, F body) {
    AddAsync(method.id, method.name, &Make<Req>, &Make<Rep>,
             [body = std::move(body)](CallContext context, const google::protobuf::MessageLite& request,
                                      google::protobuf::MessageLite* reply) {
               return body(std::move(context), static_cast<const Req&>(request), static_cast<Rep*>(reply));
             });
  }

  // Binds and serves. Errors: kInvalidArgument (url), kIo ("address 127.0.0.1:5000 is in use ...").
  virtual Status Start() = 0;
  // Answers kShuttingDown to new calls, waits for running ones until `deadline`, then cancels those and closes all
  // connections. Idempotent. Only a handler that ignores its cancellation can still run then; none after ~Server.
  virtual void Stop(TimePoint deadline) = 0;
  virtual uint16_t port() const = 0;
  // For timers and waits of async handlers: of the io thread that calls, else of the first one.
  virtual asio::any_io_executor executor() = 0;

  // A channel that calls this server's handlers inside the process, without sockets. It must not outlive the server.
  virtual std::shared_ptr<Channel> InProcessChannel() = 0;

 protected:
  virtual void AddSync(uint16_t id, const char* name, MakeMessage request, MakeMessage reply, SyncBody body) = 0;
  virtual void AddAsync(uint16_t id, const char* name, MakeMessage request, MakeMessage reply, AsyncBody body) = 0;

 private:
  template <typename M>
  static std::unique_ptr<google::protobuf::MessageLite> Make() {
    return std::make_unique<M>();
  }
};

// A server without url (empty) has no socket and serves in-process channels only.
std::unique_ptr<Server> MakeServer(const ServerOptions& options);

}  // namespace mmc::rpc
