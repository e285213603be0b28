// What TLS costs on the data plane: one block of 122 buffers (61 x 128 KiB + 61 x 16 KiB) put and got over TCP, in the
// clear and under TLS, beside the same bytes over a bare OpenSSL stream with the same certificates and cipher.
//
//   tls_bench [rounds, default 3] [seconds a measurement, default 1]
//
// The servers run in a process of their own. Within a round all take turns; a figure is the median of the rounds, a
// ratio the median of the rounds' ratios. Loopback, this machine's cores shared by both ends.
#include <fcntl.h>
#include <openssl/ssl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "common/base/bytes.h"
#include "common/security/tls_context.h"
#include "fabric/memory.h"
#include "fabric/tcp/socket.h"
#include "fabric/tcp/tcp.h"

namespace mmc::fabric {
namespace {

constexpr uint64_t kLayers = 61;
constexpr uint64_t kBlock = kLayers * (128_KiB + 16_KiB);
constexpr uint64_t kSegment = 256_MiB;
constexpr uint64_t kBlocks = kSegment / kBlock;

TimePoint Soon() { return std::chrono::steady_clock::now() + std::chrono::seconds(60); }

[[noreturn]] void Die(const std::string& what) {
  std::fprintf(stderr, "tls_bench: %s\n", what.c_str());
  std::exit(1);
}

std::shared_ptr<security::TlsContext> Load(const std::string& folder, const std::string& name) {
  security::TlsOptions options;
  options.enable = true;
  options.ca_path = folder + "/ca.cert.pem";
  options.crl_path = folder + "/ca.crl.pem";
  options.cert_path = folder + "/" + name + ".cert.pem";
  options.key_path = folder + "/" + name + ".key.pem";
  auto context = security::TlsContext::Load(options);
  if (!context.ok()) Die(context.status().ToString());
  return *context;
}

// A blocking OpenSSL stream over a socket of its own.
class Stream {
 public:
  Stream(UniqueFd socket, const std::string& folder, bool server)
      : socket_(std::move(socket)), context_(SSL_CTX_new(server ? TLS_server_method() : TLS_client_method())) {
    const std::string pair = folder + (server ? "/local" : "/client");
    SSL_CTX_set_min_proto_version(context_, TLS1_3_VERSION);
    if (SSL_CTX_use_certificate_chain_file(context_, (pair + ".cert.pem").c_str()) != 1 ||
        SSL_CTX_use_PrivateKey_file(context_, (pair + ".key.pem").c_str(), SSL_FILETYPE_PEM) != 1) {
      Die("no certificate in " + folder);
    }
    fcntl(socket_.get(), F_SETFL, fcntl(socket_.get(), F_GETFL) & ~O_NONBLOCK);
    ssl_ = SSL_new(context_);
    SSL_set_fd(ssl_, socket_.get());
    if ((server ? SSL_accept(ssl_) : SSL_connect(ssl_)) != 1) Die("no handshake with the bare stream");
  }
  ~Stream() {
    SSL_free(ssl_);
    SSL_CTX_free(context_);
  }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  bool Send(const char* data, uint64_t size) {
    return Move(size, [&](uint64_t at, int n) { return SSL_write(ssl_, data + at, n); });
  }
  bool Receive(char* data, uint64_t size) {
    return Move(size, [&](uint64_t at, int n) { return SSL_read(ssl_, data + at, n); });
  }
  const char* cipher() const { return SSL_get_cipher_name(ssl_); }

 private:
  static bool Move(uint64_t size, const std::function<int(uint64_t, int)>& some) {
    for (uint64_t at = 0; at < size;) {
      const int n = some(at, static_cast<int>(std::min<uint64_t>(size - at, 256_KiB)));
      if (n <= 0) return false;
      at += static_cast<uint64_t>(n);
    }
    return true;
  }
  UniqueFd socket_;
  SSL_CTX* context_;
  SSL* ssl_ = nullptr;
};

// 'p': takes a block and answers a byte. 'g': sends one.
void ServeStream(UniqueFd socket, const std::string& folder) {
  Stream stream(std::move(socket), folder, true);
  std::vector<char> block(kBlock, 'x');
  for (char what = 0; stream.Receive(&what, 1);) {
    const bool moved = what == 'p' ? stream.Receive(block.data(), kBlock) && stream.Send(&what, 1)
                                   : stream.Send(block.data(), kBlock);
    if (!moved) return;
  }
}

[[noreturn]] void Serve(int out, const std::string& folder) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  RegionTable regions;
  auto memory = SegmentMemory::Create({.name = "bench", .size = kSegment});
  if (!memory.ok()) Die(memory.status().ToString());
  if (!regions.Add({{1, 1}, {(*memory)->data(), kSegment}, Access::kReadWrite, MemoryKind::kHost, *memory}).ok()) {
    Die("the memory cannot be lent");
  }
  std::vector<std::unique_ptr<Listener>> listeners;
  std::string text;
  for (const bool tls : {false, true}) {
    ListenOptions options;
    options.address = "127.0.0.1:0";
    if (tls) options.tls = Load(folder, "local");
    auto listener = tcp::Listen(options, regions);
    if (!listener.ok()) Die(listener.status().ToString());
    text += (*listener)->endpoint().address + "\n";
    listeners.push_back(std::move(*listener));
  }
  auto bare = tcp::ListenAt("127.0.0.1:0");
  if (!bare.ok()) Die(bare.status().ToString());
  text += tcp::AddressOf(bare->get()) + "\n";
  fcntl(bare->get(), F_SETFL, fcntl(bare->get(), F_GETFL) & ~O_NONBLOCK);
  if (write(out, text.data(), text.size()) != static_cast<ssize_t>(text.size())) std::exit(1);
  close(out);
  for (;;) {
    UniqueFd socket(accept4(bare->get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!socket.valid() || !tcp::Tune(socket.get(), "").ok()) continue;
    std::thread([&folder, taken = socket.Release()] { ServeStream(UniqueFd(taken), folder); }).detach();
  }
}

// Bytes per second of calls that move one block each.
double Rate(double seconds, const std::function<void(uint64_t block)>& move) {
  using Clock = std::chrono::steady_clock;
  move(0);
  const auto begin = Clock::now();
  const auto end = begin + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  uint64_t count = 0;
  while (Clock::now() < end) move(++count % kBlocks);
  return static_cast<double>(count * kBlock) / std::chrono::duration<double>(Clock::now() - begin).count();
}

// A link's puts and gets of scattered buffers.
class LinkLoad {
 public:
  LinkLoad(const std::string& address, LinkOptions options) : memory_(kBlock, std::byte{'x'}) {
    auto link = tcp::Connect(address, options, Soon());
    if (!link.ok()) Die(link.status().ToString());
    link_ = *link;
  }
  void Move(Direction direction, uint64_t block) {
    std::vector<Op> ops;
    uint64_t at = 0;
    for (uint64_t i = 0; i < 2 * kLayers; ++i) {
      const uint64_t size = i % 2 == 0 ? 128_KiB : 16_KiB;
      ops.push_back({memory_.data() + at, {1, 1}, block * kBlock + at, size});
      at += size;
    }
    const Status status = link_->Execute(direction, ops, Soon());
    if (!status.ok()) Die(status.ToString());
  }

 private:
  std::vector<std::byte> memory_;
  std::shared_ptr<Link> link_;
};

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

struct Row {
  const char* name;
  std::function<void(uint64_t)> move;
  std::vector<double> rates;
};

void Print(const char* title, std::vector<Row>& rows, const char* cipher) {
  std::printf("\n| %s | GB/s | beside plain | beside the bare stream |\n|---|---|---|---|\n", title);
  const auto ratio = [](const Row& a, const Row& b) {
    std::vector<double> ratios;
    for (size_t i = 0; i < a.rates.size(); ++i) ratios.push_back(a.rates[i] / b.rates[i]);
    return Median(ratios);
  };
  // Rows: plain 1, tls 1, plain 4, tls 4, bare.
  for (size_t i = 0; i < rows.size(); ++i) {
    std::printf("| %s | %.2f | %.2f | %.2f |\n", rows[i].name, Median(rows[i].rates) / 1e9,
                ratio(rows[i], rows[i < 2 || i == 4 ? 0 : 2]), ratio(rows[i], rows[4]));
  }
  std::printf("\nCipher of the bare stream: %s.\n", cipher);
}

void Measure(const std::string& folder, const std::vector<std::string>& addresses, int rounds, double seconds) {
  const auto tls = Load(folder, "client");
  LinkLoad plain1(addresses[0], {.connections = 1});
  LinkLoad tls1(addresses[1], {.tls = tls, .connections = 1});
  LinkLoad plain4(addresses[0], {.connections = 4});
  LinkLoad tls4(addresses[1], {.tls = tls, .connections = 4});
  auto socket = tcp::ConnectTo(addresses[2], "", Soon());
  if (!socket.ok()) Die(socket.status().ToString());
  Stream bare(std::move(*socket), folder, false);
  std::vector<char> block(kBlock, 'x');
  for (const Direction direction : {Direction::kWrite, Direction::kRead}) {
    const bool put = direction == Direction::kWrite;
    const auto of = [direction](LinkLoad& load) {
      return [&load, direction](uint64_t at) { load.Move(direction, at); };
    };
    const auto raw = [&, put](uint64_t) {
      const char what = put ? 'p' : 'g';
      char answer = 0;
      const bool moved = bare.Send(&what, 1) && (put ? bare.Send(block.data(), kBlock) && bare.Receive(&answer, 1)
                                                     : bare.Receive(block.data(), kBlock));
      if (!moved) Die("the bare stream broke");
    };
    std::vector<Row> rows{{"plain, 1 connection", of(plain1), {}},
                          {"TLS, 1 connection", of(tls1), {}},
                          {"plain, 4 connections", of(plain4), {}},
                          {"TLS, 4 connections", of(tls4), {}},
                          {"bare OpenSSL stream", raw, {}}};
    for (int round = 0; round < rounds; ++round) {
      for (Row& row : rows) row.rates.push_back(Rate(seconds, row.move));
    }
    Print(put ? "put of 8.57 MiB in 122 buffers" : "get of 8.57 MiB in 122 buffers", rows, bare.cipher());
  }
  // What a connection costs before its first byte.
  using Clock = std::chrono::steady_clock;
  for (const bool secured : {false, true}) {
    std::vector<double> micros;
    for (int i = 0; i < 100; ++i) {
      const auto begin = Clock::now();
      LinkOptions options{.connections = 1};
      if (secured) options.tls = tls;
      if (!tcp::Connect(addresses[secured ? 1 : 0], options, Soon()).ok()) Die("no connection");
      micros.push_back(std::chrono::duration<double, std::micro>(Clock::now() - begin).count());
    }
    std::printf("%sConnecting %s: %.0f us.\n", secured ? "" : "\n", secured ? "under TLS" : "plain", Median(micros));
  }
}

int Main(int argc, char** argv) {
  signal(SIGPIPE, SIG_IGN);
  const int rounds = argc > 1 ? std::max(std::atoi(argv[1]), 1) : 3;
  const double seconds = argc > 2 ? std::max(std::atof(argv[2]), 0.05) : 1;
  std::string folder = "/tmp/mmc-tls-bench-XXXXXX";
  if (mkdtemp(folder.data()) == nullptr) Die("no folder for certificates");
  if (std::system((std::string(MMC_MAKE_CERTS) + " " + folder + " 2>/dev/null").c_str()) != 0) Die("make_certs failed");
  int ends[2];
  if (pipe(ends) != 0) Die("no pipe");
  const pid_t server = fork();
  if (server == 0) Serve(ends[1], folder);
  close(ends[1]);
  std::FILE* const in = fdopen(ends[0], "r");
  std::vector<std::string> addresses;
  for (char line[256]; addresses.size() < 3 && std::fgets(line, sizeof(line), in) != nullptr;) {
    addresses.emplace_back(line, std::strcspn(line, "\n"));
  }
  if (addresses.size() == 3) Measure(folder, addresses, rounds, seconds);
  kill(server, SIGKILL);
  waitpid(server, nullptr, 0);
  std::fclose(in);
  if (std::system(("rm -rf " + folder).c_str()) != 0) Die("cannot remove " + folder);
  return addresses.size() == 3 ? 0 : 1;
}

}  // namespace
}  // namespace mmc::fabric

int main(int argc, char** argv) { return mmc::fabric::Main(argc, argv); }
