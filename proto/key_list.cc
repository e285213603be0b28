#include "proto/key_list.h"

#include "common/base/limits.h"

namespace mmc::proto {

void EncodeKeys(std::span<const std::string_view> keys, KeyList* out) {
  size_t bytes = 0;
  for (std::string_view key : keys) bytes += key.size();
  out->mutable_lengths()->Reserve(static_cast<int>(keys.size()));
  out->mutable_data()->reserve(bytes);
  for (std::string_view key : keys) AppendKey(key, out);
}

void AppendKey(std::string_view key, KeyList* out) {
  out->add_lengths(static_cast<uint32_t>(key.size()));
  out->mutable_data()->append(key);
}

Result<std::vector<std::string_view>> DecodeKeys(const KeyList& list) {
  if (list.lengths_size() > static_cast<int>(kMaxBatch)) {
    return Status(Code::kTooLarge, std::to_string(list.lengths_size()) + " keys in one call; at most " +
                                       std::to_string(kMaxBatch));
  }
  const std::string_view data = list.data();
  std::vector<std::string_view> keys;
  keys.reserve(static_cast<size_t>(list.lengths_size()));
  size_t at = 0;
  for (const uint32_t length : list.lengths()) {
    if (length > data.size() - at) return Status(Code::kMalformed, "key list: lengths run past the data");
    keys.push_back(data.substr(at, length));
    at += length;
  }
  if (at != data.size()) return Status(Code::kMalformed, "key list: data runs past the lengths");
  return keys;
}

}  // namespace mmc::proto
