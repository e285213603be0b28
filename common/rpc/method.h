// A remote method: its number on the wire, its name in logs and metrics, its messages.
#pragma once

#include <cstdint>

namespace mmc::rpc {

template <typename RequestT, typename ReplyT>
struct Method {
  using Request = RequestT;
  using Reply = ReplyT;
  uint16_t id;
  const char* name;
};

}  // namespace mmc::rpc
