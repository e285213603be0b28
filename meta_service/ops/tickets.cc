#include "meta_service/ops/tickets.h"

#include <utility>

namespace mmc::meta {

fabric::TicketKey Tickets::Enlist(uint32_t node, const std::string& name, uint64_t incarnation, bool wants) {
  const fabric::TicketKey key = fabric::NodeTicketKey(secret_, name + "/" + std::to_string(incarnation));
  MutexLock lock(mutex_);
  const auto known = keys_->find(node);
  if (wants ? known != keys_->end() && known->second == key : known == keys_->end()) return key;
  auto keys = std::make_shared<Keys>(*keys_);
  if (wants) {
    keys->insert_or_assign(node, key);
  } else {
    keys->erase(node);
  }
  needed_.store(!keys->empty(), std::memory_order_relaxed);
  keys_ = std::move(keys);
  return key;
}

bool Tickets::Seal(const fabric::TicketScope& scope, uint64_t end_ms, proto::ReplicaColumns* columns) const {
  std::shared_ptr<const Keys> keys;
  {
    MutexLock lock(mutex_);
    keys = keys_;
  }
  bool any = false;
  for (int r = 0; r < columns->node_size() && !any; ++r) any = keys->contains(columns->node(r));
  if (!any) return false;
  columns->set_ticket_end_ms(end_ms);
  columns->mutable_seal()->Reserve(2 * columns->extent_offset_size());
  int extent = 0;
  fabric::TicketScope one = scope;
  for (int r = 0; r < columns->node_size(); ++r) {
    const auto key = keys->find(columns->node(r));
    one.region = {columns->segment(r), columns->epoch(r)};
    for (uint32_t e = 0; e < columns->extent_counts(r); ++e, ++extent) {
      fabric::Ticket ticket{.offset = columns->extent_offset(extent),
                            .length = columns->extent_length(extent),
                            .end_ms = end_ms};
      // A seal that could not be made fits nothing: the node refuses it.
      if (key != keys->end()) (void)fabric::SealTicket(key->second, one, &ticket);
      for (const uint64_t word : ticket.seal) columns->add_seal(word);
    }
  }
  return true;
}

}  // namespace mmc::meta
