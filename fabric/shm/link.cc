#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "common/base/thread.h"
#include "fabric/address.h"
#include "fabric/copy/copy_engine.h"
#include "fabric/link_base.h"
#include "fabric/memory.h"
#include "fabric/ops.h"
#include "fabric/shm/shm.h"
#include "fabric/shm/socket.h"
#include "fabric/shm/wire.h"

namespace mmc::fabric::shm {
namespace {

constexpr size_t kBatchPieces = 256;          // pieces handed to the copy engine at once
constexpr uint64_t kBatchBytes = 32ull << 20;  // deadline and peer are looked at between batches
constexpr uint64_t kWarmBytes = 32ull << 20;   // pages mapped at a time in the background

// A segment as it was published, mapped here.
struct Mapped {
  std::shared_ptr<SegmentMemory> memory;
  RegionRef ref;
  std::byte* begin = nullptr;
  uint64_t size = 0;
  Access access = Access::kReadOnly;
  uint32_t slot = 0;
  uint64_t generation = 0;
};

// The segments of one listener. Entries are never dropped while the link lives, so views stay mapped.
class Mappings {
 public:
  ~Mappings() {
    if (page_ != nullptr) munmap(const_cast<ControlPage*>(page_), sizeof(ControlPage));
  }
  Status TakeControl(const UniqueFd& fd);
  Status TakeSegment(Received received);
  // Maps the pages of new segments, a share at a time. False when there is nothing left to do.
  bool Warm() MMC_EXCLUDES(mutex_);

  // The published segment. Null when it is not there or not alive any more.
  std::shared_ptr<const Mapped> Find(RegionRef ref) const {
    MutexLock lock(mutex_);
    const auto it = segments_.find(ref.segment);
    if (it == segments_.end() || it->second->ref != ref || !Alive(*it->second)) return nullptr;
    return it->second;
  }
  bool Alive(const Mapped& segment) const {
    return page_->generation[segment.slot].load(std::memory_order_acquire) == segment.generation;
  }

 private:
  struct Cold {
    std::shared_ptr<const Mapped> segment;
    uint64_t next = 0;
  };
  const ControlPage* page_ = nullptr;
  mutable Mutex mutex_;
  std::unordered_map<uint32_t, std::shared_ptr<const Mapped>> segments_ MMC_GUARDED_BY(mutex_);
  std::vector<std::shared_ptr<const Mapped>> replaced_ MMC_GUARDED_BY(mutex_);
  std::vector<Cold> cold_;  // the watcher thread's own
};

Status Mappings::TakeControl(const UniqueFd& fd) {
  struct stat info {};
  if (fstat(fd.get(), &info) != 0 || static_cast<uint64_t>(info.st_size) < sizeof(ControlPage)) {
    return Status(Code::kMalformed, "the listener sent no control page");
  }
  void* const page = mmap(nullptr, sizeof(ControlPage), PROT_READ, MAP_SHARED, fd.get(), 0);
  if (page == MAP_FAILED) return ErrnoStatus("map the control page", errno);
  page_ = static_cast<const ControlPage*>(page);
  return Status::Ok();
}

Status Mappings::TakeSegment(Received received) {
  const Packet& packet = received.packet;
  if (!received.fd.valid() || packet.slot >= kSlots || packet.generation == 0 || packet.access > 1 ||
      packet.backing > 1 ||
      packet.offset > packet.file_size || packet.size > packet.file_size - packet.offset) {
    return Status(Code::kMalformed, "the listener described a segment that cannot be");
  }
  auto mapped = std::make_shared<Mapped>();
  mapped->access = static_cast<Access>(packet.access);
  MMC_ASSIGN_OR_RETURN(mapped->memory,
                       SegmentMemory::Map(received.fd.Release(), packet.file_size, mapped->access, false,
                                          static_cast<Backing>(packet.backing)));
  mapped->ref = {packet.segment, packet.epoch};
  mapped->begin = mapped->memory->data() + packet.offset;
  mapped->size = packet.size;
  mapped->slot = packet.slot;
  mapped->generation = packet.generation;
  cold_.push_back({mapped, 0});
  MutexLock lock(mutex_);
  auto& entry = segments_[packet.segment];
  // An older epoch may still be shown by a view.
  if (entry != nullptr) replaced_.push_back(std::move(entry));
  entry = std::move(mapped);
  return Status::Ok();
}

bool Mappings::Warm() {
  if (cold_.empty()) return false;
  Cold& cold = cold_.back();
  if (!Alive(*cold.segment)) {  // taken back: its owner may have given the pages away
    cold_.pop_back();
    return !cold_.empty();
  }
  const uint64_t size = std::min(kWarmBytes, cold.segment->size - cold.next);
  // The region begins on a page of its segment, but madvise wants that said.
  const uint64_t begin = reinterpret_cast<uint64_t>(cold.segment->begin + cold.next) & ~uint64_t{4095};
  const bool writable = cold.segment->access == Access::kReadWrite;
  const int populated =
      madvise(reinterpret_cast<void*>(begin), size, writable ? MADV_POPULATE_WRITE : MADV_POPULATE_READ);
  cold.next += size;
  // Pages that cannot be mapped ahead are mapped when they are used.
  if (populated != 0 || cold.next == cold.segment->size) cold_.pop_back();
  return !cold_.empty();
}

class ShmLink final : public LinkBase {
 public:
  ShmLink(UniqueFd socket, const LinkOptions& options)
      : options_(options), socket_(std::move(socket)), event_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
        engine_(options.copy_threads) {}
  ~ShmLink() override { Close(); }

  Status Handshake(uint64_t nonce, TimePoint deadline);
  void Start() { watcher_ = StartThread([this] { Watch(); }); }
  const Capabilities& capabilities() const override { return kCapabilities; }
  const std::byte* View(RegionRef ref, uint64_t offset, uint64_t length) override;
  bool observes() const override { return options_.copy_threads == 0; }

 protected:
  Status Transfer(const Work& work) override;
  void OnClosed() override;

 private:
  // The segments one transfer uses; nearly always one.
  using Used = std::vector<std::shared_ptr<const Mapped>>;

  void Watch();
  Status CheckAll(Direction direction, std::span<const Op> ops, Used* used, uint64_t* pieces);
  Status CheckStillAlive(const Used& used, const char* when);
  static std::byte* At(const Used& used, const Piece& piece);

  const LinkOptions options_;
  UniqueFd socket_;  // the watcher's, once it runs
  UniqueFd presence_;  // its lock tells a later listener that this link may still write; goes before the socket
  UniqueFd event_;   // wakes the watcher for Close
  Mappings mappings_;
  CopyEngine engine_;
  std::thread watcher_;
};

Status ShmLink::Handshake(uint64_t nonce, TimePoint deadline) {
  Packet hello;
  hello.session = options_.session;
  hello.challenge = NewNonce();
  hello.proof = nonce == 0 ? 0 : Prove(nonce, ProofOf::kClient, hello.challenge);
  hello.access = static_cast<uint32_t>(options_.access);
  // A listener that refused at once has closed already: its answer says more than the failed send.
  const Status sent = SendPacket(socket_.get(), hello, -1);
  bool welcome = false;
  for (;;) {
    auto received = ReceivePacketUntil(socket_.get(), deadline);
    if (!received.ok()) return sent.ok() ? received.status() : sent;
    const Packet& packet = received->packet;
    if (packet.kind == PacketKind::kRefused) {
      return Status(CodeFromWire(packet.code), "the listener refused the connection");
    }
    if (packet.version != kVersion) return Status(Code::kBadVersion, "the listener speaks another version");
    if (packet.kind == PacketKind::kWelcome && !welcome) {
      if (nonce != 0 && packet.proof != Prove(nonce, ProofOf::kListener, hello.challenge)) {
        return Status(Code::kPermission, "another process listens there, not the node that is meant");
      }
      MMC_RETURN_IF_ERROR(mappings_.TakeControl(received->fd));
      welcome = true;
    } else if (packet.kind == PacketKind::kPresence && welcome) {
      presence_ = std::move(received->fd);
    } else if (packet.kind == PacketKind::kSegment && welcome) {
      MMC_RETURN_IF_ERROR(mappings_.TakeSegment(std::move(*received)));
    } else if (packet.kind == PacketKind::kReady && welcome) {
      return Status::Ok();
    } else {
      return Status(Code::kPeerUnreachable, "the listener ended the handshake");
    }
  }
}

// Keeps the socket: takes new segments, maps pages ahead, and lets go when the listener is gone or says so.
void ShmLink::Watch() {
  while (!broken()) {
    auto received = ReceivePacket(socket_.get());
    if (!received.ok()) break;
    if (received->has_value()) {
      const PacketKind kind = (*received)->packet.kind;
      if (kind != PacketKind::kSegment || !mappings_.TakeSegment(std::move(**received)).ok()) break;
      continue;
    }
    const bool more = mappings_.Warm();
    std::array<pollfd, 2> wait{{{socket_.get(), POLLIN | POLLRDHUP, 0}, {event_.get(), POLLIN, 0}}};
    poll(wait.data(), wait.size(), more ? 0 : -1);
  }
  Break();
  WaitIdle();
  // To the listener, the closed socket means that no byte is written any more; to the next one, the lock does.
  presence_.Reset(-1);
  socket_.Reset(-1);
}

void ShmLink::OnClosed() {
  if (!watcher_.joinable()) return;
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t n = write(event_.get(), &one, sizeof(one));
  watcher_.join();
}

std::byte* ShmLink::At(const Used& used, const Piece& piece) {
  for (const auto& segment : used) {
    if (segment->ref == piece.remote) return segment->begin + piece.remote_offset;
  }
  return nullptr;
}

Status ShmLink::CheckAll(Direction direction, std::span<const Op> ops, Used* used, uint64_t* pieces) {
  if (direction == Direction::kWrite && options_.access == Access::kReadOnly) {
    return Status(Code::kReadOnly, "the link was opened for reads only");
  }
  PieceReader reader(ops);
  Piece piece;
  const Mapped* segment = nullptr;
  while (reader.Next(UINT64_MAX, &piece)) {
    ++*pieces;
    if (segment == nullptr || segment->ref != piece.remote) {
      const auto known =
          std::find_if(used->begin(), used->end(), [&](const auto& one) { return one->ref == piece.remote; });
      if (known == used->end()) {
        auto found = mappings_.Find(piece.remote);
        if (found == nullptr) {
          return Status(Code::kStaleRegion, "segment " + std::to_string(piece.remote.segment) + " epoch " +
                                                std::to_string(piece.remote.epoch) +
                                                " is not lent by the peer; look the location up again");
        }
        segment = found.get();
        used->push_back(std::move(found));
      } else {
        segment = known->get();
      }
    }
    if (piece.remote_offset > segment->size || piece.length > segment->size - piece.remote_offset) {
      return Status(Code::kOutOfRange, std::to_string(piece.length) + " bytes at " +
                                           std::to_string(piece.remote_offset) + " are outside segment " +
                                           std::to_string(piece.remote.segment));
    }
    if (direction == Direction::kWrite && segment->access == Access::kReadOnly) {
      return Status(Code::kReadOnly, "segment " + std::to_string(piece.remote.segment) + " only allows reads");
    }
  }
  return Status::Ok();
}

Status ShmLink::CheckStillAlive(const Used& used, const char* when) {
  // The bytes were read before the generation is looked at, not after.
  std::atomic_thread_fence(std::memory_order_acquire);
  for (const auto& segment : used) {
    if (!mappings_.Alive(*segment)) {
      return Status(Code::kStaleRegion,
                    "segment " + std::to_string(segment->ref.segment) + " was taken back " + when);
    }
  }
  return Status::Ok();
}

Status ShmLink::Transfer(const Work& work) {
  Used used;
  uint64_t count = 0;
  MMC_RETURN_IF_ERROR(CheckAll(work.direction, work.ops, &used, &count));
  PieceReader reader(work.ops);
  std::array<CopyPiece, kBatchPieces> batch;
  const bool read = work.direction == Direction::kRead;
  uint64_t moved = 0;
  while (moved < work.total) {
    size_t filled = 0;
    uint64_t bytes = 0;
    Piece piece;
    while (filled < batch.size() && bytes < kBatchBytes && reader.Next(kBatchBytes - bytes, &piece)) {
      std::byte* const remote = At(used, piece);
      batch[filled++] = {read ? piece.local : remote, read ? remote : piece.local, piece.length};
      bytes += piece.length;
    }
    if (work.observer == nullptr) {
      engine_.Copy({batch.data(), filled}, bytes);
    } else {
      for (const CopyPiece& one : std::span(batch).first(filled)) {
        CopyShown(one, read ? one.to : one.from, *work.observer);
      }
    }
    moved += bytes;
    MMC_RETURN_IF_ERROR(CheckStillAlive(used, "during the transfer"));
    if (moved == work.total) break;
    if (broken()) return Status(Code::kPeerUnreachable, "the peer is gone or has fenced this session");
    if (std::chrono::steady_clock::now() >= work.deadline) {
      return Status(Code::kDeadline, "the deadline passed after " + std::to_string(moved) + " bytes");
    }
  }
  Count(reader.steps(), count, 1, work.total);
  return Status::Ok();
}

const std::byte* ShmLink::View(RegionRef ref, uint64_t offset, uint64_t length) {
  if (broken()) return nullptr;
  const auto segment = mappings_.Find(ref);
  if (segment == nullptr || offset > segment->size || length > segment->size - offset) return nullptr;
  return segment->begin + offset;
}

class ShmTransport final : public Transport {
 public:
  const Capabilities& capabilities() const override { return kCapabilities; }
  Result<std::unique_ptr<Listener>> Listen(const ListenOptions& options, RegionTable& regions) override {
    return shm::Listen(options, regions);
  }
  Result<std::shared_ptr<Link>> Connect(const std::string& address, const LinkOptions& options,
                                        TimePoint deadline) override {
    return shm::Connect(address, options, deadline);
  }
};

}  // namespace

Result<std::shared_ptr<Link>> Connect(const std::string& address, const LinkOptions& options, TimePoint deadline) {
  const HostAddress target = ParseHostAddress(address);
  MMC_ASSIGN_OR_RETURN(UniqueFd socket, ConnectTo(target.place, deadline));
  auto link = std::make_shared<ShmLink>(std::move(socket), options);
  if (Status status = link->Handshake(target.nonce, deadline); !status.ok()) return status.Annotate(target.place);
  link->Start();
  return std::shared_ptr<Link>(std::move(link));
}

Transport& Instance() {
  static ShmTransport* const transport = new ShmTransport();
  return *transport;
}

}  // namespace mmc::fabric::shm
