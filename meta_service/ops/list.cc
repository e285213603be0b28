// List: all keys, page by page, in hash order. The token is where to go on: shard u32, hash u64,
// little-endian.
#include <algorithm>
#include <cstring>
#include <string>

#include "meta_service/ops/common.h"
#include "proto/key_list.h"

namespace mmc::meta::ops {

namespace {

constexpr size_t kTokenBytes = 12;
constexpr uint32_t kDefaultKeys = 1000;
constexpr int kMaxSteps =
    256;  // of one call, each over about a thousand keys; then the page goes out as it is

std::string TokenOf(const WalkCursor& cursor) {
  std::string token(kTokenBytes, '\0');
  for (int i = 0; i < 4; ++i) token[i] = static_cast<char>(cursor.shard >> (8 * i));
  for (int i = 0; i < 8; ++i) token[4 + i] = static_cast<char>(cursor.from_hash >> (8 * i));
  return token;
}

Result<WalkCursor> CursorOf(const std::string& token) {
  WalkCursor cursor;
  if (token.empty()) return cursor;
  if (token.size() == kTokenBytes) {
    for (int i = 0; i < 4; ++i) cursor.shard |= uint32_t{static_cast<uint8_t>(token[i])} << (8 * i);
    for (int i = 0; i < 8; ++i)
      cursor.from_hash |= uint64_t{static_cast<uint8_t>(token[4 + i])} << (8 * i);
    if (cursor.shard < kShards) return cursor;
  }
  return Status(Code::kInvalidArgument,
                "page_token is none of this service's: start with an empty one");
}

}  // namespace

Status List(OpEnv& env, const Context& context, const proto::ListRequest& request, proto::ListReply* reply) {
  if (request.prefix().size() > kMaxKeyBytes) {
    return Status(Code::kTooLarge, "a prefix has at most 2048 bytes");
  }
  MMC_ASSIGN_OR_RETURN(const std::string_view tenant, TenantOf(context, request.tenant()));
  MMC_ASSIGN_OR_RETURN(WalkCursor cursor, CursorOf(request.page_token()));
  if (env.state.recovering()) return StillRecovering();
  const uint32_t limit =
      request.limit() == 0 ? kDefaultKeys : std::min(request.limit(), kMaxPageKeys);
  std::vector<ListedKey> keys;
  const KeyMatch match(tenant, request.prefix());
  for (int step = 0; step < kMaxSteps && keys.size() < limit && !cursor.done; ++step) {
    env.state.ListStep(match, limit, &cursor, &keys);
  }
  for (const ListedKey& key : keys) {
    proto::AppendKey(key.key, reply->mutable_keys());
    reply->add_size(key.size);
  }
  if (!cursor.done) reply->set_next_page_token(TokenOf(cursor));
  return Status::Ok();
}

}  // namespace mmc::meta::ops
