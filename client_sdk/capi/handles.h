// Behind the C interface: its handles, how outcomes become codes and texts, how C arrays become
// lists of the client.
//
// Thread safety: Lists belongs to one call. Ownership: handles are the C caller's; Lists views the
// caller's arrays, except for keys that were copied.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "client_sdk/include/mmc/client.h"
#include "client_sdk/include/mmc/mmc.h"
#include "common/base/limits.h"

struct mmc_client {
  std::unique_ptr<mmc::Client> client;
};
struct mmc_view {
  mmc::View view;
};

namespace mmc::capi {

inline mmc_code ItemCode(const Status& status) { return static_cast<mmc_code>(status.code()); }
mmc_code Ok(char** error);
// Stores the text where the caller wants one.
mmc_code Fail(const Status& status, char** error);
// For what was thrown inside a call: C callers must not see exceptions.
mmc_code FailThrown(char** error) noexcept;

template <typename F>
mmc_code Guard(char** error, F call) noexcept {
  try {
    return call();
  } catch (...) {
    return FailThrown(error);
  }
}

// One allocation that holds the page and all it points to; null when there is no memory.
mmc_list_page* PackPage(const ListPage& page);

// The batch of one call.
struct Lists {
  // Copies the keys, and lets *keys point to copies, for calls that outlive their arguments.
  Status CopyKeys(const mmc_key** keys, size_t count);
  // Errors: kInvalidArgument (NULL arrays, counts that do not sum up).
  Status SetPuts(const mmc_key* keys, size_t count, const mmc_buffer* buffers, size_t buffer_count,
                 const size_t* buffer_counts);
  Status SetGets(const mmc_key* keys, size_t count, const mmc_buffer* buffers, size_t buffer_count,
                 const size_t* buffer_counts, const uint64_t* offsets, bool allow_short);

  std::vector<PutItem> puts;
  std::vector<GetItem> gets;

 private:
  std::vector<ConstBuffer> const_buffers_;
  std::vector<Buffer> buffers_;
  std::vector<mmc_key> keys_;
  std::string key_bytes_;
};

}  // namespace mmc::capi
