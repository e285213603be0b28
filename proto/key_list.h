// Keys in and out of their packed wire form (proto::KeyList).
//
// Thread safety: pure functions. Ownership: the views of DecodeKeys point into the message.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "common/base/status.h"
#include "proto/types.pb.h"

namespace mmc::proto {

// Keys are bytes; nothing is checked here, the service judges each key.
void EncodeKeys(std::span<const std::string_view> keys, KeyList* out);
void AppendKey(std::string_view key, KeyList* out);

// Errors: kMalformed (the lengths do not sum up to the data), kTooLarge (more than kMaxBatch keys). A key of a
// wrong length (0, > kMaxKeyBytes) is not an error here: only that key fails, in the operation.
Result<std::vector<std::string_view>> DecodeKeys(const KeyList& list);

}  // namespace mmc::proto
