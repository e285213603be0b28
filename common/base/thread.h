// Threads of a library: they take no signals, so that an application's handlers run on its own
// threads.
//
// Thread safety: from any thread. Ownership: the caller's std::thread.
#pragma once

#include <pthread.h>
#include <signal.h>

#include <thread>
#include <utility>

namespace mmc {

// Starts a thread in which every signal is blocked.
template <typename F>
std::thread StartThread(F body) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  std::thread thread(std::move(body));  // inherits the mask
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return thread;
}

}  // namespace mmc
