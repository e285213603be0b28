// Goal: no reader ever sees a byte that the value's writer did not write, whatever happens around
// it. Method: a meta service and two nodes in this process, reached over sockets and shared memory;
// small pools that evict all the time, leases of a few milliseconds, and writers, readers and
// removers on the same few keys through clients of every kind. A value names its key and version in
// its first bytes, and every byte behind them follows from those.
//
// MMC_STRESS_SECONDS sets how long (default 20).
#include <gtest/gtest.h>
#include <stdlib.h>

#include <atomic>
#include <cstring>
#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "client_sdk/cli/value.h"
#include "client_sdk/include/mmc/client.h"
#include "local_service/local_service.h"
#include "meta_service/meta_service.h"

namespace mmc {
namespace {

using std::chrono::milliseconds;

constexpr uint64_t kKeys = 96;
constexpr size_t kHeadBytes = 24;
constexpr size_t kMaxBytes = 700'000;

struct Head {
  uint64_t key;
  uint64_t version;
  uint64_t bytes;
};
static_assert(sizeof(Head) == kHeadBytes);

std::string KeyOf(uint64_t key) { return "stress/" + std::to_string(key); }

// The size follows from key and version too, so that a wrong length shows.
size_t SizeOf(uint64_t key, uint64_t version) {
  std::mt19937_64 dice(key * 1'000'003 + version);
  const size_t top = dice() % 4 == 0 ? kMaxBytes : 40'000;
  return kHeadBytes + 1 + dice() % (top - kHeadBytes - 1);
}

std::vector<std::byte> MakeValue(uint64_t key, uint64_t version) {
  std::vector<std::byte> value(SizeOf(key, version));
  const Head head{key, version, value.size()};
  std::memcpy(value.data(), &head, kHeadBytes);
  const std::span<std::byte> body = std::span(value).subspan(kHeadBytes);
  cli::FillValue(cli::ValueSeed(KeyOf(key), version), kHeadBytes, body);
  return value;
}

// "" when the bytes are a whole value of that key.
std::string WhatIsWrong(uint64_t key, std::span<const std::byte> value) {
  Head head{};
  if (value.size() < kHeadBytes) return "only " + std::to_string(value.size()) + " bytes";
  std::memcpy(&head, value.data(), kHeadBytes);
  if (head.key != key) return "the value of key " + std::to_string(head.key);
  if (head.bytes != value.size() || SizeOf(key, head.version) != value.size())
    return "a wrong size";
  const uint64_t wrong = cli::CountWrongBytes(cli::ValueSeed(KeyOf(key), head.version), kHeadBytes,
                                              value.subspan(kHeadBytes));
  return wrong == 0
             ? ""
             : std::to_string(wrong) + " wrong bytes of version " + std::to_string(head.version);
}

// Cuts memory into pieces of uneven length, another cut each time.
template <typename BufferT, typename ByteT>
std::vector<BufferT> Scatter(std::span<ByteT> memory, std::mt19937_64& dice) {
  std::vector<BufferT> pieces;
  while (!memory.empty()) {
    const size_t bytes = std::min<size_t>(memory.size(), 1 + dice() % (memory.size() / 3 + 4096));
    pieces.push_back({memory.data(), bytes});
    memory = memory.subspan(bytes);
  }
  return pieces;
}

class StressTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char folder[] = "/tmp/mmc-stress-XXXXXX";
    ASSERT_NE(mkdtemp(folder), nullptr);
    folder_ = folder;
    meta::MetaOptions meta_options;
    meta_options.url = "tcp://127.0.0.1:0";
    meta_options.metrics_url = "";
    meta_options.lease = milliseconds(15);
    // Nobody is given up because the machine is busy.
    meta_options.session_expiry = meta_options.node_suspect = std::chrono::minutes(5);
    meta_options.node_grace = std::chrono::minutes(10);
    auto made = meta::MetaService::Create(meta_options);
    ASSERT_TRUE(made.ok()) << made.status().ToString();
    meta_ = std::move(made).value();
    const Status started = meta_->Start();
    ASSERT_TRUE(started.ok()) << started.ToString();
    url_ = "tcp://127.0.0.1:" + std::to_string(meta_->port());
    for (int i = 0; i < 2; ++i) AddNode("node-" + std::to_string(i));
  }

  void TearDown() override {
    clients_.clear();
    const TimePoint deadline = Clock::Real().Now() + std::chrono::seconds(10);
    for (auto& node : nodes_) node->Stop(deadline);
    nodes_.clear();
    channels_.clear();
    if (meta_) meta_->Stop(deadline);
    meta_.reset();
    std::filesystem::remove_all(folder_);
  }

  void AddNode(const std::string& name) {
    local::LocalOptions options;
    options.meta_url = url_;
    options.name = name;
    options.dram_bytes = 8 << 20;
    options.data_url = "tcp://127.0.0.1:0";
    options.data_url_set = true;
    options.shm_directory = options.catalog_directory = folder_ + "/" + name;
    std::filesystem::create_directory(options.shm_directory);
    rpc::ChannelOptions channel;
    channel.url = url_;
    auto to_meta = rpc::MakeTcpChannel(channel);
    ASSERT_TRUE(to_meta.ok()) << to_meta.status().ToString();
    auto made = local::LocalService::Create(options, *to_meta);
    ASSERT_TRUE(made.ok()) << made.status().ToString();
    const Status started = (*made)->Start();
    ASSERT_TRUE(started.ok()) << started.ToString();
    channels_.push_back(*to_meta);
    nodes_.push_back(std::move(made).value());
  }

  Client& NewClient(bool same_host, bool cache) {
    ClientOptions options;
    options.meta_url = url_;
    options.same_host = same_host;
    options.location_cache = cache;
    options.timeout = std::chrono::seconds(60);
    auto made = Client::Connect(options);
    EXPECT_TRUE(made.ok()) << made.status().ToString();
    clients_.push_back(std::move(made).value());
    return *clients_.back();
  }

  void Fault(uint64_t key, const std::string& how, const std::string& what) {
    faults_.fetch_add(1);
    ADD_FAILURE() << how << " of " << KeyOf(key) << " gave " << what;
  }

  void Write(Client& client, uint64_t seed);
  void ReadWhole(Client& client, uint64_t seed);
  void ReadRange(Client& client, uint64_t seed);
  void ReadViews(Client& client, uint64_t seed);
  void Remove(Client& client, uint64_t seed);

  bool Running() const { return !stop_.load() && faults_.load() == 0; }
  // Every kind of trouble happened, or the run proves nothing: on a slow machine it goes on until then.
  bool SawEverything(Client& client) const;

  std::string folder_, url_;
  std::unique_ptr<meta::MetaService> meta_;
  std::vector<std::shared_ptr<rpc::Channel>> channels_;
  std::vector<std::unique_ptr<local::LocalService>> nodes_;
  std::vector<std::unique_ptr<Client>> clients_;
  std::atomic<bool> stop_{false};
  std::atomic<uint64_t> version_{1}, faults_{0};
  std::atomic<uint64_t> written_{0}, read_{0}, ranges_{0}, views_{0}, removed_{0}, missed_{0};
};

void StressTest::Write(Client& client, uint64_t seed) {
  std::mt19937_64 dice(seed);
  while (Running()) {
    const size_t batch = 1 + dice() % 4;
    std::vector<std::vector<std::byte>> values;
    std::vector<std::vector<ConstBuffer>> pieces;
    std::vector<std::string> keys;
    for (size_t i = 0; i < batch; ++i) {
      const uint64_t key = dice() % kKeys;
      keys.push_back(KeyOf(key));
      values.push_back(MakeValue(key, version_.fetch_add(1)));
      pieces.push_back(Scatter<ConstBuffer>(std::span<const std::byte>(values.back()), dice));
    }
    std::vector<PutItem> items;
    for (size_t i = 0; i < batch; ++i) items.push_back({keys[i], pieces[i]});
    PutOptions options;
    options.replicas = 1 + static_cast<uint32_t>(dice() % 2);
    for (const Status& status : client.Put(items, options)) {
      if (status.ok()) written_.fetch_add(1);
      const bool expected =
          status.ok() || status.code() == Code::kExists || status.code() == Code::kBeingWritten;
      if (!expected) Fault(0, "put", status.ToString());
    }
  }
}

void StressTest::ReadWhole(Client& client, uint64_t seed) {
  std::mt19937_64 dice(seed);
  while (Running()) {
    std::vector<uint64_t> numbers;
    std::vector<std::string> keys;
    for (size_t i = 0; i < 1 + dice() % 4; ++i) numbers.push_back(dice() % kKeys);
    for (const uint64_t number : numbers) keys.push_back(KeyOf(number));
    const std::vector<std::string_view> views(keys.begin(), keys.end());
    const auto values = client.Get(views);
    for (size_t i = 0; i < values.size(); ++i) {
      if (!values[i].ok()) {
        missed_.fetch_add(1);
        if (values[i].code() != Code::kNotFound)
          Fault(numbers[i], "get", values[i].status().ToString());
        continue;
      }
      const std::string wrong = WhatIsWrong(numbers[i], std::as_bytes(std::span(*values[i])));
      if (!wrong.empty()) Fault(numbers[i], "get", wrong);
      read_.fetch_add(1);
    }
  }
}

// The head and a part behind it, in one read of scattered pieces.
void StressTest::ReadRange(Client& client, uint64_t seed) {
  std::mt19937_64 dice(seed);
  std::vector<std::byte> memory(kMaxBytes);
  while (Running()) {
    const uint64_t key = dice() % kKeys;
    const std::string name = KeyOf(key);
    const std::span<std::byte> wanted = std::span(memory).first(kHeadBytes + 1 + dice() % 30'000);
    const std::vector<Buffer> pieces = Scatter<Buffer>(wanted, dice);
    const GetItem item{.key = name, .buffers = pieces, .offset = 0, .allow_short = true};
    const GetResult result = client.GetInto({&item, 1}).at(0);
    if (!result.status.ok()) {
      missed_.fetch_add(1);
      if (result.status.code() != Code::kNotFound)
        Fault(key, "ranged get", result.status.ToString());
      continue;
    }
    Head head{};
    std::memcpy(&head, memory.data(), kHeadBytes);
    if (head.key != key || head.bytes != result.size)
      Fault(key, "ranged get", "a head that is not its own");
    const std::span<const std::byte> body = wanted.first(result.bytes).subspan(kHeadBytes);
    const uint64_t wrong =
        cli::CountWrongBytes(cli::ValueSeed(name, head.version), kHeadBytes, body);
    if (wrong != 0) Fault(key, "ranged get", std::to_string(wrong) + " wrong bytes");
    ranges_.fetch_add(1);
  }
}

void StressTest::ReadViews(Client& client, uint64_t seed) {
  std::mt19937_64 dice(seed);
  while (Running()) {
    const uint64_t key = dice() % kKeys;
    const Result<View> view = client.MakeView(KeyOf(key));
    if (!view.ok()) {
      missed_.fetch_add(1);
      if (view.code() != Code::kNotFound) Fault(key, "view", view.status().ToString());
      continue;
    }
    std::vector<std::byte> copy;
    for (const ConstBuffer& piece : view->pieces()) {
      const auto* bytes = static_cast<const std::byte*>(piece.data);
      copy.insert(copy.end(), bytes, bytes + piece.size);
    }
    const std::string wrong = WhatIsWrong(key, copy);
    if (!wrong.empty()) Fault(key, "view", wrong);
    views_.fetch_add(1);
  }
}

void StressTest::Remove(Client& client, uint64_t seed) {
  std::mt19937_64 dice(seed);
  while (Running()) {
    const std::string keys[] = {KeyOf(dice() % kKeys), KeyOf(dice() % kKeys)};
    const std::string_view views[] = {keys[0], keys[1]};
    const auto statuses = client.Remove(views);
    if (!statuses.ok()) {
      Fault(0, "remove", statuses.status().ToString());
      continue;
    }
    for (const Status& status : *statuses) removed_.fetch_add(status.ok() ? 1 : 0);
    std::this_thread::yield();
  }
}

bool StressTest::SawEverything(Client& client) const {
  const Result<ClusterStatus> status = client.Cluster();
  return status.ok() && status->evicted_objects > 5 && written_.load() > 50 && read_.load() > 50 &&
         ranges_.load() > 20 && views_.load() > 20 && removed_.load() > 5;
}

TEST_F(StressTest, NoReaderSeesAByteThatWasNotWritten) {
  const char* seconds = getenv("MMC_STRESS_SECONDS");
  Client& shm = NewClient(true, false);
  Client& tcp = NewClient(false, false);
  Client& cached = NewClient(true, true);
  const TimePoint end = Clock::Real().Now() + std::chrono::seconds(seconds != nullptr ? atoi(seconds) : 20);
  const TimePoint limit = end + std::chrono::seconds(120);
  std::vector<std::thread> threads;
  uint64_t seed = 1;
  for (Client* client : {&shm, &shm, &tcp})
    threads.emplace_back([=, this, s = seed++] { Write(*client, s); });
  for (Client* client : {&shm, &tcp, &cached})
    threads.emplace_back([=, this, s = seed++] { ReadWhole(*client, s); });
  for (Client* client : {&tcp, &cached})
    threads.emplace_back([=, this, s = seed++] { ReadRange(*client, s); });
  threads.emplace_back([&] { ReadViews(shm, 77); });
  threads.emplace_back([&] { Remove(tcp, 78); });
  while (Running() && Clock::Real().Now() < limit && (Clock::Real().Now() < end || !SawEverything(shm)))
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  stop_ = true;
  for (std::thread& thread : threads) thread.join();

  const Result<ClusterStatus> status = shm.Cluster();
  ASSERT_TRUE(status.ok()) << status.status().ToString();
  std::printf(
      "written %lu, read %lu, ranges %lu, views %lu, absent %lu, removed %lu, evicted %lu\n",
      written_.load(), read_.load(), ranges_.load(), views_.load(), missed_.load(), removed_.load(),
      status->evicted_objects);
  EXPECT_EQ(faults_.load(), 0u);
  EXPECT_TRUE(SawEverything(shm));

  // Nothing leaks: once all is removed and the leases are over, every byte is free again.
  ASSERT_TRUE(shm.RemoveAll().ok());
  uint64_t used = 1;
  for (const TimePoint until = Clock::Real().Now() + std::chrono::seconds(60);
       used != 0 && Clock::Real().Now() < until;) {
    const Result<ClusterStatus> now = shm.Cluster();
    ASSERT_TRUE(now.ok()) << now.status().ToString();
    used = now->used_bytes;
  }
  EXPECT_EQ(used, 0u);
}

}  // namespace
}  // namespace mmc
