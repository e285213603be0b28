#include "local_service/endpoints.h"

#include <arpa/inet.h>
#include <grp.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <optional>
#include <utility>

#include "common/base/clock.h"
#include "common/obs/log.h"
#include "common/rpc/url.h"
#include "local_service/catalog.h"

namespace mmc::local {
namespace {

constexpr char kProtocolKey[] = "ock.mmc.local_service.protocol";
constexpr char kDataUrlKey[] = "ock.mmc.local_service.hcom_url";
constexpr char kShmDirectoryKey[] = "ock.mmc.local_service.shm.directory";

std::string HostPort(const std::string& host, uint16_t port) {
  const bool v6 = host.find(':') != std::string::npos;
  return (v6 ? "[" + host + "]" : host) + ":" + std::to_string(port);
}

Result<gid_t> GroupNumber(const std::string& group) {
  std::array<char, 16384> buffer;
  struct ::group row {};
  struct ::group* entry = nullptr;
  ::getgrnam_r(group.c_str(), &row, buffer.data(), buffer.size(), &entry);
  if (entry == nullptr) {
    return Status(Code::kConfig,
                  "ock.mmc.local_service.shm.group = " + group + ": there is no such group");
  }
  return entry->gr_gid;
}

// A folder that was there before: another user must not be able to put a socket of his into it.
Status CheckDirectory(const std::string& path, const std::string& group) {
  const std::string what = std::string(kShmDirectoryKey) + " = " + path;
  struct stat link {};
  struct stat info {};
  if (::lstat(path.c_str(), &link) != 0 || ::stat(path.c_str(), &info) != 0)
    return ErrnoStatus("stat " + path, errno);
  const auto trusted = [](const struct stat& one) {
    return one.st_uid == ::geteuid() || one.st_uid == 0;
  };
  if (!S_ISDIR(info.st_mode) || !trusted(info) || !trusted(link)) {
    return Status(Code::kPermission,
                  what + " is not a folder of this user or of root; name another one");
  }
  if ((info.st_mode & 022) != 0 && (info.st_mode & S_ISVTX) == 0) {
    return Status(Code::kPermission, what + " can be written by others, who could put a socket of "
                                            "theirs there; chmod go-w it, or name another one");
  }
  if (group.empty()) return Status::Ok();
  MMC_ASSIGN_OR_RETURN(const gid_t number, GroupNumber(group));
  const mode_t passage = info.st_gid == number ? 010 : 001;
  if ((info.st_mode & passage) == 0) {
    return Status(Code::kConfig, what + " lets no member of ock.mmc.local_service.shm.group = " +
                                     group + " through; chgrp it to the group and chmod 0750 it");
  }
  return Status::Ok();
}

// Makes the folder of the sockets when it is not there; refuses one that another user could have
// prepared.
Status EnsureDirectory(const std::string& path, const std::string& group) {
  if (::mkdir(path.c_str(), 0700) != 0) {
    if (errno != EEXIST)
      return ErrnoStatus(std::string("make ") + kShmDirectoryKey + " = " + path, errno);
    return CheckDirectory(path, group);
  }
  if (group.empty()) return Status::Ok();
  MMC_ASSIGN_OR_RETURN(const gid_t number, GroupNumber(group));
  if (::chown(path.c_str(), static_cast<uid_t>(-1), number) != 0 ||
      ::chmod(path.c_str(), 0750) != 0) {
    return ErrnoStatus("give " + path + " to group " + group, errno);
  }
  return Status::Ok();
}

// Lines about peers that are not let in: any number of them may come, and a log must not grow by them.
class RefusalLog {
 public:
  void Add(const std::string& line) {
    const TimePoint now = Clock::Real().Now();
    uint64_t untold = 0;
    {
      MutexLock lock(mutex_);
      if (now < next_) {
        ++untold_;
        return;
      }
      next_ = now + std::chrono::seconds(1);
      untold = std::exchange(untold_, 0);
    }
    MMC_LOG(WARNING) << line << (untold == 0 ? "" : "; and " + std::to_string(untold) + " more before");
  }

 private:
  Mutex mutex_;
  TimePoint next_ MMC_GUARDED_BY(mutex_);
  uint64_t untold_ MMC_GUARDED_BY(mutex_) = 0;
};

std::optional<fabric::Access> RightsOf(const LocalOptions& options, security::Role role) {
  DataAccess access = DataAccess::kNone;
  if (role == security::Role::kClient) access = options.client_access;
  if (role == security::Role::kAdmin) access = options.admin_access;
  if (role == security::Role::kLocal) access = options.local_access;
  if (access == DataAccess::kNone) return std::nullopt;
  return access == DataAccess::kRead ? fabric::Access::kReadOnly : fabric::Access::kReadWrite;
}

// Parses the data address; its scheme says nothing here.
Result<rpc::Url> DataUrl(const LocalOptions& options) {
  Result<rpc::Url> url = rpc::ParseUrl(options.data_url);
  if (!url.ok())
    return Status(Code::kConfig, std::string(kDataUrlKey) + ": " + url.status().message());
  return url;
}

}  // namespace

std::string AdvertisedHost(const std::string& host) {
  const bool v4 = host == "0.0.0.0";
  if (!v4 && host != "::") return host;
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) return host;
  std::string found = host;
  for (const ifaddrs* at = list; at != nullptr; at = at->ifa_next) {
    const bool fits = at->ifa_addr != nullptr &&
                      at->ifa_addr->sa_family == (v4 ? AF_INET : AF_INET6) &&
                      (at->ifa_flags & IFF_UP) != 0 && (at->ifa_flags & IFF_LOOPBACK) == 0;
    if (!fits) continue;
    char text[INET6_ADDRSTRLEN] = {};
    const void* raw = nullptr;
    if (v4) {
      raw = &reinterpret_cast<const sockaddr_in*>(at->ifa_addr)->sin_addr;
    } else {
      const auto* address = reinterpret_cast<const sockaddr_in6*>(at->ifa_addr);
      if (IN6_IS_ADDR_LINKLOCAL(&address->sin6_addr)) continue;
      raw = &address->sin6_addr;
    }
    if (::inet_ntop(at->ifa_addr->sa_family, raw, text, sizeof text) == nullptr) continue;
    found = text;
    break;
  }
  ::freeifaddrs(list);
  return found;
}

Status Endpoints::OpenNetwork() {
  MMC_RETURN_IF_ERROR(OpenPreferred());
  return options_.tcp_enable ? OpenTcp() : Status::Ok();
}

Status Endpoints::OpenPreferred() {
  const std::string& wanted = options_.transport;
  Status status;
  if (wanted == "tcp" || wanted == "shm") {
    const bool on = wanted == "tcp" ? options_.tcp_enable : options_.shm_enable;
    if (on) return Status::Ok();
    status = Status(Code::kUnsupported, wanted + " is switched off");
  } else if (fabric::FindTransport(wanted) == nullptr) {
    status = Status(Code::kUnsupported, wanted + " is not in this build or has no hardware here");
  } else {
    MMC_ASSIGN_OR_RETURN(const rpc::Url url, DataUrl(options_));
    status = Listen(wanted, HostPort(url.host, 0));
    if (status.code() != Code::kUnsupported) return status;
  }
  const std::string key = std::string(kProtocolKey) + " = " + options_.protocol + ": ";
  if (options_.protocol_strict) {
    return Status(Code::kUnsupported, key + status.message() + "; name another one or set " +
                                          kProtocolKey + ".strict = false");
  }
  std::string others;
  for (const auto& [on, name] :
       {std::pair(options_.tcp_enable, "tcp"), std::pair(options_.shm_enable, "shared memory"),
        std::pair(options_.loopback_enable, "loopback")}) {
    if (on) others += (others.empty() ? "" : " and ") + std::string(name);
  }
  MMC_LOG(WARNING) << key << status.message() << "; using " << others;
  return Status::Ok();
}

Status Endpoints::OpenTcp() {
  MMC_ASSIGN_OR_RETURN(const rpc::Url url, DataUrl(options_));
  Status status = Listen("tcp", HostPort(url.host, url.port));
  if (status.code() == Code::kIo && !options_.data_url_set && url.port != 0) {
    MMC_LOG(INFO) << status.message() << "; taking a free port instead";
    status = Listen("tcp", HostPort(url.host, 0));
  }
  if (!status.ok()) return status.Annotate(std::string(kDataUrlKey) + " = " + options_.data_url);
  MutexLock lock(mutex_);
  Result<rpc::Url> got = rpc::ParseHostPort(listeners_.back()->endpoint().address);
  if (!got.ok()) return got.status();
  data_port_ = got->port;
  return Status::Ok();
}

Status Endpoints::OpenHost(const std::string& node, const std::string& presence_file) {
  if (options_.shm_enable) MMC_RETURN_IF_ERROR(OpenShm(node, presence_file));
  if (options_.loopback_enable) MMC_RETURN_IF_ERROR(Listen("loopback", node));
  return Status::Ok();
}

Status Endpoints::OpenShm(const std::string& node, const std::string& presence_file) {
  const std::string directory =
      options_.shm_directory.empty() ? DefaultShmDirectory() : options_.shm_directory;
  MMC_RETURN_IF_ERROR(EnsureDirectory(directory, options_.shm_group));
  return Listen("shm", ServiceFilePath(directory, node, "sock"), presence_file);
}

Status Endpoints::Listen(const std::string& transport, const std::string& address,
                         const std::string& presence_file) {
  fabric::Transport* const found = fabric::FindTransport(transport);
  if (found == nullptr)
    return Status(Code::kUnsupported, "transport " + transport + " is not in this build");
  fabric::ListenOptions listen;
  listen.address = address;
  listen.threads = options_.tcp_threads;
  listen.allowed_group = options_.shm_group;
  listen.group_access =
      options_.shm_group_writes ? fabric::Access::kReadWrite : fabric::Access::kReadOnly;
  listen.require_nonce = true;  // clients are told the address by the meta service
  listen.tls = tls_;
  listen.tickets = tickets_;
  listen.rights = [this](const security::Identity& peer) {
    const std::optional<fabric::Access> rights = RightsOf(options_, peer.role);
    // A node that is a client too writes under tickets, which it gets from the meta service when it may put.
    const bool asked = tickets_ != nullptr && peer.role == security::Role::kLocal && rights.has_value();
    return asked ? fabric::Access::kReadWrite : rights;
  };
  listen.report = [log = std::make_shared<RefusalLog>()](const std::string& line) { log->Add(line); };
  listen.presence_file = presence_file;
  MMC_ASSIGN_OR_RETURN(std::unique_ptr<fabric::Listener> listener, found->Listen(listen, regions_));
  MutexLock lock(mutex_);
  listeners_.push_back(std::move(listener));
  return Status::Ok();
}

void Endpoints::Close() {
  std::vector<std::unique_ptr<fabric::Listener>>
      closing;  // ends without the lock: that takes a while
  MutexLock lock(mutex_);
  closing.swap(listeners_);
}

std::vector<fabric::Endpoint> Endpoints::List() const {
  std::vector<fabric::Endpoint> out;
  MutexLock lock(mutex_);
  for (const auto& listener : listeners_) {
    fabric::Endpoint endpoint = listener->endpoint();
    if (endpoint.transport == "tcp") {
      if (const auto url = rpc::ParseHostPort(endpoint.address); url.ok()) {
        endpoint.address = HostPort(AdvertisedHost(url->host), url->port);
      }
    }
    out.push_back(std::move(endpoint));
  }
  std::stable_partition(out.begin(), out.end(), [this](const fabric::Endpoint& e) {
    return e.transport == options_.transport;
  });
  return out;
}

void Endpoints::Fence(uint64_t session, std::function<void()> done) {
  std::vector<fabric::Listener*> listeners;
  {
    MutexLock lock(mutex_);
    for (const auto& listener : listeners_) listeners.push_back(listener.get());
  }
  if (listeners.empty()) return done();
  auto open = std::make_shared<std::atomic<size_t>>(listeners.size());
  auto last = std::make_shared<std::function<void()>>(std::move(done));
  for (fabric::Listener* const listener : listeners) {
    listener->Fence(session, [open, last] {
      if (open->fetch_sub(1) == 1) (*last)();
    });
  }
}

void Endpoints::RefuseBelow(uint64_t session) {
  MutexLock lock(mutex_);
  for (const auto& listener : listeners_) listener->RefuseBelow(session);
}

uint64_t Endpoints::connections() const {
  uint64_t sum = 0;
  MutexLock lock(mutex_);
  for (const auto& listener : listeners_) sum += listener->connections();
  return sum;
}

uint64_t Endpoints::running() const {
  uint64_t sum = 0;
  MutexLock lock(mutex_);
  for (const auto& listener : listeners_) sum += listener->running();
  return sum;
}

}  // namespace mmc::local
