#include "client_sdk/capi/handles.h"

#include <cstdlib>
#include <cstring>
#include <exception>
#include <new>

namespace mmc::capi {
namespace {

// Every number of the table has its name in mmc.h.
#define MMC_SAME(c_name, code) static_assert(c_name == static_cast<int>(Code::code))
MMC_SAME(MMC_OK, kOk);
MMC_SAME(MMC_INVALID_ARGUMENT, kInvalidArgument);
MMC_SAME(MMC_INTERNAL, kInternal);
MMC_SAME(MMC_UNSUPPORTED, kUnsupported);
MMC_SAME(MMC_CONFIG, kConfig);
MMC_SAME(MMC_PERMISSION, kPermission);
MMC_SAME(MMC_IO, kIo);
MMC_SAME(MMC_NOT_FOUND, kNotFound);
MMC_SAME(MMC_QUEUE_FULL, kQueueFull);
MMC_SAME(MMC_DEADLINE, kDeadline);
MMC_SAME(MMC_CANCELLED, kCancelled);
MMC_SAME(MMC_CLOSED, kClosed);
MMC_SAME(MMC_UNAVAILABLE, kUnavailable);
MMC_SAME(MMC_CONNECTION_LOST, kConnectionLost);
MMC_SAME(MMC_UNKNOWN_METHOD, kUnknownMethod);
MMC_SAME(MMC_BAD_VERSION, kBadVersion);
MMC_SAME(MMC_TOO_LARGE, kTooLarge);
MMC_SAME(MMC_MALFORMED, kMalformed);
MMC_SAME(MMC_SHUTTING_DOWN, kShuttingDown);
MMC_SAME(MMC_NOT_LEADER, kNotLeader);
MMC_SAME(MMC_RECOVERING, kRecovering);
MMC_SAME(MMC_EXISTS, kExists);
MMC_SAME(MMC_BEING_WRITTEN, kBeingWritten);
MMC_SAME(MMC_NO_SPACE, kNoSpace);
MMC_SAME(MMC_NO_NODE, kNoNode);
MMC_SAME(MMC_GRANT_LOST, kGrantLost);
MMC_SAME(MMC_SIZE_MISMATCH, kSizeMismatch);
MMC_SAME(MMC_LEASE_EXPIRED, kLeaseExpired);
MMC_SAME(MMC_SESSION_LOST, kSessionLost);
MMC_SAME(MMC_STALE_NODE, kStaleNode);
MMC_SAME(MMC_REPLICAS_LOST, kReplicasLost);
MMC_SAME(MMC_STALE_REGION, kStaleRegion);
MMC_SAME(MMC_PEER_UNREACHABLE, kPeerUnreachable);
MMC_SAME(MMC_OUT_OF_RANGE, kOutOfRange);
MMC_SAME(MMC_READ_ONLY, kReadOnly);
MMC_SAME(MMC_UNCONFIRMED, kUnconfirmed);
MMC_SAME(MMC_CORRUPT, kCorrupt);
#undef MMC_SAME

Status CheckLists(const mmc_key* keys, size_t count, const mmc_buffer* buffers, size_t buffer_count,
                  const size_t* buffer_counts) {
  const auto wrong = [](const std::string& what) { return Status(Code::kInvalidArgument, what); };
  if (keys == nullptr && count > 0) return wrong("keys is NULL");
  if (buffers == nullptr && buffer_count > 0) return wrong("buffers is NULL");
  if (buffer_counts == nullptr && count > 0) return wrong("buffer_counts is NULL");
  size_t left = buffer_count;
  for (size_t i = 0; i < count; ++i) {
    if (buffer_counts[i] > left) {
      return wrong("buffer_counts sum up to more than the " + std::to_string(buffer_count) +
                   " buffers given");
    }
    left -= buffer_counts[i];
  }
  if (left > 0)
    return wrong(std::to_string(left) +
                 " of the buffers belong to no key: buffer_counts sum up to less");
  return Status::Ok();
}

std::string_view KeyOf(const mmc_key& key) {
  return {static_cast<const char*>(key.data), key.data == nullptr ? 0 : key.size};
}

}  // namespace

mmc_code Ok(char** error) {
  if (error != nullptr) *error = nullptr;
  return MMC_OK;
}

mmc_code Fail(const Status& status, char** error) {
  if (error != nullptr) *error = ::strdup(status.ToString().c_str());
  return ItemCode(status);
}

mmc_code FailThrown(char** error) noexcept {
  if (error != nullptr) *error = nullptr;
  try {
    throw;
  } catch (const std::bad_alloc&) {
    if (error != nullptr) *error = ::strdup("IO: out of memory");
    return MMC_IO;
  } catch (const std::exception& e) {
    if (error != nullptr) *error = ::strdup(e.what());
  } catch (...) {
    if (error != nullptr) *error = ::strdup("INTERNAL: unknown exception");
  }
  return MMC_INTERNAL;
}

Status Lists::CopyKeys(const mmc_key** keys, size_t count) {
  size_t bytes = 0;
  for (size_t i = 0; i < count; ++i) {
    const std::string_view key = KeyOf((*keys)[i]);
    // A key that is too long fails alone, later; what is kept of it is enough to tell.
    bytes += std::min<size_t>(key.size(), kMaxKeyBytes + 1);
  }
  key_bytes_.reserve(bytes);
  keys_.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    const std::string_view key = KeyOf((*keys)[i]).substr(0, kMaxKeyBytes + 1);
    keys_.push_back({key_bytes_.data() + key_bytes_.size(), key.size()});
    key_bytes_.append(key);
  }
  *keys = keys_.data();
  return Status::Ok();
}

Status Lists::SetPuts(const mmc_key* keys, size_t count, const mmc_buffer* buffers,
                      size_t buffer_count, const size_t* buffer_counts) {
  MMC_RETURN_IF_ERROR(CheckLists(keys, count, buffers, buffer_count, buffer_counts));
  const_buffers_.reserve(buffer_count);
  for (size_t i = 0; i < buffer_count; ++i)
    const_buffers_.push_back({buffers[i].data, buffers[i].size});
  size_t at = 0;
  for (size_t i = 0; i < count; ++i) {
    puts.push_back({KeyOf(keys[i]), std::span(const_buffers_).subspan(at, buffer_counts[i])});
    at += buffer_counts[i];
  }
  return Status::Ok();
}

Status Lists::SetGets(const mmc_key* keys, size_t count, const mmc_buffer* buffers,
                      size_t buffer_count, const size_t* buffer_counts, const uint64_t* offsets,
                      bool allow_short) {
  MMC_RETURN_IF_ERROR(CheckLists(keys, count, buffers, buffer_count, buffer_counts));
  buffers_.reserve(buffer_count);
  for (size_t i = 0; i < buffer_count; ++i) buffers_.push_back({buffers[i].data, buffers[i].size});
  size_t at = 0;
  for (size_t i = 0; i < count; ++i) {
    gets.push_back({KeyOf(keys[i]), std::span(buffers_).subspan(at, buffer_counts[i]),
                    offsets == nullptr ? 0 : offsets[i], allow_short});
    at += buffer_counts[i];
  }
  return Status::Ok();
}

mmc_list_page* PackPage(const ListPage& page) {
  const size_t n = page.keys.size();
  size_t bytes = sizeof(mmc_list_page) + n * (sizeof(mmc_key) + sizeof(uint64_t)) +
                 page.next_page_token.size();
  for (const std::string& key : page.keys) bytes += key.size();
  char* memory = static_cast<char*>(std::malloc(bytes));
  if (memory == nullptr) return nullptr;
  auto* out = new (memory) mmc_list_page{};
  auto* keys = reinterpret_cast<mmc_key*>(memory + sizeof(mmc_list_page));
  auto* sizes = reinterpret_cast<uint64_t*>(keys + n);
  char* at = reinterpret_cast<char*>(sizes + n);
  for (size_t i = 0; i < n; ++i) {
    keys[i] = {at, page.keys[i].size()};
    sizes[i] = page.sizes[i];
    at = std::copy(page.keys[i].begin(), page.keys[i].end(), at);
  }
  out->keys = keys;
  out->sizes = sizes;
  out->count = n;
  if (!page.next_page_token.empty()) {
    out->next_token = at;
    out->next_token_size = page.next_page_token.size();
    std::copy(page.next_page_token.begin(), page.next_page_token.end(), at);
  }
  return out;
}

}  // namespace mmc::capi

extern "C" {

const char* mmc_code_name(mmc_code code) {
  return mmc::CodeName(static_cast<mmc::Code>(code)).data();  // the table's names are 0-terminated
}

const char* mmc_code_meaning(mmc_code code) {
  return mmc::CodeMeaning(static_cast<mmc::Code>(code)).data();
}

const char* mmc_version(void) { return MMC_VERSION; }

void mmc_free(void* memory) { std::free(memory); }

}  // extern "C"
