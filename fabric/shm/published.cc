#include "fabric/shm/published.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <new>
#include <string>
#include <utility>

namespace mmc::fabric::shm {
namespace {

UniqueFd ReopenReadOnly(int fd) {
  return UniqueFd(open(("/proc/self/fd/" + std::to_string(fd)).c_str(), O_RDONLY | O_CLOEXEC));
}

}  // namespace

Result<std::unique_ptr<Published>> Published::Create() {
  std::unique_ptr<Published> published(new Published());
  published->control_ = UniqueFd(memfd_create("mmc-control", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  const int fd = published->control_.get();
  if (fd < 0 || ftruncate(fd, sizeof(ControlPage)) != 0 || fchmod(fd, S_IRUSR) != 0 ||
      fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0) {
    return ErrnoStatus("shm control page", errno);
  }
  void* const page = mmap(nullptr, sizeof(ControlPage), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (page == MAP_FAILED) return ErrnoStatus("map the shm control page", errno);
  published->page_ = new (page) ControlPage;
  published->control_read_only_ = ReopenReadOnly(fd);
  if (!published->control_read_only_.valid()) return ErrnoStatus("open the shm control page; is /proc mounted?", errno);
  return published;
}

Published::~Published() {
  if (page_ != nullptr) munmap(page_, sizeof(ControlPage));
}

void Published::Add(const std::shared_ptr<const Region>& region) {
  if (region->segment == nullptr || region->kind != MemoryKind::kHost) return;
  const std::byte* const base = region->segment->data();
  if (region->memory.data() < base ||
      region->memory.data() + region->memory.size() > base + region->segment->size()) {
    return;
  }
  Entry entry;
  entry.region = region;
  if (UniqueFd fd = ReopenReadOnly(region->segment->fd()); fd.valid()) {
    entry.read_only = std::make_shared<UniqueFd>(std::move(fd));
  }
  Packet& packet = entry.packet;
  packet.kind = PacketKind::kSegment;
  packet.segment = region->ref.segment;
  packet.epoch = region->ref.epoch;
  packet.file_size = region->segment->size();
  packet.offset = static_cast<uint64_t>(region->memory.data() - base);
  packet.size = region->memory.size();
  packet.backing = static_cast<uint32_t>(region->segment->backing());
  MutexLock lock(mutex_);
  uint32_t slot = 0;
  while (slot < kSlots && page_->generation[slot].load(std::memory_order_relaxed) != 0) ++slot;
  if (slot == kSlots) return;
  packet.slot = slot;
  packet.generation = next_generation_++;
  page_->generation[slot].store(packet.generation, std::memory_order_release);
  entries_.push_back(std::move(entry));
}

void Published::Remove(const Region& region) {
  MutexLock lock(mutex_);
  const auto it = std::find_if(entries_.begin(), entries_.end(),
                               [&](const Entry& entry) { return entry.region.get() == &region; });
  if (it == entries_.end()) return;
  page_->generation[it->packet.slot].store(0, std::memory_order_seq_cst);
  entries_.erase(it);
}

void Published::RemoveAll() {
  MutexLock lock(mutex_);
  for (const Entry& entry : entries_) page_->generation[entry.packet.slot].store(0, std::memory_order_seq_cst);
  entries_.clear();
}

std::vector<Published::Entry> Published::List() const {
  MutexLock lock(mutex_);
  return entries_;
}

int FdFor(const Published::Entry& entry, Access access) {
  if (access == Access::kReadWrite && entry.region->access == Access::kReadWrite) return entry.region->segment->fd();
  return entry.read_only == nullptr ? -1 : entry.read_only->get();
}

}  // namespace mmc::fabric::shm
