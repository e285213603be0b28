// One small call at a time: `exists` of one key through the client, and 64 bytes through a bare
// Asio echo, in turns.
#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/asio.hpp>
#include <cstdio>
#include <string>
#include <thread>
#include <vector>

#include "client_sdk/include/mmc/client.h"
#include "perf/driver/series.h"

namespace mmc::perf {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;

constexpr size_t kEchoBytes = 64;
constexpr int kCalls = 3000;

asio::awaitable<void> Echo(tcp::socket socket) {
  std::array<char, 4096> data;
  while (true) {
    const auto [read_error, bytes] =
        co_await socket.async_read_some(asio::buffer(data), asio::as_tuple(asio::use_awaitable));
    if (read_error) co_return;
    const auto [write_error, written] = co_await asio::async_write(
        socket, asio::buffer(data, bytes), asio::as_tuple(asio::use_awaitable));
    if (write_error) co_return;
  }
}

asio::awaitable<void> Accept(tcp::acceptor& acceptor) {
  while (true) {
    auto [error, socket] = co_await acceptor.async_accept(asio::as_tuple(asio::use_awaitable));
    if (error) co_return;
    socket.set_option(tcp::no_delay(true));
    asio::co_spawn(acceptor.get_executor(), Echo(std::move(socket)), asio::detached);
  }
}

double MedianMicros(std::vector<double>& micros) {
  std::nth_element(micros.begin(), micros.begin() + static_cast<std::ptrdiff_t>(micros.size() / 2),
                   micros.end());
  return micros[micros.size() / 2];
}

double EchoMicros(tcp::socket& socket) {
  std::array<char, kEchoBytes> data{};
  std::vector<double> micros;
  for (int i = 0; i < kCalls; ++i) {
    const TimePoint start = Clock::Real().Now();
    asio::write(socket, asio::buffer(data));
    asio::read(socket, asio::buffer(data));
    micros.push_back(SecondsSince(start) * 1e6);
  }
  return MedianMicros(micros);
}

Result<double> ExistsMicros(Client& client) {
  const std::string_view key = "round-trips/key";
  std::vector<double> micros;
  for (int i = 0; i < kCalls; ++i) {
    const TimePoint start = Clock::Real().Now();
    MMC_RETURN_IF_ERROR(client.Exists({&key, 1}).status());
    micros.push_back(SecondsSince(start) * 1e6);
  }
  return MedianMicros(micros);
}

}  // namespace

Status RunEchoServer() {
  asio::io_context io(1);
  tcp::acceptor acceptor(io, tcp::endpoint(asio::ip::address_v4::loopback(), 0));
  asio::co_spawn(io, Accept(acceptor), asio::detached);
  asio::posix::stream_descriptor input(io, dup(STDIN_FILENO));
  std::array<char, 1> byte;
  input.async_read_some(asio::buffer(byte),
                        [&io](const boost::system::error_code&, size_t) { io.stop(); });
  std::fprintf(stderr, "%u\n", acceptor.local_endpoint().port());
  io.run();
  return Status::Ok();
}

// --meta URL --echo-port N --rounds N
Status RunRoundTrips(const Flags& flags, Series* out) {
  ClientOptions options;
  options.meta_url = flags.Text("meta", options.meta_url);
  MMC_ASSIGN_OR_RETURN(const std::unique_ptr<Client> client, Client::Connect(options));
  asio::io_context io;
  tcp::socket socket(io);
  boost::system::error_code error;
  socket.connect(
      {asio::ip::address_v4::loopback(), static_cast<uint16_t>(flags.Int("echo-port", 0))}, error);
  if (error) return Status(Code::kUnavailable, "echo server: " + error.message());
  socket.set_option(tcp::no_delay(true));
  for (uint64_t round = 0; round <= flags.Int("rounds", 5); ++round) {
    const double echo = EchoMicros(socket);
    MMC_ASSIGN_OR_RETURN(const double exists, ExistsMicros(*client));
    if (round == 0) continue;
    out->Add("echo", echo);
    out->Add("exists", exists);
  }
  return Status::Ok();
}

}  // namespace mmc::perf
