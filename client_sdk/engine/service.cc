#include "client_sdk/engine/service.h"

#include <unistd.h>

#include <cstdlib>
#include <iterator>
#include <optional>
#include <utility>

#include "common/base/clock.h"
#include "common/obs/log.h"
#include "common/rpc/url.h"
#include "fabric/address.h"
#include "fabric/fabric.h"
#include "proto/engine_methods.h"

namespace mmc::engine {
namespace {

constexpr uint64_t kMaxBufferBytes = uint64_t{128} << 20;
constexpr uint32_t kMaxConnections = 4096;

std::string HostPort(const std::string& host, uint16_t port) {
  return rpc::Url{"", host, port}.ToString();
}

// A folder that only this user can look into, for one socket.
Result<std::string> MakeDirectory() {
  const char* const runtime = std::getenv("XDG_RUNTIME_DIR");
  for (const std::string& parent : {std::string(runtime == nullptr ? "" : runtime), std::string("/tmp")}) {
    if (parent.empty() || parent[0] != '/') continue;
    std::string path = parent + "/mmc-engine-XXXXXX";
    if (mkdtemp(path.data()) != nullptr) return path;
  }
  return Status(Code::kIo, "no folder for a socket can be made in /tmp");
}

}  // namespace

Service::Service(std::shared_ptr<security::TlsContext> tls, std::shared_ptr<LentMemory> memory)
    : tls_(std::move(tls)), memory_(std::move(memory)), incarnation_(fabric::NewNonce()), host_id_(fabric::HostId()) {}

Service::~Service() {
  // First nobody is told any more, then the connections go.
  if (server_ != nullptr) server_->Stop(Clock::Real().Now());
  host_.reset();
  network_.reset();
  if (!directory_.empty()) rmdir(directory_.c_str());
}

Result<std::unique_ptr<Service>> Service::Start(const EngineOptions& options,
                                                std::shared_ptr<security::TlsContext> tls,
                                                std::shared_ptr<LentMemory> memory) {
  std::unique_ptr<Service> service(new Service(std::move(tls), std::move(memory)));
  MMC_RETURN_IF_ERROR(service->Open(options));
  return service;
}

Status Service::Open(const EngineOptions& options) {
  MMC_ASSIGN_OR_RETURN(const rpc::Url url, rpc::ParseUrl(options.url));
  MMC_RETURN_IF_ERROR(ListenNetwork(url.host, options));
  if (options.same_host && !host_id_.empty()) ListenHost();
  rpc::ServerOptions server;
  server.url = options.url;
  server.io_threads = 1;
  server.max_connections = kMaxConnections;
  server.max_buffer_bytes = kMaxBufferBytes;
  server.tls = tls_;
  server_ = rpc::MakeServer(server);
  server_->Handle(proto::kDescribeEngine, [this](const rpc::CallContext& call, const proto::DescribeEngineRequest&,
                                                 proto::DescribeEngineReply* reply) {
    MMC_RETURN_IF_ERROR(CheckCaller(call));
    Describe(reply);
    return Status::Ok();
  });
  server_->Handle(proto::kEngineNote, [this](const rpc::CallContext& call, const proto::EngineNoteRequest& request,
                                             proto::EngineNoteReply*) {
    MMC_RETURN_IF_ERROR(CheckCaller(call));
    return TakeNote(request);
  });
  return server_->Start();
}

Status Service::ListenNetwork(const std::string& host, const EngineOptions& options) {
  fabric::ListenOptions listen;
  listen.address = HostPort(host, 0);
  listen.threads = options.tcp_threads;
  listen.max_connections = kMaxConnections;
  listen.tls = tls_;
  listen.rights = [](const security::Identity& peer) -> std::optional<fabric::Access> {
    if (peer.role != security::Role::kLocal) return std::nullopt;
    return fabric::Access::kReadWrite;
  };
  MMC_ASSIGN_OR_RETURN(network_, fabric::FindTransport("tcp")->Listen(listen, memory_->regions()));
  MMC_ASSIGN_OR_RETURN(const rpc::Url got, rpc::ParseHostPort(network_->endpoint().address));
  tcp_port_ = got.port;
  return Status::Ok();
}

// Without it everything travels over TCP.
void Service::ListenHost() {
  auto directory = MakeDirectory();
  Status status = directory.status();
  if (directory.ok()) {
    directory_ = *directory;
    fabric::ListenOptions listen;
    listen.address = directory_ + "/data.sock";
    listen.max_connections = kMaxConnections;
    listen.require_nonce = true;  // whoever was told what is lent knows it
    auto listener = fabric::FindTransport("shm")->Listen(listen, memory_->regions());
    status = listener.status();
    if (listener.ok()) host_ = std::move(*listener);
  }
  if (!status.ok()) MMC_LOG(WARNING) << "no shared memory for the transfer engine: " << status.ToString();
}

Status Service::CheckCaller(const rpc::CallContext& call) const {
  if (tls_ == nullptr || call.identity->role == security::Role::kLocal) return Status::Ok();
  return Status(Code::kPermission, "the role of the certificate (" + call.identity->subject + "), " +
                                       std::string(security::RoleName(call.identity->role)) +
                                       ", may not use a transfer engine; it must be local");
}

void Service::Describe(proto::DescribeEngineReply* reply) const {
  reply->set_incarnation(incarnation_);
  reply->set_host_id(host_id_);
  reply->set_tcp_port(tcp_port_);
  if (host_ != nullptr) reply->set_shm_address(host_->endpoint().address);
  reply->set_epoch(memory_->epoch());
  uint32_t oldest = UINT32_MAX;
  const std::vector<LentMemory::Lent> lent = memory_->List();
  reply->mutable_regions()->Reserve(static_cast<int>(lent.size()));
  for (const LentMemory::Lent& one : lent) {
    proto::EngineRegion* const region = reply->add_regions();
    region->set_address(one.address);
    region->set_bytes(one.bytes);
    region->set_segment(one.segment);
    region->set_shared(one.shared);
    if (one.order >= oldest) continue;
    oldest = one.order;
    reply->set_first_address(one.address);
  }
}

Status Service::TakeNote(const proto::EngineNoteRequest& note) {
  const size_t bytes = note.name().size() + note.text().size();
  if (bytes > kMaxNoteBytes) {
    return Status(Code::kTooLarge, "a note of " + std::to_string(bytes) + " bytes; at most " +
                                       std::to_string(kMaxNoteBytes));
  }
  MutexLock lock(mutex_);
  if (notes_.size() >= kMaxNotes || note_bytes_ + bytes > kMaxNotesBytes) {
    return Status(Code::kQueueFull, std::to_string(notes_.size()) + " notes wait there to be taken");
  }
  note_bytes_ += bytes;
  notes_.push_back({note.name(), note.text()});
  return Status::Ok();
}

std::vector<Note> Service::TakeNotes() {
  MutexLock lock(mutex_);
  std::vector<Note> out(std::make_move_iterator(notes_.begin()), std::make_move_iterator(notes_.end()));
  notes_.clear();
  note_bytes_ = 0;
  return out;
}

void Service::CutNetwork() {
  network_->Fence(0, [] {});
}

void Service::CutHost() {
  if (host_ != nullptr) host_->Fence(0, [] {});
}

}  // namespace mmc::engine
