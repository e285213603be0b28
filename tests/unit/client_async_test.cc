// Calls without waiting: callbacks, futures, the bound of the queue, and what Close does with what
// waits.
#include <gmock/gmock.h>
#include <signal.h>
#include <unistd.h>

#include "tests/unit/client_cluster.h"

namespace mmc::test {
namespace {

// Set once, waited for with a generous deadline.
class Event {
 public:
  void Set() {
    MutexLock lock(mutex_);
    set_ = true;
    changed_.NotifyAll();
  }
  bool Wait() {
    MutexLock lock(mutex_);
    const TimePoint deadline = In(std::chrono::seconds(60));
    while (!set_) {
      if (!changed_.WaitUntil(mutex_, deadline) && !set_) return false;
    }
    return true;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  bool set_ MMC_GUARDED_BY(mutex_) = false;
};

TEST(Async, PutThenGetByCallbackAndByFuture) {
  Cluster cluster;
  auto client = cluster.Connect();
  const std::string value = Pattern(100'000, 1);
  const ConstBuffer buffer{value.data(), value.size()};
  Event put_done;
  std::vector<Status> put_statuses;
  const std::thread::id here = std::this_thread::get_id();
  std::thread::id there;
  ASSERT_EQ(client->PutAsync({{"a", std::span(&buffer, 1)}}, {},
                             [&](std::vector<Status> statuses) {
                               put_statuses = std::move(statuses);
                               there = std::this_thread::get_id();
                               put_done.Set();
                             }),
            Status::Ok());
  ASSERT_TRUE(put_done.Wait());
  EXPECT_THAT(put_statuses, testing::ElementsAre(Status::Ok()));
  EXPECT_NE(here, there);

  std::string memory(value.size(), '\0');
  const Buffer into{memory.data(), memory.size()};
  auto future = client->GetIntoFuture({{"a", std::span(&into, 1)}, {"b", std::span(&into, 1)}});
  const auto results = future.get();
  ASSERT_EQ(results.size(), 2U);
  EXPECT_EQ(results[0].status.code(), Code::kOk);
  EXPECT_EQ(results[1].status.code(), Code::kNotFound);
  EXPECT_TRUE(memory == value);
  EXPECT_EQ(client->PutFuture({{"a", std::span(&buffer, 1)}}).get()[0].code(), Code::kExists);
}

TEST(Async, AFullQueueIsSaidAtOnce) {
  Cluster cluster;
  ClientOptions options = cluster.Options();
  options.async_threads = 1;
  options.async_queue = 2;
  auto client = cluster.Connect(options);
  const ConstBuffer buffer{"v", 1};
  const std::vector<PutItem> items = {{"k", std::span(&buffer, 1)}};
  Event running, go;
  std::atomic<int> done{0};
  // The only thread is held inside a callback.
  ASSERT_EQ(client->PutAsync(items, {},
                             [&](std::vector<Status>) {
                               running.Set();
                               EXPECT_TRUE(go.Wait());
                               ++done;
                             }),
            Status::Ok());
  ASSERT_TRUE(running.Wait());
  const auto count = [&](std::vector<Status>) { ++done; };
  EXPECT_EQ(client->PutAsync(items, {}, count), Status::Ok());
  EXPECT_EQ(client->PutAsync(items, {}, count), Status::Ok());
  EXPECT_EQ(client->PutAsync(items, {}, count).code(), Code::kQueueFull);
  EXPECT_EQ(client->PutFuture(items).get()[0].code(), Code::kQueueFull);
  go.Set();
  client->Close();  // what waited has run when this returns
  EXPECT_EQ(done.load(), 3);
}

TEST(Async, TheTimeInTheQueueCounts) {
  Cluster cluster;
  ClientOptions options = cluster.Options();
  options.async_threads = 1;
  auto client = cluster.Connect(options);
  const ConstBuffer buffer{"v", 1};
  Event running, go;
  ASSERT_EQ(client->PutAsync({{"k", std::span(&buffer, 1)}}, {},
                             [&](std::vector<Status>) {
                               running.Set();
                               EXPECT_TRUE(go.Wait());
                             }),
            Status::Ok());
  ASSERT_TRUE(running.Wait());
  PutOptions soon;
  soon.timeout = std::chrono::milliseconds(1);
  auto late = client->PutFuture({{"late", std::span(&buffer, 1)}}, soon);
  // The deadline passes while the call waits behind the held thread.
  const TimePoint passed = In(std::chrono::milliseconds(2));
  while (Clock::Real().Now() < passed) std::this_thread::yield();
  go.Set();
  EXPECT_EQ(late.get()[0].code(), Code::kDeadline);
  const std::string_view key = "late";
  EXPECT_EQ((*client->Exists(std::span(&key, 1)))[0], 0);
}

std::atomic<int> signals_taken{0};

TEST(Async, NoThreadOfTheLibraryTakesSignals) {
  Cluster cluster;
  auto client = cluster.Connect();
  const ConstBuffer buffer{"v", 1};
  EXPECT_THAT(client->PutFuture({{"k", std::span(&buffer, 1)}}).get(),
              testing::ElementsAre(Status::Ok()));
  EXPECT_EQ(GetOne(*client, "k").value_or(""), "v");
  // Blocked here: were it not blocked in some thread of the client, or of the services in this
  // process, that one would run the handler.
  sigset_t usr1, pending;
  sigemptyset(&usr1);
  sigaddset(&usr1, SIGUSR1);
  pthread_sigmask(SIG_BLOCK, &usr1, nullptr);
  signal(SIGUSR1, [](int) { ++signals_taken; });
  kill(getpid(), SIGUSR1);
  sigpending(&pending);
  EXPECT_EQ(sigismember(&pending, SIGUSR1), 1);
  EXPECT_EQ(signals_taken.load(), 0);
  pthread_sigmask(SIG_UNBLOCK, &usr1, nullptr);
  EXPECT_EQ(signals_taken.load(), 1);
  signal(SIGUSR1, SIG_DFL);
}

TEST(Async, ManyAtOnce) {
  Cluster cluster;
  auto client = cluster.Connect();
  constexpr int kCalls = 200;
  std::vector<std::string> keys, values;
  std::vector<ConstBuffer> buffers;
  for (int i = 0; i < kCalls; ++i) {
    keys.push_back("k" + std::to_string(i));
    values.push_back(Pattern(5000, static_cast<uint64_t>(i)));
  }
  for (const std::string& value : values) buffers.push_back({value.data(), value.size()});
  std::vector<std::future<std::vector<Status>>> futures;
  for (int i = 0; i < kCalls; ++i)
    futures.push_back(client->PutFuture({{keys[i], std::span(&buffers[i], 1)}}));
  for (auto& future : futures) EXPECT_THAT(future.get(), testing::ElementsAre(Status::Ok()));
  for (int i = 0; i < kCalls; ++i) EXPECT_TRUE(GetOne(*client, keys[i]).value_or("") == values[i]);
}

}  // namespace
}  // namespace mmc::test
