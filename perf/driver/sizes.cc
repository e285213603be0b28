// Values of one buffer, one at a time, through the pool and through a Redis server, in turns.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "client_sdk/cli/value.h"
#include "client_sdk/include/mmc/client.h"
#include "perf/driver/series.h"

namespace mmc::perf {
namespace {

struct Size {
  const char* name;
  size_t bytes;
  int count;
};
constexpr Size kSizes[] = {
    {"4KiB", 4096, 3000}, {"64KiB", 65536, 2000}, {"1MiB", 1 << 20, 200}, {"8MiB", 8 << 20, 40}};

// A blocking client of the Redis protocol, just SET and GET.
class Redis {
 public:
  ~Redis() {
    if (fd_ >= 0) close(fd_);
  }

  Status ConnectTcp(uint16_t port) {
    fd_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const int on = 1;
    setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return Connect(reinterpret_cast<sockaddr*>(&address), sizeof(address));
  }

  Status ConnectUnix(const std::string& path) {
    fd_ = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof(address.sun_path) - 1);
    return Connect(reinterpret_cast<sockaddr*>(&address), sizeof(address));
  }

  Status Set(const std::string& key, const std::vector<std::byte>& value) {
    std::string head = "*3\r\n$3\r\nSET\r\n$" + std::to_string(key.size()) + "\r\n" + key +
                       "\r\n$" + std::to_string(value.size()) + "\r\n";
    char tail[] = "\r\n";
    iovec parts[3] = {{head.data(), head.size()},
                      {const_cast<std::byte*>(value.data()), value.size()},
                      {tail, 2}};
    MMC_RETURN_IF_ERROR(SendAll(parts));
    char answer[5];
    MMC_RETURN_IF_ERROR(ReadAll(answer, sizeof(answer)));
    return std::memcmp(answer, "+OK\r\n", 5) == 0
               ? Status::Ok()
               : Status(Code::kMalformed, "redis did not say +OK");
  }

  Status Get(const std::string& key, std::vector<std::byte>* value) {
    std::string request =
        "*2\r\n$3\r\nGET\r\n$" + std::to_string(key.size()) + "\r\n" + key + "\r\n";
    iovec parts[3] = {{request.data(), request.size()}, {nullptr, 0}, {nullptr, 0}};
    MMC_RETURN_IF_ERROR(SendAll(parts));
    const std::string expected = "$" + std::to_string(value->size()) + "\r\n";
    std::string head(expected.size(), '\0');
    MMC_RETURN_IF_ERROR(ReadAll(head.data(), head.size()));
    if (head != expected) return Status(Code::kMalformed, "redis answered '" + head + "'");
    MMC_RETURN_IF_ERROR(ReadAll(value->data(), value->size()));
    char tail[2];
    return ReadAll(tail, sizeof(tail));
  }

 private:
  Status Connect(const sockaddr* address, socklen_t length) {
    if (fd_ < 0 || connect(fd_, address, length) != 0)
      return ErrnoStatus("connect to redis", errno);
    return Status::Ok();
  }

  Status SendAll(std::span<iovec> parts) {
    while (!parts.empty()) {
      const ssize_t sent = writev(fd_, parts.data(), static_cast<int>(parts.size()));
      if (sent < 0) return ErrnoStatus("send to redis", errno);
      size_t left = static_cast<size_t>(sent);
      while (!parts.empty() && left >= parts[0].iov_len) {
        left -= parts[0].iov_len;
        parts = parts.subspan(1);
      }
      if (!parts.empty()) {
        parts[0].iov_base = static_cast<char*>(parts[0].iov_base) + left;
        parts[0].iov_len -= left;
      }
    }
    return Status::Ok();
  }

  Status ReadAll(void* to, size_t bytes) {
    auto* at = static_cast<char*>(to);
    while (bytes > 0) {
      const ssize_t got = read(fd_, at, bytes);
      if (got <= 0) return ErrnoStatus("read from redis", got == 0 ? ECONNRESET : errno);
      at += got;
      bytes -= static_cast<size_t>(got);
    }
    return Status::Ok();
  }

  int fd_ = -1;
};

// One way to store and fetch values.
struct Store {
  std::string name;
  std::function<Status(const std::string&, const std::vector<std::byte>&)> put;
  std::function<Status(const std::string&, std::vector<std::byte>*)> get;
  std::function<Status(const std::string&)> forget;  // may be empty
  bool warm = false;                                 // read everything once before it is timed
};

Store PoolStore(std::string name, Client& client, bool warm = false) {
  return {std::move(name),
          [&client](const std::string& key, const std::vector<std::byte>& value) {
            const ConstBuffer buffer{value.data(), value.size()};
            const PutItem item{key, {&buffer, 1}};
            return client.Put({&item, 1})[0];
          },
          [&client](const std::string& key, std::vector<std::byte>* value) {
            const Buffer buffer{value->data(), value->size()};
            const GetItem item{.key = key, .buffers = {&buffer, 1}};
            return client.GetInto({&item, 1})[0].status;
          },
          [&client](const std::string& prefix) { return client.RemoveByPrefix(prefix).status(); },
          warm};
}

Store RedisStore(std::string name, Redis& redis) {
  return {std::move(name),
          [&redis](const std::string& key, const std::vector<std::byte>& value) {
            return redis.Set(key, value);
          },
          [&redis](const std::string& key, std::vector<std::byte>* value) {
            return redis.Get(key, value);
          },
          {}};
}

// Adds microseconds per value; a round that is thrown away warms up.
Status Measure(const Store& store, const Size& size, bool keep, uint64_t round, Series* out) {
  std::vector<std::byte> value(size.bytes);
  std::vector<std::byte> back(size.bytes);
  cli::FillValue(size.bytes, 0, value);
  const std::string prefix =
      std::string("sizes/") + size.name + "/" + (store.forget ? std::to_string(round) : "") + "/";
  std::vector<std::string> keys;
  for (int i = 0; i < size.count; ++i) keys.push_back(prefix + std::to_string(i));
  TimePoint start = Clock::Real().Now();
  for (const std::string& key : keys) MMC_RETURN_IF_ERROR(store.put(key, value));
  const double put_us = SecondsSince(start) * 1e6 / size.count;
  for (size_t i = 0; store.warm && i < keys.size(); ++i) {
    MMC_RETURN_IF_ERROR(store.get(keys[i], &back));
  }
  start = Clock::Real().Now();
  for (const std::string& key : keys) MMC_RETURN_IF_ERROR(store.get(key, &back));
  const double get_us = SecondsSince(start) * 1e6 / size.count;
  if (back != value) return Status(Code::kCorrupt, store.name + " returned other bytes");
  if (store.forget) MMC_RETURN_IF_ERROR(store.forget(prefix));
  if (keep) {
    out->Add(store.name + "_put_" + size.name, put_us);
    out->Add(store.name + "_get_" + size.name, get_us);
  }
  return Status::Ok();
}

}  // namespace

// --meta URL --redis-port N --redis-socket PATH --rounds N
Status RunSizes(const Flags& flags, Series* out) {
  ClientOptions options;
  options.meta_url = flags.Text("meta", options.meta_url);
  MMC_ASSIGN_OR_RETURN(const std::unique_ptr<Client> shm, Client::Connect(options));
  options.same_host = false;
  MMC_ASSIGN_OR_RETURN(const std::unique_ptr<Client> tcp, Client::Connect(options));
  options.same_host = true;
  options.location_cache = true;
  MMC_ASSIGN_OR_RETURN(const std::unique_ptr<Client> cached, Client::Connect(options));
  Redis redis_tcp;
  Redis redis_unix;
  MMC_RETURN_IF_ERROR(redis_tcp.ConnectTcp(static_cast<uint16_t>(flags.Int("redis-port", 6379))));
  MMC_RETURN_IF_ERROR(redis_unix.ConnectUnix(flags.Text("redis-socket", "")));
  const Store stores[] = {PoolStore("shm", *shm), PoolStore("tcp", *tcp),
                          PoolStore("cached", *cached, true), RedisStore("redis_tcp", redis_tcp),
                          RedisStore("redis_unix", redis_unix)};
  for (uint64_t round = 0; round <= flags.Int("rounds", 5); ++round) {
    for (const Size& size : kSizes) {
      for (const Store& store : stores)
        MMC_RETURN_IF_ERROR(Measure(store, size, round > 0, round, out));
    }
  }
  return Status::Ok();
}

}  // namespace mmc::perf
