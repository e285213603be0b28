// A child process whose output is read: spawned, waited for, never left behind.
//
// Thread safety: one thread. Ownership: the destructor kills and reaps the child.
#pragma once

#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

namespace mmc::test {

class Child {
 public:
  // `env` is added to this process's environment.
  explicit Child(const std::vector<std::string>& args,
                 const std::vector<std::pair<std::string, std::string>>& env = {}) {
    int out[2], err[2];
    if (pipe(out) != 0 || pipe(err) != 0) std::abort();
    pid_ = fork();
    if (pid_ < 0) std::abort();
    if (pid_ == 0) {
      dup2(out[1], STDOUT_FILENO);
      dup2(err[1], STDERR_FILENO);
      for (const int fd : {out[0], out[1], err[0], err[1]}) close(fd);
      for (const auto& [name, value] : env) setenv(name.c_str(), value.c_str(), 1);
      std::vector<char*> argv;
      for (const std::string& arg : args) argv.push_back(const_cast<char*>(arg.c_str()));
      argv.push_back(nullptr);
      execv(argv[0], argv.data());
      _exit(127);
    }
    close(out[1]);
    close(err[1]);
    out_ = out[0];
    err_ = err[0];
  }
  ~Child() {
    if (pid_ > 0) {
      kill(pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
    }
    close(out_);
    close(err_);
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  void Signal(int number) const { kill(pid_, number); }
  // Reads until stdout holds `text`; false when the child ended its output or a minute passed
  // first.
  bool WaitForOut(const std::string& text) { return WaitFor(out_text, text); }
  bool WaitForErr(const std::string& text) { return WaitFor(err_text, text); }
  // Reads all output and answers the exit code; -1 when a signal ended the child.
  int Wait() {
    while (ReadSome()) {
    }
    int status = 0;
    while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

  std::string out_text, err_text;

 private:
  static constexpr int kPatienceMilliseconds = 60'000;

  bool WaitFor(const std::string& where, const std::string& text) {
    while (where.find(text) == std::string::npos) {
      if (!ReadSome()) return false;
    }
    return true;
  }
  // False when both pipes are at their end, or nothing came for too long.
  bool ReadSome() {
    pollfd fds[2] = {{out_open_ ? out_ : -1, POLLIN, 0}, {err_open_ ? err_ : -1, POLLIN, 0}};
    if (!out_open_ && !err_open_) return false;
    if (poll(fds, 2, kPatienceMilliseconds) <= 0) return false;
    if (fds[0].revents != 0) out_open_ = Drain(out_, &out_text);
    if (fds[1].revents != 0) err_open_ = Drain(err_, &err_text);
    return true;
  }
  static bool Drain(int fd, std::string* text) {
    char buffer[4096];
    const ssize_t n = read(fd, buffer, sizeof(buffer));
    if (n > 0) text->append(buffer, static_cast<size_t>(n));
    return n > 0;
  }

  pid_t pid_ = -1;
  int out_ = -1, err_ = -1;
  bool out_open_ = true, err_open_ = true;
};

}  // namespace mmc::test
