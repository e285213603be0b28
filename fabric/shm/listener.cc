#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "common/base/thread.h"
#include "fabric/address.h"
#include "fabric/fenced_sessions.h"
#include "fabric/shm/published.h"
#include "fabric/shm/shm.h"
#include "fabric/shm/socket.h"
#include "fabric/shm/wire.h"

namespace mmc::fabric::shm {
namespace {

// How long a dying listener waits for its clients to let go. A client that does not (stopped, hung) keeps a mapping of
// memory that nobody uses any more.
constexpr std::chrono::seconds kFarewell{2};
// Clients beyond the limit that are told so; more are just hung up on.
constexpr size_t kMaxRefused = 64;

struct Client {
  UniqueFd socket;
  bool greeted = false;
  bool leaving = false;  // Bye was sent
  Code refusal = Code::kOk;  // the answer to its hello, whatever that says
  Access ceiling = Access::kReadWrite;  // it gets no more than this, whatever it asks for
  uint64_t session = 0;
  Access access = Access::kReadOnly;
  uint64_t last_generation = 0;  // segments up to this one were sent
  TimePoint since;
};

class ShmListener final : public Listener {
 public:
  ShmListener(HostAddress address, const ListenOptions& options, RegionTable& regions)
      : address_(std::move(address)), options_(options), regions_(regions) {}
  ~ShmListener() override;

  Status Start();
  Endpoint endpoint() const override { return {"shm", FormatHostAddress(address_)}; }
  void Fence(uint64_t session, std::function<void()> done) override;
  void RefuseBelow(uint64_t session) override {
    MutexLock lock(mutex_);
    sessions_.RefuseBelow(session);
  }
  uint64_t connections() const override {
    MutexLock lock(mutex_);
    return clients_.size();
  }

 private:
  Status ResolveGroup();
  void Main();
  void Wake();
  void Accept() MMC_REQUIRES(mutex_);
  void Drop(int fd) MMC_REQUIRES(mutex_);
  void Hear(int fd) MMC_REQUIRES(mutex_);
  Status Greet(Client& client, const Packet& hello) MMC_REQUIRES(mutex_);
  Code CheckProof(Client& client, const Packet& hello, uint64_t* shared) const MMC_REQUIRES(mutex_);
  Status SendPresence(const Client& client) MMC_REQUIRES(mutex_);
  Status SendSegments(Client& client) MMC_REQUIRES(mutex_);
  void Refuse(int socket, Code code);
  void SayBye(Client& client) MMC_REQUIRES(mutex_);
  void DropSilent() MMC_REQUIRES(mutex_);
  void AnnounceSegments() MMC_REQUIRES(mutex_);
  std::vector<std::function<void()>> TakeFinishedFences() MMC_REQUIRES(mutex_);

  const HostAddress address_;
  const ListenOptions options_;
  RegionTable& regions_;
  gid_t group_ = static_cast<gid_t>(-1);
  uint64_t watcher_ = 0;
  std::unique_ptr<Published> published_;
  UniqueFd listen_;
  UniqueFd epoll_;
  UniqueFd event_;
  std::thread thread_;
  ino_t inode_ = 0;  // of the socket file: another listener's file at the path is left alone

  mutable Mutex mutex_;
  bool stopping_ MMC_GUARDED_BY(mutex_) = false;
  std::unordered_map<int, Client> clients_ MMC_GUARDED_BY(mutex_);
  FencedSessions sessions_ MMC_GUARDED_BY(mutex_);
  struct PendingFence {
    std::vector<int> sockets;  // still open
    std::function<void()> done;
  };
  std::vector<PendingFence> fences_ MMC_GUARDED_BY(mutex_);
};

Status ShmListener::ResolveGroup() {
  if (options_.allowed_group.empty()) return Status::Ok();
  std::array<char, 16384> buffer;
  struct group entry {};
  struct group* found = nullptr;
  getgrnam_r(options_.allowed_group.c_str(), &entry, buffer.data(), buffer.size(), &found);
  if (found == nullptr) {
    return Status(Code::kInvalidArgument, "group " + options_.allowed_group + " does not exist");
  }
  group_ = found->gr_gid;
  return Status::Ok();
}

Status ShmListener::Start() {
  MMC_RETURN_IF_ERROR(ResolveGroup());
  MMC_ASSIGN_OR_RETURN(published_, Published::Create());
  MMC_ASSIGN_OR_RETURN(listen_, ListenAt(address_.place, group_));
  struct stat info {};
  if (stat(address_.place.c_str(), &info) == 0) inode_ = info.st_ino;
  epoll_ = UniqueFd(epoll_create1(EPOLL_CLOEXEC));
  event_ = UniqueFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!epoll_.valid() || !event_.valid()) return ErrnoStatus("epoll for " + address_.place, errno);
  for (const int fd : {listen_.get(), event_.get()}) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = fd;
    if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) return ErrnoStatus("epoll_ctl", errno);
  }
  watcher_ = regions_.Watch([this](const std::shared_ptr<const Region>& region, bool added) {
    if (added) {
      published_->Add(region);
    } else {
      published_->Remove(*region);
    }
    Wake();
  });
  thread_ = StartThread([this] { Main(); });
  return Status::Ok();
}

ShmListener::~ShmListener() {
  if (watcher_ != 0) regions_.Unwatch(watcher_);
  if (published_ != nullptr) published_->RemoveAll();
  if (!thread_.joinable()) return;
  {
    MutexLock lock(mutex_);
    stopping_ = true;
  }
  Wake();
  thread_.join();
  struct stat info {};
  if (stat(address_.place.c_str(), &info) == 0 && info.st_ino == inode_) unlink(address_.place.c_str());
}

void ShmListener::Wake() {
  const uint64_t one = 1;
  // Fails only when the counter is full, and then the thread is awake anyway.
  [[maybe_unused]] const ssize_t n = write(event_.get(), &one, sizeof(one));
}

void ShmListener::Main() {
  const auto tick = std::clamp<std::chrono::milliseconds>(options_.stall_timeout / 4, std::chrono::milliseconds(10),
                                                          std::chrono::seconds(1));
  TimePoint end = TimePoint::max();
  std::array<epoll_event, 64> events;
  for (;;) {
    std::vector<std::function<void()>> done;
    {
      MutexLock lock(mutex_);
      if (stopping_ && end == TimePoint::max()) {
        end = std::chrono::steady_clock::now() + kFarewell;
        listen_.Reset(-1);
        for (auto& [fd, client] : clients_) SayBye(client);
      }
      DropSilent();
      done = TakeFinishedFences();
      if (stopping_ && (clients_.empty() || std::chrono::steady_clock::now() >= end)) break;
    }
    for (auto& call : done) call();
    const int timeout = std::min(static_cast<int>(tick.count()), PollTimeout(end));
    const int count = epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), timeout);
    MutexLock lock(mutex_);
    for (int i = 0; i < count; ++i) {
      const int fd = events[static_cast<size_t>(i)].data.fd;
      if (fd == event_.get()) {
        uint64_t drained = 0;
        [[maybe_unused]] const ssize_t n = read(fd, &drained, sizeof(drained));
        AnnounceSegments();
      } else if (fd == listen_.get()) {
        Accept();
      } else {
        Hear(fd);
      }
    }
  }
  // The fences whose clients are gone have their answer; the others lost their listener.
  std::vector<std::function<void()>> last;
  {
    MutexLock lock(mutex_);
    last = TakeFinishedFences();
    clients_.clear();
    fences_.clear();
  }
  for (auto& call : last) call();
}

void ShmListener::Accept() {
  for (;;) {
    UniqueFd socket(accept4(listen_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket.valid()) return;
    if (clients_.size() >= options_.max_connections + kMaxRefused) continue;
    Client client;
    // Told after the hello was read: closing a socket with unread data would throw the answer away.
    if (clients_.size() >= options_.max_connections) client.refusal = Code::kPeerUnreachable;
    const PeerKind kind = KindOfPeer(socket.get(), group_);
    if (kind == PeerKind::kStranger) client.refusal = Code::kPermission;
    if (kind == PeerKind::kMember) client.ceiling = options_.group_access;
    epoll_event event{};
    event.events = EPOLLIN | EPOLLRDHUP;
    event.data.fd = socket.get();
    if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, socket.get(), &event) != 0) continue;
    const int fd = socket.get();
    client.socket = std::move(socket);
    client.since = std::chrono::steady_clock::now();
    clients_.emplace(fd, std::move(client));
  }
}

void ShmListener::Refuse(int socket, Code code) {
  Packet packet;
  packet.kind = PacketKind::kRefused;
  packet.code = static_cast<uint32_t>(code);
  // Best effort: a client that does not read finds the connection closed.
  static_cast<void>(SendPacket(socket, packet, -1));
}

void ShmListener::Drop(int fd) {
  for (auto& fence : fences_) std::erase(fence.sockets, fd);
  clients_.erase(fd);  // closes the socket, which takes it out of epoll
}

void ShmListener::Hear(int fd) {
  const auto it = clients_.find(fd);
  if (it == clients_.end()) return;
  auto received = ReceivePacket(fd);
  if (!received.ok()) {
    Drop(fd);
    return;
  }
  if (!received->has_value()) return;
  Client& client = it->second;
  // A client says nothing after its hello; whatever else it sends is no client of ours.
  if (client.greeted || client.leaving || !Greet(client, (*received)->packet).ok()) {
    if (!client.greeted) {
      Drop(fd);
    } else {
      SayBye(client);
    }
  }
}

// Which of the listener's two nonces the client was told. That of readers gives no more than reading.
Code ShmListener::CheckProof(Client& client, const Packet& hello, uint64_t* shared) const {
  if (hello.proof == 0) return options_.require_nonce ? Code::kPermission : Code::kOk;
  const uint64_t reader = ReaderNonce(address_.nonce);
  if (hello.proof == Prove(address_.nonce, ProofOf::kClient, hello.challenge)) {
    *shared = address_.nonce;
  } else if (hello.proof == Prove(reader, ProofOf::kClient, hello.challenge)) {
    *shared = reader;
    client.ceiling = Access::kReadOnly;
  } else {
    return Code::kPeerUnreachable;
  }
  return Code::kOk;
}

Status ShmListener::Greet(Client& client, const Packet& hello) {
  Code refused = Code::kOk;
  if (hello.kind != PacketKind::kHello || hello.access > 1) refused = Code::kMalformed;
  if (hello.version != kVersion) refused = Code::kBadVersion;
  uint64_t shared = 0;  // the nonce that both know
  if (const Code code = CheckProof(client, hello, &shared); code != Code::kOk) refused = code;
  if (stopping_) refused = Code::kPeerUnreachable;
  if (sessions_.Refuses(hello.session)) refused = Code::kPermission;
  if (client.refusal != Code::kOk) refused = client.refusal;
  if (refused != Code::kOk) {
    Refuse(client.socket.get(), refused);
    return Status(refused);
  }
  client.session = hello.session;
  client.access = std::min(static_cast<Access>(hello.access), client.ceiling);
  Packet welcome;
  welcome.kind = PacketKind::kWelcome;
  welcome.proof = shared == 0 ? 0 : Prove(shared, ProofOf::kListener, hello.challenge);
  MMC_RETURN_IF_ERROR(SendPacket(client.socket.get(), welcome, published_->control_fd()));
  // From here on the client has files: it leaves by Bye only.
  client.greeted = true;
  MMC_RETURN_IF_ERROR(SendPresence(client));
  MMC_RETURN_IF_ERROR(SendSegments(client));
  Packet ready;
  ready.kind = PacketKind::kReady;
  return SendPacket(client.socket.get(), ready, -1);
}

Status ShmListener::SendPresence(const Client& client) {
  if (options_.presence_file.empty()) return Status::Ok();
  // Opened for each client: a lock belongs to the open file, and goes with its last holder.
  const UniqueFd presence(open(options_.presence_file.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!presence.valid() || flock(presence.get(), LOCK_SH | LOCK_NB) != 0) {
    return ErrnoStatus("presence file " + options_.presence_file, errno);
  }
  Packet packet;
  packet.kind = PacketKind::kPresence;
  return SendPacket(client.socket.get(), packet, presence.get());
}

Status ShmListener::SendSegments(Client& client) {
  for (const Published::Entry& entry : published_->List()) {
    if (entry.packet.generation <= client.last_generation) continue;
    const int fd = FdFor(entry, client.access);
    Packet packet = entry.packet;
    const bool writable = client.access == Access::kReadWrite && entry.region->access == Access::kReadWrite;
    packet.access = static_cast<uint32_t>(writable ? Access::kReadWrite : Access::kReadOnly);
    if (fd >= 0) MMC_RETURN_IF_ERROR(SendPacket(client.socket.get(), packet, fd));
    client.last_generation = entry.packet.generation;
  }
  return Status::Ok();
}

void ShmListener::AnnounceSegments() {
  for (auto& [fd, client] : clients_) {
    // One that does not read its socket would miss segments without knowing: it has to connect again.
    if (client.greeted && !client.leaving && !SendSegments(client).ok()) SayBye(client);
  }
}

void ShmListener::SayBye(Client& client) {
  if (client.leaving) return;
  client.leaving = true;
  Packet bye;
  bye.kind = PacketKind::kBye;
  static_cast<void>(SendPacket(client.socket.get(), bye, -1));
  // The end of file tells the same to a client whose receive queue is full.
  shutdown(client.socket.get(), SHUT_WR);
}

void ShmListener::DropSilent() {
  const TimePoint now = std::chrono::steady_clock::now();
  std::vector<int> silent;
  for (const auto& [fd, client] : clients_) {
    if (!client.greeted && now - client.since >= options_.stall_timeout) silent.push_back(fd);
  }
  for (const int fd : silent) Drop(fd);
}

std::vector<std::function<void()>> ShmListener::TakeFinishedFences() {
  std::vector<std::function<void()>> done;
  for (auto it = fences_.begin(); it != fences_.end();) {
    if (!it->sockets.empty()) {
      ++it;
      continue;
    }
    done.push_back(std::move(it->done));
    it = fences_.erase(it);
  }
  return done;
}

void ShmListener::Fence(uint64_t session, std::function<void()> done) {
  MutexLock lock(mutex_);
  sessions_.Add(session);
  PendingFence fence;
  fence.done = std::move(done);
  for (auto& [fd, client] : clients_) {
    if (!client.greeted || (session != 0 && client.session != session)) continue;
    SayBye(client);
    fence.sockets.push_back(fd);
  }
  fences_.push_back(std::move(fence));
  Wake();  // the thread answers, also when there is nothing to wait for
}

}  // namespace

Result<std::unique_ptr<Listener>> Listen(const ListenOptions& options, RegionTable& regions) {
  auto listener = std::make_unique<ShmListener>(HostAddress{options.address, NewNonce()}, options, regions);
  MMC_RETURN_IF_ERROR(listener->Start());
  return std::unique_ptr<Listener>(std::move(listener));
}

}  // namespace mmc::fabric::shm
