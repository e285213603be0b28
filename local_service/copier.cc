#include "local_service/copier.h"

#include <algorithm>
#include <utility>

#include "common/base/limits.h"
#include "common/base/thread.h"
#include "common/obs/log.h"
#include "local_service/held_bytes.h"

namespace mmc::local {
namespace {

constexpr std::chrono::seconds kLeastTime{10};
constexpr uint64_t kSlowestBytesPerSecond = 32u << 20;

TimePoint DeadlineFor(uint64_t bytes) {
  return Clock::Real().Now() + kLeastTime + std::chrono::seconds(bytes / kSlowestBytesPerSecond);
}

fabric::FabricOptions ReadOnlyLinks(std::shared_ptr<security::TlsContext> tls) {
  fabric::FabricOptions options;
  options.link.access = fabric::Access::kReadOnly;
  options.link.tls = std::move(tls);
  return options;
}

Result<std::vector<CatalogExtent>> Extents(const google::protobuf::RepeatedField<uint64_t>& offsets,
                                           const google::protobuf::RepeatedField<uint64_t>& lengths) {
  if (offsets.size() != lengths.size()) {
    return Status(Code::kMalformed, "extent columns of different length");
  }
  std::vector<CatalogExtent> out;
  for (int i = 0; i < offsets.size(); ++i) out.push_back({offsets[i], lengths[i]});
  return out;
}

// One op per piece that is in one run on both sides. Errors: kInvalidArgument (the source is too small).
Result<std::vector<fabric::Op>> Pieces(const HeldBytes& to, std::span<const CatalogExtent> from,
                                       fabric::RegionRef region) {
  std::vector<fabric::Op> ops;
  size_t i = 0;
  uint64_t used = 0;  // of from[i]
  for (std::span<std::byte> piece : to.pieces) {
    while (!piece.empty()) {
      while (i < from.size() && used == from[i].length) {
        ++i;
        used = 0;
      }
      if (i == from.size()) {
        return Status(Code::kInvalidArgument, "the source's extents are smaller than the value");
      }
      const uint64_t length = std::min<uint64_t>(piece.size(), from[i].length - used);
      ops.push_back({.local = piece.data(),
                     .remote = region,
                     .remote_offset = from[i].offset + used,
                     .length = length});
      piece = piece.subspan(length);
      used += length;
    }
  }
  return ops;
}

std::vector<fabric::Endpoint> SourceOf(const proto::CopyCommand& command) {
  std::vector<fabric::Endpoint> endpoints;
  for (const proto::Endpoint& endpoint : command.source_endpoints()) {
    endpoints.push_back({endpoint.transport(), endpoint.address()});
  }
  return endpoints;
}

}  // namespace

Copier::Copier(const fabric::RegionTable& regions, CopierOptions options,
               std::function<void()> ready)
    : regions_(regions),
      options_(std::move(options)),
      ready_(std::move(ready)),
      fabric_(ReadOnlyLinks(options_.tls)) {}

Copier::~Copier() { Stop(); }

void Copier::Submit(const proto::CopyCommand& command) {
  MutexLock lock(mutex_);
  if (stopping_ || known_.size() >= options_.max_commands || !known_.insert(command.id()).second) {
    return;
  }
  waiting_.push_back(command);
  while (threads_.size() < static_cast<size_t>(options_.threads)) {
    threads_.push_back(StartThread([this] { Run(); }));
  }
  changed_.NotifyOne();
}

void Copier::Report(proto::CatalogSyncRequest* request) const {
  MutexLock lock(mutex_);
  for (const auto& [id, code] : results_) {
    proto::CopyResult* out = request->add_copy_results();
    out->set_id(id);
    out->set_status(static_cast<uint32_t>(code));
  }
}

void Copier::Acknowledge(const proto::CatalogSyncRequest& request) {
  MutexLock lock(mutex_);
  for (const proto::CopyResult& result : request.copy_results()) {
    if (results_.erase(result.id()) != 0) known_.erase(result.id());
  }
}

bool Copier::busy() const {
  MutexLock lock(mutex_);
  return !known_.empty();
}

void Copier::Abandon(std::function<void()> done) {
  {
    MutexLock lock(mutex_);
    ++round_;
    waiting_.clear();
    results_.clear();
    known_.clear();
    if (running_ != 0) {
      when_idle_.push_back(std::move(done));
      return;
    }
  }
  done();
}

void Copier::Stop() {
  std::vector<std::thread> threads;
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    waiting_.clear();
    threads.swap(threads_);
    changed_.NotifyAll();
  }
  fabric_.Close();  // a copy that runs need not wait for its deadline
  for (std::thread& thread : threads) thread.join();
}

void Copier::Run() {
  for (;;) {
    proto::CopyCommand command;
    uint64_t round;
    {
      MutexLock lock(mutex_);
      while (waiting_.empty() && !stopping_) changed_.Wait(mutex_);
      if (stopping_) return;
      command = std::move(waiting_.front());
      waiting_.pop_front();
      round = round_;
      ++running_;
    }
    const Status status = Carry(command);
    if (!status.ok()) {
      MMC_LOG(WARNING) << "copy " << command.id() << " of " << command.size() << " bytes from node "
                       << command.source_name() << ": " << status.ToString();
    }
    std::vector<std::function<void()>> idle;
    {
      MutexLock lock(mutex_);
      --running_;
      if (round == round_) results_[command.id()] = status.code();
      if (running_ == 0) idle.swap(when_idle_);
    }
    for (const auto& done : idle) done();
    ready_();
  }
}

Status Copier::Carry(const proto::CopyCommand& command) {
  if (command.size() == 0 || command.size() > kMaxValueBytes) {
    return Status(Code::kInvalidArgument, "a value has 1 byte to 1 GiB");
  }
  MMC_ASSIGN_OR_RETURN(const auto from, Extents(command.source_offset(), command.source_length()));
  MMC_ASSIGN_OR_RETURN(const auto to, Extents(command.offset(), command.length()));
  MMC_ASSIGN_OR_RETURN(const HeldBytes bytes,
                       Locate(regions_, command.segment(), to, command.size()));
  MMC_ASSIGN_OR_RETURN(
      const auto ops,
      Pieces(bytes, from, {command.source_segment(), command.source_epoch()}));
  const TimePoint deadline = DeadlineFor(command.size());
  const std::string peer =
      command.source_name() + "/" + std::to_string(command.source_incarnation());
  const bool same_host =
      !options_.host_id.empty() && command.source_host_id() == options_.host_id;
  MMC_ASSIGN_OR_RETURN(auto link, fabric_.LinkTo(peer, SourceOf(command), same_host, deadline,
                                                  command.source_name()));
  if (Status moved = link->Execute(fabric::Direction::kRead, ops, deadline); !moved.ok()) {
    if (!link->alive()) fabric_.Forget(peer);
    return moved;
  }
  if (command.checksum() == 0 || ChecksumOf(bytes) == command.checksum()) return Status::Ok();
  return Status(Code::kCorrupt, "generation " + std::to_string(command.generation()) +
                                    ": what was read does not match its checksum");
}

}  // namespace mmc::local
