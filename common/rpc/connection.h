// One accepted connection: reads frames, runs their methods, writes the answers, many at a time.
//
// A coroutine reads; each read hands over all frames that are complete, their answers go into one buffer and out in
// one write. Back-pressure: with too many handlers waiting, or too many bytes unsent, it stops reading.
// Thread safety: none; lives on its worker's thread. Ownership: shared by its worker and by what is pending on it.
#pragma once

#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <optional>
#include <string>

#include "common/obs/log.h"
#include "common/rpc/frame_reader.h"
#include "common/rpc/wire.h"
#include "common/rpc/worker.h"
#include "common/security/identity.h"

namespace mmc::rpc {

template <typename Stream>
class Connection final : public ServedConnection, public std::enable_shared_from_this<Connection<Stream>> {
 public:
  // `stream` is what the stream is made of.
  template <typename... Args>
  Connection(ServerCore& core, Worker& worker, std::string peer, std::shared_ptr<const security::Identity> identity,
             Args&&... stream)
      : ServedConnection(core, worker.io()),
        worker_(worker),
        stream_(std::forward<Args>(stream)...),
        peer_(std::move(peer)),
        identity_(std::move(identity)),
        number_(core.next_connection.fetch_add(1)),
        held_(core.buffer_bytes),
        timer_(worker.io()),
        resume_(worker.io()) {
    core_.connections.Enter();
    core_.connection_count->fetch_add(1);
  }
  ~Connection() override {
    core_.connection_count->fetch_sub(1);
    core_.connections.Leave();
  }

  void Serve() {
    asio::co_spawn(stream_.get_executor(), Run(), [self = this->shared_from_this()](const std::exception_ptr& thrown) {
      // Nothing in the loop throws but a lack of memory: that ends this connection alone.
      if (thrown) self->Close();
    });
  }

  void GoAway() override {
    if (!open_ || closing_) return;
    AppendFailure({.kind = FrameKind::kGoAway}, Status(Code::kShuttingDown, "the service stops"), &out_);
    Flush();
  }

  void BeginClose() override {
    if (!open_ || closing_) return;
    CancelAll(Status(Code::kShuttingDown, "the service stopped before the call ended"));
    closing_ = true;
    stopping_ = true;
    drain_ = kDrainAtStop;
    Flush();
    stream_.Cancel();
    resume_.cancel();
  }

 private:
  using Task = asio::awaitable<void, typename Stream::Executor>;
  using Token = asio::use_awaitable_t<typename Stream::Executor>;
  using Error = boost::system::error_code;

  static constexpr size_t kFlushBytes = 256 * 1024;  // answers of one batch are sent in pieces of about this
  static constexpr size_t kMaxUnsent = 8 << 20;      // then the peer has to take its answers first
  static constexpr size_t kKeepMessageBytes = 256 * 1024;
  static constexpr size_t kMaxDrainBytes = 1 << 20;
  static constexpr size_t kMayHold = 256 * 1024;  // whatever others hold
  static constexpr std::chrono::milliseconds kDrainAtStop{50};
  static constexpr std::chrono::milliseconds kDrainAfterError{1000};

  Task Run() {
    const auto token = asio::as_tuple(Token());
    while (open_) {
      Process();
      Flush();
      if (!open_ || closing_) break;
      if (Paused()) {
        co_await Sleep();
        Resumed();
        continue;
      }
      const std::span<std::byte> room = reader_.Prepare();
      auto [error, bytes] = co_await stream_.async_read_some(asio::buffer(room.data(), room.size()), token);
      if (error && !(closing_ && error == asio::error::operation_aborted)) break;
      now_ = arrival_ = std::chrono::steady_clock::now();
      reader_.Commit(bytes);
      if (HoldsTooMuch()) Refuse({}, "memory", core_.OverfullStatus());
      if (open_ && !closing_ && stream_.Revoked()) {
        Refuse({}, "revoked", Status(Code::kPermission, "the certificate of the caller (" + identity_->subject +
                                                            ") has been revoked"));
      }
    }
    if (const Status& fault = stream_.fault(); !fault.ok()) core_.BadFrame(peer_, "tls", fault);
    if (open_ && closing_) co_await Drain(token);
    Close();
  }

  // Sends what is left, says that nothing follows, and swallows what the peer still sends: closing with unread bytes
  // would reset the connection and could take our last answer away from the peer.
  template <typename AnyToken>
  Task Drain(AnyToken token) {
    if (stopping_) AppendFailure({.kind = FrameKind::kGoAway}, Status(Code::kClosed, "the service stopped"), &out_);
    Flush();
    while (open_ && writing_) co_await Sleep();
    if (!open_) co_return;
    stream_.ShutdownSend();
    drain_until_ = std::chrono::steady_clock::now() + drain_;
    ArmTimer(*drain_until_);
    reader_.Reset();
    const std::span<std::byte> room = reader_.Prepare();
    for (size_t drained = 0; open_ && drained < kMaxDrainBytes;) {
      auto [error, bytes] = co_await stream_.async_read_some(asio::buffer(room.data(), room.size()), token);
      if (error) break;
      drained += bytes;
    }
  }

  // Until Wake().
  Task Sleep() {
    sleeping_ = true;
    resume_.expires_at(TimePoint::max());
    (void)co_await resume_.async_wait(asio::as_tuple(Token()));
    sleeping_ = false;
  }
  void Wake() {
    if (sleeping_ && (closing_ || !Paused())) resume_.cancel();
  }
  bool Paused() const {
    return in_flight_ >= core_.options.max_in_flight_per_connection || out_.size() + sending_.size() > kMaxUnsent;
  }
  void Resumed() {
    now_ = std::chrono::steady_clock::now();
    if (!partial_since_) return;
    // The peer could not go on while nobody read: its time counts from now.
    partial_since_ = now_;
    ArmTimer(now_ + core_.options.frame_timeout);
  }

  // Looked at whenever the buffers may have grown.
  bool HoldsTooMuch() {
    held_.Set(reader_.memory() + out_.capacity() + sending_.capacity());
    return held_.bytes() > kMayHold && core_.Overfull();
  }

  // All frames that are complete.
  void Process() {
    in_batch_ = true;
    Frame frame;
    while (open_ && !closing_ && !Paused()) {
      const FrameReader::Next next = reader_.Take(&frame);
      if (next == FrameReader::Next::kMore) {
        NotePartial();
        break;
      }
      if (next == FrameReader::Next::kBad) {
        const char* reason = reader_.error().code() == Code::kTooLarge ? "too_large" : "malformed";
        Refuse({.request_id = reader_.error_request_id()}, reason, reader_.error());
        break;
      }
      partial_since_.reset();
      HandleFrame(frame);
      if (out_.size() > kFlushBytes) Flush();
    }
    in_batch_ = false;
  }

  void NotePartial() {
    if (!reader_.partial()) {
      partial_since_.reset();
    } else if (!partial_since_) {
      partial_since_ = arrival_;
      ArmTimer(arrival_ + core_.options.frame_timeout);
    }
  }

  // Answers, then closes: what follows such a frame cannot be trusted.
  void Refuse(FrameHeader header, const char* reason, const Status& status) {
    core_.BadFrame(peer_, reason, status);
    header.version = kVersion;
    header.kind = FrameKind::kResponse;
    AppendFailure(header, status, &out_);
    closing_ = true;
    drain_ = kDrainAfterError;
    CancelAll(Status(Code::kConnectionLost, "the connection broke"));
  }

  void HandleFrame(const Frame& frame) {
    if (frame.header.kind != FrameKind::kRequest) {
      Refuse({.request_id = frame.header.request_id}, "kind", Status(Code::kMalformed, "a caller sends requests only"));
      return;
    }
    const FrameHeader answer{.kind = FrameKind::kResponse,
                             .method = frame.header.method,
                             .request_id = frame.header.request_id};
    const MethodEntry* method = nullptr;
    if (const Status status = Admit(frame, &method); !status.ok()) {
      AppendFailure(answer, status, &out_);
      return;
    }
    const std::chrono::milliseconds asked(frame.header.deadline_or_status);
    const CallContext context{
        .request_id = frame.header.request_id,
        .deadline = arrival_ + (asked.count() == 0 ? core_.options.default_deadline
                                                   : std::min<std::chrono::milliseconds>(asked, kMaxDeadline)),
        .peer = peer_,
        .connection = number_,
        .identity = identity_};
    MMC_LOG_DEBUG() << "request " << context.request_id << " " << method->name << " from " << peer_ << ", "
            << frame.body.size() << " bytes";
    if (core_.stopping.load(std::memory_order_relaxed)) {
      Fail(*method, answer, Status(Code::kShuttingDown, "the service stops"));
    } else if (now_ >= context.deadline) {
      Fail(*method, answer, Status(Code::kDeadline, "the deadline passed before " + method->name + " was run"));
    } else if (method->sync) {
      RunSync(*method, answer, context, frame.body);
    } else {
      StartAsync(*method, answer, context, frame.body);
    }
  }

  // What can be wrong with a frame that leaves the connection usable.
  Status Admit(const Frame& frame, const MethodEntry** method) {
    const FrameHeader& header = frame.header;
    Status status;
    const char* reason = "version";
    if (header.version != kVersion) {
      status = Status(Code::kBadVersion, "protocol version " + std::to_string(header.version) +
                                             " is not spoken here; this service speaks " + std::to_string(kVersion));
    } else if (*method = core_.methods.Find(header.method); *method == nullptr) {
      reason = "method";
      status = Status(Code::kUnknownMethod, "method number " + std::to_string(header.method) + " is not known here");
    } else if (header.attachment_bytes != 0) {
      reason = "attachment";
      status = Status(Code::kUnsupported, (*method)->name + " takes no attachment");
    }
    if (!status.ok()) core_.BadFrame(peer_, reason, status);
    return status;
  }

  void Fail(const MethodEntry& method, const FrameHeader& answer, const Status& status) {
    AppendFailure(answer, status, &out_);
    core_.methods.Record(method, status.code(), now_ - arrival_);
  }

  Status Parse(const MethodEntry& method, std::span<const std::byte> body, google::protobuf::MessageLite* request) {
    const Status status = ParseBody(body, request).Annotate(method.name);
    if (!status.ok()) core_.BadFrame(peer_, "body", status);
    return status;
  }

  void RunSync(const MethodEntry& method, const FrameHeader& answer, const CallContext& context,
               std::span<const std::byte> body) {
    Worker::Messages& messages = worker_.MessagesOf(method);
    Status status = Parse(method, body, messages.request.get());
    if (status.ok()) status = MethodTable::Run(method, context, *messages.request, messages.reply.get());
    const size_t before = out_.size();
    if (status.ok()) status = AppendMessage(answer, *messages.reply, &out_);
    if (!status.ok()) AppendFailure(answer, status, &out_);
    messages.reply->Clear();
    if (body.size() > kKeepMessageBytes) messages.request.reset();
    if (out_.size() - before > kKeepMessageBytes) messages.reply.reset();
    const TimePoint end = std::chrono::steady_clock::now();
    core_.methods.Record(method, status.code(), end - now_);
    now_ = end;
  }

  void StartAsync(const MethodEntry& method, const FrameHeader& answer, const CallContext& context,
                  std::span<const std::byte> body) {
    if (body.size() > kMayHold && core_.Overfull()) {
      Fail(method, answer, core_.OverfullStatus());
      return;
    }
    auto call = std::make_shared<AsyncCall>(worker_.io(), core_);
    call->held.Set(body.size());
    call->request = method.make_request();
    if (const Status status = Parse(method, body, call->request.get()); !status.ok()) {
      Fail(method, answer, status);
      return;
    }
    call->method = &method;
    call->context = context;
    call->arrival = arrival_;
    call->reply = method.make_reply();
    call->sink = this->shared_from_this();
    ++in_flight_;
    Start(call);
    now_ = std::chrono::steady_clock::now();
  }

  // CallSink.
  void Answer(AsyncCall& call, const Status& answered) override {
    if (!open_) return;
    const FrameHeader header{.kind = FrameKind::kResponse,
                             .method = call.method->id,
                             .request_id = call.context.request_id};
    Status status = answered;
    if (status.ok()) status = AppendMessage(header, *call.reply, &out_);
    if (!status.ok()) AppendFailure(header, status, &out_);
    // Answers that come about together go out together.
    if (in_batch_ || flush_posted_) return;
    flush_posted_ = true;
    worker_.Post([self = this->shared_from_this()] {
      self->flush_posted_ = false;
      self->Flush();
      self->Wake();
    });
  }
  void Finished() override {
    --in_flight_;
    Wake();
  }

  void Flush() {
    while (open_ && !writing_ && !out_.empty()) {
      sending_.Swap(out_);
      while (!sending_.empty()) {
        Error error;
        const size_t bytes = stream_.TryWrite(asio::buffer(sending_.data().data(), sending_.size()), error);
        if (error == asio::error::would_block || error == asio::error::try_again) {
          Write();
          return;
        }
        if (error) {
          Close();
          return;
        }
        sending_.Consume(bytes);
      }
    }
  }

  // The kernel's buffer is full: the rest goes when the peer takes it.
  void Write() {
    if (HoldsTooMuch()) {
      core_.BadFrame(peer_, "memory", core_.OverfullStatus());
      Close();
      return;
    }
    writing_ = true;
    write_until_ = std::chrono::steady_clock::now() + core_.options.frame_timeout;
    ArmTimer(*write_until_);
    stream_.async_write_some(asio::buffer(sending_.data().data(), sending_.size()),
                             [self = this->shared_from_this()](const Error& error, size_t bytes) {
                               self->Written(error, bytes);
                             });
  }
  void Written(const Error& error, size_t bytes) {
    writing_ = false;
    write_until_.reset();
    if (!open_) return;
    if (error && error != asio::error::operation_aborted) {
      Close();
      return;
    }
    sending_.Consume(bytes);
    if (sending_.empty()) {
      Flush();
    } else {
      Write();
    }
    Wake();
  }

  // One timer watches over frames that do not end, writes that do not move and peers that do not close.
  void ArmTimer(TimePoint at) {
    if (armed_for_ && *armed_for_ <= at) return;
    armed_for_ = at;
    timer_.expires_at(at);
    timer_.async_wait([self = this->shared_from_this()](const Error& error) {
      if (!error) self->OnTimer();
    });
  }
  void OnTimer() {
    armed_for_.reset();
    if (!open_) return;
    const TimePoint now = std::chrono::steady_clock::now();
    std::optional<TimePoint> next;
    const auto due = [&](const std::optional<TimePoint>& at) {
      if (at && *at > now) next = next ? std::min(*next, *at) : *at;
      return at && *at <= now;
    };
    std::optional<TimePoint> frame_until;
    if (partial_since_ && !sleeping_ && !closing_) frame_until = *partial_since_ + core_.options.frame_timeout;
    if (due(frame_until)) {
      core_.BadFrame(peer_, "slow",
                     Status(Code::kDeadline, "a frame began and did not end within " +
                                                 std::to_string(core_.options.frame_timeout.count()) + " ms"));
      Close();
    } else if (due(write_until_) || due(drain_until_)) {
      Close();
    } else if (next) {
      ArmTimer(*next);
    }
  }

  void Close() {
    if (!open_) return;
    open_ = false;
    closing_ = true;
    stream_.Close();
    timer_.cancel();
    resume_.cancel();
    const std::shared_ptr<Connection> self = this->shared_from_this();
    CancelAll(Status(Code::kConnectionLost, "the caller is gone"));
    worker_.Remove(this);
  }

  Worker& worker_;
  Stream stream_;
  const std::string peer_;
  const std::shared_ptr<const security::Identity> identity_;
  const uint64_t number_;
  HeldBytes held_;  // by the buffers below
  FrameReader reader_;
  ByteBuffer out_;      // answers not yet handed to a write
  ByteBuffer sending_;  // what the current write sends
  asio::steady_timer timer_;
  asio::steady_timer resume_;
  TimePoint arrival_;  // of the read that brought the frames at hand
  TimePoint now_;      // about now, for latencies: the end of what was done last
  std::optional<TimePoint> partial_since_, write_until_, drain_until_, armed_for_;
  std::chrono::milliseconds drain_{0};
  uint32_t in_flight_ = 0;
  bool open_ = true;
  bool closing_ = false;   // no frame is taken any more
  bool stopping_ = false;  // because the server stops, not because of what the peer did
  bool writing_ = false;
  bool sleeping_ = false;
  bool in_batch_ = false;
  bool flush_posted_ = false;
};

}  // namespace mmc::rpc
