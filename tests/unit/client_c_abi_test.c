/* The C interface, as a C program uses it: compiled as C11, linked with libmmc_client.so alone, on
 * a pool inside the process. Prints what fails and exits 1. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mmc/mmc.h"

static int failures = 0;

#define CHECK(condition)                                                      \
  do {                                                                        \
    if (!(condition)) {                                                       \
      fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
      ++failures;                                                             \
    }                                                                         \
  } while (0)

static void check_code(mmc_code got, mmc_code expected, char* error, int line) {
  if (got != expected) {
    fprintf(stderr, "%s:%d: %s instead of %s: %s\n", __FILE__, line, mmc_code_name(got),
            mmc_code_name(expected), error == NULL ? "" : error);
    ++failures;
  }
  if ((got == MMC_OK) != (error == NULL)) {
    fprintf(stderr, "%s:%d: a text comes with a failure, and only then\n", __FILE__, line);
    ++failures;
  }
  mmc_free(error);
}
#define CHECK_CODE(expected, ...)                \
  do {                                           \
    char* error = NULL;                          \
    mmc_code code = __VA_ARGS__;                 \
    check_code(code, expected, error, __LINE__); \
  } while (0)

static mmc_client* connect_pool(const char* url) {
  mmc_client_options options;
  mmc_client* client = NULL;
  mmc_client_options_init(&options, sizeof options);
  options.meta_url = url;
  CHECK(options.integrity == MMC_INTEGRITY_PUT);
  options.integrity = MMC_INTEGRITY_VERIFY;
  CHECK_CODE(MMC_OK, mmc_client_create(&options, &client, &error));
  return client;
}

static void test_names(void) {
  CHECK(strcmp(mmc_code_name(MMC_OK), "OK") == 0);
  CHECK(strcmp(mmc_code_name(MMC_NO_SPACE), "NO_SPACE") == 0);
  CHECK(strcmp(mmc_code_name(MMC_CORRUPT), "CORRUPT") == 0);
  CHECK(strcmp(mmc_code_name(4711), "UNKNOWN") == 0);
  CHECK(strlen(mmc_code_meaning(MMC_EXISTS)) > 10);
  CHECK(strlen(mmc_version()) >= 5);
  mmc_free(NULL);
}

static void test_connect_failures(void) {
  mmc_client_options options;
  mmc_client* client = NULL;
  mmc_client_options_init(&options, sizeof options);
  options.meta_url = "tcp://127.0.0.1:1";
  CHECK_CODE(MMC_UNAVAILABLE, mmc_client_create(&options, &client, &error));
  CHECK(client == NULL);
  for (options.integrity = -1; options.integrity <= 300; options.integrity += 301) {
    CHECK_CODE(MMC_INVALID_ARGUMENT, mmc_client_create(&options, &client, &error));
  }
  options.integrity = MMC_INTEGRITY_OFF;
  options.meta_url = "local://?colour=red";
  CHECK_CODE(MMC_INVALID_ARGUMENT, mmc_client_create(&options, &client, &error));
  CHECK_CODE(MMC_INVALID_ARGUMENT, mmc_client_create(&options, NULL, &error));
  CHECK(mmc_client_create(&options, &client, NULL) ==
        MMC_INVALID_ARGUMENT); /* nobody wants the text */
  mmc_client_close(NULL);
  mmc_client_destroy(NULL);
}

static void test_one_key(mmc_client* client) {
  void* value = NULL;
  size_t size = 0;
  int present = 7;
  char buffer[8];
  CHECK_CODE(MMC_OK, mmc_put(client, "key", 3, "value", 5, &error));
  CHECK_CODE(MMC_EXISTS, mmc_put(client, "key", 3, "other", 5, &error));
  CHECK_CODE(MMC_OK, mmc_get(client, "key", 3, &value, &size, &error));
  CHECK(size == 5 && memcmp(value, "value", 5) == 0);
  mmc_free(value);
  CHECK_CODE(MMC_OK, mmc_get_into(client, "key", 3, buffer, 5, &size, &error));
  CHECK(size == 5 && memcmp(buffer, "value", 5) == 0);
  size = 0;
  CHECK_CODE(MMC_SIZE_MISMATCH, mmc_get_into(client, "key", 3, buffer, 8, &size, &error));
  CHECK(size == 5);
  CHECK_CODE(MMC_OK, mmc_exists(client, "key", 3, &present, &error));
  CHECK(present == 1);
  CHECK_CODE(MMC_OK, mmc_remove(client, "key", 3, &error));
  CHECK_CODE(MMC_NOT_FOUND, mmc_remove(client, "key", 3, &error));
  CHECK_CODE(MMC_OK, mmc_exists(client, "key", 3, &present, &error));
  CHECK(present == 0);
  CHECK_CODE(MMC_NOT_FOUND, mmc_get(client, "key", 3, &value, &size, &error));
  CHECK(value == NULL && size == 0);
}

static void test_bad_arguments(mmc_client* client) {
  int present = 0;
  CHECK_CODE(MMC_INVALID_ARGUMENT, mmc_put(NULL, "k", 1, "v", 1, &error));
  CHECK_CODE(MMC_INVALID_ARGUMENT, mmc_put(client, NULL, 1, "v", 1, &error));
  CHECK_CODE(MMC_INVALID_ARGUMENT, mmc_put(client, "", 0, "v", 1, &error));
  CHECK_CODE(MMC_INVALID_ARGUMENT, mmc_put(client, "k", 1, NULL, 1, &error));
  CHECK_CODE(MMC_INVALID_ARGUMENT, mmc_put(client, "k", 1, "v", 0, &error));
  CHECK_CODE(MMC_TOO_LARGE, mmc_put(client, "k", 1, "v", ((size_t)1 << 30) + 1, &error));
  CHECK_CODE(MMC_INVALID_ARGUMENT, mmc_get(client, "k", 1, NULL, NULL, &error));
  CHECK_CODE(MMC_INVALID_ARGUMENT, mmc_exists(NULL, "k", 1, &present, &error));
  CHECK_CODE(MMC_INVALID_ARGUMENT, mmc_exists(client, "k", 1, NULL, &error));
}

static void all_three_exist(mmc_client* client, const mmc_key* keys) {
  uint8_t present[3] = {7, 7, 7};
  mmc_object_info info;
  CHECK_CODE(MMC_OK, mmc_exists_batch(client, keys, 3, present, &error));
  CHECK(present[0] == 1 && present[1] == 1 && present[2] == 1);
  CHECK_CODE(MMC_OK, mmc_exists_lease_batch(client, keys, 3, 60000, present, &error));
  CHECK(present[0] == 1 && present[1] == 1 && present[2] == 1);
  CHECK_CODE(MMC_OK, mmc_stat(client, keys, 1, &info, &error));
  CHECK(info.lease_left_ms > 30000);
}

static void test_batches(mmc_client* client) {
  mmc_key keys[3] = {{"b/1", 3}, {"", 0}, {"b/3", 3}};
  char a[] = "aa", b[] = "bbbb", c[] = "c", d[] = "dd";
  mmc_buffer buffers[4] = {{a, 2}, {b, 4}, {c, 1}, {d, 2}};
  size_t counts[3] = {2, 1, 1};
  size_t too_many[3] = {2, 1, 2}, too_few[3] = {2, 1, 0}, wraps[3] = {(size_t)-1, 2, 3};
  mmc_code codes[3] = {-1, -1, -1};
  mmc_get_result results[3];
  mmc_object_info infos[3];
  size_t prefix = 9;
  char room[6];
  mmc_put_options options;
  mmc_put_options_init(&options, sizeof options);

  /* lists that do not match: nothing is done */
  CHECK_CODE(MMC_INVALID_ARGUMENT,
             mmc_put_batch(client, keys, 3, buffers, 4, too_many, NULL, codes, &error));
  CHECK_CODE(MMC_INVALID_ARGUMENT,
             mmc_put_batch(client, keys, 3, buffers, 4, too_few, NULL, codes, &error));
  CHECK_CODE(MMC_INVALID_ARGUMENT,
             mmc_put_batch(client, keys, 3, buffers, 4, wraps, NULL, codes, &error));
  CHECK_CODE(MMC_INVALID_ARGUMENT,
             mmc_put_batch(client, keys, 3, buffers, 4, NULL, NULL, codes, &error));
  CHECK_CODE(MMC_INVALID_ARGUMENT,
             mmc_put_batch(client, keys, 3, NULL, 4, counts, NULL, codes, &error));
  CHECK_CODE(MMC_INVALID_ARGUMENT,
             mmc_put_batch(client, NULL, 3, buffers, 4, counts, NULL, codes, &error));
  CHECK_CODE(MMC_INVALID_ARGUMENT,
             mmc_put_batch(client, keys, 3, buffers, 4, counts, NULL, NULL, &error));
  CHECK_CODE(MMC_TOO_LARGE,
             mmc_put_batch(client, keys, 16385, buffers, 4, counts, NULL, codes, &error));
  CHECK(codes[0] == -1);

  /* one bad key fails alone, and the call tells of it */
  CHECK_CODE(MMC_INVALID_ARGUMENT,
             mmc_put_batch(client, keys, 3, buffers, 4, counts, &options, codes, &error));
  CHECK(codes[0] == MMC_OK && codes[1] == MMC_INVALID_ARGUMENT && codes[2] == MMC_OK);
  keys[1] = (mmc_key){"b/2", 3};
  CHECK_CODE(MMC_OK, mmc_put_batch(client, keys, 3, buffers, 4, counts, &options, codes, &error));
  CHECK(codes[0] == MMC_EXISTS && codes[1] == MMC_OK && codes[2] == MMC_EXISTS);

  all_three_exist(client, keys);
  CHECK_CODE(MMC_OK, mmc_prefix(client, keys, 3, &prefix, &error));
  CHECK(prefix == 3);
  CHECK_CODE(MMC_OK, mmc_stat(client, keys, 3, infos, &error));
  CHECK(infos[0].size == 6 && infos[1].size == 1 && infos[2].size == 2 && infos[0].replicas == 1);

  /* gathered from two buffers, scattered over three others */
  {
    mmc_buffer into[3] = {{room, 1}, {room + 1, 4}, {room + 5, 1}};
    size_t one = 3;
    CHECK_CODE(MMC_OK, mmc_get_batch(client, keys, 1, into, 3, &one, NULL, 0, 0, results, &error));
    CHECK(results[0].bytes == 6 && memcmp(room, "aabbbb", 6) == 0);
  }
  {
    mmc_buffer into = {room, 6};
    size_t one = 1;
    uint64_t offset = 4;
    CHECK_CODE(MMC_OK,
               mmc_get_batch(client, keys, 1, &into, 1, &one, &offset, 1, 0, results, &error));
    CHECK(results[0].bytes == 2 && results[0].size == 6 && memcmp(room, "bb", 2) == 0);
    offset = 6;
    CHECK_CODE(MMC_OUT_OF_RANGE,
               mmc_get_batch(client, keys, 1, &into, 1, &one, &offset, 1, 0, results, &error));
    CHECK_CODE(MMC_INVALID_ARGUMENT,
               mmc_get_batch(client, keys, 3, &into, 1, &one, NULL, 0, 0, NULL, &error));
  }
}

static void test_list_and_remove(mmc_client* client) {
  mmc_list_page* page = NULL;
  mmc_key keys[2] = {{"b/1", 3}, {"none", 4}};
  mmc_code codes[2] = {-1, -1};
  uint64_t removed = 0;
  size_t listed = 0;
  char token[4096];
  size_t token_size = 0;
  do {
    CHECK_CODE(MMC_OK, mmc_list(client, "b/", 2, token, token_size, 2, &page, &error));
    if (page == NULL) return;
    for (size_t i = 0; i < page->count; ++i) {
      CHECK(page->keys[i].size == 3 && memcmp(page->keys[i].data, "b/", 2) == 0);
      CHECK(page->sizes[i] > 0);
    }
    listed += page->count;
    token_size = page->next_token_size;
    if (token_size > 0) memcpy(token, page->next_token, token_size);
    mmc_free(page);
  } while (token_size > 0);
  CHECK(listed == 3);
  CHECK_CODE(MMC_OK, mmc_remove_batch(client, keys, 2, codes, &error));
  CHECK(codes[0] == MMC_OK && codes[1] == MMC_NOT_FOUND);
  CHECK_CODE(MMC_OK, mmc_remove_by_prefix(client, "b/", 2, &removed, &error));
  CHECK(removed == 2);
  CHECK_CODE(MMC_INVALID_ARGUMENT, mmc_remove_by_prefix(client, "", 0, &removed, &error));
}

struct answer {
  pthread_mutex_t mutex;
  pthread_cond_t changed;
  int calls;
  mmc_code code;
  uint64_t bytes;
};

static void answered(struct answer* answer, mmc_code code, uint64_t bytes) {
  pthread_mutex_lock(&answer->mutex);
  ++answer->calls;
  answer->code = code;
  answer->bytes = bytes;
  pthread_cond_signal(&answer->changed);
  pthread_mutex_unlock(&answer->mutex);
}
static void on_put(void* context, const mmc_code* codes, size_t count) {
  answered(context, count == 1 ? codes[0] : -1, 0);
}
static void on_get(void* context, const mmc_get_result* results, size_t count) {
  answered(context, count == 1 ? results[0].code : -1, count == 1 ? results[0].bytes : 0);
}
static void wait_for(struct answer* answer, int calls) {
  pthread_mutex_lock(&answer->mutex);
  while (answer->calls < calls) pthread_cond_wait(&answer->changed, &answer->mutex);
  pthread_mutex_unlock(&answer->mutex);
}

static void test_async(mmc_client* client) {
  struct answer answer = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, -1, 0};
  char name[] = "async";
  mmc_key key = {name, 5};
  char value[] = "value";
  char room[5];
  mmc_buffer from = {value, 5}, into = {room, 5};
  size_t one = 1;
  CHECK_CODE(MMC_OK,
             mmc_put_batch_async(client, &key, 1, &from, 1, &one, NULL, on_put, &answer, &error));
  memset(name, '#', 5); /* keys are copied */
  wait_for(&answer, 1);
  CHECK(answer.code == MMC_OK);
  memcpy(name, "async", 5);
  CHECK_CODE(MMC_OK, mmc_get_batch_async(client, &key, 1, &into, 1, &one, NULL, 0, 0, on_get,
                                         &answer, &error));
  wait_for(&answer, 2);
  CHECK(answer.code == MMC_OK && answer.bytes == 5 && memcmp(room, "value", 5) == 0);
  CHECK_CODE(MMC_INVALID_ARGUMENT, mmc_get_batch_async(client, &key, 1, &into, 1, &one, NULL, 0, 0,
                                                       NULL, &answer, &error));
  one = 2;
  CHECK_CODE(MMC_INVALID_ARGUMENT, mmc_get_batch_async(client, &key, 1, &into, 1, &one, NULL, 0, 0,
                                                       on_get, &answer, &error));
  CHECK(answer.calls == 2);
}

static void test_view_and_close(mmc_client* client) {
  mmc_view* view = NULL;
  mmc_client_stats stats;
  CHECK_CODE(MMC_OK, mmc_put(client, "view", 4, "in place", 8, &error));
  CHECK_CODE(MMC_OK, mmc_view_open(client, "view", 4, &view, &error));
  CHECK(mmc_view_size(view) == 8);
  CHECK(mmc_view_piece_count(view) == 1);
  CHECK(mmc_view_piece_at(view, 0).size == 8 &&
        memcmp(mmc_view_piece_at(view, 0).data, "in place", 8) == 0);
  CHECK(mmc_view_piece_at(view, 1).data == NULL);
  mmc_view_release(view);
  CHECK_CODE(MMC_NOT_FOUND, mmc_view_open(client, "no", 2, &view, &error));
  CHECK(view == NULL);
  CHECK_CODE(MMC_OK, mmc_view_open(client, "view", 4, &view, &error));

  memset(&stats, 0xFF, sizeof stats);
  stats.struct_size = offsetof(mmc_client_stats, shm_bytes); /* a caller of an older version */
  CHECK(mmc_client_get_stats(client, &stats) == MMC_OK);
  CHECK(stats.put_bytes > 0 && stats.get_bytes > 0 && stats.shm_bytes == UINT64_MAX);
  stats.struct_size = sizeof stats;
  CHECK(mmc_client_get_stats(client, &stats) == MMC_OK);
  CHECK(stats.shm_bytes > 0 && stats.corrupt_reads == 0);

  mmc_client_close(client);
  mmc_client_close(client);
  CHECK_CODE(MMC_CLOSED, mmc_put(client, "k", 1, "v", 1, &error));
  mmc_client_destroy(client);
  mmc_view_release(view);
  mmc_view_release(NULL);
}

int main(void) {
  mmc_client* client;
  test_names();
  test_connect_failures();
  client = connect_pool("local://?dram=16MB");
  if (client != NULL) {
    test_one_key(client);
    test_bad_arguments(client);
    test_batches(client);
    test_list_and_remove(client);
    test_async(client);
    test_view_and_close(client);
  }
  if (failures == 0) printf("C interface: all checks hold\n");
  return failures == 0 ? 0 : 1;
}
