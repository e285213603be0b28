#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <utility>
#include <vector>

#include "fabric/fenced_sessions.h"
#include "fabric/tcp/doorman.h"
#include "fabric/tcp/io_loop.h"
#include "fabric/tcp/socket.h"
#include "fabric/tcp/tcp.h"

namespace mmc::fabric::tcp {
namespace {

constexpr std::chrono::milliseconds kHandshakeTime{10'000};

class TcpListener final : public Listener {
 public:
  TcpListener(const ListenOptions& options, RegionTable& regions) : options_(options) {
    connection_options_.regions = &regions;
    connection_options_.stall_timeout = options.stall_timeout;
    connection_options_.running = &running_;
    connection_options_.report = options_.report;
    connection_options_.tickets = options_.tls == nullptr ? nullptr : options_.tickets.get();
    // Of all that may be open, at most a quarter waits for a hello.
    const auto loops = static_cast<size_t>(std::clamp(options.threads, 1, 256));
    connection_options_.max_newcomers = std::max<size_t>(options.max_connections / 4 / loops, 1);
    connection_options_.admit = [this](uint64_t session) { return Admit(session); };
  }
  // The loops end first: with them every connection, and with those every access. The doorman passes on to loops that
  // are there and do nothing any more.
  ~TcpListener() override {
    for (auto& loop : loops_) loop->Stop();
    doorman_.reset();
    loops_.clear();
  }

  Status Start();
  Endpoint endpoint() const override { return {"tcp", address_}; }
  void Fence(uint64_t session, std::function<void()> done) override;
  void RefuseBelow(uint64_t session) override {
    MutexLock lock(mutex_);
    sessions_.RefuseBelow(session);
  }
  uint64_t connections() const override { return connections_.load(); }
  uint64_t running() const override { return running_.load(); }

 private:
  Code Admit(uint64_t session) {
    MutexLock lock(mutex_);
    return sessions_.Refuses(session) ? Code::kPermission : Code::kOk;
  }
  void AcceptAll();
  void Admit(std::unique_ptr<TlsStream> stream);
  void Report(const std::string& line) const {
    if (options_.report != nullptr) options_.report(line);
  }
  void Pass(std::unique_ptr<ByteStream> stream, const Guest& guest);

  const ListenOptions options_;
  ConnectionOptions connection_options_;
  std::atomic<uint64_t> connections_{0};
  std::atomic<uint64_t> running_{0};
  UniqueFd listen_;
  UniqueFd spare_;  // given up to accept and close a connection when there are no more files
  std::string address_;
  std::vector<std::unique_ptr<IoLoop>> loops_;
  size_t next_loop_ = 0;
  std::unique_ptr<Doorman> doorman_;  // null: no TLS

  Mutex mutex_;
  FencedSessions sessions_ MMC_GUARDED_BY(mutex_);
};

Status TcpListener::Start() {
  MMC_ASSIGN_OR_RETURN(listen_, ListenAt(options_.address));
  address_ = AddressOf(listen_.get());
  spare_ = UniqueFd(dup(listen_.get()));
  const int threads = std::clamp(options_.threads, 1, 256);
  for (int i = 0; i < threads; ++i) loops_.push_back(std::make_unique<IoLoop>(connection_options_, connections_));
  if (options_.tls != nullptr) {
    doorman_ = std::make_unique<Doorman>(
        DoormanOptions{.tls = options_.tls, .time = std::min(options_.stall_timeout, kHandshakeTime),
                       .report = options_.report},
        [this](std::unique_ptr<TlsStream> stream) { Admit(std::move(stream)); });
    MMC_RETURN_IF_ERROR(doorman_->Start());
  }
  loops_[0]->AcceptFrom(listen_.get(), [this] { AcceptAll(); });
  // The accepting loop starts last: it hands connections to the others.
  for (size_t i = loops_.size(); i > 0; --i) MMC_RETURN_IF_ERROR(loops_[i - 1]->Start());
  return Status::Ok();
}

void TcpListener::AcceptAll() {
  for (;;) {
    UniqueFd socket(accept4(listen_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket.valid() && (errno == EMFILE || errno == ENFILE)) {
      // Refuse it, or the waiting connection would wake the loop for ever.
      spare_.Reset(-1);
      UniqueFd(accept4(listen_.get(), nullptr, nullptr, SOCK_CLOEXEC)).Reset(-1);
      spare_.Reset(dup(listen_.get()));
      return;
    }
    if (!socket.valid()) return;
    if (connections_.load() >= options_.max_connections || !Tune(socket.get(), "").ok()) continue;
    if (doorman_ != nullptr) {
      doorman_->Take(std::move(socket));
    } else {
      Pass(std::make_unique<PlainStream>(std::move(socket)), {.ceiling = Access::kReadWrite});
    }
  }
}

// Without TLS on the accepting loop's thread, else on the doorman's.
void TcpListener::Pass(std::unique_ptr<ByteStream> stream, const Guest& guest) {
  loops_[next_loop_++ % loops_.size()]->Adopt(std::move(stream), guest);
}

void TcpListener::Admit(std::unique_ptr<TlsStream> stream) {
  if (connections_.load() >= options_.max_connections) return;
  const std::shared_ptr<const security::Identity> peer = stream->peer();
  Guest guest{.ceiling = Access::kReadWrite, .holder = HolderOf(*peer)};
  if (options_.rights != nullptr) guest.ceiling = options_.rights(*peer);
  // Nodes copy from each other at the word of the meta service, for no session.
  guest.tickets_to_read = peer->role != security::Role::kLocal;
  if (!guest.ceiling.has_value()) {
    Report("a data connection from " + PeerOf(stream->fd()) + " is refused: the role of its certificate (" +
           peer->subject + "), " + std::string(security::RoleName(peer->role)) + ", may not use this node's memory");
  }
  // One without rights too: it is told so in answer to its hello.
  Pass(std::move(stream), guest);
}

void TcpListener::Fence(uint64_t session, std::function<void()> done) {
  if (session != 0) {
    MutexLock lock(mutex_);
    sessions_.Add(session);
  }
  struct Pending {
    std::atomic<size_t> loops;
    std::function<void()> done;
  };
  auto pending = std::make_shared<Pending>();
  pending->loops = loops_.size();
  pending->done = std::move(done);
  for (auto& loop : loops_) {
    loop->Post([&loop = *loop, session, pending] {
      loop.CloseIf([session](Connection& connection) {
        return connection.greeted() && (session == 0 || connection.session() == session);
      });
      if (pending->loops.fetch_sub(1) == 1) pending->done();
    });
  }
}

}  // namespace

Result<std::unique_ptr<Listener>> Listen(const ListenOptions& options, RegionTable& regions) {
  auto listener = std::make_unique<TcpListener>(options, regions);
  MMC_RETURN_IF_ERROR(listener->Start());
  return std::unique_ptr<Listener>(std::move(listener));
}

}  // namespace mmc::fabric::tcp
