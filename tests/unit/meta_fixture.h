// A MetaState with a clock turned by hand, nodes that acknowledge when told to, and short forms of
// its calls.
//
// Thread safety: none. Ownership: the fixture owns all.
#pragma once

#include <gtest/gtest.h>

#include <deque>
#include <map>
#include <string>
#include <vector>

#include "common/base/bytes.h"
#include "meta_service/state/meta_state.h"

namespace mmc::meta {

using namespace std::chrono_literals;

class MetaFixture : public ::testing::Test {
 protected:
  explicit MetaFixture(StateOptions options = {}) : state_(std::move(options)) {}

  TimePoint now() const { return clock_.Now(); }

  struct FakeNode {
    uint32_t id = 0;
    uint64_t incarnation = 0;
    uint64_t acked = 0;
    std::map<std::string, uint64_t> catalog;  // key -> generation
    std::vector<uint64_t> fences;             // told, not yet acknowledged
  };

  FakeNode Join(const std::string& name, uint64_t bytes, uint64_t incarnation = 1,
                const std::string& host = "h", Medium medium = Medium::kDram) {
    JoinSpec spec{.name = name,
                  .incarnation = incarnation,
                  .host_id = host,
                  .endpoints = {{"tcp", "127.0.0.1:1"}},
                  .segments = {{1, 1, medium, bytes, -1}}};
    const auto joined = state_.Join(spec, now());
    EXPECT_TRUE(joined.ok()) << joined.status().ToString();
    return {joined->node, incarnation};
  }

  // One poll: applies what comes. Fences are acknowledged in the next poll unless `hold_fences`.
  size_t Sync(FakeNode& node, bool hold_fences = false) {
    CatalogBatch batch;
    const std::vector<uint64_t> fenced = hold_fences ? std::vector<uint64_t>{} : node.fences;
    const Status status =
        state_.CatalogSync(node.id, node.incarnation, node.acked, fenced, 100'000, &batch, now());
    EXPECT_TRUE(status.ok()) << status.ToString();
    for (const CatalogEntry& entry : batch.entries) {
      EXPECT_EQ(entry.seq, node.acked + 1);
      node.acked = entry.seq;
      if (!entry.forget) {
        EXPECT_TRUE(node.catalog.emplace(entry.key, entry.generation).second) << entry.key;
      } else {
        EXPECT_EQ(node.catalog[entry.key], entry.generation);
        node.catalog.erase(entry.key);
      }
    }
    node.fences = batch.fences;
    return batch.entries.size() + batch.fences.size();
  }
  // Until there is nothing new, and all is acknowledged.
  void SyncAll(FakeNode& node) {
    while (Sync(node) > 0) {
    }
  }

  uint64_t OpenSession(const std::string& host = "h") {
    return state_.OpenSession("test", host, 1, now()).value_or(0);
  }

  // One attempt for all keys, of one size.
  std::vector<PutRow> PutStart(uint64_t session, const std::vector<std::string>& keys,
                               uint64_t size, PutSpec spec = {}) {
    keys_.push_back(keys);
    std::vector<PutRow> rows(keys.size());
    for (size_t i = 0; i < keys.size(); ++i) {
      rows[i].key = keys_.back()[i];
      rows[i].hash = HashKey(rows[i].key);
      rows[i].size = size;
    }
    spec.session = session;
    spec.call = state_.NextCall();
    views_.Clear();
    const Status status = state_.PutStart(spec, rows, &views_, now());
    EXPECT_TRUE(status.ok()) << status.ToString();
    return rows;
  }
  static std::vector<uint64_t> Grants(const std::vector<PutRow>& rows) {
    std::vector<uint64_t> grants;
    for (const PutRow& row : rows) grants.push_back(row.grant);
    return grants;
  }
  std::vector<Code> Commit(uint64_t session, const std::vector<uint64_t>& grants,
                           const std::vector<uint32_t>& failed = {}) {
    std::vector<Code> codes(grants.size());
    const Status status = state_.PutCommit(session, grants, {}, failed, codes, now());
    EXPECT_TRUE(status.ok()) << status.ToString();
    return codes;
  }
  Code Put(uint64_t session, const std::string& key, uint64_t size, PutSpec spec = {}) {
    const auto rows = PutStart(session, {key}, size, std::move(spec));
    if (rows[0].code != Code::kOk) return rows[0].code;
    return Commit(session, Grants(rows))[0];
  }
  bool Exists(const std::string& key) {
    const std::string_view view = key;
    uint8_t present = 0;
    state_.Exists({&view, 1}, &present);
    return present == 1;
  }
  ReadRow Lookup(const std::string& key, Duration lease = 1s, uint64_t session = 0,
                 bool pin = false) {
    const std::string_view view = key;
    ReadRow row;
    views_.Clear();
    const Status status = state_.Lookup(session, {&view, 1}, lease, pin, {&row, 1}, &views_, now());
    EXPECT_TRUE(status.ok()) << status.ToString();
    return row;
  }
  Code Remove(const std::string& key) {
    const std::string_view view = key;
    Code code = Code::kOk;
    state_.Remove({&view, 1}, {&code, 1}, now());
    return code;
  }
  uint64_t Used() const { return state_.figures().used_bytes; }
  uint64_t Waiting() const { return state_.figures().waiting_bytes; }

  ManualClock clock_;
  MetaState state_;
  Views views_;
  std::deque<std::vector<std::string>> keys_;  // rows point into it
};

}  // namespace mmc::meta
