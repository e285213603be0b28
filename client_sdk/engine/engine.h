// A transfer engine: memory of this process that other processes may read and write by its address, and the other way
// round. Shared memory where it was allocated here and both are on one host, TCP else.
//
// Whoever reaches the port of an engine without TLS may read and write all that it lends. With TLS both sides need
// certificates of role local.
// Thread safety: all methods from any thread, but Start() and Close() one at a time. Ownership: owns its connections
// and the buffers of Allocate(); registered memory is the user's, who keeps it till Unregister() has returned.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "client_sdk/engine/lent_memory.h"
#include "client_sdk/engine/options.h"
#include "client_sdk/engine/peers.h"
#include "client_sdk/engine/service.h"
#include "client_sdk/src/async_pool.h"
#include "common/base/mutex.h"
#include "common/base/status.h"

namespace mmc::engine {

struct EngineStats {
  uint64_t shm_bytes = 0;  // moved by this side, since Start()
  uint64_t tcp_bytes = 0;
};

class Engine {
 public:
  static constexpr size_t kMaxSubmitted = 65536;  // transfers whose outcome nobody has taken

  Engine();
  ~Engine() { Close(); }
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Serves, and can call others, when it returns. May be called again after Close().
  // Errors: kExists (it runs), kInvalidArgument (url, a number out of range), kConfig (TLS), kIo (the port is in use).
  Status Start(const EngineOptions& options);
  // Fails what waits and what comes, and waits for transfers that move bytes: until their deadlines at most. What is
  // registered and allocated stays. Idempotent.
  void Close();
  bool running() const { return net() != nullptr; }
  uint16_t port() const;  // 0: it does not run

  // See LentMemory. Unregister and Free return when no access of others to the memory runs over TCP any more; one that
  // does not end within a second is cut off. Who has allocated memory mapped can touch it till its connection ends;
  // once freed it serves nothing else. Errors: also kDeadline (it goes on all the same; with Free the memory is kept).
  Status Register(uint64_t address, uint64_t bytes, fabric::Access access) {
    return memory_->Register(address, bytes, access);
  }
  Status Unregister(uint64_t address);
  Result<uint64_t> Allocate(uint64_t bytes) { return memory_->Allocate(bytes); }
  Status Free(uint64_t address);
  bool Holds(uint64_t address, uint64_t bytes) const { return memory_->Holds(address, bytes); }

  // See Peers. Empty pieces are passed over; local memory is not looked at. `timeout` 0: that of the options.
  Status Transfer(fabric::Direction direction, const std::string& target, std::span<const Piece> pieces,
                  std::chrono::milliseconds timeout);
  Status Send(const std::string& target, const Note& note);
  Result<uint64_t> FirstAddress(const std::string& target);
  std::vector<Note> TakeNotes();

  // The same transfer on a thread of the engine: its number, for Take(). Errors: kQueueFull, kClosed.
  Result<uint64_t> Submit(fabric::Direction direction, std::string target, std::vector<Piece> pieces,
                          std::chrono::milliseconds timeout);
  enum class Progress { kUnknown, kRunning, kEnded };
  // Whether it has ended. If so it is forgotten, and *outcome is what became of it.
  Progress Take(uint64_t number, Status* outcome);
  // The same, waiting. Errors in place of the outcome: kNotFound.
  Status TakeWaiting(uint64_t number);

  EngineStats stats() const;

 private:
  // All that Close() ends.
  struct Net {
    EngineOptions options;
    std::unique_ptr<Service> service;
    std::unique_ptr<Peers> peers;
    std::unique_ptr<client::AsyncPool> async;
  };
  struct Submitted {
    bool ended = false;
    Status outcome;
  };

  std::shared_ptr<Net> net() const {
    MutexLock lock(mutex_);
    return net_;
  }
  Result<std::shared_ptr<Net>> Running() const;
  Status AwaitUnused(const std::weak_ptr<const fabric::Region>& in_use);

  const std::shared_ptr<LentMemory> memory_;
  mutable Mutex mutex_;
  std::shared_ptr<Net> net_ MMC_GUARDED_BY(mutex_);
  uint32_t freed_shared_ MMC_GUARDED_BY(mutex_) = 0;

  Mutex submitted_mutex_;
  CondVar ended_;
  uint64_t last_number_ MMC_GUARDED_BY(submitted_mutex_) = 0;
  std::unordered_map<uint64_t, Submitted> submitted_ MMC_GUARDED_BY(submitted_mutex_);
};

}  // namespace mmc::engine
