#include "common/rpc/tls_accept.h"

#include <sys/socket.h>

#include <utility>

#include "common/obs/log.h"
#include "common/rpc/connection.h"
#include "common/rpc/tls_stream.h"

namespace mmc::rpc {
namespace {

using Want = security::TlsSession::Want;

constexpr std::chrono::milliseconds kDrainAfterRefusal{1000};
constexpr size_t kMaxDrainBytes = 256 * 1024;

constexpr char kHandshakesName[] = "mmc_rpc_tls_handshakes_total";
constexpr char kHandshakesHelp[] =
    "TLS handshakes of callers, by how they ended: done, refused (a certificate), failed, dropped (too many at once).";

obs::Counter& CounterOf(obs::Registry& registry, const char* result) {
  return registry.AddCounter(kHandshakesName, kHandshakesHelp, {{"result", result}});
}

}  // namespace

TlsServing::TlsServing(obs::Registry& registry, std::shared_ptr<security::TlsContext> context)
    : context_(std::move(context)),
      done_(CounterOf(registry, "done")),
      refused_(CounterOf(registry, "refused")),
      failed_(CounterOf(registry, "failed")),
      dropped_(CounterOf(registry, "dropped")) {}

void TlsServing::Failed(const std::string& peer, const Status& status) {
  (status.code() == Code::kPermission ? refused_ : failed_).Add();
  uint64_t left_out = 0;
  if (!log_.Allow(std::chrono::steady_clock::now(), &left_out)) return;
  MMC_LOG(WARNING) << "TLS with " << peer << " has failed: " << status.message()
                   << (left_out > 0 ? " (" + std::to_string(left_out) + " more were not logged)" : std::string());
}

TlsAccept::TlsAccept(ServerCore& core, Worker& worker, TlsServing& serving, PlainStream::Socket socket,
                     std::string peer)
    : core_(core),
      worker_(worker),
      serving_(serving),
      socket_(std::move(socket)),
      peer_(std::move(peer)),
      timer_(worker.io()) {
  core_.connections.Enter();
}

TlsAccept::~TlsAccept() { core_.connections.Leave(); }

void TlsAccept::Start() {
  Error ignored;
  socket_.set_option(asio::ip::tcp::no_delay(true), ignored);
  socket_.non_blocking(true, ignored);
  auto session = security::TlsSession::Server(*serving_.context(), socket_.native_handle());
  if (!session.ok()) {
    serving_.Failed(peer_, session.status());
    End();
    return;
  }
  session_ = std::move(session).value();
  CloseIn(core_.options.handshake_timeout);
  Step();
}

void TlsAccept::CloseIn(std::chrono::milliseconds time) {
  timer_.expires_after(time);
  timer_.async_wait([self = shared_from_this()](const Error& error) {
    if (error) return;
    self->late_ = true;
    self->Close();
  });
}

void TlsAccept::GiveWay() {
  serving_.Dropped();
  Close();
}

void TlsAccept::Close() {
  Error ignored;
  socket_.close(ignored);
}

void TlsAccept::End() {
  timer_.cancel();
  Close();
  worker_.RemoveHandshake(this);
}

void TlsAccept::Step() {
  const security::TlsSession::Outcome outcome = session_->Handshake();
  if (outcome.done()) {
    Serve();
    return;
  }
  if (outcome.want == Want::kNothing) {
    Refuse(outcome.failure);
    return;
  }
  const auto ready = outcome.want == Want::kRead ? PlainStream::Socket::wait_read : PlainStream::Socket::wait_write;
  socket_.async_wait(ready, [self = shared_from_this()](const Error& error) {
    if (!error) {
      self->Step();
      return;
    }
    if (self->late_) {
      self->serving_.Failed(self->peer_, Status(Code::kDeadline, "the handshake was not done within " +
                                                    std::to_string(self->core_.options.handshake_timeout.count()) +
                                                    " ms"));
    }
    self->End();
  });
}

// The peer learns why: closing while bytes of it are unread would reset the connection and take the answer back.
void TlsAccept::Refuse(Status status) {
  if (session_->plain()) {
    status = Status(Code::kUnavailable, "it does not speak TLS, and this port speaks nothing else");
    AnswerInClear();
  }
  serving_.Failed(peer_, status);
  Error ignored;
  socket_.shutdown(asio::socket_base::shutdown_send, ignored);
  CloseIn(kDrainAfterRefusal);
  swallowed_.resize(16 * 1024);
  Drain();
}

void TlsAccept::Drain() {
  socket_.async_read_some(asio::buffer(swallowed_.data(), swallowed_.size()),
                          [self = shared_from_this()](const Error& error, size_t bytes) {
                            self->drained_ += bytes;
                            if (error || self->drained_ >= kMaxDrainBytes) {
                              self->End();
                            } else {
                              self->Drain();
                            }
                          });
}

void TlsAccept::AnswerInClear() {
  const std::string first = session_->first_bytes();
  if (first.size() < kHeaderBytes) return;
  const auto header = DecodeHeader(std::as_bytes(std::span(first)).first<kHeaderBytes>());
  if (!header.ok()) return;
  ByteBuffer answer;
  AppendFailure({.kind = FrameKind::kResponse, .method = header->method, .request_id = header->request_id},
                Status(Code::kUnavailable, "this service speaks TLS only, and the caller does not; set "
                                           "ock.mmc.tls.enable = true and the certificates there"),
                &answer);
  Error ignored;
  (void)socket_.write_some(asio::buffer(answer.data().data(), answer.size()), ignored);
}

void TlsAccept::Serve() {
  serving_.Done();
  auto connection = std::make_shared<Connection<TlsStream>>(core_, worker_, peer_, session_->peer(),
                                                            std::move(socket_), std::move(session_));
  worker_.Add(connection);
  connection->Serve();
  if (core_.stopping.load()) connection->BeginClose();
  End();
}

}  // namespace mmc::rpc
