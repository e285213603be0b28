// One io thread of the tcp listener: an epoll loop over its connections.
//
// Thread safety: Post, Adopt and the destructor from any thread. Ownership: owns its connections; they live and die on
// its thread.
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "common/base/mutex.h"
#include "fabric/tcp/connection.h"
#include "fabric/unique_fd.h"

namespace mmc::fabric::tcp {

class IoLoop {
 public:
  // `connections` counts those of all loops. `options` outlives the loop.
  IoLoop(const ConnectionOptions& options, std::atomic<uint64_t>& connections);
  ~IoLoop() { Stop(); }
  Status Start();
  // Ends the thread and every connection; tasks that wait, and those that come later, are dropped. Idempotent.
  void Stop();

  // Runs on the loop's thread.
  void Post(std::function<void()> task);
  void Adopt(std::unique_ptr<ByteStream> stream, const Guest& guest);
  // Calls `accept` on the loop's thread whenever `listener` has connections waiting. Before Start.
  void AcceptFrom(int listener, std::function<void()> accept);
  // On the loop's thread: ends every connection that `which` picks.
  void CloseIf(const std::function<bool(Connection&)>& which);

 private:
  struct Entry {
    std::unique_ptr<Connection> connection;
    uint64_t number = 0;  // in the order they came
    short waits_for = 0;
  };
  void Main();
  void Wake();
  void RunTasks();
  void Add(std::unique_ptr<ByteStream> stream, const Guest& guest);
  void Limit();
  void Serve(int fd, TimePoint now);
  void DropLate(TimePoint now);
  void Erase(int fd);

  const ConnectionOptions& options_;
  std::atomic<uint64_t>& connections_;
  UniqueFd epoll_;
  UniqueFd event_;
  int listener_ = -1;
  std::function<void()> accept_;
  // The loop thread's own.
  std::unordered_map<int, Entry> entries_;
  uint64_t came_ = 0;
  std::deque<std::pair<int, uint64_t>> newcomers_;  // those that came last, {fd, number}
  std::vector<int> hungry_;                         // to be served again without waiting
  std::thread thread_;

  Mutex mutex_;
  bool stop_ MMC_GUARDED_BY(mutex_) = false;
  std::vector<std::function<void()>> tasks_ MMC_GUARDED_BY(mutex_);
};

}  // namespace mmc::fabric::tcp
