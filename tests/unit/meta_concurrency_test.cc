// Many threads on one MetaState: writers that commit, abort and die, readers that pin, removers,
// evictors, nodes that acknowledge and one that dies. In the end every byte is accounted for, and
// no two live replicas ever overlapped.
#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/mutex.h"
#include "meta_service/state/meta_state.h"

namespace mmc::meta {
namespace {

using namespace std::chrono_literals;

constexpr int kKeys = 1000;
constexpr uint64_t kSegment = 16_MiB;

// Who writes where: a granted range must not overlap another one that is granted or committed in the same memory: the
// epoch tells that of a node from what the node had before it was started anew.
class Owners {
 public:
  void Take(const Views& views, const PutRow& row, uint64_t owner) {
    MutexLock lock(mutex_);
    ForUnits(views, row.first_replica, row.replicas, [&](uint64_t unit) MMC_REQUIRES(mutex_) {
      if (!owner_.emplace(unit, owner).second) ++overlaps_;
    });
  }
  void Give(const Views& views, const PutRow& row) {
    MutexLock lock(mutex_);
    ForUnits(views, row.first_replica, row.replicas,
             [&](uint64_t unit) MMC_REQUIRES(mutex_) { owner_.erase(unit); });
  }
  int overlaps() {
    MutexLock lock(mutex_);
    return overlaps_;
  }

 private:
  template <typename F>
  void ForUnits(const Views& views, uint32_t first, uint32_t count, F visit) MMC_REQUIRES(mutex_) {
    for (uint32_t r = first; r < first + count; ++r) {
      const ReplicaView& replica = views.replicas[r];
      for (uint32_t e = replica.first_extent; e < replica.first_extent + replica.extents; ++e) {
        const ExtentView& extent = views.extents[e];
        for (uint64_t at = 0; at < extent.length; at += kUnitBytes) {
          visit((uint64_t{replica.epoch} << 56) | (uint64_t{replica.node} << 48) | ((extent.offset + at) / kUnitBytes));
        }
      }
    }
  }
  Mutex mutex_;
  std::map<uint64_t, uint64_t> owner_ MMC_GUARDED_BY(mutex_);
  int overlaps_ MMC_GUARDED_BY(mutex_) = 0;
};

class MetaConcurrency : public ::testing::Test {
 protected:
  static StateOptions Options() {
    StateOptions options;
    options.session_expiry = 1h;
    options.node_grace = 1h;
    options.node_suspect = 1h;
    options.lease = 1ms;
    return options;
  }
  TimePoint now() const { return Clock::Real().Now(); }
  static std::string Key(uint32_t i) { return "key-" + std::to_string(i % kKeys); }

  uint32_t Join(const std::string& name, uint64_t incarnation) {
    JoinSpec spec{.name = name,
                  .incarnation = incarnation,
                  .segments = {{1, static_cast<uint32_t>(incarnation), Medium::kDram, kSegment, -1}}};
    return state_.Join(spec, now())->node;
  }

  void Writer(uint32_t seed) {
    std::mt19937 random(seed);
    uint64_t session = *state_.OpenSession("w", "h", seed, now());
    Views views;
    for (int i = 0; i < 5000; ++i) {
      const std::string key = Key(random());
      PutRow row{.key = key, .hash = HashKey(key), .size = 1 + random() % 60'000};
      PutSpec spec{.session = session,
                   .call = state_.NextCall(),
                   .replicas = 1 + static_cast<uint32_t>(i % 2)};
      views.Clear();
      if (!state_.PutStart(spec, {&row, 1}, &views, now()).ok() || row.code != Code::kOk) continue;
      owners_.Take(views, row, row.grant);
      const uint32_t fate = random() % 10;
      Code code = Code::kOk;
      // A range may be taken by another as soon as the call below lets it go, so it is given back
      // before.
      owners_.Give(views, row);
      if (fate < 7) {
        ASSERT_TRUE(state_.PutCommit(session, {&row.grant, 1}, {}, {}, {&code, 1}, now()).ok());
      } else if (fate < 9) {
        ASSERT_TRUE(state_.PutAbort(session, {&row.grant, 1}, false, {&code, 1}, now()).ok());
      } else {
        ASSERT_TRUE(state_.CloseSession(session, now()).ok());
        session = *state_.OpenSession("w", "h", seed, now());
      }
    }
    ASSERT_TRUE(state_.CloseSession(session, now()).ok());
  }

  void Reader(uint32_t seed) {
    std::mt19937 random(seed);
    const uint64_t session = *state_.OpenSession("r", "h", seed, now());
    Views views;
    for (int i = 0; i < 2500; ++i) {
      std::vector<std::string> keys;
      for (int k = 0; k < 16; ++k) keys.push_back(Key(random()));
      const std::vector<std::string_view> list(keys.begin(), keys.end());
      std::vector<ReadRow> rows(list.size());
      views.Clear();
      const bool pin = i % 3 == 0;
      ASSERT_TRUE(state_.Lookup(session, list, 1ms, pin, rows, &views, now()).ok());
      std::vector<uint64_t> pinned;
      for (const ReadRow& row : rows) {
        if (row.code == Code::kOk) pinned.push_back(row.generation);
      }
      std::vector<Code> codes(pinned.size());
      if (pin && i % 2 == 0) {
        ASSERT_TRUE(state_.Unpin(session, pinned, codes, now()).ok());
        for (Code code : codes) EXPECT_EQ(code, Code::kOk);
      }
      if (i % 4 == 0) {
        std::vector<Code> removed(4);
        state_.Remove(std::span(list).first(4), removed, now());
      }
      state_.LookupPrefix(list);
    }
    ASSERT_TRUE(state_.CloseSession(session, now()).ok());
  }

  void Node(uint32_t node, uint64_t incarnation) {
    uint64_t acked = 0;
    std::vector<uint64_t> fenced;
    // One more round after the end, so that everything that was queued is acknowledged.
    for (bool last = false; !last;) {
      last = done_.load();
      for (bool more = true; more;) {
        CatalogBatch batch;
        if (!state_.CatalogSync(node, incarnation, acked, fenced, 64, &batch, now()).ok()) return;
        if (!batch.entries.empty()) acked = batch.entries.back().seq;
        fenced = batch.fences;
        more = !batch.entries.empty() || !batch.fences.empty();
      }
      std::this_thread::yield();
    }
  }

  void Background() {
    std::mt19937 random(99);
    uint64_t incarnation = 1;
    for (int i = 0; !done_.load(); ++i) {
      state_.EvictBetweenThresholds(100, now());
      state_.Reap(now());
      state_.ExpireSessions(now());
      state_.CheckNodes(now());
      if (i % 200 == 0 && incarnation < 20) Join("mortal", ++incarnation);
      WalkCursor cursor;
      std::vector<ListedKey> keys;
      while (!cursor.done) state_.ListStep(KeyMatch({}, {}), 10'000, &cursor, &keys);
      state_.figures();
      std::this_thread::yield();
    }
    uint32_t node = Join("mortal", ++incarnation);
    ASSERT_TRUE(state_.NodeLeave(node, incarnation, now()).ok());
  }

  MetaState state_{Options()};
  Owners owners_;
  std::atomic<bool> done_{false};
};

TEST_F(MetaConcurrency, EveryByteIsAccountedForInTheEnd) {
  const uint32_t a = Join("a", 1), b = Join("b", 1);
  Join("mortal", 1);
  std::vector<std::thread> clients, others;
  for (uint32_t i = 0; i < 3; ++i) clients.emplace_back([this, i] { Writer(i + 1); });
  for (uint32_t i = 0; i < 2; ++i) clients.emplace_back([this, i] { Reader(i + 100); });
  others.emplace_back([this, a] { Node(a, 1); });
  others.emplace_back([this, b] { Node(b, 1); });
  others.emplace_back([this] { Background(); });
  for (std::thread& client : clients) client.join();
  WalkCursor cursor;
  while (!cursor.done) state_.RemoveStep(KeyMatch({}, {}), &cursor, now());
  done_.store(true);
  for (std::thread& other : others) other.join();
  // Leases are of the real clock: look from far ahead.
  state_.Reap(now() + 1h);
  const Figures figures = state_.figures();
  EXPECT_EQ(owners_.overlaps(), 0);
  EXPECT_EQ(figures.objects, 0u);
  EXPECT_EQ(figures.value_bytes, 0u);
  EXPECT_EQ(figures.grants, 0u);
  EXPECT_EQ(figures.pins, 0u);
  EXPECT_EQ(figures.sessions, 0u);
  EXPECT_EQ(figures.used_bytes, 0u);
  EXPECT_EQ(figures.waiting_bytes, 0u);
  EXPECT_EQ(figures.fences_waiting, 0u);
  EXPECT_GT(figures.puts, 500u);
}

}  // namespace
}  // namespace mmc::meta
