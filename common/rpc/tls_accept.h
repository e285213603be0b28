// The handshake of one accepted connection, which becomes a Connection when the caller is who it must be.
//
// Bounded in time, and in number per worker: when there are too many, the oldest gives way, so that callers that
// never finish keep nobody out.
// Thread safety: TlsServing from any thread; TlsAccept lives on its worker's thread. Ownership: TlsServing is the
// server's; a TlsAccept is shared by its worker and by what is pending on it.
#pragma once

#include <boost/asio/steady_timer.hpp>
#include <memory>
#include <string>
#include <vector>

#include "common/obs/metrics.h"
#include "common/rpc/plain_stream.h"
#include "common/rpc/server_core.h"
#include "common/rpc/worker.h"
#include "common/security/tls_session.h"

namespace mmc::rpc {

// What the handshakes of one server share. The counters are there without TLS too, for the list of metrics.
class TlsServing {
 public:
  TlsServing(obs::Registry& registry, std::shared_ptr<security::TlsContext> context);

  security::TlsContext* context() const { return context_.get(); }
  void Done() { done_.Add(); }
  // Counts and logs, not too often.
  void Failed(const std::string& peer, const Status& status);
  void Dropped() { dropped_.Add(); }

 private:
  const std::shared_ptr<security::TlsContext> context_;  // null: no TLS
  obs::Counter& done_;
  obs::Counter& refused_;
  obs::Counter& failed_;
  obs::Counter& dropped_;
  LogLimit log_;
};

class TlsAccept final : public Handshake, public std::enable_shared_from_this<TlsAccept> {
 public:
  TlsAccept(ServerCore& core, Worker& worker, TlsServing& serving, PlainStream::Socket socket, std::string peer);
  ~TlsAccept() override;

  // REQUIRES: the worker's thread.
  void Start();
  void GiveWay() override;
  void Close() override;

 private:
  using Error = boost::system::error_code;

  void Step();
  void Serve();
  void Refuse(Status status);
  void AnswerInClear();
  void Drain();
  // Closes when `time` has passed.
  void CloseIn(std::chrono::milliseconds time);
  // Nothing of it stays, unless a connection has taken the socket over.
  void End();

  ServerCore& core_;
  Worker& worker_;
  TlsServing& serving_;
  PlainStream::Socket socket_;
  const std::string peer_;
  std::unique_ptr<security::TlsSession> session_;
  asio::steady_timer timer_;
  bool late_ = false;
  std::vector<std::byte> swallowed_;  // what the peer sends after it was refused
  size_t drained_ = 0;
};

}  // namespace mmc::rpc
