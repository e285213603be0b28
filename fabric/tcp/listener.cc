#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <unordered_set>
#include <utility>
#include <vector>

#include "fabric/tcp/io_loop.h"
#include "fabric/tcp/socket.h"
#include "fabric/tcp/tcp.h"

namespace mmc::fabric::tcp {
namespace {

class TcpListener final : public Listener {
 public:
  TcpListener(const ListenOptions& options, RegionTable& regions) : options_(options) {
    connection_options_.regions = &regions;
    connection_options_.stall_timeout = options.stall_timeout;
    connection_options_.running = &running_;
    connection_options_.admit = [this](uint64_t session) { return Admit(session); };
  }
  // The loops end first: with them every connection, and with those every access.
  ~TcpListener() override { loops_.clear(); }

  Status Start();
  Endpoint endpoint() const override { return {"tcp", address_}; }
  void Fence(uint64_t session, std::function<void()> done) override;
  void RefuseBelow(uint64_t session) override {
    MutexLock lock(mutex_);
    first_session_ = std::max(first_session_, session);
  }
  uint64_t connections() const override { return connections_.load(); }
  uint64_t running() const override { return running_.load(); }

 private:
  Code Admit(uint64_t session) {
    MutexLock lock(mutex_);
    const bool outdated = session != 0 && session < first_session_;
    return outdated || fenced_.contains(session) ? Code::kPermission : Code::kOk;
  }
  void AcceptAll();

  const ListenOptions options_;
  ConnectionOptions connection_options_;
  std::atomic<uint64_t> connections_{0};
  std::atomic<uint64_t> running_{0};
  UniqueFd listen_;
  UniqueFd spare_;  // given up to accept and close a connection when there are no more files
  std::string address_;
  std::vector<std::unique_ptr<IoLoop>> loops_;
  size_t next_loop_ = 0;

  Mutex mutex_;
  std::unordered_set<uint64_t> fenced_ MMC_GUARDED_BY(mutex_);
  uint64_t first_session_ MMC_GUARDED_BY(mutex_) = 0;  // older ones are refused
};

Status TcpListener::Start() {
  MMC_ASSIGN_OR_RETURN(listen_, ListenAt(options_.address));
  address_ = AddressOf(listen_.get());
  spare_ = UniqueFd(dup(listen_.get()));
  const int threads = std::clamp(options_.threads, 1, 256);
  for (int i = 0; i < threads; ++i) loops_.push_back(std::make_unique<IoLoop>(connection_options_, connections_));
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
    loops_[next_loop_++ % loops_.size()]->Adopt(std::move(socket));
  }
}

void TcpListener::Fence(uint64_t session, std::function<void()> done) {
  if (session != 0) {
    MutexLock lock(mutex_);
    fenced_.insert(session);
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
      loop.CloseIf([session](const Connection& connection) {
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
