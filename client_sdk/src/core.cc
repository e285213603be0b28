#include "client_sdk/src/core.h"

namespace mmc::client {

Status CheckKey(std::string_view key) {
  if (key.empty())
    return Status(Code::kInvalidArgument, "the key is empty; a key has 1 to 2048 bytes");
  if (key.size() > kMaxKeyBytes) {
    return Status(Code::kTooLarge,
                  "the key has " + std::to_string(key.size()) + " bytes; at most 2048");
  }
  return Status::Ok();
}

Status CheckBatch(size_t items) {
  if (items <= kMaxBatch) return Status::Ok();
  return Status(Code::kTooLarge, "a batch of " + std::to_string(items) + " items; at most " +
                                     std::to_string(kMaxBatch) + ": split it");
}

}  // namespace mmc::client
