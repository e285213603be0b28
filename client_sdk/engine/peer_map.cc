#include "client_sdk/engine/peer_map.h"

#include <algorithm>
#include <cstddef>

#include "common/rpc/url.h"

namespace mmc::engine {

using fabric::Op;

Result<std::shared_ptr<const PeerMap>> PeerMap::From(const proto::DescribeEngineReply& reply, const std::string& host,
                                                     bool near, const std::string& host_id) {
  if (reply.tcp_port() == 0 || reply.tcp_port() > UINT16_MAX) {
    return Status(Code::kMalformed, host + " names " + std::to_string(reply.tcp_port()) + " as its data port");
  }
  std::shared_ptr<PeerMap> map(new PeerMap());
  map->incarnation_ = reply.incarnation();
  map->first_address_ = reply.first_address();
  const rpc::Url network{"", host, static_cast<uint16_t>(reply.tcp_port())};
  map->network_.push_back({"tcp", network.ToString()});
  if (near && !reply.shm_address().empty() && !host_id.empty() && reply.host_id() == host_id) {
    map->host_.push_back({"shm", reply.shm_address()});
    map->near_ = true;
  }
  map->regions_.reserve(static_cast<size_t>(reply.regions_size()));
  for (const proto::EngineRegion& region : reply.regions()) {
    if (region.bytes() > ~uint64_t{0} - region.address()) {
      return Status(Code::kMalformed, host + " lends memory that ends nowhere");
    }
    map->regions_.push_back({region.address(), region.address() + region.bytes(),
                             {region.segment(), reply.epoch()}, region.shared(), 0});
  }
  std::vector<Region>& regions = map->regions_;
  std::sort(regions.begin(), regions.end(), [](const Region& a, const Region& b) { return a.begin < b.begin; });
  for (size_t i = 0; i < regions.size(); ++i) {
    const size_t before = i == 0 ? 0 : regions[i - 1].furthest;
    regions[i].furthest = regions[before].end > regions[i].end ? before : i;
  }
  return std::shared_ptr<const PeerMap>(std::move(map));
}

const PeerMap::Region* PeerMap::Find(uint64_t address) const {
  const auto behind = std::upper_bound(regions_.begin(), regions_.end(), address,
                                       [](uint64_t at, const Region& region) { return at < region.begin; });
  if (behind == regions_.begin()) return nullptr;
  const Region& found = regions_[std::prev(behind)->furthest];
  return address < found.end ? &found : nullptr;
}

Status PeerMap::Map(std::span<const Piece> pieces, std::vector<Op>* near, std::vector<Op>* far) const {
  const bool use_near = near_.load(std::memory_order_relaxed);
  for (const Piece& piece : pieces) {
    uint64_t done = 0;
    while (done < piece.bytes) {
      const uint64_t at = piece.peer + done;
      const Region* const region = at < piece.peer ? nullptr : Find(at);
      if (region == nullptr) {
        return Status(Code::kOutOfRange, std::to_string(piece.bytes) + " bytes at address " +
                                             std::to_string(piece.peer) + " are not all in registered memory there");
      }
      Op op;
      op.local = reinterpret_cast<std::byte*>(static_cast<uintptr_t>(piece.local + done));  // NOLINT: the user's
      op.remote = region->ref;
      op.remote_offset = at - region->begin;
      op.length = std::min(piece.bytes - done, region->end - at);
      (use_near && region->shared ? near : far)->push_back(op);
      done += op.length;
    }
  }
  return Status::Ok();
}

}  // namespace mmc::engine
