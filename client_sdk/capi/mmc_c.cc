// The C interface over mmc::Client: checks arguments, converts lists, catches what must not cross
// into C.
#include <cstdlib>
#include <cstring>
#include <new>

#include "client_sdk/capi/handles.h"

namespace {

using mmc::Code;
using mmc::Status;
using mmc::capi::Fail;
using mmc::capi::Guard;
using mmc::capi::ItemCode;
using mmc::capi::Lists;
using mmc::capi::Ok;

std::string_view KeyOf(const void* key, size_t size) {
  return {static_cast<const char*>(key), key == nullptr ? 0 : size};
}

Status NullArgument(const char* what) {
  return Status(Code::kInvalidArgument, std::string(what) + " is NULL");
}

mmc::PutOptions PutOptionsOf(const mmc_put_options* in) {
  mmc_put_options filled;
  mmc_put_options_init(&filled, sizeof(filled));
  if (in != nullptr) std::memcpy(&filled, in, std::min(in->struct_size, sizeof(filled)));
  mmc::PutOptions out;
  out.replicas = filled.replicas;
  out.prefer_local = filled.prefer_local != 0;
  for (size_t i = 0; filled.preferred_nodes != nullptr && i < filled.preferred_node_count; ++i) {
    if (filled.preferred_nodes[i] != nullptr)
      out.preferred_nodes.emplace_back(filled.preferred_nodes[i]);
  }
  out.timeout = std::chrono::milliseconds(filled.timeout_ms);
  out.retention = static_cast<mmc::Retention>(std::clamp(filled.retention, 0, UINT8_MAX));
  out.soft_pin = std::chrono::milliseconds(filled.soft_pin_ms);
  return out;
}

mmc::ClientOptions ClientOptionsOf(const mmc_client_options* in) {
  mmc_client_options filled;
  mmc_client_options_init(&filled, sizeof(filled));
  if (in != nullptr) std::memcpy(&filled, in, std::min(in->struct_size, sizeof(filled)));
  mmc::ClientOptions out;
  if (filled.meta_url != nullptr) out.meta_url = filled.meta_url;
  if (filled.name != nullptr) out.name = filled.name;
  out.timeout = std::chrono::milliseconds(filled.timeout_ms);
  out.connect_retry = std::chrono::milliseconds(filled.connect_retry_ms);
  out.lease = std::chrono::milliseconds(filled.lease_ms);
  out.location_cache = filled.location_cache != 0;
  out.location_cache_keys = filled.location_cache_keys;
  out.same_host = filled.same_host != 0;
  out.tcp_connections = filled.tcp_connections;
  out.copy_threads = filled.copy_threads;
  out.async_threads = filled.async_threads;
  out.async_queue = filled.async_queue;
  if (filled.tenant != nullptr) out.tenant = filled.tenant;
  // What is no such number is told from there (client.cc).
  out.integrity = static_cast<mmc::Integrity>(std::clamp(filled.integrity, -1, 255) & 0xFF);
  const auto path = [](const char* text) { return text == nullptr ? std::string() : std::string(text); };
  out.tls.enable = filled.tls_ca != nullptr;
  out.tls.ca_path = path(filled.tls_ca);
  out.tls.crl_path = path(filled.tls_crl);
  out.tls.cert_path = path(filled.tls_cert);
  out.tls.key_path = path(filled.tls_key);
  out.tls.key_pass_path = path(filled.tls_key_pass);
  out.tls.decrypter_path = path(filled.tls_decrypter);
  if (filled.data_tls != 0) {
    out.data_tls = out.tls;
    out.data_tls.enable = true;
  }
  return out;
}

mmc::GetOptions GetOptionsOf(uint64_t timeout_ms) {
  return {std::chrono::milliseconds(timeout_ms)};
}

std::vector<std::string_view> KeysOf(const mmc_key* keys, size_t count) {
  std::vector<std::string_view> out;
  out.reserve(count);
  for (size_t i = 0; i < count; ++i) out.push_back(KeyOf(keys[i].data, keys[i].size));
  return out;
}

// What every call on keys checks.
Status CheckCall(const mmc_client* client, const mmc_key* keys, size_t count, const void* out,
                 const char* out_name) {
  if (client == nullptr) return NullArgument("client");
  if (keys == nullptr && count > 0) return NullArgument("keys");
  if (out == nullptr && count > 0) return NullArgument(out_name);
  if (count > mmc::kMaxBatch) {
    return Status(Code::kTooLarge, "a batch of " + std::to_string(count) + " keys; at most " +
                                       std::to_string(mmc::kMaxBatch));
  }
  return Status::Ok();
}

mmc_code ExistsOf(mmc_client* client, const mmc_key* keys, size_t key_count,
                  const mmc::ExistsOptions& options, uint8_t* present, char** error) {
  const Status status = CheckCall(client, keys, key_count, present, "present");
  if (!status.ok()) return Fail(status, error);
  const auto there = client->client->Exists(KeysOf(keys, key_count), options);
  if (!there.ok()) return Fail(there.status(), error);
  std::copy(there->begin(), there->end(), present);
  return Ok(error);
}

mmc_code CodesOfPut(const std::vector<Status>& statuses, mmc_code* codes, char** error) {
  const Status* first = nullptr;
  for (size_t i = 0; i < statuses.size(); ++i) {
    codes[i] = ItemCode(statuses[i]);
    const bool good = statuses[i].ok() || statuses[i].code() == Code::kExists;
    if (!good && first == nullptr) first = &statuses[i];
  }
  return first == nullptr ? Ok(error) : Fail(*first, error);
}

mmc_code ResultsOfGet(const std::vector<mmc::GetResult>& in, mmc_get_result* out, char** error) {
  const Status* first = nullptr;
  for (size_t i = 0; i < in.size(); ++i) {
    out[i] = {ItemCode(in[i].status), in[i].bytes, in[i].size};
    if (!in[i].status.ok() && first == nullptr) first = &in[i].status;
  }
  return first == nullptr ? Ok(error) : Fail(*first, error);
}

}  // namespace

extern "C" {

void mmc_client_options_init(mmc_client_options* options, size_t struct_size) {
  const mmc::ClientOptions defaults;
  mmc_client_options filled{};
  filled.struct_size = struct_size;
  filled.meta_url = "tcp://127.0.0.1:5000";
  filled.name = "client";
  filled.timeout_ms = static_cast<uint64_t>(defaults.timeout.count());
  filled.location_cache_keys = defaults.location_cache_keys;
  filled.same_host = defaults.same_host ? 1 : 0;
  filled.tcp_connections = defaults.tcp_connections;
  filled.copy_threads = defaults.copy_threads;
  filled.async_threads = defaults.async_threads;
  filled.async_queue = defaults.async_queue;
  filled.integrity = static_cast<int>(defaults.integrity);
  std::memcpy(options, &filled, std::min(struct_size, sizeof(filled)));
}

void mmc_put_options_init(mmc_put_options* options, size_t struct_size) {
  mmc_put_options filled{};
  filled.struct_size = struct_size;
  filled.replicas = 1;
  filled.prefer_local = 1;
  std::memcpy(options, &filled, std::min(struct_size, sizeof(filled)));
}

mmc_code mmc_client_create(const mmc_client_options* options, mmc_client** client, char** error) {
  return Guard(error, [&] {
    if (client == nullptr) return Fail(NullArgument("client"), error);
    *client = nullptr;
    auto connected = mmc::Client::Connect(ClientOptionsOf(options));
    if (!connected.ok()) return Fail(connected.status(), error);
    *client = new mmc_client{std::move(connected).value()};
    return Ok(error);
  });
}

void mmc_client_close(mmc_client* client) {
  if (client != nullptr) client->client->Close();
}

void mmc_client_destroy(mmc_client* client) { delete client; }

mmc_code mmc_put(mmc_client* client, const void* key, size_t key_size, const void* value,
                 size_t value_size, char** error) {
  return Guard(error, [&] {
    if (client == nullptr) return Fail(NullArgument("client"), error);
    const mmc::ConstBuffer buffer{value, value_size};
    const mmc::PutItem item{KeyOf(key, key_size), std::span(&buffer, 1)};
    const Status status = client->client->Put(std::span(&item, 1)).front();
    return status.ok() ? Ok(error) : Fail(status, error);
  });
}

mmc_code mmc_get(mmc_client* client, const void* key, size_t key_size, void** value,
                 size_t* value_size, char** error) {
  return Guard(error, [&] {
    if (client == nullptr) return Fail(NullArgument("client"), error);
    if (value == nullptr || value_size == nullptr)
      return Fail(NullArgument("value or value_size"), error);
    *value = nullptr;
    *value_size = 0;
    const std::string_view name = KeyOf(key, key_size);
    // The size first, so that the bytes go straight into the memory that is handed out. A value put
    // anew between the two answers MMC_SIZE_MISMATCH to the read, and is asked for again.
    for (int attempt = 0;; ++attempt) {
      auto infos = client->client->Stat(std::span(&name, 1));
      if (!infos.ok()) return Fail(infos.status(), error);
      const mmc::ObjectInfo& info = infos->front();
      if (!info.status.ok()) return Fail(info.status, error);
      void* memory = std::malloc(info.size);
      if (memory == nullptr) return Fail(Status(Code::kIo, "out of memory for the value"), error);
      const mmc::Buffer buffer{memory, info.size};
      const mmc::GetItem item{name, std::span(&buffer, 1)};
      const mmc::GetResult result = client->client->GetInto(std::span(&item, 1)).front();
      if (result.status.ok()) {
        *value = memory;
        *value_size = info.size;
        return Ok(error);
      }
      std::free(memory);
      if (result.status.code() != Code::kSizeMismatch || attempt == 3)
        return Fail(result.status, error);
    }
  });
}

mmc_code mmc_get_into(mmc_client* client, const void* key, size_t key_size, void* buffer,
                      size_t buffer_size, size_t* value_size, char** error) {
  return Guard(error, [&] {
    if (client == nullptr) return Fail(NullArgument("client"), error);
    const mmc::Buffer piece{buffer, buffer_size};
    const mmc::GetItem item{KeyOf(key, key_size), std::span(&piece, 1)};
    const mmc::GetResult result = client->client->GetInto(std::span(&item, 1)).front();
    if (value_size != nullptr) *value_size = result.size;
    return result.status.ok() ? Ok(error) : Fail(result.status, error);
  });
}

mmc_code mmc_exists(mmc_client* client, const void* key, size_t key_size, int* present,
                    char** error) {
  const mmc_key one{key, key_size};
  uint8_t there = 0;
  if (present == nullptr) return Fail(NullArgument("present"), error);
  const mmc_code code = mmc_exists_batch(client, &one, 1, &there, error);
  *present = there;
  return code;
}

mmc_code mmc_remove(mmc_client* client, const void* key, size_t key_size, char** error) {
  const mmc_key one{key, key_size};
  mmc_code item = MMC_OK;
  const mmc_code code = mmc_remove_batch(client, &one, 1, &item, error);
  if (code != MMC_OK || item == MMC_OK) return code;
  return Fail(Status(static_cast<Code>(item), mmc_code_meaning(item)), error);
}

mmc_code mmc_put_batch(mmc_client* client, const mmc_key* keys, size_t key_count,
                       const mmc_buffer* buffers, size_t buffer_count, const size_t* buffer_counts,
                       const mmc_put_options* options, mmc_code* codes, char** error) {
  return Guard(error, [&] {
    Lists lists;
    Status status = CheckCall(client, keys, key_count, codes, "codes");
    if (status.ok()) status = lists.SetPuts(keys, key_count, buffers, buffer_count, buffer_counts);
    if (!status.ok()) return Fail(status, error);
    return CodesOfPut(client->client->Put(lists.puts, PutOptionsOf(options)), codes, error);
  });
}

mmc_code mmc_get_batch(mmc_client* client, const mmc_key* keys, size_t key_count,
                       const mmc_buffer* buffers, size_t buffer_count, const size_t* buffer_counts,
                       const uint64_t* offsets, int allow_short, uint64_t timeout_ms,
                       mmc_get_result* results, char** error) {
  return Guard(error, [&] {
    Lists lists;
    Status status = CheckCall(client, keys, key_count, results, "results");
    if (status.ok()) {
      status = lists.SetGets(keys, key_count, buffers, buffer_count, buffer_counts, offsets,
                             allow_short != 0);
    }
    if (!status.ok()) return Fail(status, error);
    return ResultsOfGet(client->client->GetInto(lists.gets, GetOptionsOf(timeout_ms)), results,
                        error);
  });
}

mmc_code mmc_put_batch_async(mmc_client* client, const mmc_key* keys, size_t key_count,
                             const mmc_buffer* buffers, size_t buffer_count,
                             const size_t* buffer_counts, const mmc_put_options* options,
                             mmc_put_callback done, void* context, char** error) {
  return Guard(error, [&] {
    auto lists = std::make_shared<Lists>();
    Status status = CheckCall(client, keys, key_count, reinterpret_cast<const void*>(done), "done");
    if (status.ok()) status = lists->CopyKeys(&keys, key_count);
    if (status.ok()) status = lists->SetPuts(keys, key_count, buffers, buffer_count, buffer_counts);
    if (status.ok()) {
      status =
          client->client->PutAsync(lists->puts, PutOptionsOf(options),
                                   [lists, done, context](const std::vector<Status>& statuses) {
                                     std::vector<mmc_code> codes(statuses.size());
                                     CodesOfPut(statuses, codes.data(), nullptr);
                                     done(context, codes.data(), codes.size());
                                   });
    }
    return status.ok() ? Ok(error) : Fail(status, error);
  });
}

mmc_code mmc_get_batch_async(mmc_client* client, const mmc_key* keys, size_t key_count,
                             const mmc_buffer* buffers, size_t buffer_count,
                             const size_t* buffer_counts, const uint64_t* offsets, int allow_short,
                             uint64_t timeout_ms, mmc_get_callback done, void* context,
                             char** error) {
  return Guard(error, [&] {
    auto lists = std::make_shared<Lists>();
    Status status = CheckCall(client, keys, key_count, reinterpret_cast<const void*>(done), "done");
    if (status.ok()) status = lists->CopyKeys(&keys, key_count);
    if (status.ok()) {
      status = lists->SetGets(keys, key_count, buffers, buffer_count, buffer_counts, offsets,
                              allow_short != 0);
    }
    if (status.ok()) {
      status = client->client->GetIntoAsync(
          lists->gets, GetOptionsOf(timeout_ms),
          [lists, done, context](const std::vector<mmc::GetResult>& in) {
            std::vector<mmc_get_result> results(in.size());
            ResultsOfGet(in, results.data(), nullptr);
            done(context, results.data(), results.size());
          });
    }
    return status.ok() ? Ok(error) : Fail(status, error);
  });
}

mmc_code mmc_exists_batch(mmc_client* client, const mmc_key* keys, size_t key_count,
                          uint8_t* present, char** error) {
  return Guard(
      error, [&] { return ExistsOf(client, keys, key_count, {}, present, error); });
}

mmc_code mmc_exists_lease_batch(mmc_client* client, const mmc_key* keys, size_t key_count,
                                uint64_t lease_ms, uint8_t* present, char** error) {
  return Guard(error, [&] {
    const mmc::ExistsOptions options{.lease = std::chrono::milliseconds(lease_ms)};
    return ExistsOf(client, keys, key_count, options, present, error);
  });
}

mmc_code mmc_prefix(mmc_client* client, const mmc_key* keys, size_t key_count, size_t* present,
                    char** error) {
  return Guard(error, [&] {
    const Status status = CheckCall(client, keys, key_count, present, "present");
    if (!status.ok()) return Fail(status, error);
    const auto count = client->client->Prefix(KeysOf(keys, key_count));
    if (!count.ok()) return Fail(count.status(), error);
    *present = *count;
    return Ok(error);
  });
}

mmc_code mmc_stat(mmc_client* client, const mmc_key* keys, size_t key_count, mmc_object_info* infos,
                  char** error) {
  return Guard(error, [&] {
    const Status status = CheckCall(client, keys, key_count, infos, "infos");
    if (!status.ok()) return Fail(status, error);
    const auto found = client->client->Stat(KeysOf(keys, key_count));
    if (!found.ok()) return Fail(found.status(), error);
    for (size_t i = 0; i < key_count; ++i) {
      const mmc::ObjectInfo& in = (*found)[i];
      infos[i] = {ItemCode(in.status),
                  in.size,
                  in.generation,
                  static_cast<uint64_t>(in.lease_left.count()),
                  in.pins,
                  static_cast<uint32_t>(in.replicas.size())};
    }
    return Ok(error);
  });
}

mmc_code mmc_remove_batch(mmc_client* client, const mmc_key* keys, size_t key_count,
                          mmc_code* codes, char** error) {
  return Guard(error, [&] {
    const Status status = CheckCall(client, keys, key_count, codes, "codes");
    if (!status.ok()) return Fail(status, error);
    const auto removed = client->client->Remove(KeysOf(keys, key_count));
    if (!removed.ok()) return Fail(removed.status(), error);
    const Status* first = nullptr;
    for (size_t i = 0; i < key_count; ++i) {
      const Status& one = (*removed)[i];
      codes[i] = ItemCode(one);
      if (!one.ok() && one.code() != Code::kNotFound && first == nullptr) first = &one;
    }
    return first == nullptr ? Ok(error) : Fail(*first, error);
  });
}

mmc_code mmc_remove_by_prefix(mmc_client* client, const void* prefix, size_t prefix_size,
                              uint64_t* removed, char** error) {
  return Guard(error, [&] {
    if (client == nullptr) return Fail(NullArgument("client"), error);
    const auto count = client->client->RemoveByPrefix(KeyOf(prefix, prefix_size));
    if (!count.ok()) return Fail(count.status(), error);
    if (removed != nullptr) *removed = *count;
    return Ok(error);
  });
}

mmc_code mmc_remove_all(mmc_client* client, uint64_t* removed, char** error) {
  return Guard(error, [&] {
    if (client == nullptr) return Fail(NullArgument("client"), error);
    const auto count = client->client->RemoveAll();
    if (!count.ok()) return Fail(count.status(), error);
    if (removed != nullptr) *removed = *count;
    return Ok(error);
  });
}

mmc_code mmc_list(mmc_client* client, const void* prefix, size_t prefix_size,
                  const void* page_token, size_t page_token_size, uint32_t limit,
                  mmc_list_page** page, char** error) {
  return Guard(error, [&] {
    if (client == nullptr) return Fail(NullArgument("client"), error);
    if (page == nullptr) return Fail(NullArgument("page"), error);
    *page = nullptr;
    const auto listed =
        client->client->List(KeyOf(prefix, prefix_size), KeyOf(page_token, page_token_size), limit);
    if (!listed.ok()) return Fail(listed.status(), error);
    *page = mmc::capi::PackPage(*listed);
    return *page != nullptr ? Ok(error)
                            : Fail(Status(Code::kIo, "out of memory for the page"), error);
  });
}

mmc_code mmc_view_open(mmc_client* client, const void* key, size_t key_size, mmc_view** view,
                       char** error) {
  return Guard(error, [&] {
    if (client == nullptr) return Fail(NullArgument("client"), error);
    if (view == nullptr) return Fail(NullArgument("view"), error);
    *view = nullptr;
    auto made = client->client->MakeView(KeyOf(key, key_size));
    if (!made.ok()) return Fail(made.status(), error);
    *view = new mmc_view{std::move(made).value()};
    return Ok(error);
  });
}

size_t mmc_view_size(const mmc_view* view) { return view == nullptr ? 0 : view->view.size(); }

size_t mmc_view_piece_count(const mmc_view* view) {
  return view == nullptr ? 0 : view->view.pieces().size();
}

mmc_view_piece mmc_view_piece_at(const mmc_view* view, size_t index) {
  if (index >= mmc_view_piece_count(view)) return {nullptr, 0};
  const mmc::ConstBuffer& piece = view->view.pieces()[index];
  return {piece.data, piece.size};
}

void mmc_view_release(mmc_view* view) { delete view; }

mmc_code mmc_client_get_stats(mmc_client* client, mmc_client_stats* stats) {
  if (client == nullptr || stats == nullptr) return MMC_INVALID_ARGUMENT;
  const mmc::ClientStats in = client->client->stats();
  const size_t size = stats->struct_size;
  const mmc_client_stats filled{
      size,         in.put_bytes,           in.get_bytes,     in.shm_bytes,    in.tcp_bytes,
      in.failovers, in.location_cache_hits, in.expired_reads, in.corrupt_reads};
  std::memcpy(stats, &filled, std::min(size, sizeof(filled)));
  return MMC_OK;
}

}  // extern "C"
