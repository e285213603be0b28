/* The C interface of the mmc client: put, get, query and remove KV blocks in a pool of many
 * machines.
 *
 * Conventions
 * - Every call that can fail returns an mmc_code: 0 (MMC_OK) or a number of the table below, the
 * same that the services send and docs/reference/status_codes.md explains. A batch call returns
 * what went wrong with the call as a whole; each item has its own code in an array of the caller's.
 * - `error`: where it is not NULL, a call that fails may store a text there, one line, which the
 * caller frees with mmc_free; otherwise it stores NULL.
 * - Handles are opaque. Memory that the library hands out is freed with mmc_free, views with
 * mmc_view_release.
 * - Keys and values are bytes; nothing is 0-terminated unless its type is `const char*`.
 * - All functions may be called from any thread; closing a client while another thread still enters
 * a call with it is an error of the caller.
 * - The library touches no signals, no threads but its own, and neither stdout nor stderr. After
 * fork() the child must not use handles of its parent.
 * - Structures with `struct_size` are filled in by their _init function, so that later versions can
 * add fields.
 */
#ifndef MMC_MMC_H
#define MMC_MMC_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#error "mmc runs on Linux"
#endif
#define MMC_API __attribute__((visibility("default")))

#ifdef __cplusplus
extern "C" {
#endif

typedef int mmc_code;
enum {
  MMC_OK = 0,
  MMC_INVALID_ARGUMENT = 1,
  MMC_INTERNAL = 2,
  MMC_UNSUPPORTED = 3,
  MMC_CONFIG = 4,
  MMC_PERMISSION = 5,
  MMC_IO = 6,
  MMC_NOT_FOUND = 7,
  MMC_QUEUE_FULL = 10,
  MMC_DEADLINE = 11,
  MMC_CANCELLED = 12,
  MMC_CLOSED = 13,
  MMC_UNAVAILABLE = 14,
  MMC_CONNECTION_LOST = 15,
  MMC_UNKNOWN_METHOD = 100,
  MMC_BAD_VERSION = 101,
  MMC_TOO_LARGE = 102,
  MMC_MALFORMED = 103,
  MMC_SHUTTING_DOWN = 104,
  MMC_NOT_LEADER = 105,
  MMC_RECOVERING = 106,
  MMC_EXISTS = 1000,
  MMC_BEING_WRITTEN = 1001,
  MMC_NO_SPACE = 1002,
  MMC_NO_NODE = 1003,
  MMC_GRANT_LOST = 1004,
  MMC_SIZE_MISMATCH = 1005,
  MMC_LEASE_EXPIRED = 1006,
  MMC_SESSION_LOST = 1007,
  MMC_STALE_NODE = 1008,
  MMC_REPLICAS_LOST = 1009,
  MMC_STALE_REGION = 2000,
  MMC_PEER_UNREACHABLE = 2001,
  MMC_OUT_OF_RANGE = 2002,
  MMC_READ_ONLY = 2003,
  MMC_UNCONFIRMED = 2004,
  MMC_CORRUPT = 3000
};

/* "NO_SPACE", and one line of what it means. Never NULL; static. */
MMC_API const char* mmc_code_name(mmc_code code);
MMC_API const char* mmc_code_meaning(mmc_code code);
/* "0.1.0"; static. */
MMC_API const char* mmc_version(void);
/* Frees what a call handed out; NULL is fine. */
MMC_API void mmc_free(void* memory);

/* ---- client ---- */

typedef struct mmc_client mmc_client;

/* PUT: values are stored with a checksum. VERIFY: and reads of whole values are checked against it;
 * a bad replica is reported and another one read. See client.h. */
enum { MMC_INTEGRITY_OFF = 0, MMC_INTEGRITY_PUT = 1, MMC_INTEGRITY_VERIFY = 2 };

typedef struct mmc_client_options {
  size_t struct_size;
  const char* meta_url; /* "tcp://host:port", several separated by commas, or "local://?dram=1GB" */
  const char* name;     /* shown in logs of the services */
  uint64_t timeout_ms;  /* deadline of calls that give none */
  uint64_t connect_retry_ms; /* keep trying to reach the meta service for so long; 0: one attempt */
  uint64_t lease_ms;         /* asked for by gets; 0: the service's default */
  int location_cache;        /* 1: read without asking while a location's lease lasts */
  uint64_t location_cache_keys;
  int same_host;       /* 1: use shared memory where it reaches */
  int tcp_connections; /* per node */
  int copy_threads;    /* helpers for big same-host copies besides the caller */
  int async_threads;
  uint64_t async_queue; /* waiting asynchronous calls; more answer MMC_QUEUE_FULL */
  int integrity;        /* MMC_INTEGRITY_...; PUT by default */
  /* Files in PEM form. TLS to the meta service is on when tls_ca is not NULL. */
  const char* tls_ca;        /* authorities that the service's certificate may come from */
  const char* tls_crl;       /* their revocation lists; NULL: none */
  const char* tls_cert;      /* own certificate */
  const char* tls_key;       /* its key, that nobody else may read */
  const char* tls_key_pass;  /* file with the key's pass phrase; NULL: it has none */
  const char* tls_decrypter; /* library that turns that file's text into the pass phrase; or NULL */
  const char* tenant;        /* whose keys these are; NULL or "": the default tenant */
  int data_tls;              /* 1: values that travel over TCP are under TLS too, with the same files */
} mmc_client_options;

/* The defaults. `struct_size` is sizeof(mmc_client_options) of the caller. */
MMC_API void mmc_client_options_init(mmc_client_options* options, size_t struct_size);

/* options == NULL: the defaults. *client is NULL unless MMC_OK. */
MMC_API mmc_code mmc_client_create(const mmc_client_options* options, mmc_client** client,
                                   char** error);
/* Ends the session; asynchronous calls complete first. Later calls answer MMC_CLOSED. Idempotent.
 */
MMC_API void mmc_client_close(mmc_client* client);
/* Closes and frees it; NULL is fine. */
MMC_API void mmc_client_destroy(mmc_client* client);

/* ---- one key ---- */

/* MMC_EXISTS: the key was committed before; its value stays, nothing was written. */
MMC_API mmc_code mmc_put(mmc_client* client, const void* key, size_t key_size, const void* value,
                         size_t value_size, char** error);
/* The whole value, in memory of the library (mmc_free). */
MMC_API mmc_code mmc_get(mmc_client* client, const void* key, size_t key_size, void** value,
                         size_t* value_size, char** error);
/* The whole value into `buffer`, whose size must be exactly the value's (MMC_SIZE_MISMATCH
 * otherwise). *value_size, where not NULL, is set whenever the key is known. */
MMC_API mmc_code mmc_get_into(mmc_client* client, const void* key, size_t key_size, void* buffer,
                              size_t buffer_size, size_t* value_size, char** error);
MMC_API mmc_code mmc_exists(mmc_client* client, const void* key, size_t key_size, int* present,
                            char** error);
MMC_API mmc_code mmc_remove(mmc_client* client, const void* key, size_t key_size, char** error);

/* ---- batches, scatter and gather ---- */

typedef struct mmc_key {
  const void* data;
  size_t size; /* 1 .. 2048 */
} mmc_key;

typedef struct mmc_buffer {
  void* data; /* read by puts, written by gets */
  size_t size;
} mmc_buffer;

typedef struct mmc_put_options {
  size_t struct_size;
  uint32_t replicas;                  /* 1 .. 8, on distinct nodes */
  int prefer_local;                   /* 1: nodes of this host before others */
  const char* const* preferred_nodes; /* by name, tried first */
  size_t preferred_node_count;
  uint64_t timeout_ms; /* 0: the client's */
  int retention;       /* 0: normal; 1: soft, evicted after all others; 2: hard, never evicted */
  uint64_t soft_pin_ms; /* of retention 1; 0: the service's default */
} mmc_put_options;
MMC_API void mmc_put_options_init(mmc_put_options* options, size_t struct_size);

/* The value of key i is the next buffer_counts[i] entries of `buffers`. MMC_INVALID_ARGUMENT, and
 * nothing is done, when the counts do not sum up to buffer_count. codes[i] is the outcome of key i;
 * the call answers MMC_OK when each of them is MMC_OK or MMC_EXISTS, else the first one that is
 * not. options may be NULL. */
MMC_API mmc_code mmc_put_batch(mmc_client* client, const mmc_key* keys, size_t key_count,
                               const mmc_buffer* buffers, size_t buffer_count,
                               const size_t* buffer_counts, const mmc_put_options* options,
                               mmc_code* codes, char** error);

typedef struct mmc_get_result {
  mmc_code code;
  uint64_t bytes; /* read */
  uint64_t size;  /* of the whole value, when known */
} mmc_get_result;

/* offsets may be NULL (whole values). A read from offset 0 must hold exactly the value unless
 * allow_short is not 0; see client.h. The call answers MMC_OK when every key did, else the first
 * code that is not. timeout_ms 0: the client's. */
MMC_API mmc_code mmc_get_batch(mmc_client* client, const mmc_key* keys, size_t key_count,
                               const mmc_buffer* buffers, size_t buffer_count,
                               const size_t* buffer_counts, const uint64_t* offsets,
                               int allow_short, uint64_t timeout_ms, mmc_get_result* results,
                               char** error);

/* present[i]: 1 or 0. */
MMC_API mmc_code mmc_exists_batch(mmc_client* client, const mmc_key* keys, size_t key_count,
                                  uint8_t* present, char** error);
/* The same, and what is there counts as used and stays readable for lease_ms (0: the service's
 * default, which also has a limit). */
MMC_API mmc_code mmc_exists_lease_batch(mmc_client* client, const mmc_key* keys, size_t key_count,
                                        uint64_t lease_ms, uint8_t* present, char** error);
/* How many of the keys, from the first on, are there. */
MMC_API mmc_code mmc_prefix(mmc_client* client, const mmc_key* keys, size_t key_count,
                            size_t* present, char** error);

typedef struct mmc_object_info {
  mmc_code code;
  uint64_t size;
  uint64_t generation;
  uint64_t lease_left_ms;
  uint32_t pins;
  uint32_t replicas;
} mmc_object_info;
MMC_API mmc_code mmc_stat(mmc_client* client, const mmc_key* keys, size_t key_count,
                          mmc_object_info* infos, char** error);
/* codes[i]: MMC_OK or MMC_NOT_FOUND; the call answers MMC_OK for both. */
MMC_API mmc_code mmc_remove_batch(mmc_client* client, const mmc_key* keys, size_t key_count,
                                  mmc_code* codes, char** error);
MMC_API mmc_code mmc_remove_by_prefix(mmc_client* client, const void* prefix, size_t prefix_size,
                                      uint64_t* removed, char** error);
MMC_API mmc_code mmc_remove_all(mmc_client* client, uint64_t* removed, char** error);

/* One page of keys, in memory of the library: one mmc_free(*page) frees all of it. page_token NULL:
 * the first page; then the token of the page before, which is NULL in the last one. limit 0: 1000.
 */
typedef struct mmc_list_page {
  const mmc_key* keys;
  const uint64_t* sizes;
  size_t count;
  const void* next_token;
  size_t next_token_size;
} mmc_list_page;
MMC_API mmc_code mmc_list(mmc_client* client, const void* prefix, size_t prefix_size,
                          const void* page_token, size_t page_token_size, uint32_t limit,
                          mmc_list_page** page, char** error);

/* ---- without waiting ---- */

/* Runs exactly once, on a thread of the library, when the call returned MMC_OK; never otherwise.
 * `results` and `codes` are gone when it returns. It must not destroy the client. */
typedef void (*mmc_put_callback)(void* context, const mmc_code* codes, size_t count);
typedef void (*mmc_get_callback)(void* context, const mmc_get_result* results, size_t count);

/* Keys and lists are copied; the memory that the buffers name must live until the callback. */
MMC_API mmc_code mmc_put_batch_async(mmc_client* client, const mmc_key* keys, size_t key_count,
                                     const mmc_buffer* buffers, size_t buffer_count,
                                     const size_t* buffer_counts, const mmc_put_options* options,
                                     mmc_put_callback done, void* context, char** error);
MMC_API mmc_code mmc_get_batch_async(mmc_client* client, const mmc_key* keys, size_t key_count,
                                     const mmc_buffer* buffers, size_t buffer_count,
                                     const size_t* buffer_counts, const uint64_t* offsets,
                                     int allow_short, uint64_t timeout_ms, mmc_get_callback done,
                                     void* context, char** error);

/* ---- views ---- */

/* A value in place: read-only bytes of the pool, pinned until released. MMC_UNSUPPORTED when no
 * replica is on this host. May be released on any thread, also after its client was destroyed. */
typedef struct mmc_view mmc_view;
typedef struct mmc_view_piece {
  const void* data;
  size_t size;
} mmc_view_piece;
MMC_API mmc_code mmc_view_open(mmc_client* client, const void* key, size_t key_size,
                               mmc_view** view, char** error);
MMC_API size_t mmc_view_size(const mmc_view* view);
MMC_API size_t mmc_view_piece_count(const mmc_view* view);
/* {NULL, 0} when there is no such piece. */
MMC_API mmc_view_piece mmc_view_piece_at(const mmc_view* view, size_t index);
MMC_API void mmc_view_release(mmc_view* view);

/* ---- counters ---- */

typedef struct mmc_client_stats {
  size_t struct_size;
  uint64_t put_bytes, get_bytes, shm_bytes, tcp_bytes, failovers, location_cache_hits,
      expired_reads, corrupt_reads;
} mmc_client_stats;
/* struct_size must be set by the caller; fields beyond it are left alone. */
MMC_API mmc_code mmc_client_get_stats(mmc_client* client, mmc_client_stats* stats);

#ifdef __cplusplus
}
#endif
#endif /* MMC_MMC_H */
