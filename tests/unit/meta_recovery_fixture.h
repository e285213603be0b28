// Nodes that outlive their meta service: catalogs as local services keep them, reported to a state that knows nothing.
//
// Thread safety: none. Ownership: the fixture owns all.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "common/base/bytes.h"
#include "meta_service/state/meta_state.h"

namespace mmc::meta {

using namespace std::chrono_literals;

// One record of a catalog.
struct Held {
  std::string key;
  uint32_t segment = 1;
  uint64_t generation = 0;
  uint64_t size = 0;
  uint64_t checksum = 0;
  std::vector<uint64_t> offsets, lengths;
  uint32_t replicas = 0;

  friend bool operator==(const Held&, const Held&) = default;
  bool hard_pinned = false;
};

inline Held One(const std::string& key, uint64_t generation, uint64_t unit, uint64_t size, uint32_t segment = 1) {
  return {key, segment, generation, size, generation * 7, {unit * kUnitBytes}, {size}};
}

// A node with its catalog, which takes records and fences as a local service does.
struct Owner {
  std::string name;
  std::vector<SegmentInfo> segments;
  uint64_t incarnation = 1;
  uint32_t id = 0;
  uint64_t acked = 0;
  std::map<std::pair<uint32_t, uint64_t>, Held> catalog;  // by segment and generation
  size_t forgotten = 0;                                   // FORGET records applied, known or not

  void Hold(Held held) { catalog[{held.segment, held.generation}] = std::move(held); }
  bool Holds(uint32_t segment, uint64_t generation) const { return catalog.contains({segment, generation}); }
  bool Holds(uint64_t generation) const { return Holds(1, generation); }
  uint64_t UnitsHeld() const {
    uint64_t units = 0;
    for (const auto& [id_of, held] : catalog) {
      for (uint64_t length : held.lengths) units += UnitsOf(length);
    }
    return units;
  }
  std::vector<Held> All() const {
    std::vector<Held> all;
    for (const auto& [id_of, held] : catalog) all.push_back(held);
    return all;
  }

  Joined Join(MetaState& state, TimePoint now, bool keeps_memory) {
    const JoinSpec spec{.name = name,
                        .incarnation = incarnation,
                        .host_id = "h",
                        .endpoints = {{"tcp", "127.0.0.1:1"}},
                        .segments = segments,
                        .acked_seq = acked,
                        .keeps_memory = keeps_memory};
    const auto joined = state.Join(spec, now);
    EXPECT_TRUE(joined.ok()) << joined.status().ToString();
    id = joined->node;
    return *joined;
  }

  Result<ReportProgress> Report(MetaState& state, TimePoint now, const std::vector<Held>& records, bool last) {
    std::vector<ReportedRecord> views;
    for (const Held& held : records) {
      views.push_back({held.key, held.segment, held.generation, held.size, held.checksum, held.replicas, held.offsets,
                       held.lengths, held.hard_pinned});
    }
    return state.TakeReport(id, incarnation, views, last, now);
  }
  ReportProgress Finish(MetaState& state, TimePoint now) {
    for (;;) {
      auto progress = state.AdoptStep(id, incarnation, now);
      EXPECT_TRUE(progress.ok()) << progress.status().ToString();
      if (!progress.ok() || progress->done) return progress.value_or(ReportProgress());
    }
  }
  // Everything it holds, in one batch.
  ReportProgress ReportAll(MetaState& state, TimePoint now) {
    const auto taken = Report(state, now, All(), true);
    EXPECT_TRUE(taken.ok()) << taken.status().ToString();
    return Finish(state, now);
  }

  // Polls until there is nothing new and everything is acknowledged.
  void Sync(MetaState& state, TimePoint now, bool fenced_all = false) {
    std::vector<uint64_t> fences;
    for (bool more = true; more;) {
      CatalogBatch batch;
      const Status polled = state.CatalogSync(id, incarnation, acked, fences, 4096, &batch, now, fenced_all);
      ASSERT_TRUE(polled.ok()) << polled.ToString();
      for (const CatalogEntry& entry : batch.entries) Apply(entry);
      fences = batch.fences;
      more = !batch.entries.empty() || !batch.fences.empty();
    }
  }

 private:
  void Apply(const CatalogEntry& entry) {
    ASSERT_EQ(entry.seq, acked + 1);
    acked = entry.seq;
    if (entry.forget) {
      catalog.erase({entry.segment, entry.generation});
      ++forgotten;
      return;
    }
    Held held{entry.key, entry.segment,  entry.generation, entry.size, entry.checksum, {}, {},
              entry.asked, entry.hard_pinned};
    held.offsets.push_back(entry.first.offset);
    held.lengths.push_back(entry.first.length);
    for (const ExtentView& extent : entry.others) {
      held.offsets.push_back(extent.offset);
      held.lengths.push_back(extent.length);
    }
    Hold(std::move(held));
  }
};

class RecoveryFixture : public ::testing::Test {
 protected:
  static StateOptions Options(Duration recovery = 3s) {
    StateOptions options;
    options.recovery = recovery;
    options.lease = 1s;
    return options;
  }
  explicit RecoveryFixture(StateOptions options = Options()) : state_(std::move(options)) {
    state_.BeginRecovery(clock_.Now());
    session_ = state_.OpenSession("test", "h", 1, now()).value_or(0);
  }

  TimePoint now() const { return clock_.Now(); }
  static Owner Node(const std::string& name, uint64_t bytes = 2_MiB) {
    return {.name = name, .segments = {{1, 1, Medium::kDram, bytes, -1}}};
  }
  // It joins, reports everything, fences everybody and applies what it is told.
  ReportProgress Return(Owner& owner) {
    EXPECT_TRUE(owner.Join(state_, now(), true).want_catalog);
    const ReportProgress progress = owner.ReportAll(state_, now());
    owner.Sync(state_, now(), true);
    return progress;
  }
  ReadRow Lookup(const std::string& key, bool pin = false) {
    const std::string_view view = key;
    ReadRow row;
    views_.Clear();
    const Status status = state_.Lookup(pin ? session_ : 0, {&view, 1}, 1s, pin, {&row, 1}, &views_, now());
    EXPECT_TRUE(status.ok()) << status.ToString();
    return row;
  }
  Code Remove(const std::string& key) {
    const std::string_view view = key;
    Code code = Code::kOk;
    state_.Remove({&view, 1}, {&code, 1}, now());
    return code;
  }
  PutRow PutStart(const std::string& key, uint64_t size) {
    PutRow row{.key = key, .hash = HashKey(key), .size = size};
    views_.Clear();
    const PutSpec spec{.session = session_, .call = state_.NextCall()};
    const Status status = state_.PutStart(spec, {&row, 1}, &views_, now());
    EXPECT_TRUE(status.ok()) << status.ToString();
    return row;
  }
  Code Put(const std::string& key, uint64_t size) {
    const PutRow row = PutStart(key, size);
    if (row.code != Code::kOk) return row.code;
    Code code = Code::kOk;
    const Status status = state_.PutCommit(session_, {&row.grant, 1}, {}, {}, {&code, 1}, now());
    EXPECT_TRUE(status.ok()) << status.ToString();
    return code;
  }
  uint64_t UsedUnits() const { return state_.figures().used_bytes / kUnitBytes; }
  uint64_t Conflicts(ConflictKind kind) const { return state_.figures().conflicts[static_cast<int>(kind)]; }
  void EndRecovery() {
    clock_.Advance(3s);
    state_.Recover(now());
    EXPECT_FALSE(state_.recovering());
  }

  ManualClock clock_;
  MetaState state_;
  uint64_t session_ = 0;
  Views views_;
};

}  // namespace mmc::meta
