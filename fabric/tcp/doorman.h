// Shakes hands with those who connect to a listener under TLS, on a thread of its own: what a handshake computes does
// not hold up the connections that move bytes. Who is let in goes on to an io thread.
//
// Bounded: at most so many handshakes at a time, each within a time; when more come, the oldest goes. A flood of
// connections that never say anything delays nobody who does.
// Thread safety: Take and the destructor from any thread. Ownership: owns the connections that it has not passed on.
#pragma once

#include <atomic>
#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "common/base/mutex.h"
#include "common/security/tls_context.h"
#include "fabric/tcp/tls_stream.h"

namespace mmc::fabric::tcp {

struct DoormanOptions {
  std::shared_ptr<security::TlsContext> tls;
  std::chrono::milliseconds time{10'000};  // for a handshake
  size_t places = 256;                     // handshakes at a time
  // Whom the door stays shut to and why, one line each; null: nobody asks. On the doorman's thread.
  std::function<void(const std::string& line)> report;
};

class Doorman {
 public:
  // `admit` gets those whose certificate is good, on the doorman's thread.
  using Admit = std::function<void(std::unique_ptr<TlsStream> stream)>;
  Doorman(DoormanOptions options, Admit admit);
  ~Doorman();  // hangs up on all that wait
  Doorman(const Doorman&) = delete;
  Doorman& operator=(const Doorman&) = delete;
  Status Start();

  void Take(UniqueFd socket);

 private:
  struct Guest {
    std::unique_ptr<TlsStream> stream;
    uint64_t number = 0;
    short waits_for = 0;
    TimePoint limit;
  };
  void Main();
  void Wake();
  bool TakeWaiting(TimePoint now);
  void Add(UniqueFd socket, TimePoint now);
  void Serve(int fd);
  void Refuse(int fd, const std::string& why);
  void DropLate(TimePoint now);
  int TimeoutFrom(TimePoint now) const;

  const DoormanOptions options_;
  const Admit admit_;
  UniqueFd epoll_;
  UniqueFd event_;
  // The thread's own. `order_` has those who came, the oldest first; some have left.
  std::unordered_map<int, Guest> guests_;
  std::deque<std::pair<int, uint64_t>> order_;
  uint64_t came_ = 0;
  std::thread thread_;

  Mutex mutex_;
  bool stop_ MMC_GUARDED_BY(mutex_) = false;
  std::deque<UniqueFd> waiting_ MMC_GUARDED_BY(mutex_);
};

}  // namespace mmc::fabric::tcp
